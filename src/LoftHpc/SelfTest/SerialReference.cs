using LoftHpc.Arithmetic;
using LoftHpc.Networks;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;
using static TorchSharp.torch.nn;

namespace LoftHpc.SelfTest;

/// <summary>
/// A residual network as one would write it in a notebook: whole tensors, autograd, no exchange, and convolutions by their
/// definition. It shares with the networks that are trained only the names of the weights, so it can serve as the reference
/// of every parallel path, on machines too whose convolutions are wrong.
/// </summary>
internal sealed class SerialReference : IDisposable
{
    private readonly NetworkSpec _spec;
    private readonly FilterAssignment? _cut;

    /// <param name="state">Where the weights are taken from (copied).</param>
    /// <param name="cut">Given: gradients do not cross from one rank's filters to another's (backward: local).</param>
    public SerialReference(NetworkSpec spec, ModelState state, FilterAssignment? cut = null)
    {
        (_spec, _cut) = (spec, cut);
        foreach (TensorSlice slice in state.Slices)
        {
            Tensor copy = state[slice.Name].detach().clone();
            Tensors.Add(slice.Name, (slice.Spec.IsParameter ? new Parameter(copy) : copy).DetachFromDisposeScope());
        }
    }

    public Dictionary<string, Tensor> Tensors { get; } = [];

    public IEnumerable<string> ParameterNames => Tensors.Keys.Where(name => Tensors[name] is Parameter);

    public Tensor Forward(Tensor images, bool training = true)
    {
        Tensor x = Convolve("conv1", images);
        if (!_spec.PreActivation) x = Norm("bn1", x, training).relu();
        if (_spec.StemPool) x = functional.max_pool2d(x, [3, 3], strides: [2, 2], padding: [1, 1]);
        foreach (string block in _spec.Blocks.Select(b => b.Name))
        {
            bool hasShortcut = Tensors.ContainsKey($"{block}.shortcut.0.weight");
            if (_spec.PreActivation)
            {
                Tensor active = Norm($"{block}.bn1", x, training).relu();
                Tensor shortcut = hasShortcut ? Convolve($"{block}.shortcut.0", active) : x;
                Tensor y = Convolve($"{block}.conv1", active);
                x = Convolve($"{block}.conv2", Norm($"{block}.bn2", y, training).relu()) + shortcut;
            }
            else
            {
                Tensor y = Norm($"{block}.bn1", Convolve($"{block}.conv1", x), training).relu();
                y = Norm($"{block}.bn2", Convolve($"{block}.conv2", y), training);
                Tensor shortcut = hasShortcut ? Norm($"{block}.shortcut.1", Convolve($"{block}.shortcut.0", x), training) : x;
                x = (y + shortcut).relu();
            }
        }
        if (_spec.PreActivation) x = Norm("bn", x, training).relu();
        Tensor pooled = functional.adaptive_avg_pool2d(x, [1, 1]).flatten(1);
        return functional.linear(pooled, Tensors["linear.weight"], Tensors["linear.bias"]);
    }

    public void Dispose()
    {
        foreach (Tensor tensor in Tensors.Values) tensor.Dispose();
    }

    private Tensor Norm(string name, Tensor x, bool training)
    {
        if (x.numel() == 0) return x;
        // The unbiased variance of one value is no number; such a batch leaves the running variance alone.
        Tensor variance = Tensors[$"{name}.running_var"];
        if (x.numel() == x.size(1)) variance = variance.clone();
        return functional.batch_norm(x, Tensors[$"{name}.running_mean"], variance, Tensors[$"{name}.weight"], Tensors[$"{name}.bias"], training);
    }

    private Tensor Convolve(string name, Tensor x)
    {
        ConvSpec conv = _spec.Convolutions.Single(c => c.Name == name);
        Tensor weight = Tensors[$"{name}.weight"];
        Tensor Plain(Tensor input, Tensor filters) => Reference.Convolve(input, filters, conv.Stride, conv.Padding);
        if (_cut is null || conv.In is null) return Plain(x, weight);

        // Each rank makes its filters from the input as it sees it: its own channels, and the others' as constants.
        Tensor output = zeros([x.size(0), conv.Out.Count, conv.OutputSide((int)x.size(2)), conv.OutputSide((int)x.size(3))], x.dtype);
        for (int rank = 0; rank < _cut[conv.Out].Owned.Count; rank++)
        {
            int[] filters = _cut[conv.Out].Owned[rank], own = _cut[conv.In].Owned[rank];
            if (filters.Length == 0) continue;
            Tensor mine = zeros([1, x.size(1), 1, 1], x.dtype);
            foreach (int channel in own) mine[0, channel, 0, 0] = 1;
            Tensor seen = (x * mine) + (x.detach() * (1 - mine));
            Tensor index = tensor(filters.Select(f => (long)f).ToArray(), int64);
            output = output.index_add(1, index, Plain(seen, weight.index_select(0, index)), 1);
        }
        return output;
    }
}
