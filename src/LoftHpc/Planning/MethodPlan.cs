using LoftHpc.Communication;
using LoftHpc.Configuration;
using LoftHpc.Networks;
using LoftHpc.Training;
using static LoftHpc.Planning.PlanSetting;
using static TorchSharp.torch;

namespace LoftHpc.Planning;

/// <summary>
/// What a method does on all ranks, without doing it: the counterpart of <see cref="ITrainingMethod"/>, whose members
/// are called in the same order and add to a plan what the method communicates.
/// </summary>
public abstract class MethodPlan(PlanSetting setting)
{
    private readonly TrainingWork[] _work = new TrainingWork[setting.Ranks];
    private readonly long?[] _flops = new long?[setting.Ranks];
    private int[]? _like;
    private bool _exchanges;

    protected PlanSetting Setting => setting;

    protected NetworkSpec Network => setting.Network;

    protected int Ranks => setting.Ranks;

    /// <exception cref="UserError">The method does not work on so many ranks, or not on this network.</exception>
    public static MethodPlan Create(PlanSetting setting)
    {
        TrainingMethods.Check(setting.Network, setting.Images.Side, setting.Pretrain, setting.Ranks);
        return setting.Pretrain.Method switch
        {
            PretrainMethod.FilterParallel => new FilterParallelPlan(setting),
            PretrainMethod.Dense or PretrainMethod.DataParallel => new DataParallelPlan(setting),
            PretrainMethod.LocalSgd => new LocalSgdPlan(setting),
            PretrainMethod.Loft => new LoftPlan(setting),
            PretrainMethod.Gpipe => new GpipePlan(setting),
            _ => throw new InvalidOperationException($"no plan of method {setting.Pretrain.Method}"),
        };
    }

    /// <summary>
    /// One optimizer step, counted from 0 over all epochs. What it communicates is added once; what it computes for as many
    /// steps as there are of its kind.
    /// </summary>
    /// <exception cref="OverflowException">What is computed is beyond 64 bits.</exception>
    public void Step(CommunicationPlan plan, long step, long alike = 1)
    {
        int batch = setting.BatchOf(step);
        foreach (int rank in DifferentRanks)
        {
            long images = alike * ImagesOf(batch, rank);
            _work[rank] = checked(new TrainingWork(_work[rank].Images + images, _work[rank].Flops + (3 * FlopsOf(rank, step) * images)));
        }
        Communicate(plan, step, batch);
    }

    /// <summary>The ranks of which no two hold and compute as much.</summary>
    public IEnumerable<int> DifferentRanks => Enumerable.Range(0, Ranks).Where(rank => Like(rank) == rank);

    /// <summary>
    /// The first rank that holds and computes as much as this one: shares of anything differ by one at most, and those of the
    /// first ranks are the larger ones.
    /// </summary>
    public virtual int Like(int rank)
    {
        if (_like is null)
        {
            _like = new int[Ranks];
            foreach (int items in Network.Spaces.Select(space => space.Count).Append(setting.BatchOf(0)).Append(setting.BatchOf(setting.StepsPerEpoch - 1)))
                _like[items % Ranks] = items % Ranks;
            for (int r = 1; r < Ranks; r++) _like[r] = Math.Max(_like[r], _like[r - 1]);
        }
        return _like[rank];
    }

    /// <summary>Whether the ranks meet after a step.</summary>
    public virtual bool MeetsAfter(long step) => true;

    /// <summary>What it computes on a rank in the steps so far.</summary>
    public TrainingWork Work(int rank) => _work[Like(rank)];

    /// <summary>What a rank holds after the calls so far.</summary>
    public TrainingMemory Memory(int rank) => MemoryOf(Held(rank), ExchangeBytes + (_exchanges ? setting.Cut.BufferBytes(Ranks) : 0));

    /// <summary>Bytes that a rank keeps from the forward pass for the backward pass.</summary>
    public long ActivationBytes(int rank) =>
        ActivationPlan.Bytes(setting.Pretrain with { Batch = setting.BatchOf(0) }, Network, setting.Images.Side, Ranks, rank, setting.Layout, Units(rank));

    /// <summary>Bytes of the image sets on a rank's GPU; none on the CPU, where they lie in files' memory anyway, and of files that are decoded.</summary>
    public long ImageBytes(int rank) => setting.OnGpu && setting.Config.Data.Set is not DataSetName.ImageFolder && LoadsImages(rank) ? ActivationPlan.ImageBytes(setting.Images) : 0;

    /// <summary>Whether a rank needs the images themselves.</summary>
    protected virtual bool LoadsImages(int rank) => true;

    /// <summary>The units of the network that a rank holds; null: (a part of) all of them.</summary>
    protected virtual (int First, int End)? Units(int rank) => null;

    public virtual void TakeTotals(CommunicationPlan plan) => SumTotals(plan);

    /// <summary>An evaluation on so many images.</summary>
    public abstract void Evaluate(CommunicationPlan plan, int images);

    public abstract void Save(CommunicationPlan plan);

    public virtual void MeasureNorms(CommunicationPlan plan)
    {
    }

    /// <summary>Filters of all convolutions whose norms a rank brings to a measurement: here a shard of each.</summary>
    public virtual long FiltersMeasured(int rank) => Network.Convolutions.Sum(conv => (long)setting.ShardOf(conv.Out.Count, rank));

    /// <summary>First steps in which the method does something else.</summary>
    public virtual long WarmupSteps => 0;

    /// <summary>The filters that change hands between the rounds of the whole training.</summary>
    public virtual void MoveFilters(CommunicationPlan plan)
    {
    }

    /// <summary>A remark on how exact the plan is, if it is not.</summary>
    public virtual string? Remark => null;

    /// <summary>The exchange at the end of a round in the midst of the training; on average, where partitions are drawn.</summary>
    public virtual void Round(CommunicationPlan plan)
    {
    }

    /// <summary>What a step communicates.</summary>
    protected abstract void Communicate(CommunicationPlan plan, long step, int batch);

    /// <summary>What a rank holds of the network.</summary>
    public virtual IEnumerable<TensorSlice> Held(int rank) => Network.Tensors.Select(TensorSlice.Whole);

    /// <summary>What a rank computes with in the whole pre-training, evaluations included: of each network its own part.</summary>
    public virtual IEnumerable<IEnumerable<TensorSlice>> Computed(int rank) => [Held(rank)];

    /// <summary>Images of a batch that a rank trains on.</summary>
    protected virtual int ImagesOf(int batch, int rank) => batch;

    /// <summary>Buffers that a rank keeps to exchange with others, besides memory for staging.</summary>
    protected virtual long ExchangeBytes => 0;

    /// <summary>Of an image's forward pass through what a rank holds in a step.</summary>
    protected virtual long FlopsOf(int rank, long step) => _flops[rank] ??= Network.Flops(setting.Images.Side, Held(rank));

    /// <summary>Loss, hits, images, and whether an evaluation was left, are summed over the ranks.</summary>
    protected static void SumTotals(CommunicationPlan plan) => plan.Allreduce(CommunicationPurpose.Evaluation, 4, DoubleBytes);

    /// <summary>The ranks agree on whether to stop, where they meet.</summary>
    public void Agree(CommunicationPlan plan)
    {
        if (Ranks > 1) plan.Allreduce(CommunicationPurpose.Control, 1, IntBytes);
    }

    /// <summary>A tensor is summed over the ranks.</summary>
    protected void Sum(CommunicationPlan plan, CommunicationPurpose purpose, long values, int elementBytes)
    {
        if (Ranks == 1) return;
        _exchanges = true;
        foreach ((long[] counts, int calls) in ExchangeCut.CallsOf([values], setting.Cut.Pieces(values * elementBytes)))
            plan.Allreduce(purpose, counts[0], elementBytes, calls);
    }

    /// <summary>Activations, or their gradients, go from one rank to another.</summary>
    protected void Send(CommunicationPlan plan, CommunicationPurpose purpose, int from, int to, long values, int times)
    {
        _exchanges = true;
        foreach ((long[] counts, int calls) in ExchangeCut.CallsOf([values], setting.Cut.Pieces(values * setting.ActivationBytes)))
            plan.Send(purpose, from, to, counts[0], setting.ActivationBytes, (long)calls * times);
    }

    /// <summary>Activations [images, channels, H, W], of which each rank has some channels, are gathered, and their gradients reduced and scattered.</summary>
    /// <param name="parts">Values of an image that each rank has.</param>
    protected void Gather(CommunicationPlan plan, CommunicationPurpose purpose, long images, long[] parts, bool backward, int times)
    {
        _exchanges = true;
        int bytes = setting.ActivationBytes;
        foreach ((long[] counts, long calls) in setting.Cut.CallsOf(images, parts, bytes))
        {
            plan.Allgatherv(purpose, counts, bytes, calls * times);
            if (backward && !setting.InBfloat16) plan.ReduceScatter(purpose, counts, bytes, calls * times);
        }
        if (!backward || !setting.InBfloat16) return;
        // Of bfloat16 every rank sends each other its part, and the ranks do the sums.
        foreach ((long batch, long batches) in Bfloat16Sum.Batches(setting.Cut, images, parts.Sum() * bytes))
        {
            long[] sent = [.. parts.Select(part => part * batch)];
            Alltoallv(plan, purpose, [.. parts.Select(_ => sent)], Bfloat16Sum.Capacity(sent), bytes, batches * times);
        }
    }

    /// <summary>Parts of flat tensors go from each rank to each other one.</summary>
    /// <param name="counts">Values that a rank (first index) sends to another.</param>
    /// <param name="capacity">Values that the tensors have room for.</param>
    protected void Alltoallv(CommunicationPlan plan, CommunicationPurpose purpose, long[][] counts, long capacity, int elementBytes = ElementBytes, long times = 1)
    {
        _exchanges = true;
        foreach ((long[] flat, int calls) in ExchangeCut.CallsOf([.. counts.SelectMany(row => row)], setting.Cut.Pieces(capacity * elementBytes)))
            plan.Alltoallv(purpose, [.. flat.Chunk(Ranks)], elementBytes, calls * times);
    }

    /// <summary>Each other rank sends rank 0 its part of every tensor that it brings.</summary>
    protected void SendToRoot(CommunicationPlan plan, CommunicationPurpose purpose, Func<int, IEnumerable<TensorSlice>> brings)
    {
        Dictionary<int, (long Values, int Parts)[]> brought = [];
        for (int rank = 1; rank < Ranks; rank++)
        {
            if (!brought.TryGetValue(Like(rank), out (long Values, int Parts)[]? sizes))
                brought.Add(Like(rank), sizes = [.. brings(rank).Select(part => part.Count).Where(values => values > 0).CountBy(values => values).Select(size => (size.Key, size.Value))]);
            foreach ((long values, int parts) in sizes) plan.Send(purpose, rank, 0, values, ElementBytes, parts);
        }
    }
}
