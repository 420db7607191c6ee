using LoftHpc.Communication;
using LoftHpc.Configuration;
using LoftHpc.Data;
using LoftHpc.Distances;
using LoftHpc.Mpi;
using LoftHpc.Networks;
using TorchSharp;
using static TorchSharp.torch;

namespace LoftHpc.Training;

/// <summary>
/// Data-parallel training: every rank holds the whole network and a shard of each batch. A rank's loss is the sum over
/// its images divided by the images of the whole batch, and gradients are summed over the ranks, so shards of any size,
/// empty ones too, add up to the gradient of the whole batch.
/// </summary>
public sealed class DataParallelTraining : ITrainingMethod
{
    private readonly RankContext _context;
    private readonly OptimizerSection _optimizer;
    private readonly EpochBatches _batches;
    private readonly ModelState _state;
    private readonly INetworkExchange _exchange;
    private readonly ResidualNetwork _network;
    private readonly StepWatch _watch;
    private readonly RunningStatistics? _statistics;
    private readonly long _imageFlops;
    private readonly TotalsOnDevice _totals;

    /// <param name="state">The whole network, the same on every rank; disposed with this.</param>
    /// <param name="batch">Images a step, over all ranks.</param>
    public DataParallelTraining(
        RankContext context, NetworkSpec network, ModelState state, int batch, BatchNormScope batchNorm, OptimizerSection optimizer, BatchLoader data)
    {
        (_context, Network, _state, _optimizer, _batches) = (context, network, state, optimizer, new EpochBatches(data, batch));
        // Batch norm per rank leaves each rank with the statistics of its own shards.
        bool synchronised = batchNorm is BatchNormScope.Synchronised;
        _statistics = synchronised ? null : new RunningStatistics(context, state);
        _exchange = synchronised && context.Size > 1 ? new SynchronisedBatchNormExchange(context.Channels) : new SerialExchange();
        _network = new ResidualNetwork(network, state, _exchange, context.Layout);
        // Other ranks may have nothing to look for, so a rank looks by itself.
        _watch = new StepWatch(context, new ResidualNetwork(network, state, new SerialExchange(), context.Layout), data.ImageSide);
        if (context.Size > 1) TensorMemory.UseHugePages(state.Gradients);
        _totals = new TotalsOnDevice(context.Device);
        _imageFlops = network.Flops(data.ImageSide);
    }

    public NetworkSpec Network { get; }

    /// <summary>The whole network.</summary>
    public ModelState State => _state;

    public int StepsPerEpoch => _batches.StepsPerEpoch;

    public TrainingWork Work { get; private set; }

    public double DataSeconds => _batches.WaitedSeconds;

    public TrainingMemory Memory => TrainingMemory.Of(_state, _context.Channels.BufferBytes);

    public StepTotals RunningTotals => _totals.Read();

    public void Look() => _watch.Look();

    public NonFinite Explain(NonFinite found) => _watch.Explain(found);

    public void Step(int epoch, int step, double learningRate)
    {
        using DisposeScope scope = NewDisposeScope();
        using IDisposable purpose = _context.Ledger.For(CommunicationPurpose.Step);
        Batch shard = Load(epoch, step);

        Tensor logits = _network.Forward(shard.Images, training: true);
        Tensor lossSum = nn.functional.cross_entropy(logits, shard.Labels, reduction: nn.Reduction.Sum, label_smoothing: _optimizer.LabelSmoothing);
        _watch.Forward(lossSum, again => again.Forward(Load(epoch, step).Images, training: true));
        _context.AfterForward?.Invoke();
        _exchange.Backward(lossSum / _batches.SizeOf(step));
        _totals.Add(logits, shard.Labels, lossSum);
        SumGradients();
        _watch.Update(_optimizer, learningRate);
        Work += TrainingWork.Of(shard.Count, _imageFlops);
        _statistics?.Count(shard.Count);
    }

    public StepTotals TakeTotals()
    {
        using IDisposable purpose = _context.Ledger.For(CommunicationPurpose.Evaluation);
        return _totals.Take().SumOverRanks(_context);
    }

    public StepTotals Evaluate(BatchLoader data, int batch)
    {
        _statistics?.Average();
        using IDisposable purpose = _context.Ledger.For(CommunicationPurpose.Evaluation);
        return Evaluation.Of(_network, data, batch, _context, _context.Shard).SumOverRanks(_context);
    }

    /// <summary>Every rank holds every filter; each measures a share of them.</summary>
    public IReadOnlyList<FilterNorms> MeasureNorms() => FilterNorms.Measure(_state, _context.Shard);

    public void Save(string path, WeightsIdentity identity, long step)
    {
        _statistics?.Average();
        using IDisposable purpose = _context.Ledger.For(CommunicationPurpose.Save);
        WeightsFile.Save(path, identity, step, Network, _state, _context.Communicator, (tensor, rank) =>
            rank == 0 ? TensorSlice.Whole(tensor) : null);
    }

    public void Archive(StateArchive archive)
    {
        _state.Archive(archive);
        _totals.Archive(archive);
        _batches.Archive(archive);
        Work = Work.Archived(archive);
        _statistics?.Archive(archive);
    }

    public void Dispose()
    {
        _totals.Dispose();
        _watch.Dispose();
        _state.Dispose();
    }

    private Batch Load(int epoch, int step) => _batches.Load(epoch, step, _context.Shard, _context);

    /// <summary>Replaces every gradient by its sum over the ranks.</summary>
    private void SumGradients()
    {
        if (_context.Size == 1) return;
        _watch.Gradients(_state.Gradients);
        _context.Channels.AllreduceSum(_state.Gradients);
    }
}
