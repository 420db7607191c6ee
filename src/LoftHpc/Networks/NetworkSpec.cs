namespace LoftHpc.Networks;

/// <summary>
/// A set of channels that several tensors share: a residual stream (its stem or shortcut and the last convolution of
/// every block that writes to it), or the channels inside one block. Slicing and pruning act on spaces, so whatever
/// must be cut together is cut together.
/// </summary>
public sealed record ChannelSpace(string Name, int Count);

/// <summary>A convolution without bias. Weight [Out.Count, InputChannels, Kernel, Kernel].</summary>
/// <param name="Name">As PyTorch users know it, without ".weight".</param>
/// <param name="In">Null for the stem, whose input are the images.</param>
public sealed record ConvSpec(string Name, ChannelSpace? In, ChannelSpace Out, int InputChannels, int Kernel, int Stride, int Padding)
{
    /// <summary>Values of one filter.</summary>
    public int FilterSize => InputChannels * Kernel * Kernel;

    /// <summary>Side of the output for an input of this side.</summary>
    public int OutputSide(int side) => ((side + (2 * Padding) - Kernel) / Stride) + 1;
}

/// <summary>A batch norm over the channels of a space.</summary>
public sealed record NormSpec(string Name, ChannelSpace Space);

/// <summary>
/// A basic block of two convolutions. Pre-activation: norm1, relu, conv1, norm2, relu, conv2, sum. Otherwise: conv1,
/// norm1, relu, conv2, norm2, sum, relu.
/// </summary>
/// <param name="Stage">Counts from 1.</param>
/// <param name="Index">Of the block in its stage, from 0.</param>
/// <param name="Shortcut">The 1x1 convolution of the shortcut; null where it is the identity.</param>
/// <param name="ShortcutNorm">Its batch norm; null in a pre-activation network.</param>
public sealed record BlockSpec(
    string Name, int Stage, int Index, ConvSpec Conv1, NormSpec Norm1, ConvSpec Conv2, NormSpec Norm2,
    ConvSpec? Shortcut, NormSpec? ShortcutNorm)
{
    /// <summary>The channels between the two convolutions.</summary>
    public ChannelSpace Inner => Conv1.Out;
}

/// <summary>What a tensor of a network is.</summary>
public enum TensorRole
{
    ConvWeight,
    NormWeight,
    NormBias,
    RunningMean,
    RunningVariance,
    LinearWeight,
    LinearBias,
}

/// <summary>One tensor of the whole network.</summary>
/// <param name="Axis0">The channels along axis 0, if any.</param>
/// <param name="Axis1">The channels along axis 1, if any.</param>
public sealed record TensorSpec(string Name, TensorRole Role, IReadOnlyList<long> Shape, ChannelSpace? Axis0, ChannelSpace? Axis1)
{
    /// <summary>True for what is trained, false for running statistics.</summary>
    public bool IsParameter => Role is not (TensorRole.RunningMean or TensorRole.RunningVariance);

    public long Count => Shape.Aggregate(1L, (product, side) => product * side);
}

/// <summary>
/// A residual network: what there is and who feeds whom. The serial model, the filter-parallel model, the counts and
/// the pruning all read it.
/// </summary>
/// <param name="StemPool">True: a 3x3 max pool of stride 2 follows the stem.</param>
/// <param name="FinalNorm">The norm before the pool and the head; null where blocks end in relu.</param>
public sealed record NetworkSpec(
    bool PreActivation, int ImageChannels, int Classes, ConvSpec Stem, NormSpec? StemNorm, bool StemPool,
    IReadOnlyList<BlockSpec> Blocks, NormSpec? FinalNorm)
{
    private const string Head = "linear";

    /// <summary>The stream that the head reads.</summary>
    public ChannelSpace HeadSpace => Blocks[^1].Conv2.Out;

    /// <summary>Every convolution, in the order of the forward pass.</summary>
    public IEnumerable<ConvSpec> Convolutions
    {
        get
        {
            yield return Stem;
            foreach (BlockSpec block in Blocks)
            {
                yield return block.Conv1;
                yield return block.Conv2;
                if (block.Shortcut is not null) yield return block.Shortcut;
            }
        }
    }

    /// <summary>Every channel space, each once, in the order of the forward pass.</summary>
    public IEnumerable<ChannelSpace> Spaces => Convolutions.Select(conv => conv.Out).DistinctBy(space => space.Name);

    /// <summary>
    /// Pieces that follow each other in the forward pass: the stem, each block, and the head with the norm and the pool
    /// before it. A network is cut into pipeline stages between them.
    /// </summary>
    public int UnitCount => Blocks.Count + 2;

    /// <summary>Name of a unit: its block's, else that of its first convolution or of the head.</summary>
    public string UnitName(int unit) => unit == 0 ? Stem.Name : unit == UnitCount - 1 ? Head : Blocks[unit - 1].Name;

    /// <summary>The tensors of one unit, in the order in which PyTorch lists them.</summary>
    public IReadOnlyList<TensorSpec> TensorsOf(int unit)
    {
        if (unit == 0) return [.. Of(Stem), .. Of(StemNorm)];
        if (unit == UnitCount - 1)
        {
            return
            [
                .. Of(FinalNorm),
                new TensorSpec($"{Head}.weight", TensorRole.LinearWeight, [Classes, HeadSpace.Count], null, HeadSpace),
                new TensorSpec($"{Head}.bias", TensorRole.LinearBias, [Classes], null, null),
            ];
        }
        BlockSpec block = Blocks[unit - 1];
        return PreActivation
            ? [.. Of(block.Norm1), .. Of(block.Conv1), .. Of(block.Norm2), .. Of(block.Conv2), .. Of(block.Shortcut), .. Of(block.ShortcutNorm)]
            : [.. Of(block.Conv1), .. Of(block.Norm1), .. Of(block.Conv2), .. Of(block.Norm2), .. Of(block.Shortcut), .. Of(block.ShortcutNorm)];
    }

    /// <summary>Every tensor of the network, in the order in which PyTorch lists them.</summary>
    public IReadOnlyList<TensorSpec> Tensors => [.. Enumerable.Range(0, UnitCount).SelectMany(TensorsOf)];

    /// <summary>Shape [C, H, W] of what a unit hands to the next one, for images of this side; of the last unit the logits, [classes].</summary>
    public IReadOnlyList<long> UnitOutput(int unit, int imageSide)
    {
        if (unit == UnitCount - 1) return [Classes];
        int side = StemSide(imageSide);
        for (int block = 0; block < unit; block++) side = Blocks[block].Conv1.OutputSide(side);
        return [unit == 0 ? Stem.Out.Count : Blocks[unit - 1].Conv2.Out.Count, side, side];
    }

    /// <summary>The norm between the two convolutions of a block, which is cut with its first one.</summary>
    public NormSpec InnerNorm(BlockSpec block) => PreActivation ? block.Norm2 : block.Norm1;

    /// <summary>Trained values.</summary>
    public long ParameterCount => Tensors.Where(tensor => tensor.IsParameter).Sum(tensor => tensor.Count);

    /// <summary>
    /// Floating-point operations of one image's forward pass: two for each multiply-add of the convolutions and of the
    /// head. Norms, activations and sums are not counted.
    /// </summary>
    public long Flops(int imageSide) => Flops(imageSide, Tensors.Select(TensorSlice.Whole));

    /// <summary>The same for the parts of the tensors that are held somewhere: what is computed there.</summary>
    public long Flops(int imageSide, IEnumerable<TensorSlice> held)
    {
        Dictionary<string, int> outputSides = Geometry(imageSide).ToDictionary(conv => $"{conv.Conv.Name}.weight", conv => conv.OutputSide);
        return 2 * held.Sum(slice => slice.Spec.Role switch
        {
            TensorRole.ConvWeight => slice.Count * outputSides[slice.Name] * outputSides[slice.Name],
            TensorRole.LinearWeight => slice.Count,
            _ => 0,
        });
    }

    /// <summary>Each convolution with the side of its input and of its output, for images of this side.</summary>
    public IEnumerable<ConvGeometry> Geometry(int imageSide)
    {
        yield return new ConvGeometry(Stem, imageSide);
        int side = StemSide(imageSide);
        foreach (BlockSpec block in Blocks)
        {
            yield return new ConvGeometry(block.Conv1, side);
            int inner = block.Conv1.OutputSide(side);
            yield return new ConvGeometry(block.Conv2, inner);
            if (block.Shortcut is not null) yield return new ConvGeometry(block.Shortcut, side);
            side = inner;
        }
    }

    /// <summary>Each norm with the side of its input, for images of this side.</summary>
    public IEnumerable<(NormSpec Norm, int Side)> NormGeometry(int imageSide)
    {
        if (StemNorm is not null) yield return (StemNorm, Stem.OutputSide(imageSide));
        int side = StemSide(imageSide);
        foreach (BlockSpec block in Blocks)
        {
            int inner = block.Conv1.OutputSide(side);
            yield return (block.Norm1, PreActivation ? side : inner);
            yield return (block.Norm2, inner);
            if (block.ShortcutNorm is not null) yield return (block.ShortcutNorm, inner);
            side = inner;
        }
        if (FinalNorm is not null) yield return (FinalNorm, side);
    }

    /// <summary>The same network with other counts of channels inside its blocks.</summary>
    /// <param name="counts">New count by name of the space; spaces not named stay.</param>
    public NetworkSpec WithInnerCounts(IReadOnlyDictionary<string, int> counts)
    {
        BlockSpec Narrow(BlockSpec block)
        {
            if (!counts.TryGetValue(block.Inner.Name, out int count)) return block;
            var inner = new ChannelSpace(block.Inner.Name, count);
            // The norm between the convolutions is the second one of a pre-activation block.
            return block with
            {
                Conv1 = block.Conv1 with { Out = inner },
                Norm1 = PreActivation ? block.Norm1 : block.Norm1 with { Space = inner },
                Norm2 = PreActivation ? block.Norm2 with { Space = inner } : block.Norm2,
                Conv2 = block.Conv2 with { In = inner, InputChannels = count },
            };
        }
        return this with { Blocks = [.. Blocks.Select(Narrow)] };
    }

    /// <summary>Side of what the first block gets.</summary>
    private int StemSide(int imageSide)
    {
        int side = Stem.OutputSide(imageSide);
        return StemPool ? ((side - 1) / 2) + 1 : side;
    }

    private static IEnumerable<TensorSpec> Of(ConvSpec? conv)
    {
        if (conv is null) yield break;
        yield return new TensorSpec(
            $"{conv.Name}.weight", TensorRole.ConvWeight, [conv.Out.Count, conv.InputChannels, conv.Kernel, conv.Kernel], conv.Out, conv.In);
    }

    private static IEnumerable<TensorSpec> Of(NormSpec? norm)
    {
        if (norm is null) yield break;
        (string, TensorRole)[] parts =
        [
            ("weight", TensorRole.NormWeight), ("bias", TensorRole.NormBias),
            ("running_mean", TensorRole.RunningMean), ("running_var", TensorRole.RunningVariance),
        ];
        foreach ((string part, TensorRole role) in parts)
            yield return new TensorSpec($"{norm.Name}.{part}", role, [norm.Space.Count], norm.Space, null);
    }
}

/// <summary>A convolution on square inputs of a known side.</summary>
public sealed record ConvGeometry(ConvSpec Conv, int InputSide)
{
    public int OutputSide => Conv.OutputSide(InputSide);
}
