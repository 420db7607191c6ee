using LoftHpc.Communication;
using LoftHpc.Configuration;
using LoftHpc.Data;
using LoftHpc.Distances;
using LoftHpc.Networks;
using TorchSharp;
using static TorchSharp.torch;

namespace LoftHpc.Training;

/// <summary>
/// Local SGD (Stich 2019): every rank trains a full copy of the network by itself for some steps, then the copies are
/// averaged. Momentum stays on its rank. Running statistics are averaged before evaluation and saving.
/// </summary>
public sealed class LocalSgdTraining : ITrainingMethod
{
    private readonly RankContext _context;
    private readonly ModelState _state;
    private readonly LocalSteps _local;
    private readonly SharedAverage _average;
    private readonly RoundSchedule _rounds;
    private readonly long _imageFlops;
    private readonly RunningStatistics _statistics;
    private bool _haveMet;

    public LocalSgdTraining(RankContext context, NetworkSpec network, PretrainSection config, BatchLoader data, long seed)
    {
        (_context, Network) = (context, network);
        _state = ModelState.InitializeWhole(network, seed, context.Type, context.Device, copied: tensor => tensor.IsParameter);
        _local = new LocalSteps(context, network, _state, config, data);
        _rounds = new RoundSchedule(config.LocalSteps, (long)config.Epochs * StepsPerEpoch);
        _imageFlops = network.Flops(data.ImageSide);
        _average = new SharedAverage(context, _state);
        _statistics = new RunningStatistics(context, _state);
        _average.Share();
    }

    public NetworkSpec Network { get; }

    /// <summary>This rank's copy.</summary>
    public ModelState State => _state;

    public int StepsPerEpoch => _local.StepsPerEpoch;

    public TrainingWork Work => _local.Work;

    public double DataSeconds => _local.DataSeconds;

    public TrainingMemory Memory => TrainingMemory.Of(_state, _context.Channels.BufferBytes);

    public StepTotals RunningTotals => _local.Totals;

    public void Look() => _local.Watch.Look();

    public NonFinite Explain(NonFinite found) => _local.Watch.Explain(found);

    public void Step(int epoch, int step, double learningRate)
    {
        using DisposeScope scope = NewDisposeScope();
        long before = Work.Images;
        _local.Step(epoch, step, learningRate, _imageFlops);
        _average.Invalidate();
        _statistics.Count(Work.Images - before);
        _haveMet = false;
    }

    public bool MeetsAfter(long step) => _rounds.EndsWith(step);

    public void Meet(long step)
    {
        using DisposeScope scope = NewDisposeScope();
        using IDisposable purpose = _context.Ledger.For(CommunicationPurpose.Round);
        _local.Watch.Weights();
        _average.Apply();
        _haveMet = true;
    }

    public StepTotals TakeTotals()
    {
        using IDisposable purpose = _context.Ledger.For(CommunicationPurpose.Evaluation);
        return _local.TakeTotals();
    }

    public StepTotals Evaluate(BatchLoader data, int batch)
    {
        _statistics.Average();
        using IDisposable purpose = _context.Ledger.For(CommunicationPurpose.Evaluation);
        using ModelState averaged = Averaged();
        var network = new ResidualNetwork(Network, averaged, new SerialExchange(), _context.Layout);
        return Evaluation.Of(network, data, batch, _context, _context.Shard).SumOverRanks(_context);
    }

    /// <summary>Every rank knows every filter of the mean; each measures a share of them.</summary>
    public IReadOnlyList<FilterNorms> MeasureNorms()
    {
        _average.Refresh();
        using DisposeScope scope = NewDisposeScope();
        return
        [
            .. from slice in _state.Slices
               where slice.Spec.Role is TensorRole.ConvWeight
               select FilterNorms.Measure(slice, _average.Read(slice.Name), _context.Shard),
        ];
    }

    public void Save(string path, WeightsIdentity identity, long step)
    {
        _statistics.Average();
        using IDisposable purpose = _context.Ledger.For(CommunicationPurpose.Save);
        using ModelState averaged = Averaged();
        WeightsFile.Save(path, identity, step, Network, averaged, _context.Communicator, (tensor, rank) => rank == 0 ? TensorSlice.Whole(tensor) : null);
    }

    public void Archive(StateArchive archive)
    {
        LocalSteps.ArchiveRound(archive, ref _haveMet);
        _state.Archive(archive);
        _local.Archive(archive);
        _average.Archive(archive);
        _statistics.Archive(archive);
    }

    public void Dispose()
    {
        _average.Dispose();
        _local.Dispose();
        _state.Dispose();
    }

    /// <summary>The mean of the copies, which go on as they are.</summary>
    private ModelState Averaged()
    {
        _average.Refresh();
        ModelState averaged = ModelState.Frozen(Network, _context.Type, _context.Device);
        using DisposeScope scope = NewDisposeScope();
        using IDisposable frozen = no_grad();
        foreach (TensorSlice slice in averaged.Slices) averaged[slice.Name].copy_(_average.Read(slice.Name));
        return averaged;
    }
}
