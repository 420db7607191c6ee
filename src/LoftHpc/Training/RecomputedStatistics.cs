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
    /// <summary>Replaces the running statistics of a whole network that this rank holds; not collective.</summary>
    public void Into(ModelState whole)
    {
        var exchange = new SerialExchange();
        var forward = new ResidualNetwork(network, whole, exchange, context.ComputeType);
        int[] chosen = RandomStream.For(seed, "loft/statistics").Permutation(data.Count)[..Math.Min(images, data.Count)];
        using IDisposable frozen = no_grad();
        foreach ((int start, int count) in Batches.Of(0, chosen.Length, batch))
        {
            using DisposeScope scope = NewDisposeScope();
            // The share that makes the running value the mean over all images so far.
            exchange.StatisticsMomentum = (double)count / (start + count);
            forward.Forward(data.Load(chosen.AsSpan(start, count), epoch: 0, augment: true, context.Device, context.Type).Images, training: true);
        }
    }
}
