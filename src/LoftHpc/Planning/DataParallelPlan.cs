using LoftHpc.Communication;
using LoftHpc.Configuration;
using static LoftHpc.Planning.PlanSetting;

namespace LoftHpc.Planning;

/// <summary>Data-parallel training, and the dense network on one rank: gradients are summed, with synchronised batch norm its sums too.</summary>
public sealed class DataParallelPlan(PlanSetting setting) : MethodPlan(setting)
{
    private readonly bool _synchronised = setting.Pretrain.BatchNorm is BatchNormScope.Synchronised;
    private CommunicationPlan? _step;
    private long _stepsSinceAverage;

    public override void Evaluate(CommunicationPlan plan, int images)
    {
        AverageRunningStatistics(plan);
        SumTotals(plan);
    }

    /// <summary>Rank 0 holds everything.</summary>
    public override void Save(CommunicationPlan plan) => AverageRunningStatistics(plan);

    protected override int ImagesOf(int batch, int rank) => Setting.ShardOf(batch, rank);

    protected override void Communicate(CommunicationPlan plan, long step, int batch)
    {
        if (Ranks == 1) return;
        plan.Add(_step ??= AnyStep());
        _stepsSinceAverage++;
    }

    /// <summary>A step sends the same, however large its batch is.</summary>
    private CommunicationPlan AnyStep()
    {
        CommunicationPlan plan = new(Ranks);
        if (_synchronised)
        {
            foreach (long channels in Network.NormChannels())
            {
                Sum(plan, CommunicationPurpose.Step, (2 * channels) + 1, DoubleBytes);
                Sum(plan, CommunicationPurpose.Step, 2 * channels, ElementBytes);
            }
        }
        Sum(plan, CommunicationPurpose.Step, Network.ParameterCount, ElementBytes);
        return plan;
    }

    private void AverageRunningStatistics(CommunicationPlan plan)
    {
        if (_synchronised || _stepsSinceAverage == 0) return;
        Sum(plan, CommunicationPurpose.RunningStatistics, Network.StatisticsCount() + 1, DoubleBytes);
        _stepsSinceAverage = 0;
    }
}
