using LoftHpc.Communication;
using static LoftHpc.Planning.PlanSetting;

namespace LoftHpc.Planning;

/// <summary>Local SGD: full copies, averaged at the end of every round.</summary>
public sealed class LocalSgdPlan(PlanSetting setting) : RoundsPlan(setting)
{
    private long _stepsSinceStatistics;

    public override void Evaluate(CommunicationPlan plan, int images)
    {
        AverageRunningStatistics(plan);
        Average(plan, CommunicationPurpose.Evaluation);
        SumTotals(plan);
    }

    public override void Save(CommunicationPlan plan)
    {
        AverageRunningStatistics(plan);
        Average(plan, CommunicationPurpose.Save);
    }

    public override void Round(CommunicationPlan plan)
    {
        Sum(plan, CommunicationPurpose.Round, Network.ParameterCount, ElementBytes);
    }

    protected override long SharedValues(long step) => Network.ParameterCount;

    protected override void Communicate(CommunicationPlan plan, long step, int batch)
    {
        base.Communicate(plan, step, batch);
        _stepsSinceStatistics++;
    }

    private void AverageRunningStatistics(CommunicationPlan plan)
    {
        if (_stepsSinceStatistics == 0 || Ranks == 1) return;
        Sum(plan, CommunicationPurpose.RunningStatistics, Network.StatisticsCount() + 1, DoubleBytes);
        _stepsSinceStatistics = 0;
    }
}
