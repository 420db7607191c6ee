using System.Diagnostics;
using LoftHpc.Data;
using static TorchSharp.torch;

namespace LoftHpc.Training;

/// <summary>The batches of an epoch: which images belong to which step, the same on every rank.</summary>
public sealed class EpochBatches(BatchLoader data, int batch)
{
    /// <summary>Of this epoch and the next one, or the one before.</summary>
    private readonly (int Epoch, int[] Order)[] _orders = [(-1, []), (-1, [])];

    private readonly Stopwatch _waited = new();
    private double _waitedBefore;

    /// <summary>Whether a step loads all shards of its batch, one after the other, and not always the same one.</summary>
    public bool InParts { get; init; }

    /// <summary>The last batch of an epoch may be smaller.</summary>
    public int StepsPerEpoch => data.BatchesPerEpoch(batch);

    /// <summary>Images of this step's batch over all ranks.</summary>
    public int SizeOf(int step) => Math.Min(batch, data.Count - (step * batch));

    /// <summary>Wall-clock time in which steps waited for their batches here; of a GPU's work the time to ask for it.</summary>
    public double WaitedSeconds => _waitedBefore + _waited.Elapsed.TotalSeconds;

    public void Archive(StateArchive archive)
    {
        // Of ranks that are no more.
        if (archive.Writers is not null) return;
        double seconds = WaitedSeconds;
        archive.Number("data_seconds", ref seconds);
        if (archive.IsReading) _waitedBefore = seconds;
    }

    /// <summary>This shard of a step's batch, augmented for training.</summary>
    public Batch Load(int epoch, int step, Shard shard, RankContext context)
    {
        _waited.Start();
        Batch batch = data.Load(Samples(epoch, step, shard), epoch, augment: true, context.Device, context.Type, After(epoch, step, shard));
        _waited.Stop();
        return batch;
    }

    /// <summary>Only the labels [N] of the same shard.</summary>
    public Tensor LoadLabels(int epoch, int step, Shard shard, RankContext context)
    {
        _waited.Start();
        Tensor labels = data.LoadLabels(Samples(epoch, step, shard), context.Device);
        _waited.Stop();
        return labels;
    }

    private ReadOnlySpan<int> Samples(int epoch, int step, Shard shard)
    {
        ref (int Epoch, int[] Order) held = ref _orders[epoch % 2];
        if (held.Epoch != epoch) held = (epoch, data.EpochOrder(epoch));
        (int start, int end) = shard.Of(SizeOf(step));
        return held.Order.AsSpan((step * batch) + start, end - start);
    }

    /// <summary>What training loads after a shard of a step, without end; a shard that is not empty comes again in the next epoch at the latest.</summary>
    private IEnumerable<BatchRequest> After(int epoch, int step, Shard shard)
    {
        while (true)
        {
            if (InParts && shard.Index + 1 < shard.Count)
            {
                shard = shard with { Index = shard.Index + 1 };
            }
            else
            {
                if (InParts) shard = shard with { Index = 0 };
                (epoch, step) = step + 1 < StepsPerEpoch ? (epoch, step + 1) : (epoch + 1, 0);
            }
            int[] samples = [.. Samples(epoch, step, shard)];
            if (samples.Length > 0) yield return new BatchRequest(samples, epoch, Augment: true);
        }
    }
}
