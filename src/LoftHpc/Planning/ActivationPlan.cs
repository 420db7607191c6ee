using LoftHpc.Arithmetic;
using LoftHpc.Configuration;
using LoftHpc.Data;
using LoftHpc.Mpi;
using LoftHpc.Networks;
using TorchSharp;
using static TorchSharp.torch;

namespace LoftHpc.Planning;

/// <summary>How the forward pass of a network is spread over ranks, as far as it changes what is kept for the backward pass.</summary>
public enum ForwardKind
{
    /// <summary>Autograd alone: <see cref="SerialExchange"/>.</summary>
    Serial,

    /// <summary>Batch norm over the batches of all ranks, in pieces between which the tape stands.</summary>
    SynchronisedBatchNorm,

    /// <summary>Each rank's own channels, and beside them the gathered inputs of convolutions.</summary>
    FilterParallel,
}

/// <summary>
/// Bytes that a rank holds for the backward pass when the forward pass of a step is done, planned without running it:
/// the batch, what autograd saves, and what the step's C# tensors keep alive until its dispose scope ends. In bfloat16 activations
/// take half, and the casts of weights and of the images are kept beside their float32 originals. The
/// allocator's and autograd's own records are not counted.
/// </summary>
public static class ActivationPlan
{
    /// <summary>Bytes of one label (int64), and of one index of a maximum in a max pool.</summary>
    private const int IndexBytes = sizeof(long);

    /// <summary>What a rank holds in a whole step of a method (of loft: of a round that partitions).</summary>
    /// <param name="network">The whole network.</param>
    /// <param name="imageSide">Pixels.</param>
    /// <param name="layout">Of activations; images, statistics and the head are float32 where they are bfloat16. Null: contiguous float32.</param>
    /// <param name="units">Of gpipe: the units of the rank's stage, from the first up to, but not with, the end; null: all.</param>
    /// <param name="channels">Channels of input and output that a convolution is computed with where that is repaired (<see cref="Convolution.ChannelsOf"/>); null: those that it has.</param>
    public static long Bytes(
        PretrainSection config, NetworkSpec network, int imageSide, int ranks, int rank, ActivationLayout? layout = null,
        (int First, int End)? units = null, Func<ConvolutionShape, (int Inputs, int Outputs)>? channels = null)
    {
        (int first, int end) = units ?? (0, network.UnitCount);
        var share = new Shard(rank, ranks);
        ActivationLayout activations = layout ?? new ActivationLayout(ScalarType.Float32, MemoryFormat.Contiguous);
        long Held(ForwardKind kind, NetworkSpec held, int images) => new Counter(kind, held, images, activations, share, channels).Units(0, held.UnitCount, imageSide);
        // Ranks that walk the whole set by themselves have a whole batch each.
        int walked = config.Samples is SampleScope.Whole ? config.Batch : Size(share, config.Batch);
        switch (config.Method)
        {
            case PretrainMethod.Dense:
                return Held(ForwardKind.Serial, network, config.Batch);
            case PretrainMethod.DataParallel:
                return Held(
                    ranks > 1 && config.BatchNorm is BatchNormScope.Synchronised ? ForwardKind.SynchronisedBatchNorm : ForwardKind.Serial,
                    network, Size(share, config.Batch));
            case PretrainMethod.FilterParallel:
                return Held(ranks > 1 ? ForwardKind.FilterParallel : ForwardKind.Serial, network, config.Batch);
            case PretrainMethod.LocalSgd:
                return Held(ForwardKind.Serial, network, walked);
            case PretrainMethod.Loft:
                return Held(ForwardKind.Serial, Narrow(config.Loft, network, share), walked);
            case PretrainMethod.Gpipe:
                // The micro-batches of a step are all held when the last of them is forward.
                return Shard.Sizes(config.Batch, config.Gpipe.MicroBatches).Sum(parts =>
                    parts.Count * new Counter(ForwardKind.Serial, network, parts.Size, activations, share, channels).Units(first, end, imageSide));
            default:
                throw new ArgumentOutOfRangeException(nameof(config), $"no method {config.Method}");
        }
    }

    /// <summary>What a rank that loads images holds of them on a GPU, besides the batch: all sets, where they fit.</summary>
    public static long ImageBytes(ImageShape images) =>
        images.Evaluated.Prepend(images.TrainImages).Sum(count => DeviceImages.BytesOf(count, images.Channels, images.Side, images.Side));

    private static int Size(Shard shard, int items)
    {
        (int start, int end) = shard.Of(items);
        return end - start;
    }

    /// <summary>A rank's network in a round of loft; dealt by norm its filter counts may differ by one from these.</summary>
    private static NetworkSpec Narrow(LoftSection loft, NetworkSpec network, Shard share) => network.WithInnerCounts(
        FilterPartition.BlocksOf(network, loft.Stages, loft.FirstBlocks).ToDictionary(block => block.Inner.Name, block => Size(share, block.Inner.Count)));

    /// <summary>Counts along the forward pass, as <see cref="ResidualNetwork"/> does it.</summary>
    private sealed class Counter(
        ForwardKind kind, NetworkSpec network, int images, ActivationLayout layout, Shard share, Func<ConvolutionShape, (int Inputs, int Outputs)>? channels)
    {
        /// <summary>Bytes of a value of an activation, and of what stays in the type of the weights.</summary>
        private readonly int _elementBytes = MpiBuffer.SizeOf(MpiBuffer.TypeOf(layout.Type)), _heldBytes = MpiBuffer.SizeOf(MpiBuffer.TypeOf(Precisions.TypeHeld(layout.Type)));

        private long _bytes;

        private bool Casts => layout.Type != Precisions.TypeHeld(layout.Type);

        /// <summary>Whether the images are copied for the first convolution: one channel lies the same in either format.</summary>
        private bool CopiesImages => Casts || (layout.Format is MemoryFormat.ChannelsLast && network.ImageChannels > 1);

        /// <summary>Bytes of some units that follow each other, with their input, which is the images or another rank's output.</summary>
        public long Units(int first, int end, int imageSide)
        {
            if (images == 0) return 0;
            _bytes = 0;
            int side = first == 0 ? imageSide : (int)network.UnitOutput(first - 1, imageSide)[^1];
            if (first == 0) MapHeld(network.ImageChannels, side);
            else Map((int)network.UnitOutput(first - 1, imageSide)[0], side);
            for (int unit = first; unit < end; unit++)
            {
                if (unit == 0) Stem(imageSide);
                else if (unit == network.UnitCount - 1) Head(side);
                else if (network.PreActivation) PreActivationBlock(network.Blocks[unit - 1], side);
                else PostActivationBlock(network.Blocks[unit - 1], side);
                if (unit < network.UnitCount - 1) side = (int)network.UnitOutput(unit, imageSide)[^1];
            }
            return _bytes;
        }

        private void Stem(int side)
        {
            Padding(network.Stem, side, copiesInput: CopiesImages);
            side = network.Stem.OutputSide(side);
            Map(Own(network.Stem.Out), side);
            if (network.StemNorm is not null) NormRelu(network.StemNorm, side);
            if (!network.StemPool) return;
            int pooled = ((side - 1) / 2) + 1;
            Map(Own(network.Stem.Out), pooled);
            _bytes += (long)images * Own(network.Stem.Out) * pooled * pooled * IndexBytes;
        }

        private void PreActivationBlock(BlockSpec block, int side)
        {
            int inner = block.Conv1.OutputSide(side);
            NormRelu(block.Norm1, side);
            Gathered(block.Conv1.In!, side);
            Paddings(block, side, inner);
            Map(Own(block.Inner), inner);
            NormRelu(block.Norm2, inner);
            Gathered(block.Inner, inner);
            // The shortcut is added in place, and a convolution's output is then gone.
            Map(Own(block.Conv2.Out), inner);
        }

        private void PostActivationBlock(BlockSpec block, int side)
        {
            int inner = block.Conv1.OutputSide(side);
            Gathered(block.Conv1.In!, side);
            Paddings(block, side, inner);
            if (block.ShortcutNorm is not null)
            {
                // Autograd needs the input of the shortcut's norm, and not its output.
                Map(Own(block.Conv2.Out), inner);
                NormStatistics(block.ShortcutNorm);
                if (kind is ForwardKind.SynchronisedBatchNorm) Synchronised(Own(block.Conv2.Out), inner);
            }
            Map(Own(block.Inner), inner);
            NormRelu(block.Norm1, inner);
            Gathered(block.Inner, inner);
            Map(Own(block.Conv2.Out), inner);
            NormRelu(block.Norm2, inner);
        }

        private void Head(int side)
        {
            if (network.FinalNorm is not null) NormRelu(network.FinalNorm, side);
            MapHeld(Own(network.HeadSpace), 1);
            // The product, with filters sliced its sum over the ranks, with the bias, and the logarithm of its softmax.
            MapHeld((kind is ForwardKind.FilterParallel ? 4 : 3) * network.Classes, 1);
            _bytes += (long)images * IndexBytes;
        }

        /// <summary>A norm and what follows it in place: relu, or the sum of a block and relu.</summary>
        private void NormRelu(NormSpec norm, int side)
        {
            Map(Own(norm.Space), side);
            // relu then has a result of its own.
            if (kind is ForwardKind.SynchronisedBatchNorm) Synchronised(Own(norm.Space), side);
            NormStatistics(norm);
        }

        /// <summary>The normalised input, and the result, which starts a piece of the tape.</summary>
        private void Synchronised(int channels, int side)
        {
            MapHeld(channels, side);
            Map(channels, side);
        }

        /// <summary>Mean and deviation of each channel.</summary>
        private void NormStatistics(NormSpec norm) => _bytes += 2L * Own(norm.Space) * _heldBytes;

        private void Paddings(BlockSpec block, int side, int inner)
        {
            Padding(block.Conv1, side);
            Padding(block.Conv2, inner);
            if (block.Shortcut is not null) Padding(block.Shortcut, side);
        }

        /// <summary>
        /// The convolution's gradients need its input and its weights as it got them: copies, where channels are padded, values
        /// cast, or images laid out otherwise.
        /// </summary>
        private void Padding(ConvSpec conv, int side, bool copiesInput = false)
        {
            (int inputs, int outputs) = (conv.InputChannels, Own(conv.Out));
            if (inputs == 0 || outputs == 0) return;
            (int wideInputs, int wideOutputs) =
                channels?.Invoke(new ConvolutionShape(inputs, outputs, conv.Kernel, conv.Stride, conv.Padding, side, layout, DeviceType.CPU)) ?? (inputs, outputs);
            if (wideInputs > inputs || copiesInput) Map(wideInputs, side);
            if (Casts || (wideInputs, wideOutputs) != (inputs, outputs)) _bytes += (long)wideInputs * wideOutputs * conv.Kernel * conv.Kernel * _elementBytes;
        }

        private void Gathered(ChannelSpace space, int side)
        {
            if (kind is ForwardKind.FilterParallel) Map(space.Count, side);
        }

        private void Map(int channels, int side) => _bytes += (long)images * channels * side * side * _elementBytes;

        /// <summary>The same in the type of the weights.</summary>
        private void MapHeld(int channels, int side) => _bytes += (long)images * channels * side * side * _heldBytes;

        /// <summary>Channels of a space that the rank holds: its share of the filters, or all.</summary>
        private int Own(ChannelSpace space) => kind is ForwardKind.FilterParallel ? Size(share, space.Count) : space.Count;
    }
}
