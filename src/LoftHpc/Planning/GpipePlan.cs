using LoftHpc.Communication;
using LoftHpc.Networks;
using static LoftHpc.Planning.PlanSetting;

namespace LoftHpc.Planning;

/// <summary>Pipeline-parallel training: activations and their gradients go to the neighbour, one micro-batch at a time.</summary>
public sealed class GpipePlan(PlanSetting setting) : MethodPlan(setting)
{
    private readonly IReadOnlyList<PipelineStage> _stages =
        PipelineStages.Create(setting.Network, setting.Images.Side, setting.Ranks, setting.Pretrain.Gpipe.Cuts);

    private long[]? _boundaries;

    /// <summary>Values of one image that cross each boundary between ranks.</summary>
    public IReadOnlyList<long> Boundaries => _boundaries ??= [.. _stages.Take(Ranks - 1).Select(stage =>
        Network.UnitOutput(stage.End - 1, Setting.Images.Side).Aggregate(1L, (product, side) => product * side))];

    /// <summary>The stages behind the first get activations.</summary>
    protected override bool LoadsImages(int rank) => rank == 0;

    public override void Evaluate(CommunicationPlan plan, int images)
    {
        foreach ((int batch, int count) in Setting.EvaluationBatches(images))
        {
            Cross(plan, CommunicationPurpose.Evaluation, batch, backward: false, count);
            // On whether to leave the evaluation.
            if (Ranks > 1) plan.Allreduce(CommunicationPurpose.Evaluation, 1, IntBytes, count);
        }
        SumTotals(plan);
    }

    public override void Save(CommunicationPlan plan) => SendToRoot(plan, CommunicationPurpose.Save, Held);

    public override long FiltersMeasured(int rank) => Held(rank).Where(slice => slice.Spec.Role is TensorRole.ConvWeight).Sum(slice => slice.Shape[0]);

    public override IEnumerable<TensorSlice> Held(int rank) => _stages[rank].Slices(Network);

    /// <summary>Each rank has units of its own.</summary>
    public override int Like(int rank) => rank;

    protected override (int First, int End)? Units(int rank) => (_stages[rank].First, _stages[rank].End);

    protected override void Communicate(CommunicationPlan plan, long step, int batch)
    {
        foreach ((int images, int count) in Shard.Sizes(batch, Setting.Pretrain.Gpipe.MicroBatches))
        {
            if (images > 0) Cross(plan, CommunicationPurpose.Step, images, backward: true, count);
        }
    }

    private void Cross(CommunicationPlan plan, CommunicationPurpose purpose, int images, bool backward, int times)
    {
        int rank = 0;
        foreach (long values in Boundaries)
        {
            Send(plan, purpose, rank, rank + 1, images * values, times);
            if (backward) Send(plan, purpose, rank + 1, rank, images * values, times);
            rank++;
        }
    }
}
