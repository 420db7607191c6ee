using LoftHpc.Configuration;
using LoftHpc.Networks;
using LoftHpc.PyTorch;
using LoftHpc.Results;
using LoftHpc.Tests.Results;
using LoftHpc.Training;
using TorchSharp;
using Xunit;
using static TorchSharp.torch;

namespace LoftHpc.Tests.PyTorch;

public sealed class PyTorchWeightsTests : IDisposable
{
    private static readonly WeightsIdentity Identity = new(new NetworkSection { Family = NetworkFamily.Resnet, Depth = 18, Width = 2 }, ImageChannels: 1, ImageSide: 28, Classes: 3);

    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void Wrappers_and_names_of_torchvision_are_known_and_counts_of_steps_need_not_be_there()
    {
        using DisposeScope scope = NewDisposeScope();
        Dictionary<string, Tensor> state = State();
        string Theirs(string name) => $"module._orig_mod.{name.Replace("linear.", "fc.", StringComparison.Ordinal).Replace("shortcut", "downsample", StringComparison.Ordinal)}";
        Assert.Contains("module._orig_mod.layer2.0.downsample.0.weight", state.Keys.Select(Theirs));
        using PyTorchWeights read = PyTorchWeights.Open(Write(state.ToDictionary(pair => Theirs(pair.Key), pair => pair.Value)), Identity);
        Assert.Equal(0, read.Step);
        foreach (TensorSpec tensor in Identity.Describe().Tensors) Assert.True(read.Read(tensor).equal(state[tensor.Name]).all().ToBoolean(), tensor.Name);

        state["bn1.num_batches_tracked"] = tensor(12L);
        state["layer1.0.bn1.num_batches_tracked"] = tensor(9L);
        state["conv1.weight"] = state["conv1.weight"].to(float64);
        using PyTorchWeights counted = PyTorchWeights.Open(Write(state), Identity);
        Assert.Equal(12, counted.Step);
    }

    public static TheoryData<string, string> Mistakes => new()
    {
        { "missing", "missing: conv1.weight, bn1.weight" },
        { "all missing", ", ... (102 in all)" },
        { "additional", "not in this network: conv1.bias" },
        { "shape", "of another shape: linear.weight [16, 3] for [3, 16]" },
        { "whole numbers", "whole numbers: linear.bias" },
        { "several", "missing: bn1.bias; not in this network: head.bias; of another shape: conv1.weight [1] for [2, 1, 3, 3]" },
        { "half a wrapper", "missing: conv1.weight; not in this network: module.conv1.weight" },
        { "twice", "linear.bias and fc.bias name the same tensor" },
        { "not finite", "bn1.bias holds numbers that are not finite" },
        { "variance", "bn1.running_var is below zero" },
    };

    [Theory]
    [MemberData(nameof(Mistakes))]
    public void Weights_of_another_network_are_refused_in_one_line_that_names_them(string mistake, string expected)
    {
        using DisposeScope scope = NewDisposeScope();
        Dictionary<string, Tensor> state = State();
        switch (mistake)
        {
            case "missing":
                state.Remove("conv1.weight");
                state.Remove("bn1.weight");
                break;
            case "all missing":
                state.Clear();
                break;
            case "additional":
                state["conv1.bias"] = zeros(2);
                break;
            case "shape":
                state["linear.weight"] = zeros(16, 3);
                break;
            case "whole numbers":
                state["linear.bias"] = zeros(3, int64);
                break;
            case "several":
                state.Remove("bn1.bias");
                state["head.bias"] = zeros(3);
                state["conv1.weight"] = zeros(1);
                break;
            case "half a wrapper":
                state.Remove("conv1.weight", out Tensor? weight);
                state["module.conv1.weight"] = weight!;
                break;
            case "twice":
                state["fc.bias"] = zeros(3);
                break;
            case "not finite":
                state["bn1.bias"] = tensor([1, float.NaN]);
                break;
            case "variance":
                state["bn1.running_var"] = tensor([1f, -1f]);
                break;
        }
        string path = Write(state), message = Assert.Throws<UserError>(() => PyTorchWeights.Open(path, Identity)).Message;
        Assert.StartsWith($"{path}: ", message, StringComparison.Ordinal);
        Assert.Contains(expected, message, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', message);
    }

    [Theory]
    [InlineData(new byte[] { (byte)'P', (byte)'K', 3, 4 })]
    [InlineData(new byte[] { 0x80, 2, 0x8a, 10 })]
    public void What_torch_save_wrote_is_refused_with_the_way_to_make_a_safetensors_of_it(byte[] start)
    {
        string path = _folder.File("model.pt");
        File.WriteAllBytes(path, [.. start, 1, 2, 3]);
        Assert.Contains("s.save_file(torch.load('model.pt', map_location='cpu'), 'model.safetensors')", Assert.Throws<UserError>(() => PyTorchWeights.Open(path, Identity)).Message, StringComparison.Ordinal);
    }

    /// <summary>The network's tensors, each with numbers of its own.</summary>
    private static Dictionary<string, Tensor> State()
    {
        int number = 0;
        return Identity.Describe().Tensors.ToDictionary(tensor => tensor.Name, tensor => full([.. tensor.Shape], ++number, float32));
    }

    private string Write(Dictionary<string, Tensor> state)
    {
        string path = _folder.File("model.safetensors");
        using SafetensorsWriter writer = new(path, state.Select(pair => TensorEntry.Of(pair.Key, pair.Value)), new Dictionary<string, string> { ["format"] = "pt" });
        foreach ((string name, Tensor values) in state) writer.Write(name, values);
        writer.Complete();
        return path;
    }
}
