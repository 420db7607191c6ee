using LoftHpc.Arithmetic;
using LoftHpc.Communication;
using LoftHpc.Configuration;
using LoftHpc.Networks;
using static TorchSharp.torch;

namespace LoftHpc.Training;

/// <summary>
/// A network whose filters are sliced over the ranks. The input of a convolution is gathered; what reads it is sharded
/// (each rank makes its own filters of it), so every rank has a part of its gradient, and the exact backward is a
/// reduce-scatter. The logits are summed; what reads them is the same on every rank, so every rank has the whole
/// gradient of the sum already, and the backward is the identity. Batch norm needs no exchange: a rank sees every image
/// of its own channels.
/// </summary>
/// <param name="format">How activations lie in memory.</param>
public sealed class FilterParallelExchange(ChannelExchange exchange, FilterAssignment assignment, BackwardKind backward, MemoryFormat format) : TapedExchange
{
    public override Tensor GatherInput(Tensor x, ChannelSpace space)
    {
        int[] channels = assignment[space].Counts;
        return Apply(x, part => exchange.Gather(part, channels, format), gradient => GatherBackward(gradient, channels));
    }

    public override Tensor SumLogits(Tensor partial) => Apply(partial, Sum, gradient => gradient.alias());

    private Tensor Sum(Tensor part)
    {
        Tensor sum = part.contiguous().clone();
        exchange.AllreduceSum(sum);
        return sum;
    }

    private Tensor GatherBackward(Tensor gradient, int[] channels)
    {
        if (backward is BackwardKind.Exact) return exchange.ReduceScatter(gradient, channels, format);
        int rank = exchange.Communicator.Rank;
        Tensor own = gradient.narrow(1, channels.Take(rank).Sum(), channels[rank]);
        Tensor laidOut = format is MemoryFormat.Contiguous ? own.contiguous() : MemoryFormats.To(own, format);
        // The view would keep the whole gradient till the end of the step.
        if (!ReferenceEquals(laidOut, own)) own.Dispose();
        return laidOut;
    }
}
