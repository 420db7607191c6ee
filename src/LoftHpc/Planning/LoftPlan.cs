using LoftHpc.Communication;
using LoftHpc.Configuration;
using LoftHpc.Networks;
using static LoftHpc.Planning.PlanSetting;

namespace LoftHpc.Planning;

/// <summary>
/// LoFT: narrow networks, what is shared averaged at the end of every round, filters sent from their old to their new
/// owner. Partitions are those that the seed draws; filters dealt by norm depend on the training, so the average over
/// partitions stands for them.
/// </summary>
public sealed class LoftPlan : RoundsPlan
{
    /// <summary>Filters that are drawn, with the pairs of ranks between which they may move, over all rounds: some seconds.</summary>
    private const long MostDrawn = 20_000_000;

    private readonly LoftSection _loft;
    private readonly LoftNetwork _split;
    private readonly Dictionary<int, NetworkSpec> _narrow = [];
    private readonly Dictionary<int, long> _narrowFlops = [];
    private readonly long _wholeFlops;
    private long _normBytes;
    private bool _stepsDone;
    private readonly Func<long, IReadOnlyList<int[]>> _owners;

    /// <param name="owners">
    /// The partition of a round: for each partitioned block, in the order of the network, the owner of each filter inside
    /// it; null: drawn from the seed.
    /// </param>
    public LoftPlan(PlanSetting setting, Func<long, IReadOnlyList<int[]>>? owners = null) : base(setting)
    {
        _loft = setting.Pretrain.Loft;
        _split = new LoftNetwork(setting.Network, _loft);
        _owners = owners ?? Draw;
        foreach (int rank in DifferentRanks)
        {
            // Shares of a random deal have the same sizes in every round.
            _narrow[rank] = Network.WithInnerCounts(_split.Spaces.ToDictionary(space => space.Name, space => setting.ShardOf(space.Count, rank)));
            _narrowFlops[rank] = _narrow[rank].Flops(setting.Images.Side);
        }
        _wholeFlops = Network.Flops(setting.Images.Side);
    }

    public override string? Remark => string.Join("; ", Remarks) is { Length: > 0 } remarks ? remarks : null;

    private IEnumerable<string> Remarks
    {
        get
        {
            if (_loft.Deal is DealKind.Norm)
                yield return "filters dealt by norm depend on the training: bytes of the alltoallv are the average over partitions, and shares of a block may differ by a filter";
            else if (!IsDrawn)
                yield return string.Create(System.Globalization.CultureInfo.InvariantCulture, $"in {Moves:N0} rounds filters change hands: bytes of the alltoallv are the average over partitions");
            if (_loft.WarmupRounds > 0)
                yield return "memory is that of the partitioned rounds: in the warm-up rounds every rank holds the full network, as by local-sgd";
        }
    }

    public override void MeasureNorms(CommunicationPlan plan)
    {
        base.MeasureNorms(plan);
        if (Ranks > 1 && Partitioned(At)) plan.Allreduce(CommunicationPurpose.Distance, _split.NormsMeasured, DoubleBytes);
    }

    /// <summary>Every rank gets the whole network and measures it on a share of the images.</summary>
    public override void Evaluate(CommunicationPlan plan, int images)
    {
        GatherToAll(plan, CommunicationPurpose.Evaluation, recompute: _loft.RunningStatistics is RunningStatisticsKind.Recompute);
        SumTotals(plan);
    }

    /// <summary>Where statistics are recomputed, that is shared by all ranks too.</summary>
    public override void Save(CommunicationPlan plan)
    {
        bool recompute = _loft.RunningStatistics is not RunningStatisticsKind.Average && _stepsDone;
        if (recompute) GatherToAll(plan, CommunicationPurpose.Save, recompute);
        else GatherToRoot(plan, CommunicationPurpose.Save);
    }

    /// <summary>The exchange at the end of the last round: no filter moves.</summary>
    public void LastRound(CommunicationPlan plan)
    {
        Sum(plan, CommunicationPurpose.Round, _split.SharedValues, ElementBytes);
    }

    public override void Round(CommunicationPlan plan)
    {
        LastRound(plan);
        if (Ranks == 1) return;
        if (_loft.Deal is DealKind.Norm) GatherNorms(plan, 1);
        Alltoallv(plan, CommunicationPurpose.Round, AverageMoved(), BufferValues);
    }

    /// <summary>The exchange at the end of a round, for the partitions that the seed draws for it and the next one.</summary>
    public void DrawnRound(CommunicationPlan plan, long round)
    {
        LastRound(plan);
        Alltoallv(plan, CommunicationPurpose.Round, Moved(_owners(round), _owners(round + 1)), BufferValues);
    }

    public override long WarmupSteps => (long)_loft.WarmupRounds * Setting.Pretrain.LocalSteps;

    /// <summary>After every round but the last one, and the first ones, in which nothing is partitioned.</summary>
    public override void MoveFilters(CommunicationPlan plan)
    {
        if (Ranks == 1 || Moves <= 0) return;
        if (_loft.Deal is DealKind.Norm) _normBytes = DoubleBytes * GatherNorms(plan, Moves);
        if (_loft.Deal is DealKind.Norm || !IsDrawn)
        {
            Alltoallv(plan, CommunicationPurpose.Round, AverageMoved(), BufferValues, times: Moves);
            return;
        }
        IReadOnlyList<int[]> owners = _owners(_loft.WarmupRounds);
        for (long round = _loft.WarmupRounds; round < _loft.WarmupRounds + Moves; round++)
        {
            IReadOnlyList<int[]> next = _owners(round + 1);
            Alltoallv(plan, CommunicationPurpose.Round, Moved(owners, next), BufferValues);
            owners = next;
        }
    }

    private long Moves => Rounds.Count - 1 - _loft.WarmupRounds;

    private bool IsDrawn => Moves <= MostDrawn / (_split.Spaces.Sum(space => space.Count) + ((long)Ranks * Ranks));

    protected override void Communicate(CommunicationPlan plan, long step, int batch)
    {
        base.Communicate(plan, step, batch);
        _stepsDone = true;
    }

    public override IEnumerable<TensorSlice> Held(int rank) =>
        (Partitioned(At) ? _narrow[Like(rank)] : Network).Tensors.Select(TensorSlice.Whole);

    /// <summary>
    /// The whole network, when it is evaluated and in warm-up rounds, and narrow ones (dealt by norm, a block's share may have a
    /// filter more or less).
    /// </summary>
    public override IEnumerable<IEnumerable<TensorSlice>> Computed(int rank)
    {
        yield return Network.Tensors.Select(TensorSlice.Whole);
        if (Ranks == 1) yield break;
        foreach (int of in _loft.Deal is DealKind.Norm ? [0, Ranks - 1] : new[] { rank }) yield return _narrow[Like(of)].Tensors.Select(TensorSlice.Whole);
    }

    /// <summary>A buffer each for filters that leave and that arrive, and for norms; what is shared is summed where it is.</summary>
    protected override long ExchangeBytes => _normBytes + (Ranks == 1 ? 0 : 2L * ElementBytes * BufferValues);

    /// <summary>Values that the buffers of the alltoallv have room for: a rank's whole share in every block.</summary>
    private long BufferValues => _split.Spaces.Sum(space => (space.Count + Ranks - 1) / Ranks * _split.ValuesOf(space));

    protected override long FlopsOf(int rank, long step) => Partitioned(step) ? _narrowFlops[rank] : _wholeFlops;

    protected override long SharedValues(long step) => Partitioned(step)
        ? _split.SharedValues
        : Network.ParameterCount + (_loft.RunningStatistics is RunningStatisticsKind.Average ? Network.StatisticsCount() : 0);

    /// <summary>Warm-up rounds come first.</summary>
    private bool Partitioned(long step) => _split.Spaces.Count > 0 && step >= WarmupSteps;

    /// <returns>Norms that rank 0 sends and receives, which no rank does more of.</returns>
    private long GatherNorms(CommunicationPlan plan, long calls)
    {
        long[] filters = [.. Enumerable.Range(0, Ranks).Select(rank => _split.Spaces.Sum(space => (long)Setting.ShardOf(space.Count, rank)))];
        plan.Allgatherv(CommunicationPurpose.Round, filters, DoubleBytes, calls);
        return filters[0] + filters.Sum();
    }

    private void GatherToRoot(CommunicationPlan plan, CommunicationPurpose purpose)
    {
        Average(plan, purpose);
        if (Partitioned(At)) SendToRoot(plan, purpose, rank => Held(rank).Where(slice => IsGathered(slice.Spec)));
    }

    private void GatherToAll(CommunicationPlan plan, CommunicationPurpose purpose, bool recompute)
    {
        Average(plan, purpose);
        if (Ranks > 1 && Partitioned(At))
        {
            // Of each tensor the part of each rank; ranks that hold as much are asked once.
            Dictionary<int, long[]> held = DifferentRanks.ToDictionary(rank => rank, rank => (long[])[.. Held(rank).Where(slice => IsGathered(slice.Spec)).Select(slice => slice.Count)]);
            int tensors = held[0].Length;
            foreach (IGrouping<string, int> alike in Enumerable.Range(0, tensors).GroupBy(tensor => string.Join(' ', held.Values.Select(counts => counts[tensor]))))
                plan.Allgatherv(purpose, [.. Enumerable.Range(0, Ranks).Select(rank => held[Like(rank)][alike.First()])], ElementBytes, alike.Count());
        }
        if (recompute) Sum(plan, purpose, Network.StatisticsCount() + 1, DoubleBytes);
    }

    private bool IsGathered(TensorSpec tensor) =>
        _split.IsPartitioned(tensor) && (tensor.IsParameter || _loft.RunningStatistics is RunningStatisticsKind.Average);

    /// <summary>Values that each rank sends each other one from one partition to the next.</summary>
    private long[][] Moved(IReadOnlyList<int[]> from, IReadOnlyList<int[]> to)
    {
        long[][] moves = Square();
        for (int block = 0; block < from.Count; block++)
        {
            long values = _split.ValuesOf(_split.Spaces[block]);
            foreach ((int owner, int next) in from[block].Zip(to[block]))
            {
                if (owner != next) moves[owner][next] += values;
            }
        }
        return moves;
    }

    /// <summary>The mean over all pairs of partitions: a filter of one rank goes to another in proportion to the other's share.</summary>
    private long[][] AverageMoved()
    {
        long[][] moves = Square();
        Dictionary<(int, int), long> alike = [];
        for (int from = 0; from < Ranks; from++)
        {
            for (int to = 0; to < Ranks; to++)
            {
                if (from == to) continue;
                if (!alike.TryGetValue((Like(from), Like(to)), out moves[from][to]))
                    alike[(Like(from), Like(to))] = moves[from][to] = (long)Math.Round(_split.Spaces.Sum(space =>
                        (double)Setting.ShardOf(space.Count, from) * Setting.ShardOf(space.Count, to) / space.Count * _split.ValuesOf(space)));
            }
        }
        return moves;
    }

    private long[][] Square() => [.. Enumerable.Range(0, Ranks).Select(_ => new long[Ranks])];

    private List<int[]> Draw(long round) =>
        [.. _split.Spaces.Select(space => FilterPartition.RandomOwners(space, Setting.Config.Run.Seed, round, Ranks))];
}

/// <summary>Which part of a network LoFT deals to the ranks, and which they share.</summary>
public sealed class LoftNetwork
{
    private readonly NetworkSpec _network;
    private readonly LoftSection _loft;
    private readonly Dictionary<string, long> _values;

    public LoftNetwork(NetworkSpec network, LoftSection loft)
    {
        (_network, _loft) = (network, loft);
        Blocks = FilterPartition.BlocksOf(network, loft.Stages, loft.FirstBlocks);
        Spaces = [.. Blocks.Select(block => block.Inner)];
        _values = Spaces.ToDictionary(space => space.Name, _ => 0L);
        foreach (TensorSpec tensor in network.Tensors.Where(Travels))
        {
            foreach (ChannelSpace? space in new[] { tensor.Axis0, tensor.Axis1 })
            {
                if (space is not null && _values.ContainsKey(space.Name))
                    _values[space.Name] += tensor.Count / space.Count * (tensor.IsParameter && loft.Momentum is MomentumKind.Travel ? 2 : 1);
            }
        }
    }

    /// <summary>The partitioned blocks.</summary>
    public IReadOnlyList<BlockSpec> Blocks { get; }

    /// <summary>The channels inside each partitioned block.</summary>
    public IReadOnlyList<ChannelSpace> Spaces { get; }

    /// <summary>Values of the flat buffer: shared parameters, and shared running statistics where those are averaged.</summary>
    public long SharedValues => _network.Tensors.Where(tensor => !IsPartitioned(tensor) && Travels(tensor)).Sum(tensor => tensor.Count);

    /// <summary>Filters of both convolutions of all partitioned blocks.</summary>
    public long NormsMeasured => Blocks.Sum(block => (long)block.Conv1.Out.Count + block.Conv2.Out.Count);

    public bool IsPartitioned(TensorSpec tensor) =>
        (tensor.Axis0 is not null && _values.ContainsKey(tensor.Axis0.Name)) || (tensor.Axis1 is not null && _values.ContainsKey(tensor.Axis1.Name));

    /// <summary>Values that travel with one filter of a partitioned block.</summary>
    public long ValuesOf(ChannelSpace space) => _values[space.Name];

    private bool Travels(TensorSpec tensor) => tensor.IsParameter || _loft.RunningStatistics is RunningStatisticsKind.Average;
}
