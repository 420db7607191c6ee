using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
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
