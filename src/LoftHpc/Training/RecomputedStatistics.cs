using LoftHpc.Data;
using LoftHpc.Networks;
using TorchSharp;
using static TorchSharp.torch;

namespace LoftHpc.Training;

/// <summary>
/// Running statistics of a whole network that was trained in parts: the means over some training images, augmented as in
/// training, in batches as in training. A narrow network's own statistics are wrong for the full one, whose convolutions
/// sum over more channels.
/// </summary>
public sealed class RecomputedStatistics(RankContext context, NetworkSpec network, BatchLoader data, int images, int batch, long seed)
{
    /// <summary>
    /// Replaces the running statistics of a whole network that every rank holds. Each rank takes some of the batches, whole
    /// ones, and the mean over all is the same on every rank. Collective.
    /// </summary>
    public void Into(ModelState whole)
    {
        var exchange = new SerialExchange();
        var forward = new ResidualNetwork(network, whole, exchange, context.Layout);
        int[] chosen = RandomStream.For(seed, "loft/statistics").Permutation(data.Count)[..Math.Min(images, data.Count)];
        using IDisposable frozen = no_grad();
        (int first, int end) = context.Shard.OfBatches(chosen.Length, batch);
        foreach ((int start, int count) in Batches.Of(first, end, batch))
        {
            using DisposeScope scope = NewDisposeScope();
            // The share that makes the running value the mean over all images so far.
            exchange.StatisticsMomentum = (double)count / (start - first + count);
            IEnumerable<BatchRequest> coming = Batches.Of(start + count, end, batch).Select(part => new BatchRequest(chosen[part.Start..(part.Start + part.Count)], Epoch: 0, Augment: true));
            forward.Forward(data.Load(chosen.AsSpan(start, count), epoch: 0, augment: true, context.Device, context.Type, coming).Images, training: true);
            if (context.EarlyStop.LeavesEvaluation()) break;
        }
        if (context.Size > 1) RunningStatistics.Replace(context, whole, end - first);
    }
}
