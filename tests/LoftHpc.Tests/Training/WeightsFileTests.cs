using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text.Json.Nodes;
using LoftHpc.Configuration;
using LoftHpc.Networks;
using LoftHpc.Results;
using LoftHpc.Tests.Results;
using LoftHpc.Training;
using TorchSharp;
using Xunit;
using static TorchSharp.torch;

namespace LoftHpc.Tests.Training;

public sealed class WeightsFileTests : IDisposable
{
    private const string Python = "/usr/bin/python3";
    private static readonly WeightsIdentity Identity = new(new NetworkSection { Depth = 18, Width = 6 }, ImageChannels: 1, ImageSide: 28, Classes: 10);

    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void Weights_read_back_with_their_network()
    {
        using DisposeScope scope = NewDisposeScope();
        using ModelState state = Trained();
        string path = Path.Combine(_folder.Path, "w.safetensors");
        WeightsFile.Save(path, Identity, 17, Identity.Describe(), state);
        using SafetensorsFile file = SafetensorsFile.Open(path);
        Assert.Equal(Identity, WeightsIdentity.Of(file, path));
        Assert.Equal(17, WeightsIdentity.StepOf(file, path));
        foreach (TensorSlice slice in state.Slices) Assert.True(file.Read(slice.Name).equal(state[slice.Name]).all().item<bool>(), slice.Name);
    }

    [Theory]
    [InlineData("depth", 2_000_000_002, "network.depth")]
    [InlineData("width", int.MaxValue, "network.width")]
    [InlineData("widen_factor", 0, "network.widen_factor")]
    [InlineData("image_channels", 0, "0 channels of an image")]
    [InlineData("image_side", 1001, "images of 1001 x 1001")]
    [InlineData("classes", 100_001, "100001 classes")]
    [InlineData("layer1.1.conv1", 7, "7 channels left of layer1.1.conv1; allowed are 1 to 6")]
    [InlineData("layer1.1.conv1", 0, "0 channels left")]
    [InlineData("layer9.9.conv1", 1, "there is no layer9.9.conv1")]
    public void A_network_that_cannot_be_is_refused_before_it_is_made(string key, int value, string expected)
    {
        JsonObject identity = JsonNode.Parse(Identity.ToJson())!.AsObject();
        if (key.Contains('.', StringComparison.Ordinal)) identity["inner_counts"] = new JsonObject { [key] = value };
        else (identity.ContainsKey(key) ? identity : identity["network"]!.AsObject())[key] = value;
        string path = Path.Combine(_folder.Path, "w.safetensors");
        using (SafetensorsWriter writer = new(path, [], new Dictionary<string, string> { ["lofthpc.network"] = identity.ToJsonString(), ["lofthpc.step"] = "1" })) writer.Complete();
        using SafetensorsFile file = SafetensorsFile.Open(path);
        long before = GC.GetAllocatedBytesForCurrentThread();
        string message = Assert.Throws<UserError>(() => WeightsIdentity.Of(file, path)).Message;
        Assert.True(GC.GetAllocatedBytesForCurrentThread() - before < 10_000_000);
        Assert.StartsWith($"{path}: the metadata's 'lofthpc.network' describes no network: ", message, StringComparison.Ordinal);
        Assert.Contains(expected, message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("conv1.weight", float.NaN, "conv1.weight holds numbers that are not finite")]
    [InlineData("linear.bias", float.NegativeInfinity, "linear.bias holds numbers that are not finite")]
    [InlineData("layer1.0.bn1.running_var", -1e-30f, "layer1.0.bn1.running_var is below zero")]
    [InlineData("layer1.0.bn1.running_mean", -1f, null)]
    [InlineData("layer1.0.bn1.running_var", -0f, null)]
    public void Numbers_with_which_nothing_can_be_computed_are_refused(string tensor, float value, string? expected)
    {
        using DisposeScope scope = NewDisposeScope();
        using ModelState state = Trained();
        using (no_grad()) state[tensor].view(-1)[^1] = value;
        string path = Path.Combine(_folder.Path, "w.safetensors");
        WeightsFile.Save(path, Identity, 17, Identity.Describe(), state);
        using SafetensorsFile file = SafetensorsFile.Open(path);
        if (expected is null) WeightsIdentity.MustBeFinite(file, path);
        else Assert.Equal($"{path}: {expected}", Assert.Throws<UserError>(() => WeightsIdentity.MustBeFinite(file, path)).Message);
    }

    [Fact]
    public void Numbers_that_float32_cannot_hold_and_counts_that_are_none_are_refused()
    {
        using DisposeScope scope = NewDisposeScope();
        (string Name, Tensor Values, string Expected)[] wrong =
        [
            ("a", tensor([0.5, 1e300]), "a holds numbers that are not finite"),
            ("a", tensor([0.5, double.NaN]), "a holds numbers that are not finite"),
            ("bn.num_batches_tracked", tensor(-1L), "bn.num_batches_tracked is below zero"),
            ("bn.num_batches_tracked", tensor(1f), "bn.num_batches_tracked is not one whole number"),
            ("bn.num_batches_tracked", tensor([1L, 2L]), "bn.num_batches_tracked is not one whole number"),
        ];
        foreach ((string name, Tensor values, string expected) in wrong)
        {
            string path = Write(name, values);
            using SafetensorsFile file = SafetensorsFile.Open(path);
            Assert.Equal($"{path}: {expected}", Assert.Throws<UserError>(() => WeightsIdentity.MustBeFinite(file, path)).Message);
        }
        // Beyond the first piece that is looked at.
        Tensor many = zeros(1_000_000);
        many[999_999] = float.NaN;
        using SafetensorsFile large = SafetensorsFile.Open(Write("many", many));
        Assert.Throws<UserError>(() => WeightsIdentity.MustBeFinite(large, "many"));
    }

    [Fact]
    public void Whole_numbers_are_no_weights()
    {
        string path = Path.Combine(_folder.Path, "w.safetensors");
        IReadOnlyList<TensorSpec> tensors = Identity.Describe().Tensors;
        using (SafetensorsWriter writer = new(path, tensors.Select(t => new TensorEntry(t.Name, int64, t.Shape)), Identity.ToMetadata(1)))
        {
            foreach (TensorSpec spec in tensors)
            {
                using Tensor values = zeros([.. spec.Shape], int64);
                writer.Write(spec.Name, values);
            }
            writer.Complete();
        }
        using SafetensorsFile file = SafetensorsFile.Open(path);
        Assert.Contains("holds whole numbers", Assert.Throws<UserError>(() => WeightsIdentity.Of(file, path)).Message, StringComparison.Ordinal);
    }

    [SkippableFact]
    public void PyTorch_loads_the_weights_and_gets_the_same_logits()
    {
        Skip.IfNot(File.Exists(Python) && Run("-c", "import torch").ExitCode == 0, $"{Python} has no torch (Debian: python3-torch)");
        using DisposeScope scope = NewDisposeScope();
        using ModelState state = Trained();
        string weights = Path.Combine(_folder.Path, "w.safetensors"), file = Path.Combine(_folder.Path, "images.f32");
        WeightsFile.Save(weights, Identity, 17, Identity.Describe(), state);
        Tensor images = randn(3, 1, 28, 28);
        File.WriteAllBytes(file, MemoryMarshal.AsBytes(images.data<float>().ToArray().AsSpan()).ToArray());

        string script = Path.Combine(AppContext.BaseDirectory, "Training", "pytorch", "preactresnet.py");
        (int exitCode, string output) = Run(script, weights, file, "3", "1", "28");
        Assert.True(exitCode == 0, output);
        double[] values = [.. output.Split((char[])[' ', '\n'], StringSplitOptions.RemoveEmptyEntries).Select(v => double.Parse(v, CultureInfo.InvariantCulture))];

        using IDisposable frozen = no_grad();
        Tensor logits = new ResidualNetwork(Identity.Describe(), state, new SerialExchange()).Forward(images, training: false);
        Tensor theirs = tensor(values).reshape(3, 10).to(float32);
        Assert.True(((logits - theirs).norm() / theirs.norm()).ToDouble() < 1e-5, output);
    }

    private string Write(string name, Tensor values)
    {
        string path = Path.Combine(_folder.Path, $"{name}.safetensors");
        using SafetensorsWriter writer = new(path, [TensorEntry.Of(name, values)], new Dictionary<string, string>());
        writer.Write(name, values);
        writer.Complete();
        return path;
    }

    /// <summary>Weights whose norms and statistics are not the initial ones.</summary>
    private static ModelState Trained()
    {
        NetworkSpec network = Identity.Describe();
        ModelState state = ModelState.Initialize(FilterAssignment.Create(network, AssignmentKind.Contiguous, 1, 1).Slices(network, 0), 1, ScalarType.Float32, CPU);
        using DisposeScope scope = NewDisposeScope();
        using IDisposable frozen = no_grad();
        foreach (TensorSlice slice in state.Slices.Where(slice => slice.Spec.Role is not TensorRole.ConvWeight))
            state[slice.Name].copy_(rand_like(state[slice.Name]) + 0.5);
        return state;
    }

    private static (int ExitCode, string Output) Run(params string[] arguments)
    {
        using Process process = Process.Start(new ProcessStartInfo(Python, arguments) { RedirectStandardOutput = true, RedirectStandardError = true })!;
        Task<string> error = process.StandardError.ReadToEndAsync();
        string output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        return (process.ExitCode, process.ExitCode == 0 ? output : output + error.Result);
    }
}
