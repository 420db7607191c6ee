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
/// LoFT (Wang et al. 2023): in each round the filters inside the partitioned blocks are dealt to the ranks anew, every
/// rank trains its own narrow network for some steps, and then the shared parameters are averaged and the filters travel
/// to their next owners.
/// </summary>
public sealed class LoftTraining : ITrainingMethod
{
    private readonly RankContext _context;
    private readonly PretrainSection _config;
    private readonly IReadOnlyList<BlockSpec> _blocks;
    private readonly RoundSchedule _rounds;
    private readonly LocalSteps _local;
    private readonly SharedAverage _average;
    private readonly FilterExchange _filters;
    private readonly RecomputedStatistics _statistics;
    private readonly ModelState _state;
    private readonly BatchLoader _data;
    private readonly long _seed;
    private FilterPartition _partition;
    private long _imageFlops, _round;
    private bool _haveMet;

    public LoftTraining(RankContext context, NetworkSpec network, PretrainSection config, BatchLoader data, long seed)
    {
        (_context, Network, _config, _data, _seed) = (context, network, config, data, seed);
        LoftSection loft = config.Loft;
        _blocks = FilterPartition.BlocksOf(network, loft.Stages, loft.FirstBlocks);
        _partition = PartitionOf(0, gatherNorms: null);
        _filters = new FilterExchange(
            context, network, _blocks, loft.Momentum is MomentumKind.Travel, loft.RunningStatistics is RunningStatisticsKind.Average);
        _state = ModelState.Initialize(
            [.. network.Tensors.Select(tensor => _partition.Slice(tensor, context.Rank))], seed, context.Type, context.Device, _filters.Copied(_partition));
        _local = new LocalSteps(context, network, _state, config, data);
        _rounds = new RoundSchedule(config.LocalSteps, (long)config.Epochs * StepsPerEpoch);
        _average = new SharedAverage(context, _state);
        _statistics = new RecomputedStatistics(context, network, data, loft.StatisticsImages, config.Batch, seed);
        BeginRound();
    }

    public NetworkSpec Network { get; }

    /// <summary>This rank's narrow network.</summary>
    public ModelState State => _state;

    /// <summary>Who owns what in the current round.</summary>
    public FilterPartition Partition => _partition;

    public int StepsPerEpoch => _local.StepsPerEpoch;

    public TrainingWork Work => _local.Work;

    public double DataSeconds => _local.DataSeconds;

    public TrainingMemory Memory => TrainingMemory.Of(_state, _filters.BufferBytes + _context.Channels.BufferBytes);

    public StepTotals RunningTotals => _local.Totals;

    public void Look() => _local.Watch.Look();

    public NonFinite Explain(NonFinite found) => _local.Watch.Explain(found);

    public void Step(int epoch, int step, double learningRate)
    {
        using DisposeScope scope = NewDisposeScope();
        _local.Step(epoch, step, learningRate, _imageFlops);
        _average.Invalidate();
        _haveMet = false;
    }

    public bool MeetsAfter(long step) => _rounds.EndsWith(step);

    public void Meet(long step)
    {
        using DisposeScope scope = NewDisposeScope();
        EndRound(_rounds.Of(step));
        _haveMet = true;
    }

    public StepTotals TakeTotals()
    {
        using IDisposable purpose = _context.Ledger.For(CommunicationPurpose.Evaluation);
        return _local.TakeTotals();
    }

    /// <summary>Every rank holds the full network meanwhile, and measures it on a share of the images.</summary>
    public StepTotals Evaluate(BatchLoader data, int batch)
    {
        using IDisposable purpose = _context.Ledger.For(CommunicationPurpose.Evaluation);
        bool perBatch = _config.Loft.RunningStatistics is RunningStatisticsKind.PerBatch;
        using ModelState whole = GatherToAll(recompute: !perBatch);
        ResidualNetwork full = new(Network, whole, new SerialExchange(), _context.Layout);
        return Evaluation.Of(full, data, batch, _context, _context.Shard, batchStatistics: perBatch).SumOverRanks(_context);
    }

    /// <summary>
    /// Of a partitioned block each rank has some rows of the first convolution and some columns of the second: their
    /// squares are summed over the ranks. Every layer is then known everywhere, and each rank gives a share of it.
    /// </summary>
    public IReadOnlyList<FilterNorms> MeasureNorms()
    {
        _average.Refresh();
        using DisposeScope scope = NewDisposeScope();
        TensorSlice[] layers = [.. _state.Slices.Where(slice => slice.Spec.Role is TensorRole.ConvWeight)];
        Dictionary<string, int> starts = [];
        int total = 0;
        foreach (TensorSlice layer in layers.Where(layer => _partition.Cuts(layer.Spec)))
        {
            starts.Add(layer.Name, total);
            total += (int)layer.Spec.Shape[0];
        }
        double[] squares = new double[total];
        foreach ((string name, int start) in starts)
        {
            TensorSlice layer = layers.Single(slice => slice.Name == name);
            double[] own = FilterNorms.SquaresOfRows(_state[name], layer.Columns);
            for (int row = 0; row < own.Length; row++) squares[start + (layer.Rows?[row] ?? row)] = own[row];
        }
        if (total > 0 && _context.Size > 1) _context.Communicator.Allreduce(squares.AsSpan(), MpiOperation.Sum);
        return [.. layers.Select(layer =>
        {
            if (!starts.TryGetValue(layer.Name, out int at)) return FilterNorms.Measure(layer, _average.Read(layer.Name), _context.Shard);
            int filters = (int)layer.Spec.Shape[0];
            (int first, int end) = _context.Shard.Of(filters);
            return new FilterNorms(
                layer.Name[..^".weight".Length], filters, [.. Enumerable.Range(first, end - first)],
                [.. squares[(at + first)..(at + end)].Select(Math.Sqrt)]);
        })];
    }

    public void Save(string path, WeightsIdentity identity, long step)
    {
        using IDisposable purpose = _context.Ledger.For(CommunicationPurpose.Save);
        // Whoever reads the file evaluates by running statistics, so they are recomputed also where evaluation is per batch. All
        // ranks share that work; without it only rank 0 needs the network.
        using ModelState? whole = step > 0 && !Averages ? GatherToAll(recompute: true) : GatherToRoot();
        if (_context.Rank == 0) WeightsFile.Save(path, identity, step, Network, whole!);
    }

    public void Archive(StateArchive archive)
    {
        LocalSteps.ArchiveRound(archive, ref _haveMet);
        archive.Number("round", ref _round);
        // To other ranks the filters are dealt anew, at random: no rank has seen them all.
        FilterPartition partition = archive.Writers is null ? _partition.Archived(archive, _blocks, _context.Size) : PartitionOf(_round, gatherNorms: null);
        if (archive.IsReading)
        {
            // What it held before is replaced.
            _state.Hold([.. Network.Tensors.Select(tensor => partition.Slice(tensor, _context.Rank))], _filters.Copied(partition))?.Dispose();
            _partition = partition;
            _imageFlops = Network.Flops(_data.ImageSide, _state.Slices);
        }
        _state.Archive(archive);
        _local.Archive(archive);
        _average.Archive(archive);
        _filters.Archive(archive);
        if (archive.Writers is not null) BeginRound();
    }

    public void Dispose()
    {
        _average.Dispose();
        _local.Dispose();
        _filters.Dispose();
        _state.Dispose();
    }

    private void EndRound(long round)
    {
        using IDisposable purpose = _context.Ledger.For(CommunicationPurpose.Round);
        _local.Watch.Weights();
        _average.Apply();
        if (round + 1 == _rounds.Count) return;
        FilterPartition next = PartitionOf(round + 1, () => _filters.GatherNorms(_state, _partition));
        if (_context.Size > 1 && next.CutsAnything) _filters.Move(_state, _partition, next);
        _partition = next;
        _round = round + 1;
        BeginRound();
    }

    private void BeginRound()
    {
        if (_config.Loft.Momentum is MomentumKind.Restart) _state.ZeroMomentum();
        _average.Share();
        _imageFlops = Network.Flops(_data.ImageSide, _state.Slices);
    }

    /// <summary>The same on every rank, and never sent. The first partition is always random: no rank has seen all of the initial filters.</summary>
    private FilterPartition PartitionOf(long round, Func<IReadOnlyDictionary<string, double[]>>? gatherNorms)
    {
        if (round < _config.Loft.WarmupRounds) return FilterPartition.None;
        if (_config.Loft.Deal is DealKind.Random || gatherNorms is null || !_partition.CutsAnything || _context.Size == 1)
            return FilterPartition.AtRandom(_blocks, _seed, round, _context.Size);
        IReadOnlyDictionary<string, double[]> norms = gatherNorms();
        return FilterPartition.ByNorm(_blocks, _seed, round, _context.Size, space => norms[space.Name]);
    }

    /// <summary>Whether running statistics are averaged with the weights, and travel with the filters.</summary>
    private bool Averages => _config.Loft.RunningStatistics is RunningStatisticsKind.Average;

    /// <summary>The full network, on rank 0 alone, layer by layer; the training goes on as it is. Collective.</summary>
    private ModelState? GatherToRoot()
    {
        _average.Refresh();
        ModelState? whole = _context.Rank == 0 ? ModelState.Frozen(Network, _context.Type, _context.Device) : null;
        NetworkGather.EachToRoot(
            Network, _context.Type, _average.Read, _context.Communicator,
            (tensor, rank) => !tensor.IsParameter && !Averages ? null
                : _partition.Cuts(tensor) ? _partition.Slice(tensor, rank)
                : rank == 0 ? TensorSlice.Whole(tensor) : null,
            (tensor, values) =>
            {
                if (tensor.IsParameter || Averages) whole![tensor.Name].copy_(values);
            });
        return whole;
    }

    /// <summary>The full network on every rank; the training goes on as it is. Collective.</summary>
    /// <param name="recompute">Whether running statistics that are not averaged are recomputed.</param>
    private ModelState GatherToAll(bool recompute)
    {
        _average.Refresh();
        ModelState whole = ModelState.Frozen(Network, _context.Type, _context.Device);
        TensorSpec[] wanted = [.. Network.Tensors.Where(tensor => tensor.IsParameter || Averages)];
        bool IsCut(TensorSpec tensor) => _context.Size > 1 && _partition.Cuts(tensor);
        using (no_grad())
        {
            foreach (TensorSpec tensor in wanted.Where(tensor => !IsCut(tensor)))
            {
                using DisposeScope scope = NewDisposeScope();
                whole[tensor.Name].copy_(_average.Read(tensor.Name));
            }
        }
        NetworkGather.EachToAll(
            wanted.Where(IsCut), _context.Type, name => _state[name], _context.Communicator, _partition.Slice,
            (tensor, values) => whole[tensor.Name].copy_(values));
        if (recompute && !Averages) _statistics.Into(whole);
        return whole;
    }
}
