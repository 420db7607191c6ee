using LoftHpc.Communication;
using LoftHpc.Distances;
using LoftHpc.Training;
using static LoftHpc.Planning.PlanSetting;

namespace LoftHpc.Planning;

/// <summary>What a whole pre-training costs each rank: the calls of the pretrain stage in its order, made on a <see cref="MethodPlan"/>.</summary>
public sealed class PretrainPlan
{
    private readonly MethodPlan _method;
    private int _measured;

    private PretrainPlan(PlanSetting setting)
    {
        (Setting, _method) = (setting, MethodPlan.Create(setting));
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
    public static PretrainPlan Of(PlanSetting setting) => new(setting);

    /// <summary>What a rank holds at the end, as the method itself reports it.</summary>
    public TrainingMemory Memory(int rank) => _method.Memory(rank);

    /// <summary>What a rank computes in all steps.</summary>
    public TrainingWork Work(int rank) => _method.Work(rank);

    /// <summary>Bytes that a rank keeps for the backward pass.</summary>
    public long ActivationBytes(int rank) => _method.ActivationBytes(rank);

    private void Train()
    {
        int perEpoch = Setting.StepsPerEpoch, epochs = Setting.Pretrain.Epochs;
        long every = Setting.Config.Distance.Every.ToSteps(perEpoch), step = 0;
        _method.Save(Whole);
        Measure();
        if (epochs == 0) _method.Evaluate(Whole);
        for (int epoch = 1; epoch <= epochs; epoch++)
        {
            for (int i = 0; i < perEpoch; i++)
            {
                _method.Step(Whole, step);
                Control(Whole, step);
                step++;
                if (step % every == 0 || step == Setting.Steps) Measure();
            }
            _method.TakeTotals(Whole);
            _method.Evaluate(Whole);
            if (Setting.Pretrain.Snapshots.Contains(epoch)) _method.Save(Whole);
        }
        Reduce(RankingTracker.PairsRemaining(_measured, Setting.Config.Distance.PairsMax).Count);
        _method.Save(Whole);
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
        if (fresh.HaveMet(0)) Agree(Step);
        Round.Add(Step, local);
        _method.Round(Round);
        if (!fresh.HaveMet(0)) Agree(Round);
    }

    /// <summary>The ranks agree on whether to stop, where they meet anyway and the training goes on.</summary>
    private void Control(CommunicationPlan plan, long step)
    {
        if (_method.HaveMet(step) && step + 1 < Setting.Steps) Agree(plan);
    }

    private void Agree(CommunicationPlan plan)
    {
        if (Setting.Ranks > 1) plan.Allreduce(CommunicationPurpose.Control, 1, IntBytes);
    }

    /// <summary>The calls of <see cref="RankingTracker.Measure"/>.</summary>
    private void Measure()
    {
        _method.MeasureNorms(Whole);
        long[] filters = [.. Enumerable.Range(0, Setting.Ranks).Select(_method.FiltersMeasured)];
        if (_measured == 0)
        {
            Whole.Allgather(CommunicationPurpose.Distance, 1, LongBytes);
            Whole.Allgatherv(CommunicationPurpose.Distance, filters, IntBytes);
        }
        Whole.Allgatherv(CommunicationPurpose.Distance, filters, DoubleBytes);
        Reduce(RankingTracker.PairsAt(_measured).Count);
        _measured++;
    }

    private void Reduce(int pairs)
    {
        if (pairs > 0) Whole.Reduce(CommunicationPurpose.Distance, (long)pairs * Setting.Network.Convolutions.Count(), DoubleBytes);
    }
}
