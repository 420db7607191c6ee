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
    /// <param name="ranksMeet">Whether all ranks have the same batches, in each of which they exchange.</param>
    /// <param name="batchStatistics">True: batch norm by the statistics of each batch instead of the running ones; batches are then dealt whole.</param>
    public static StepTotals Of(ResidualNetwork network, BatchLoader data, int batch, RankContext context, Shard shard, bool batchStatistics = false, bool ranksMeet = false)
    {
        (int first, int last) = batchStatistics ? shard.OfBatches(data.Count, batch) : shard.Of(data.Count);
        using TotalsOnDevice totals = new(context.Device);
        NonFinite? trouble = null;
        // A rank may have no images.
        bool isCut = !ranksMeet && context.EarlyStop.LeavesEvaluation();
        if (isCut) return new StepTotals { IsCut = true };
        // On a GPU a look is a wait: what is not finite shows in the sum, and is then looked for.
        StepTotals read = Pass(looks: !context.LooksLate);
        if (context.LooksLate && !double.IsFinite(read.LossSum)) read = Pass(looks: true);
        return read with { Trouble = trouble, IsCut = isCut };

        StepTotals Pass(bool looks)
        {
            using IDisposable frozen = no_grad();
            foreach ((int start, int count) in Batches.Of(first, last, batch))
            {
                using DisposeScope scope = NewDisposeScope();
                Batch loaded = data.Load(
                    [.. Enumerable.Range(start, count)], epoch: 0, augment: false, context.Device, context.Type, BatchLoader.InOrder(start + count, last, batch));
                Tensor logits = network.Forward(loaded.Images, training: batchStatistics);
                Tensor lossSum = nn.functional.cross_entropy(logits, loaded.Labels, reduction: nn.Reduction.Sum);
                totals.Add(logits, loaded.Labels, lossSum);
                if (looks && trouble is null && !NonFinite.IsFinite(lossSum))
                    trouble = NonFinite.InEvaluation(network, data.ImageSide, context.Device, again => again.Forward(loaded.Images, training: batchStatistics));
                isCut = ranksMeet ? context.EarlyStop.AllLeaveEvaluation() : context.EarlyStop.LeavesEvaluation();
                if (isCut) break;
            }
            return totals.Take();
        }
    }

    /// <summary>Totals of all ranks, on all ranks. Collective.</summary>
    public static StepTotals SumOverRanks(this StepTotals totals, RankContext context)
    {
        Span<double> sums = [totals.LossSum, totals.Correct, totals.Images, totals.IsCut ? 1 : 0];
        context.Communicator.Allreduce(sums, MpiOperation.Sum);
        return new StepTotals(sums[0], (long)sums[1], (long)sums[2]) { Trouble = totals.Trouble, IsCut = sums[3] > 0 };
    }
}
