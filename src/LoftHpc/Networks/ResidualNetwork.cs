using LoftHpc.Arithmetic;
using LoftHpc.Configuration;
using TorchSharp;
using static TorchSharp.torch;
using static TorchSharp.torch.nn;

namespace LoftHpc.Networks;

/// <summary>Sees a layer in the forward pass: what came in, the layer's weights, and what went out. The tensors are not its own.</summary>
/// <param name="weight">[outputs, inputs, k, k] of a convolution, [C] of a batch norm, [classes, features] of the head.</param>
public delegate void LayerObserver(string layer, Tensor input, Tensor weight, Tensor output);

/// <summary>
/// The forward pass of a residual network, or of one rank's share of it: the description, the tensors held here, and
/// the exchange that fills in what is held elsewhere.
/// </summary>
/// <param name="layout">
/// Of what convolutions, norms and sums of blocks take and give; null: contiguous, in the type of the state. The type, which is
/// that of gradients too, is that of the state, or bfloat16 where the state is float32. Weights are then cast for each use, so
/// that their gradients come in float32, norms keep their parameters and statistics in float32, and the head computes in it.
/// </param>
public sealed class ResidualNetwork(
    NetworkSpec spec, ModelState state, INetworkExchange exchange, ActivationLayout? layout = null, LayerObserver? observer = null)
{
    /// <summary>The whole network.</summary>
    public NetworkSpec Spec => spec;

    /// <summary>What it computes with.</summary>
    public ModelState State => state;

    /// <summary>How it holds its activations.</summary>
    public ActivationLayout Layout { get; } = layout ?? new ActivationLayout(state.Type, MemoryFormat.Contiguous);

    /// <summary>The same network, watched.</summary>
    public ResidualNetwork Observed(LayerObserver by) => new(spec, state, exchange, Layout, by);

    /// <summary>Logits [N, classes] of images [N, C, H, W].</summary>
    public Tensor Forward(Tensor images, bool training) => Forward(images, training, 0, spec.UnitCount);

    /// <summary>What the units from <paramref name="first"/> up to, but not with, <paramref name="end"/> make of their input (<see cref="NetworkSpec.UnitOutput"/>).</summary>
    public Tensor Forward(Tensor x, bool training, int first, int end)
    {
        if (is_grad_enabled())
        {
            for (int unit = first; unit < end; unit++) x = Unit(unit, x, training);
            return x;
        }
        // Without a backward pass nothing but a unit's input and output need live at a time.
        Tensor input = x;
        for (int unit = first; unit < end; unit++)
        {
            using DisposeScope scope = NewDisposeScope();
            Tensor output = Unit(unit, x, training).MoveToOuterDisposeScope();
            if (!ReferenceEquals(x, input)) x.Dispose();
            x = output;
        }
        return x;
    }

    private Tensor Unit(int unit, Tensor x, bool training) =>
        unit == 0 ? Stem(x, training)
        : unit == spec.UnitCount - 1 ? Head(x, training)
        : spec.PreActivation ? PreActivationBlock(spec.Blocks[unit - 1], x, training)
        : PostActivationBlock(spec.Blocks[unit - 1], x, training);

    private Tensor Stem(Tensor images, bool training)
    {
        Tensor x = Convolve(spec.Stem, images);
        if (spec.StemNorm is not null) x = NormRelu(spec.StemNorm, x, training);
        return spec.StemPool ? Pool(x) : x;
    }

    private Tensor Head(Tensor x, bool training)
    {
        if (spec.FinalNorm is not null) x = NormRelu(spec.FinalNorm, x, training);
        Tensor logits = exchange.SumLogits(PartialLogits(x, state["linear.weight"])) + state["linear.bias"];
        observer?.Invoke("linear", x, state["linear.weight"], logits);
        return logits;
    }

    /// <summary>What some features [N, features, H, W], averaged over their pixels, add to the logits [N, classes], in the weights' type.</summary>
    internal static Tensor PartialLogits(Tensor x, Tensor weight) => x.mean([2, 3], type: weight.dtype).matmul(weight.t());

    private Tensor PreActivationBlock(BlockSpec block, Tensor input, bool training)
    {
        Tensor x = exchange.BlockInput(input);
        Tensor whole = exchange.GatherInput(NormRelu(block.Norm1, x, training), block.Conv1.In!);
        Tensor shortcut = block.Shortcut is null ? x : Convolve(block.Shortcut, whole);
        Tensor inner = exchange.GatherInput(NormRelu(block.Norm2, Convolve(block.Conv1, whole), training), block.Conv2.In!);
        return Sum(Convolve(block.Conv2, inner), shortcut, block);
    }

    private Tensor PostActivationBlock(BlockSpec block, Tensor input, bool training)
    {
        Tensor x = exchange.BlockInput(input);
        Tensor whole = exchange.GatherInput(x, block.Conv1.In!);
        Tensor shortcut = block.Shortcut is null ? x : Norm(block.ShortcutNorm!, Convolve(block.Shortcut, whole), training);
        Tensor inner = exchange.GatherInput(NormRelu(block.Norm1, Convolve(block.Conv1, whole), training), block.Conv2.In!);
        return Sum(Norm(block.Norm2, Convolve(block.Conv2, inner), training), shortcut, block).relu_();
    }

    /// <summary>Branch and shortcut of a block. No backward pass needs either, so their memory is used again, or freed.</summary>
    private static Tensor Sum(Tensor branch, Tensor shortcut, BlockSpec block)
    {
        Tensor sum = StartsPiece(branch) ? branch + shortcut : branch.add_(shortcut);
        if (block.Shortcut is not null && !StartsPiece(shortcut)) shortcut.Dispose();
        return sum;
    }

    /// <summary>The filters held here over the input held here; where there are none, or no input channels, the sum over nothing.</summary>
    private Tensor Convolve(ConvSpec conv, Tensor input)
    {
        Tensor weight = state[$"{conv.Name}.weight"];
        long[] shape = weight.shape;
        if (shape[0] == 0 || shape[1] == 0)
        {
            long[] outputShape = [input.shape[0], shape[0], conv.OutputSide((int)input.shape[2]), conv.OutputSide((int)input.shape[3])];
            return MemoryFormats.Empty(outputShape, Layout, input.device).zero_();
        }
        // What the backward pass needs of casts and copies its graph keeps.
        Tensor filters = InType(weight), x = InLayout(input);
        Tensor output = Convolution.Apply(conv.Name, x, filters, conv.Stride, conv.Padding, Layout.Format);
        if (!ReferenceEquals(filters, weight)) filters.Dispose();
        if (!ReferenceEquals(x, input)) x.Dispose();
        observer?.Invoke(conv.Name, input, weight, output);
        return output;
    }

    private Tensor InType(Tensor values) => values.dtype == Layout.Type ? values : values.to(Layout.Type);

    /// <summary>Mostly the images only are not so: what is computed of activations has their layout.</summary>
    private Tensor InLayout(Tensor input)
    {
        Tensor cast = InType(input), x = MemoryFormats.To(cast, Layout.Format);
        if (!ReferenceEquals(cast, input) && !ReferenceEquals(cast, x)) cast.Dispose();
        return x;
    }

    private Tensor Norm(NormSpec norm, Tensor x, bool training)
    {
        NormTensors tensors = new(
            state[$"{norm.Name}.weight"], state[$"{norm.Name}.bias"],
            state[$"{norm.Name}.running_mean"], state[$"{norm.Name}.running_var"]);
        Tensor output = exchange.BatchNorm(x, tensors, training);
        observer?.Invoke(norm.Name, x, tensors.Weight, output);
        return output;
    }

    private Tensor NormRelu(NormSpec norm, Tensor x, bool training)
    {
        // In place, since batch norm's backward needs its input and not its output; but never on the start of a piece.
        Tensor y = Norm(norm, x, training);
        return StartsPiece(y) ? y.relu() : y.relu_();
    }

    /// <summary>True for what an exchange's tape made: it may not be changed or disposed.</summary>
    private static bool StartsPiece(Tensor x) => x.is_leaf && x.requires_grad;

    private static Tensor Pool(Tensor x) => x.shape[1] == 0
        ? empty([x.shape[0], 0, ((x.shape[2] - 1) / 2) + 1, ((x.shape[3] - 1) / 2) + 1], x.dtype, x.device)
        : functional.max_pool2d(x, [3, 3], strides: [2, 2], padding: [1, 1]);
}
