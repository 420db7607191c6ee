using LoftHpc.Communication;
using LoftHpc.Configuration;
using LoftHpc.Data;
using LoftHpc.Distances;
using LoftHpc.Networks;
using TorchSharp;
using static TorchSharp.torch;

namespace LoftHpc.Training;

/// <summary>
/// Filter-parallel training: each rank owns a slice of the filters of every convolution and sees every image. With
/// <see cref="BackwardKind.Exact"/> the ranks train the network that one rank would; with
/// <see cref="BackwardKind.Local"/> no gradient is exchanged.
/// </summary>
public sealed class FilterParallelTraining : ITrainingMethod
{
    private readonly RankContext _context;
    private readonly PretrainSection _config;
    private readonly EpochBatches _batches;
    private readonly FilterAssignment _assignment;
    private readonly ModelState _state;
    private readonly INetworkExchange _exchange;
    private readonly ResidualNetwork _network;
    private readonly StepWatch _watch;
    private readonly long _imageFlops;
    private readonly TotalsOnDevice _totals;

    public FilterParallelTraining(RankContext context, NetworkSpec network, PretrainSection config, BatchLoader data, long seed)
    {
        (_context, Network, _config, _batches) = (context, network, config, new EpochBatches(data, config.Batch));
        _assignment = FilterAssignment.Create(network, config.Assignment, seed, context.Size);
        _state = ModelState.Initialize(_assignment.Slices(network, context.Rank), seed, context.Type, context.Device);
        _exchange = context.Size == 1 ? new SerialExchange() : new FilterParallelExchange(context.Channels, _assignment, config.Backward, context.MemoryFormat);
        _network = new ResidualNetwork(network, _state, _exchange, context.Layout);
        // Every rank sees the same logits, so all look together.
        _watch = new StepWatch(context, _network, data.ImageSide);
        _totals = new TotalsOnDevice(context.Device);
        _imageFlops = network.Flops(data.ImageSide, _state.Slices);
    }

    public NetworkSpec Network { get; }

    /// <summary>This rank's slices.</summary>
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
        Batch batch = Load(epoch, step);

        Tensor logits = _network.Forward(batch.Images, training: true);
        Tensor loss = nn.functional.cross_entropy(logits, batch.Labels, label_smoothing: _config.Optimizer.LabelSmoothing);
        _watch.Forward(loss, again => again.Forward(Load(epoch, step).Images, training: true));
        _context.AfterForward?.Invoke();
        _exchange.Backward(loss);
        _totals.Add(logits, batch.Labels, loss * batch.Count);
        _watch.Update(_config.Optimizer, learningRate);
        Work += TrainingWork.Of(batch.Count, _imageFlops);
    }

    /// <summary>Every rank sees the same logits, so there is nothing to exchange.</summary>
    public StepTotals TakeTotals() => _totals.Take();

    public StepTotals Evaluate(BatchLoader data, int batch)
    {
        using IDisposable purpose = _context.Ledger.For(CommunicationPurpose.Evaluation);
        return Evaluation.Of(_network, data, batch, _context, Shard.Whole, ranksMeet: true);
    }

    public IReadOnlyList<FilterNorms> MeasureNorms() => FilterNorms.Measure(_state);

    public void Save(string path, WeightsIdentity identity, long step)
    {
        using IDisposable purpose = _context.Ledger.For(CommunicationPurpose.Save);
        WeightsFile.Save(path, identity, step, Network, _state, _context.Communicator, (tensor, rank) =>
            // The head's bias is the one thing that every rank holds; rank 0's is saved.
            tensor.Role is TensorRole.LinearBias && rank != 0 ? null : _assignment.Slice(tensor, rank));
    }

    public void Archive(StateArchive archive)
    {
        _state.Archive(archive);
        _totals.Archive(archive, sameOnAll: true);
        _batches.Archive(archive);
        Work = Work.Archived(archive);
    }

    public void Dispose()
    {
        _totals.Dispose();
        _watch.Dispose();
        _state.Dispose();
    }

    private Batch Load(int epoch, int step) => _batches.Load(epoch, step, Shard.Whole, _context);
}
