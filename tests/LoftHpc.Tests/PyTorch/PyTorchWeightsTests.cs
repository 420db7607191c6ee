using System.Text;
using LoftHpc.Configuration;
using LoftHpc.Fuzz;
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

    /// <summary>Pickles written by hand: a state_dict of one tensor, and what a file can hold in its place.</summary>
    [Theory]
    [InlineData(null, "missing: conv1.weight")]
    [InlineData("", "its data.pkl is no whole pickle")]
    [InlineData("}", "its data.pkl is no whole pickle")]
    [InlineData("N.", "it holds no dictionary")]
    [InlineData("}K\u0001K\u0002s.", "a key is no text")]
    [InlineData("cos\nsystem\nX\u0002\0\0\0ls\u0085R.", "it calls os.system, which is not done")]
    [InlineData("c__builtin__\nset\n)R.", "it calls __builtin__.set, which is not done")]
    [InlineData("NR.", "its data.pkl is no whole pickle")]
    [InlineData("h\u0005.", "its data.pkl is no whole pickle")]
    [InlineData("](.", "instruction 0x5d at byte 0 of data.pkl")]
    [InlineData("X\u00ff\u00ff\u00ff\u007f.", "its data.pkl is no whole pickle")]
    [InlineData("X\u00ff\u00ff\u00ff\u00ff.", "its data.pkl is no whole pickle")]
    [InlineData("}(K\u0001u.", "a key has no value")]
    [InlineData("K\u0001Q.", "it refers to something that is no storage")]
    public void A_pickle_that_is_no_state_dict_is_refused_and_nothing_of_it_is_done(string? program, string expected) => Refused(program ?? StateDictFormat.Pickle(2, 0, 2, 1), expected);

    [Theory]
    [InlineData(2, 0, 3, 1)]
    [InlineData(2, 1, 2, 1)]
    [InlineData(2, 0, 2, 2)]
    [InlineData(2, -1, 2, 1)]
    [InlineData(2, 0, 2, -1)]
    [InlineData(2, 0, -2, 1)]
    public void A_tensor_that_does_not_lie_in_its_numbers_is_refused(int elements, int offset, int size, int step) =>
        Refused(StateDictFormat.Pickle(elements, offset, size, step), $"from {offset} on does not lie in its {elements} numbers");

    [Theory]
    [InlineData(3, "the numbers of w have 8 bytes in it, not 12")]
    [InlineData(int.MaxValue, "the numbers of w have 8 bytes in it, not 8589934588")]
    public void Numbers_that_are_not_there_are_missed_before_memory_is_asked_for(int elements, string expected) => Refused(StateDictFormat.Pickle(elements, 0, 2, 1), expected);

    [Fact]
    public void An_archive_of_something_else_is_refused()
    {
        string path = _folder.File("model.pt");
        File.WriteAllBytes(path, [(byte)'P', (byte)'K', 3, 4, 0, 0]);
        Assert.Contains("not a plain state_dict", Assert.Throws<UserError>(() => PyTorchWeights.Open(path, Identity)).Message, StringComparison.Ordinal);
        File.WriteAllBytes(path, [0x80, 2, 0x8a, 10]);
        Assert.Contains("before PyTorch 1.6", Assert.Throws<UserError>(() => PyTorchWeights.Open(path, Identity)).Message, StringComparison.Ordinal);
    }

    private void Refused(string program, string expected)
    {
        string path = _folder.File("model.pt");
        File.WriteAllBytes(path, StateDictFormat.Archive(Encoding.Latin1.GetBytes(program), 8));
        string message = Assert.Throws<UserError>(() => PyTorchWeights.Open(path, Identity)).Message;
        Assert.StartsWith($"{path}: ", message, StringComparison.Ordinal);
        Assert.Contains(expected, message, StringComparison.Ordinal);
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
