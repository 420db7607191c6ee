using LoftHpc.Data;
using LoftHpc.Mpi;
using LoftHpc.Networks;
using TorchSharp;
using static TorchSharp.torch;

namespace LoftHpc.Training;

/// <summary>Measures a network on a data set.</summary>
public static class Evaluation
{
    /// <summary>Loss and hits on a shard of the images, in evaluation mode and without augmentation.</summary>
    /// <param name="batchStatistics">True: batch norm by the statistics of each batch instead of the running ones; batches are then dealt whole.</param>
    public static StepTotals Of(ResidualNetwork network, BatchLoader data, int batch, RankContext context, Shard shard, bool batchStatistics = false)
    {
        if (!context.LooksLate) return ByBatch(network, data, batch, context, shard, batchStatistics);
        // Without a wait; what is not finite shows in the sum, and is then looked for.
        using TotalsOnDevice totals = new(context.Device);
        (int first, int last) = shard.Of(data.Count);
        using IDisposable frozen = no_grad();
        foreach ((int start, int count) in Batches.Of(first, last, batch))
        {
            using DisposeScope scope = NewDisposeScope();
            Batch loaded = data.Load([.. Enumerable.Range(start, count)], epoch: 0, augment: false, context.Device, context.Type);
            Tensor logits = network.Forward(loaded.Images, training: batchStatistics);
            totals.Add(logits, loaded.Labels, nn.functional.cross_entropy(logits, loaded.Labels, reduction: nn.Reduction.Sum));
        }
        StepTotals read = totals.Read();
        return double.IsFinite(read.LossSum) ? read : ByBatch(network, data, batch, context, shard, batchStatistics);
    }

    /// <summary>The same with a look at every batch.</summary>
    private static StepTotals ByBatch(ResidualNetwork network, BatchLoader data, int batch, RankContext context, Shard shard, bool batchStatistics)
    {
        StepTotals totals = default;
        (int first, int last) = batchStatistics ? shard.OfBatches(data.Count, batch) : shard.Of(data.Count);
        using IDisposable frozen = no_grad();
        foreach ((int start, int count) in Batches.Of(first, last, batch))
        {
            using DisposeScope scope = NewDisposeScope();
            int[] images = [.. Enumerable.Range(start, count)];
            Batch loaded = data.Load(images, epoch: 0, augment: false, context.Device, context.Type);
            Tensor logits = network.Forward(loaded.Images, training: batchStatistics);
            totals += StepTotals.Of(logits, loaded.Labels, nn.functional.cross_entropy(logits, loaded.Labels, reduction: nn.Reduction.Sum));
            if (!double.IsFinite(totals.LossSum) && totals.Trouble is null)
                totals = totals with { Trouble = NonFinite.InEvaluation(network, data.ImageSide, context.Device, again => again.Forward(loaded.Images, training: batchStatistics)) };
        }
        return totals;
    }

    /// <summary>Totals of all ranks, on all ranks. Collective.</summary>
    public static StepTotals SumOverRanks(this StepTotals totals, ICommunicator communicator)
    {
        Span<double> sums = [totals.LossSum, totals.Correct, totals.Images];
        communicator.Allreduce(sums, MpiOperation.Sum);
        return new StepTotals(sums[0], (long)sums[1], (long)sums[2]) { Trouble = totals.Trouble };
    }
}
