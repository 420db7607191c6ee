using LoftHpc.Communication;
using LoftHpc.Distances;
using LoftHpc.Training;
using static LoftHpc.Planning.PlanSetting;

namespace LoftHpc.Planning;

/// <summary>What a whole pre-training costs each rank: the calls of the pretrain stage in its order, made on a <see cref="MethodPlan"/>.</summary>
public sealed class PretrainPlan
{
    private readonly MethodPlan _method;
    private readonly long[] _filters;

    private PretrainPlan(PlanSetting setting)
    {
        (Setting, _method) = (setting, MethodPlan.Create(setting));
        _filters = [.. Enumerable.Range(0, setting.Ranks).Select(_method.FiltersMeasured)];
        Whole = new CommunicationPlan(setting.Ranks);
        Step = new CommunicationPlan(setting.Ranks);
        Round = new CommunicationPlan(setting.Ranks);
        Train();
        OneStepAndRound();
    }

    public PlanSetting Setting { get; }

    /// <summary>Everything.</summary>
    public CommunicationPlan Whole { get; }

    /// <summary>One step of a full batch, without the exchange at the end of a round.</summary>
    public CommunicationPlan Step { get; }

    /// <summary>As many steps as a round has (pretrain.local_steps, for methods without rounds too) and the exchange at its end; for loft the average over partitions.</summary>
    public CommunicationPlan Round { get; }

    /// <summary>How exact this is, where it is not.</summary>
    public string? Remark => _method.Remark;

    /// <exception cref="UserError">The method does not work on so many ranks.</exception>
    public static PretrainPlan Of(PlanSetting setting)
    {
        TrainingMethods.CheckSnapshots(setting.Pretrain, setting.StepsPerEpoch);
        try
        {
            PretrainPlan plan = new(setting);
            // The sums over the ranks, too, are within 64 bits.
            _ = (plan.Flops, plan.Whole.BytesSent, plan.Round.BytesSent);
            return plan;
        }
        catch (OverflowException error)
        {
            throw new UserError(
                $"pretrain: the FLOPs or bytes of all steps and ranks are more than {long.MaxValue}; allowed: fewer epochs, images or ranks, or a smaller network", error);
        }
    }

    /// <summary>What all ranks compute in all steps.</summary>
    public long Flops => Enumerable.Range(0, Setting.Ranks).Sum(rank => Work(rank).Flops);

    /// <summary>The ranks of which no two hold and compute as much.</summary>
    public IEnumerable<int> DifferentRanks => _method.DifferentRanks;

    /// <summary>What a rank holds at the end, as the method itself reports it.</summary>
    public TrainingMemory Memory(int rank) => _method.Memory(rank);

    /// <summary>What a rank computes in all steps.</summary>
    public TrainingWork Work(int rank) => _method.Work(rank);

    /// <summary>Bytes that a rank keeps for the backward pass.</summary>
    public long ActivationBytes(int rank) => _method.ActivationBytes(rank);

    /// <summary>Bytes of the image sets on a rank's GPU.</summary>
    public long ImageBytes(int rank) => _method.ImageBytes(rank);

    /// <summary>Of the steps of a kind one is planned, and counts for all of them.</summary>
    private void Train()
    {
        int perEpoch = Setting.StepsPerEpoch;
        long steps = Setting.Steps, every = Setting.Config.Distance.Every.ToSteps(perEpoch), warmup = _method.WarmupSteps;
        _method.Save(Whole);
        Whole.Allgather(CommunicationPurpose.Distance, 1, LongBytes);
        Whole.Allgatherv(CommunicationPurpose.Distance, _filters, IntBytes);
        Measure(Whole);
        if (steps == 0) _method.Evaluate(Whole, Setting.Images.TestImages);
        long after = 0;
        // The last step of the warm-up, after which everything is another, and the last step of all are kinds of their own.
        // And so are steps after which the weights are saved.
        IEnumerable<long> saved = Setting.Pretrain.SnapshotSteps.SelectMany(step => new[] { step - 1L, step });
        foreach (long last in new[] { warmup - 1, warmup, steps - 1, steps }.Concat(saved).Where(last => last <= steps).Order())
        {
            if (last <= after) continue;
            long snapshots = Setting.Pretrain.Snapshots.Count(epoch => (long)epoch * perEpoch > after && (long)epoch * perEpoch <= last);
            foreach ((long step, long alike) in StepKinds.Of(after, last, perEpoch, Setting.Pretrain.LocalSteps, every))
            {
                CommunicationPlan one = new(Setting.Ranks);
                _method.Step(one, step - 1, alike);
                bool measures = step % every == 0 || step == steps, saves = step <= int.MaxValue && Setting.Pretrain.SnapshotSteps.Contains((int)step);
                if (measures || saves || step % perEpoch == 0 || _method.MeetsAfter(step - 1)) _method.Agree(one);
                if (measures) Measure(one);
                if (saves) _method.Save(one);
                if (step % perEpoch == 0)
                {
                    _method.TakeTotals(one);
                    foreach (int images in Setting.Images.Evaluated) _method.Evaluate(one, images);
                    if (snapshots > 0) Save(snapshots);
                    snapshots = 0;
                }
                Whole.Add(one, alike);
            }
            after = last;
        }
        _method.MoveFilters(Whole);
        long measured = 1 + Batches.Count(steps, every);
        if (measured > 1) Reduce(RankingTracker.PairsAt(1).Count);
        if (measured > 2) Reduce(RankingTracker.PairsAt(2).Count, measured - 2);
        Reduce(RankingTracker.CountRemaining(measured, Setting.Config.Distance.PairsMax));
        _method.Save(Whole);
    }

    /// <summary>After as many evaluations.</summary>
    private void Save(long times)
    {
        CommunicationPlan one = new(Setting.Ranks);
        _method.Save(one);
        Whole.Add(one, times);
    }

    private void OneStepAndRound()
    {
        if (Setting.Steps == 0) return;
        int local = Setting.Pretrain.LocalSteps;
        // A fresh one: its first step is no longer that of a training that is over, and no round ends with it.
        PlanSetting longer = Setting with
        {
            Config = Setting.Config with { Pretrain = Setting.Pretrain with { LocalSteps = int.MaxValue, Epochs = Setting.Pretrain.Epochs + 1 } },
        };
        MethodPlan fresh = MethodPlan.Create(longer);
        fresh.Step(Step, 0);
        if (fresh.MeetsAfter(0)) _method.Agree(Step);
        Round.Add(Step, local);
        _method.Round(Round);
        if (!fresh.MeetsAfter(0)) _method.Agree(Round);
    }

    /// <summary>The calls of <see cref="RankingTracker.Measure"/>, but for those of the first one alone and the distances.</summary>
    private void Measure(CommunicationPlan plan)
    {
        _method.MeasureNorms(plan);
        plan.Allgatherv(CommunicationPurpose.Distance, _filters, DoubleBytes);
    }

    private void Reduce(long pairs, long calls = 1)
    {
        if (pairs > 0) Whole.Reduce(CommunicationPurpose.Distance, pairs * Setting.Network.Convolutions.Count(), DoubleBytes, calls);
    }
}
