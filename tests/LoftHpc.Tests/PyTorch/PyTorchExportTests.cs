using System.Diagnostics;
using System.IO.Compression;
using System.Text.Json;
using LoftHpc.Configuration;
using LoftHpc.Data;
using LoftHpc.Networks;
using LoftHpc.PyTorch;
using LoftHpc.Results;
using LoftHpc.Tests.Results;
using LoftHpc.Training;
using TorchSharp;
using Xunit;
using static TorchSharp.torch;

namespace LoftHpc.Tests.PyTorch;

public sealed class PyTorchExportTests : IDisposable
{
    private const string Python = "/usr/bin/python3";

    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    /// <summary>Every network that a config can name, dense and pruned to a width of its own in each block: PyTorch classifies every image alike.</summary>
    [SkippableFact]
    public void PyTorch_hits_the_same_images_with_every_exported_network()
    {
        Skip.IfNot(File.Exists(Python) && Run("-c", "import torch").ExitCode == 0, $"{Python} has no torch (Debian: python3-torch)");
        List<Case> cases = [];
        cases.AddRange(Export(NetworkFamily.Resnet, NetworkForm.Cifar));
        cases.AddRange(Export(NetworkFamily.PreactResnet, NetworkForm.Cifar));
        cases.AddRange(Export(NetworkFamily.PreactResnet, NetworkForm.Imagenet));
        cases.AddRange(Export(NetworkFamily.WideResnet, NetworkForm.Cifar));
        // The others have no form for ImageNet.
        Assert.Equal(Enum.GetValues<NetworkFamily>().Length + 1, cases.Count / 2);
        (int exitCode, string output) = Run([Path.Combine(AppContext.BaseDirectory, "PyTorch", "check_exports.py"), .. cases.Select(one => one.Folder)]);
        Assert.True(exitCode == 0, output);
        string[] lines = output.Split('\n', StringSplitOptions.RemoveEmptyEntries);
        Assert.Equal(cases.Count, lines.Length);
        foreach ((Case expected, string line) in cases.Zip(lines)) MustBeAlike(expected, JsonDocument.Parse(line).RootElement);
        MustBeRefused(cases[0]);
        // A network that takes all images for one class would hit as many with other weights.
        Assert.Contains(cases, one => one.Predicted.Distinct().Count() > 1);
    }

    [Fact]
    public void What_cannot_be_exported_is_refused_in_one_line_and_leaves_nothing()
    {
        Case dense = Export(NetworkFamily.Resnet, NetworkForm.Cifar)[0];
        RunFolder run = RunFolder.At(Path.GetDirectoryName(dense.Folder)!);
        string other = _folder.File("other");
        void Refused(string expected, string weights, string output, DataSplit? images = null, params string[] overrides)
        {
            string[] before = [.. Directory.EnumerateFileSystemEntries(_folder.Path, "*", SearchOption.AllDirectories).Order()];
            string message = Assert.Throws<UserError>(() => PyTorchExport.Write(run, weights, output, images, overrides)).Message;
            Assert.Contains(expected, message, StringComparison.Ordinal);
            Assert.DoesNotContain('\n', message);
            Assert.Equal(before, Directory.EnumerateFileSystemEntries(_folder.Path, "*", SearchOption.AllDirectories).Order());
        }
        Refused($"{dense.Folder} exists already, and export overwrites nothing", "dense", dense.Folder);
        Refused($"{run.Config} exists already", "dense", run.Config);
        Refused("there are no weights pruned (--weights); there are: ticket, dense", "pruned", other);
        Refused("override run.seed=2: export takes keys of data only", "dense", other, null, "run.seed=2");
        Refused("images of cifar10 have 3 channels, where the weights' network takes 1", "dense", other, null, "data.set=cifar10");
        Refused("data.set has 1 x 30 x 30", "dense", other, DataSplit.Test, "data.synthetic.size=30");
        File.WriteAllText(run.TicketWeights, "none");
        Refused("ticket.safetensors: not a whole safetensors file", "ticket", other);
        // An empty folder is as good as none.
        Directory.CreateDirectory(other);
        Assert.Equal(["architecture.json", "model.py", "model.safetensors"], PyTorchExport.Write(run, "dense", other + "/", null, []).Select(Path.GetFileName));
        Assert.Equal(File.ReadAllBytes(run.DenseWeights), File.ReadAllBytes(Path.Combine(other, "model.safetensors")));
    }

    private void MustBeAlike(Case expected, JsonElement found)
    {
        string name = expected.Folder;
        Assert.Equal(expected.Predicted.Zip(expected.Labels).Count(pair => pair.First == pair.Second), found.GetProperty("hits").GetInt32());
        Assert.Equal(expected.Normalised, found.GetProperty("normalised").GetSingle());
        float[] logits = [.. found.GetProperty("logits").EnumerateArray().SelectMany(row => row.EnumerateArray()).Select(value => value.GetSingle())];
        Assert.Equal(expected.Logits.Length, logits.Length);
        float largest = Math.Max(1, expected.Logits.Max(Math.Abs));
        Assert.All(expected.Logits.Zip(logits), pair => Assert.True(Math.Abs(pair.First - pair.Second) <= 1e-4 * largest, $"{name}: {pair}"));
        foreach (string file in new[] { "batch.bin", "images.gz" }) Assert.True(found.GetProperty(file).GetBoolean(), $"{name}: {file}");
        Assert.Contains($": {found.GetProperty("hits").GetInt32()} of {expected.Labels.Length} images\nlofthpc measured accuracy 0.25,", found.GetProperty("output").GetString(), StringComparison.Ordinal);

        // Back from PyTorch: the same numbers.
        if (expected.Identity.InnerCounts is not null) return;
        using DisposeScope scope = NewDisposeScope();
        using SafetensorsFile own = SafetensorsFile.Open(Path.Combine(name, "model.safetensors"));
        foreach (string file in new[] { "parallel.safetensors", "saved.pt" })
        {
            using PyTorchWeights back = PyTorchWeights.Open(Path.Combine(name, file), expected.Identity);
            Assert.Equal(17, back.Step);
            foreach (TensorSpec tensor in expected.Identity.Describe().Tensors) Assert.True(own.Read(tensor.Name).equal(back.Read(tensor)).all().ToBoolean(), $"{file}: {tensor.Name}");
        }
    }

    /// <summary>What torch.save writes of anything but a state_dict, and pickles that call functions.</summary>
    private static void MustBeRefused(Case exported)
    {
        foreach ((string file, string expected) in new[]
        {
            ("model.pt", "not a plain state_dict as torch.save writes it: "),
            ("checkpoint.pt", "state_dict is no tensor"),
            ("half.pt", "it has numbers of torch.HalfStorage; torch.FloatStorage, torch.DoubleStorage, torch.LongStorage are read"),
            ("program.pt", "it calls posix.mkdir, which is not done"),
            ("old.pt", "a bare pickle, as torch.save wrote it before PyTorch 1.6"),
        })
        {
            string path = Path.Combine(exported.Folder, file);
            Assert.True(File.Exists(path), path);
            string message = Assert.Throws<UserError>(() => PyTorchWeights.Open(path, exported.Identity)).Message;
            Assert.StartsWith($"{path}: ", message, StringComparison.Ordinal);
            Assert.Contains(expected, message, StringComparison.Ordinal);
            Assert.DoesNotContain('\n', message);
        }
        Assert.False(Path.Exists(Path.Combine(exported.Folder, "executed")));
    }

    /// <summary>A run folder with a dense network and a ticket of one family and form, both exported with their test images.</summary>
    private List<Case> Export(NetworkFamily family, NetworkForm form)
    {
        // A ResNet of 18 layers, and a wide one of 10 whose first stage needs a shortcut.
        bool wide = family is NetworkFamily.WideResnet;
        RunConfig config = new()
        {
            Network = new NetworkSection { Family = family, Form = form, Depth = wide ? 10 : 18, Width = 4, WidenFactor = wide ? 2 : 1 },
            Data = new DataSection
            {
                Set = DataSetName.Synthetic,
                TrainImages = 1,
                TestImages = 40,
                Synthetic = new SyntheticSection { Channels = form is NetworkForm.Cifar ? 1 : 3, Size = form is NetworkForm.Cifar ? 28 : 37, Classes = 4 },
            },
        };
        RunFolder folder = RunFolder.Create(_folder.Path, $"{family}-{form}", overwrite: false);
        File.WriteAllText(folder.Config, RunConfigLoader.ToYaml(config));
        ImageSet images = ImageDataLoader.Load(config.Data, config.Run.Seed).Test;
        WeightsIdentity dense = new(config.Network, images.Channels, images.Height, images.Classes);
        int block = 0;
        SortedDictionary<string, int> widths = new(dense.Describe().Blocks.ToDictionary(one => one.Inner.Name, one => 1 + (block++ % one.Inner.Count)));
        return
        [
            Export(folder, "dense", folder.DenseWeights, dense, NetworkState.Dense, config, images),
            Export(folder, "ticket", folder.TicketWeights, dense with { InnerCounts = widths }, NetworkState.Ticket, config, images),
        ];
    }

    private static Case Export(RunFolder folder, string weights, string path, WeightsIdentity identity, NetworkState stands, RunConfig config, ImageSet images)
    {
        using DisposeScope scope = NewDisposeScope();
        using IDisposable frozen = no_grad();
        NetworkSpec network = identity.Describe();
        using ModelState state = ModelState.InitializeWhole(network, 5, ScalarType.Float32, CPU);
        // Norms and statistics other than the initial ones.
        using Generator random = new(7);
        foreach (TensorSlice slice in state.Slices.Where(slice => slice.Spec.Role is not (TensorRole.ConvWeight or TensorRole.LinearWeight)))
            state[slice.Name].copy_(rand(slice.Shape, generator: random) + (slice.Spec.Role is TensorRole.NormWeight or TensorRole.RunningVariance ? 0.5 : -0.5));
        WeightsFile.Save(path, identity, 17, network, state);
        folder.Summary.Append(identity.Summarize(stands, new StepTotals(40, 10, 40)));

        string target = folder.PyTorch(weights);
        Assert.Equal(
            ["architecture.json", "model.py", "model.safetensors", "test-images-idx4-ubyte", "test-labels-idx1-ubyte"],
            PyTorchExport.Write(folder, weights, null, DataSplit.Test, []).Select(Path.GetFileName));
        WriteOtherFiles(target, images);
        using BatchLoader loader = new(images, config.Data, config.Run.Seed);
        using Batch batch = loader.Load([.. Enumerable.Range(0, images.Count)], epoch: 0, augment: false, CPU);
        Tensor logits = new ResidualNetwork(network, state, new SerialExchange()).Forward(batch.Images, training: false);
        return new Case(
            target, identity, [.. logits.data<float>()], [.. logits.argmax(1).data<long>()], [.. batch.Labels.data<long>()], batch.Images[0, 0, 0, 0].ToSingle());
    }

    /// <summary>The images as CIFAR's files and, compressed, as MNIST's have them.</summary>
    private static void WriteOtherFiles(string folder, ImageSet images)
    {
        int size = images.Pixels.Length / images.Count;
        using (FileStream records = File.Create(Path.Combine(folder, "batch.bin")))
        {
            for (int i = 0; i < images.Count; i++)
            {
                records.WriteByte((byte)images.Labels[i]);
                records.Write(images.Pixels, i * size, size);
            }
        }
        foreach (string what in new[] { "images-idx4", "labels-idx1" })
        {
            using GZipStream compressed = new(File.Create(Path.Combine(folder, $"{what[..6]}.gz")), CompressionMode.Compress);
            compressed.Write(File.ReadAllBytes(Path.Combine(folder, $"test-{what}-ubyte")));
        }
    }

    private static (int ExitCode, string Output) Run(params string[] arguments)
    {
        using Process process = Process.Start(new ProcessStartInfo(Python, arguments) { RedirectStandardOutput = true, RedirectStandardError = true })!;
        Task<string> error = process.StandardError.ReadToEndAsync();
        string output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        return (process.ExitCode, process.ExitCode == 0 ? output : output + error.Result);
    }

    /// <summary>An exported folder, and what this program makes of its images.</summary>
    private sealed record Case(string Folder, WeightsIdentity Identity, float[] Logits, long[] Predicted, long[] Labels, float Normalised);
}
