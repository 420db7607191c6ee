using TorchSharp;
using static TorchSharp.torch;

namespace LoftHpc.Communication;

/// <summary>
/// A reduce-scatter of bfloat16, of which MPI has no sums: every rank gets the blocks of its channels from all ranks, 2 bytes a
/// value, adds them up in float32 in the order of the ranks, and rounds once.
/// </summary>
internal static class Bfloat16Sum
{
    /// <summary>How many images each call's tensors have, and how many calls there are of each kind. What is cut by images is so here; what is not, <see cref="TensorTransport.Alltoallv"/> cuts.</summary>
    /// <param name="imageBytes">Over all channels.</param>
    public static IEnumerable<(long Images, long Calls)> Batches(ExchangeCut cut, long images, long imageBytes) =>
        LoftHpc.Batches.Sizes(images, cut.ByImage ? cut.ImagesPerPiece(imageBytes) : images);

    /// <summary>Values that the tensors of a call have room for, on all ranks alike: what the rank with most channels receives.</summary>
    /// <param name="sent">Values that a rank sends to each.</param>
    public static long Capacity(ReadOnlySpan<long> sent)
    {
        long most = 0;
        foreach (long values in sent) most = Math.Max(most, values);
        return most * sent.Length;
    }

    /// <summary>Both tensors are contiguous.</summary>
    /// <param name="whole">[N, sum of channels, H, W].</param>
    /// <param name="part">Becomes [N, channels of this rank, H, W] of the sum over the ranks.</param>
    public static void ReduceScatter(ChannelExchange exchange, ExchangeCut cut, Tensor whole, Tensor part, ReadOnlySpan<int> channels)
    {
        int ranks = channels.Length, own = channels[exchange.Communicator.Rank];
        long area = whole.size(2) * whole.size(3), start = 0;
        long[] sendCounts = new long[ranks], receiveCounts = new long[ranks];
        foreach ((long images, long calls) in Batches(cut, whole.size(0), whole.size(1) * area * whole.element_size()))
        {
            for (int call = 0; call < calls; call++, start += images)
            {
                using DisposeScope scope = NewDisposeScope();
                for (int rank = 0; rank < ranks; rank++) (sendCounts[rank], receiveCounts[rank]) = (images * channels[rank] * area, images * own * area);
                long capacity = Capacity(sendCounts), channel = 0, at = 0;
                Tensor piece = whole.narrow(0, start, images);
                Tensor send = empty([capacity], whole.dtype, whole.device), receive = empty([capacity], whole.dtype, whole.device);
                for (int rank = 0; rank < ranks; rank++)
                {
                    Tensor block = piece.narrow(1, channel, channels[rank]);
                    send.narrow(0, at, sendCounts[rank]).view(block.shape).copy_(block);
                    channel += channels[rank];
                    at += sendCounts[rank];
                }
                exchange.Alltoallv(send, sendCounts, receive, receiveCounts);
                if (own == 0) continue;
                Tensor sum = receive.narrow(0, 0, receiveCounts[0]).to(float32);
                for (int rank = 1; rank < ranks; rank++) sum.add_(receive.narrow(0, rank * receiveCounts[rank], receiveCounts[rank]));
                part.narrow(0, start, images).copy_(sum.view(images, own, whole.size(2), whole.size(3)));
            }
        }
    }
}
