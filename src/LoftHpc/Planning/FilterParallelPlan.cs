using LoftHpc.Communication;
using LoftHpc.Configuration;
using LoftHpc.Networks;
using static LoftHpc.Planning.PlanSetting;

namespace LoftHpc.Planning;

/// <summary>Filter-parallel training: the inputs of the blocks' convolutions are gathered, and their gradients reduced and scattered.</summary>
public sealed class FilterParallelPlan(PlanSetting setting) : MethodPlan(setting)
{
    private readonly FilterAssignment _assignment =
        FilterAssignment.Create(setting.Network, setting.Pretrain.Assignment, setting.Config.Run.Seed, setting.Ranks);

    /// <summary>Inputs of convolutions that are gathered, and how many are alike.</summary>
    private readonly (ConvGeometry Conv, int Count)[] _gathered =
        [.. setting.Network.Geometry(setting.Images.Side)
            .Where(conv => setting.Network.Blocks.Any(block => conv.Conv == block.Conv1 || conv.Conv == block.Conv2))
            .GroupBy(conv => (conv.Conv.InputChannels, conv.InputSide)).Select(alike => (alike.First(), alike.Count()))];

    private readonly Dictionary<(CommunicationPurpose, int), CommunicationPlan> _passes = [];
    private long _scratch;

    protected override long ExchangeBytes => _scratch;

    /// <summary>Every rank sees the same logits.</summary>
    public override void TakeTotals(CommunicationPlan plan)
    {
    }

    public override void Evaluate(CommunicationPlan plan)
    {
        foreach ((int batch, int count) in Setting.EvaluationBatches) Pass(plan, CommunicationPurpose.Evaluation, batch, backward: false, count);
    }

    public override void Save(CommunicationPlan plan) => SendToRoot(plan, CommunicationPurpose.Save, rank =>
        Held(rank).Where(slice => slice.Spec.Role is not TensorRole.LinearBias));

    public override long FiltersMeasured(int rank) => Network.Convolutions.Sum(conv => (long)_assignment[conv.Out].Counts[rank]);

    public override IEnumerable<TensorSlice> Held(int rank) => _assignment.Slices(Network, rank);

    protected override void Communicate(CommunicationPlan plan, long step, int batch) =>
        Pass(plan, CommunicationPurpose.Step, batch, Setting.Pretrain.Backward is BackwardKind.Exact);

    /// <summary>A forward pass of a batch, and with exact gradients a backward pass.</summary>
    private void Pass(CommunicationPlan plan, CommunicationPurpose purpose, int batch, bool backward, int times = 1)
    {
        if (Ranks == 1) return;
        if (!_passes.TryGetValue((purpose, batch), out CommunicationPlan? pass))
        {
            _passes.Add((purpose, batch), pass = new CommunicationPlan(Ranks));
            foreach ((ConvGeometry conv, int count) in _gathered) Gather(pass, purpose, conv, batch, backward, count);
            pass.Allreduce(purpose, (long)batch * Network.Classes, ElementBytes);
        }
        plan.Add(pass, times);
    }

    private void Gather(CommunicationPlan plan, CommunicationPurpose purpose, ConvGeometry conv, int batch, bool backward, int alike)
    {
        long area = (long)conv.InputSide * conv.InputSide, imageBytes = conv.Conv.InputChannels * area * Setting.ActivationBytes;
        foreach ((int images, int pieces) in Batches.Sizes(batch, ChannelExchange.ImagesPerPiece(imageBytes)))
        {
            long calls = (long)pieces * alike;
            long[] counts = [.. _assignment[conv.Conv.In!].Counts.Select(channels => channels * area * images)];
            plan.Allgatherv(purpose, counts, Setting.ActivationBytes, calls);
            // Of bfloat16 every rank sends each other its part, and the ranks do the sums.
            if (backward && Setting.InBfloat16) plan.Alltoallv(purpose, [.. counts.Select(_ => counts)], Setting.ActivationBytes, calls);
            else if (backward) plan.ReduceScatter(purpose, counts, Setting.ActivationBytes, calls);
            // One image needs no packing.
            if (images > 1) _scratch = Math.Max(_scratch, images * imageBytes);
        }
    }
}
