using LoftHpc.Configuration;
using LoftHpc.Data;
using LoftHpc.Networks;
using TorchSharp;
using static TorchSharp.torch;

namespace LoftHpc.Training;

/// <summary>
/// Optimizer steps of one rank by itself, on a network that it holds: on the whole set in an order of its own (rank 0's
/// order is that of one rank), or on its share of each batch.
/// </summary>
public sealed class LocalSteps : IDisposable
{
    private readonly RankContext _context;
    private readonly OptimizerSection _optimizer;
    private readonly EpochBatches _batches;
    private readonly Shard _shard;
    private readonly SerialExchange _exchange = new();
    private readonly ResidualNetwork _network;
    private readonly TotalsOnDevice _totals;

    public LocalSteps(RankContext context, NetworkSpec network, ModelState state, PretrainSection config, BatchLoader data)
    {
        (_context, _optimizer) = (context, config.Optimizer);
        (BatchLoader own, _shard) = config.Samples is SampleScope.Whole ? (data.Walk(context.Rank), Shard.Whole) : (data, context.Shard);
        _batches = new EpochBatches(own, config.Batch);
        _network = new ResidualNetwork(network, state, _exchange, context.Layout);
        _totals = new TotalsOnDevice(context.Device);
        Watch = new StepWatch(context, _network, data.ImageSide);
    }

    public int StepsPerEpoch => _batches.StepsPerEpoch;

    /// <summary>Totals of this rank's steps since <see cref="TakeTotals"/>.</summary>
    public StepTotals Totals => _totals.Read();

    public TrainingWork Work { get; private set; }

    /// <summary>Wall-clock time in which steps waited for their images.</summary>
    public double DataSeconds => _batches.WaitedSeconds;

    /// <summary>Looks at every step.</summary>
    public StepWatch Watch { get; }

    /// <summary>One step of momentum SGD; none where this rank's share of the batch is empty.</summary>
    /// <param name="imageFlops">Of one image's forward pass through what this rank holds.</param>
    public void Step(int epoch, int step, double learningRate, long imageFlops)
    {
        // What the step needs is gone before ranks exchange.
        using DisposeScope scope = NewDisposeScope();
        Batch Load() => _batches.Load(epoch, step, _shard, _context);
        Batch batch = Load();
        if (batch.Count == 0)
        {
            Watch.Skip();
            return;
        }
        Tensor logits = _network.Forward(batch.Images, training: true);
        Tensor loss = nn.functional.cross_entropy(logits, batch.Labels, label_smoothing: _optimizer.LabelSmoothing);
        Watch.Forward(loss, again => again.Forward(Load().Images, training: true));
        _context.AfterForward?.Invoke();
        _exchange.Backward(loss);
        _totals.Add(logits, batch.Labels, loss * batch.Count);
        Watch.Update(_optimizer, learningRate);
        Work += TrainingWork.Of(batch.Count, imageFlops);
    }

    /// <summary>The totals over all ranks; starts them anew. Collective.</summary>
    public StepTotals TakeTotals() => _totals.Take().SumOverRanks(_context);

    /// <summary>
    /// Whether the ranks are at the end of a round. Other ranks go on only from there: then the network of the one who wrote is that of
    /// the others.
    /// </summary>
    /// <exception cref="UserError">Other ranks are to go on from within a round.</exception>
    public static void ArchiveRound(StateArchive archive, ref bool haveMet)
    {
        long met = haveMet ? 1 : 0;
        archive.Number("round/has_ended", ref met);
        haveMet = met != 0;
        if (met == 0 && archive.Writers is { } writers)
            throw new UserError($"it is of {writers.Count} ranks in the middle of a round; from there only {writers.Count} go on, and others from the end of a round");
    }

    /// <summary>All but the network.</summary>
    public void Archive(StateArchive archive)
    {
        _totals.Archive(archive);
        _batches.Archive(archive);
        Work = Work.Archived(archive);
    }

    public void Dispose()
    {
        _totals.Dispose();
        Watch.Dispose();
    }
}

/// <summary>Which optimizer steps make up a round.</summary>
/// <param name="LocalSteps">Steps of a round; the last round may be shorter.</param>
/// <param name="TotalSteps">Steps of the whole training.</param>
public readonly record struct RoundSchedule(int LocalSteps, long TotalSteps)
{
    public long Count => (TotalSteps + LocalSteps - 1) / LocalSteps;

    /// <summary>The round of a step, both from 0.</summary>
    public long Of(long step) => step / LocalSteps;

    /// <summary>Whether a round ends with this step (from 0).</summary>
    public bool EndsWith(long step) => (step + 1) % LocalSteps == 0 || step + 1 == TotalSteps;
}
