using System.Buffers.Binary;
using System.Reflection;
using System.Text.Json;
using LoftHpc.Configuration;
using LoftHpc.Data;
using LoftHpc.Networks;
using LoftHpc.Results;
using LoftHpc.Training;

namespace LoftHpc.PyTorch;

/// <summary>Writes a network of a run folder in a form that needs PyTorch alone. Needs no libtorch, MPI or, without images, data.</summary>
public static class PyTorchExport
{
    public const string DefaultWeights = "ticket";

    private const string Model = "model.py";

    /// <summary>What architecture.json holds.</summary>
    /// <param name="Run">Name of the run folder.</param>
    /// <param name="Weights">Which network of the run.</param>
    /// <param name="Steps">Optimizer steps that the weights have behind them.</param>
    /// <param name="PreActivation">Whether norm and relu stand before each convolution.</param>
    /// <param name="Blocks">Of each stage.</param>
    /// <param name="Convolutions">By name, in the order of the forward pass.</param>
    /// <param name="Mean">Per channel, of pixels in 0..1; what normalisation subtracts.</param>
    /// <param name="StandardDeviation">Likewise; what it divides by.</param>
    /// <param name="TestAccuracy">Of summary.csv; null where it has no row of this network.</param>
    private sealed record Architecture(
        string Run, string Weights, long Steps, string Family, string Form, int Depth, int Width, int WidenFactor, bool PreActivation,
        int ImageChannels, int ImageSide, int Classes, IReadOnlyList<int> Blocks, IReadOnlyDictionary<string, ConvolutionEntry> Convolutions,
        string DataSet, IReadOnlyList<float> Mean, IReadOnlyList<float> StandardDeviation, double? TestAccuracy, double? TestLoss);

    private sealed record ConvolutionEntry(int Inputs, int Outputs, int Kernel, int Stride, int Padding);

    /// <summary>Writes model.safetensors, architecture.json and model.py into a new folder, which is there whole or not at all.</summary>
    /// <param name="weights">Which weights of the run: ticket, pruned, dense, initial or epoch-N.</param>
    /// <param name="output">The folder; null: pytorch-WEIGHTS in the run folder.</param>
    /// <param name="images">The split whose images are written too, as IDX files; null: none.</param>
    /// <param name="overrides">Keys of data, for the images: where they lie by now, and how many.</param>
    /// <returns>The paths of the files.</returns>
    /// <exception cref="UserError">The run has no such weights, they are wrong, or something stands where the folder is to be.</exception>
    public static IReadOnlyList<string> Write(RunFolder folder, string weights, string? output, DataSplit? images, IReadOnlyList<string> overrides)
    {
        if (overrides.FirstOrDefault(key => !key.StartsWith("data.", StringComparison.Ordinal)) is string other)
            throw new UserError($"override {PlainText.Of(other)}: export takes keys of data only (data.folder=DIR)");
        RunFolder.Open(folder.Path).RequireExisting("pretrain", folder.Config);
        RunConfig config = RunConfigLoader.Load(folder.Config, overrides);
        string source = FileOf(folder, weights), target = Path.TrimEndingDirectorySeparator(output ?? folder.PyTorch(weights)), aside = DurableFile.Aside(target);
        using SafetensorsFile file = SafetensorsFile.Open(source);
        WeightsIdentity identity = WeightsIdentity.Of(file, source);
        WeightsIdentity.MustBeFinite(file, source);
        Architecture architecture = Describe(folder, weights, identity, WeightsIdentity.StepOf(file, source), config.Data);
        ImageSet? set = images is null ? null : ImagesOf(folder, config, images.Value, identity, source);
        try
        {
            bool stands = Path.Exists(target);
            if (stands && !(Directory.Exists(target) && !Directory.EnumerateFileSystemEntries(target).Any()))
                throw new UserError($"{PlainText.Of(target)} exists already, and export overwrites nothing; --output DIR names another folder");
            if (Directory.Exists(aside)) Directory.Delete(aside, recursive: true);
            Directory.CreateDirectory(aside);
            string In(string name) => Path.Combine(aside, name);
            DurableFile.Write(In("model.safetensors"), stream =>
            {
                using FileStream whole = RegularFile.OpenRead(source);
                whole.CopyTo(stream);
            });
            DurableFile.WriteText(In("architecture.json"), JsonSerializer.Serialize(architecture, RecordJson.Format) + "\n");
            DurableFile.Write(In(Model), stream =>
            {
                using Stream script = Assembly.GetExecutingAssembly().GetManifestResourceStream(Model)!;
                script.CopyTo(stream);
            });
            if (set is not null)
            {
                string split = ConfigName.Of(images!.Value);
                WriteIdx(In($"{split}-images-idx4-ubyte"), stream => set.ForEach(image => stream.Write(image.Span)), set.Count, set.Channels, set.Height, set.Width);
                WriteIdx(In($"{split}-labels-idx1-ubyte"), stream => stream.Write(Array.ConvertAll(set.Labels, label => (byte)label)), set.Count);
            }
            if (stands) Directory.Delete(target);
            Directory.Move(aside, target);
        }
        catch (Exception error) when (DurableFile.IsFailure(error))
        {
            throw DurableFile.Failure(target, error);
        }
        return [.. Directory.EnumerateFiles(target).Order(StringComparer.Ordinal)];
    }

    /// <summary>The file of a run's weights.</summary>
    /// <exception cref="UserError">There are no such weights.</exception>
    private static string FileOf(RunFolder folder, string weights)
    {
        Dictionary<string, string> files = new()
        {
            ["ticket"] = folder.TicketWeights,
            ["pruned"] = folder.PrunedWeights,
            ["dense"] = folder.DenseWeights,
            ["initial"] = folder.InitialWeights,
        };
        foreach (string snapshot in folder.Snapshots()) files[Path.GetFileNameWithoutExtension(snapshot)] = snapshot;
        if (files.TryGetValue(weights, out string? path) && File.Exists(path)) return path;
        string[] there = [.. files.Where(file => File.Exists(file.Value)).Select(file => file.Key)];
        throw new UserError($"{folder.Path}: there are no weights {PlainText.Of(weights)} (--weights); there are: {(there.Length == 0 ? "none" : string.Join(", ", there))}");
    }

    private static Architecture Describe(RunFolder folder, string weights, WeightsIdentity identity, long steps, DataSection data)
    {
        NetworkSpec spec = identity.Describe();
        NetworkSection network = identity.Network;
        (IReadOnlyList<float> mean, IReadOnlyList<float> deviation) = ImageDataLoader.Normalisation(data);
        if (mean.Count != identity.ImageChannels)
            throw new UserError($"{folder.Config}: images of {ConfigName.Of(data.Set)} have {mean.Count} channels, where the weights' network takes {identity.ImageChannels}");
        SummaryRow? measured = !folder.Summary.Exists ? null : folder.Summary.Read().LastOrDefault(row => ConfigName.Of(row.Network) == weights);
        return new Architecture(
            folder.Name, weights, steps, ConfigName.Of(network.Family), ConfigName.Of(network.Form), network.Depth, network.Width, network.WidenFactor, spec.PreActivation,
            identity.ImageChannels, identity.ImageSide, identity.Classes,
            [.. spec.Blocks.GroupBy(block => block.Stage).OrderBy(stage => stage.Key).Select(stage => stage.Count())],
            spec.Convolutions.ToDictionary(conv => conv.Name, conv => new ConvolutionEntry(conv.InputChannels, conv.Out.Count, conv.Kernel, conv.Stride, conv.Padding)),
            ConfigName.Of(data.Set), mean, deviation, Finite(measured?.TestAccuracy), Finite(measured?.TestLoss));

        // JSON has no other numbers.
        static double? Finite(double? value) => value is double number && double.IsFinite(number) ? number : null;
    }

    private static ImageSet ImagesOf(RunFolder folder, RunConfig config, DataSplit split, WeightsIdentity identity, string path)
    {
        // The images of a grid's ticket are those of its run, whatever seed the ticket has.
        RunConfig ofImages = folder.RunOfGrid() is { } run && File.Exists(run.Config) ? RunConfigLoader.Load(run.Config) : config;
        ImageData data = ImageDataLoader.Load(config.Data, ofImages.Run.Seed);
        identity.MustFit(config, data, path);
        if (data.Train.Classes > byte.MaxValue + 1)
            throw new UserError($"--images: {data.Train.Classes} classes, whose labels do not fit into the bytes of an IDX file; allowed with {byte.MaxValue + 1} classes at most");
        return split switch
        {
            DataSplit.Train => data.Train,
            DataSplit.Test => data.Test,
            _ => data.Validation ?? throw new UserError("--images: validation: the run holds no images out (data.validation_images is 0); allowed: train, test"),
        };
    }

    /// <summary>An IDX file of bytes: 0, 0, 8, the number of dimensions, the dimensions (big-endian), the bytes.</summary>
    private static void WriteIdx(string path, Action<Stream> write, params IReadOnlyList<int> shape) => DurableFile.Write(path, stream =>
    {
        Span<byte> header = stackalloc byte[4 + (4 * shape.Count)];
        header[2] = 8;
        header[3] = (byte)shape.Count;
        for (int i = 0; i < shape.Count; i++) BinaryPrimitives.WriteInt32BigEndian(header[(4 + (4 * i))..], shape[i]);
        stream.Write(header);
        write(stream);
    });
}
