using System.Diagnostics;
using LoftHpc.Data;
using static TorchSharp.torch;

namespace LoftHpc.Training;

/// <summary>The batches of an epoch: which images belong to which step, the same on every rank.</summary>
public sealed class EpochBatches(BatchLoader data, int batch)
{
    private int[] _order = [];
    private int _orderEpoch = -1;
    private readonly Stopwatch _waited = new();
    private double _waitedBefore;

    /// <summary>The last batch of an epoch may be smaller.</summary>
    public int StepsPerEpoch => data.BatchesPerEpoch(batch);

    /// <summary>Images of this step's batch over all ranks.</summary>
    public int SizeOf(int step) => Math.Min(batch, data.Count - (step * batch));

    /// <summary>Wall-clock time in which steps waited for their batches here; of a GPU's work the time to ask for it.</summary>
    public double WaitedSeconds => _waitedBefore + _waited.Elapsed.TotalSeconds;

    public void Archive(StateArchive archive)
    {
        double seconds = WaitedSeconds;
        archive.Number("data_seconds", ref seconds);
        if (archive.IsReading) _waitedBefore = seconds;
    }

    /// <summary>This shard of a step's batch, augmented for training.</summary>
    public Batch Load(int epoch, int step, Shard shard, RankContext context)
    {
        _waited.Start();
        Batch batch = data.Load(Samples(epoch, step, shard), epoch, augment: true, context.Device, context.Type);
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
        if (epoch != _orderEpoch) (_order, _orderEpoch) = (data.EpochOrder(epoch), epoch);
        (int start, int end) = shard.Of(SizeOf(step));
        return _order.AsSpan((step * batch) + start, end - start);
    }
}
