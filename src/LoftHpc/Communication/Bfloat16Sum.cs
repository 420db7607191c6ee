using TorchSharp;
using static TorchSharp.torch;

namespace LoftHpc.Communication;

/// <summary>
/// A reduce-scatter of bfloat16, of which MPI has no sums: every rank gets the blocks of its channels from all ranks, 2 bytes a
/// value, adds them up in float32 in the order of the ranks, and rounds once.
/// </summary>
internal static class Bfloat16Sum
{
    /// <summary>
    /// In pieces of whole images, as <see cref="ChannelExchange"/>'s other exchanges of images; one alltoallv a piece. Both tensors
    /// are contiguous.
    /// </summary>
    /// <param name="whole">[N, sum of channels, H, W].</param>
    /// <param name="part">Becomes [N, channels of this rank, H, W] of the sum over the ranks.</param>
    public static void ReduceScatter(ChannelExchange exchange, Tensor whole, Tensor part, ReadOnlySpan<int> channels)
    {
        int ranks = channels.Length, images = (int)whole.size(0), own = channels[exchange.Communicator.Rank];
        long area = whole.size(2) * whole.size(3);
        long[] sendCounts = new long[ranks], receiveCounts = new long[ranks];
        foreach ((int start, int count) in Batches.Of(0, images, ChannelExchange.ImagesPerPiece(whole.size(1) * area * whole.element_size())))
        {
            using DisposeScope scope = NewDisposeScope();
            Tensor piece = whole.narrow(0, start, count);
            Tensor send = empty([piece.numel()], whole.dtype, whole.device), receive = empty([ranks, count * own * area], whole.dtype, whole.device);
            long channel = 0, at = 0;
            for (int rank = 0; rank < ranks; rank++)
            {
                Tensor block = piece.narrow(1, channel, channels[rank]);
                (sendCounts[rank], receiveCounts[rank]) = (block.numel(), receive.size(1));
                send.narrow(0, at, block.numel()).view(block.shape).copy_(block);
                channel += channels[rank];
                at += block.numel();
            }
            exchange.Alltoallv(send, sendCounts, receive.view(-1), receiveCounts);
            if (own == 0) continue;
            Tensor sum = receive[0].to(float32);
            for (int rank = 1; rank < ranks; rank++) sum.add_(receive[rank]);
            part.narrow(0, start, count).copy_(sum.view(count, own, whole.size(2), whole.size(3)));
        }
    }
}
