using LoftHpc.Communication;
using LoftHpc.Configuration;
using LoftHpc.Training;
using static LoftHpc.Planning.PlanSetting;

namespace LoftHpc.Planning;

/// <summary>
/// Methods whose ranks train by themselves for some steps and then average what they share. In the middle of a round the
/// first who looks at the network averages too, under a purpose of its own.
/// </summary>
public abstract class RoundsPlan(PlanSetting setting) : MethodPlan(setting)
{
    private bool _averaged = true;

    /// <summary>Which steps make up a round.</summary>
    protected RoundSchedule Rounds => new(Setting.Pretrain.LocalSteps, Setting.Steps);

    /// <summary>Values that are shared in a step's round, which lie in one flat buffer.</summary>
    protected abstract long SharedValues(long step);

    /// <summary>The step that is next, or the last one.</summary>
    protected long At { get; private set; }

    /// <summary>Whether a round ends with this step.</summary>
    public override bool MeetsAfter(long step) => Rounds.EndsWith(step);

    public override void MeasureNorms(CommunicationPlan plan) => Average(plan, CommunicationPurpose.Distance);

    protected override int ImagesOf(int batch, int rank) =>
        Setting.Pretrain.Samples is SampleScope.Whole ? batch : Setting.ShardOf(batch, rank);

    protected override void Communicate(CommunicationPlan plan, long step, int batch)
    {
        (At, _averaged) = (step, false);
        if (MeetsAfter(step)) Average(plan, CommunicationPurpose.Round);
        At = Math.Min(step + 1, Setting.Steps - 1);
    }

    /// <summary>The mean of what is shared, unless nothing has changed since the last one.</summary>
    protected void Average(CommunicationPlan plan, CommunicationPurpose purpose)
    {
        if (_averaged || Ranks == 1) return;
        // In the middle of a round the next step belongs to the same one.
        Sum(plan, purpose, SharedValues(At), ElementBytes);
        _averaged = true;
    }
}
