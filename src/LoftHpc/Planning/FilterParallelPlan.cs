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

    public override void Evaluate(CommunicationPlan plan, int images)
    {
        foreach ((int batch, int count) in Setting.EvaluationBatches(images))
        {
            Pass(plan, CommunicationPurpose.Evaluation, batch, backward: false, count);
            // On whether to leave the evaluation.
            if (Ranks > 1) plan.Allreduce(CommunicationPurpose.Evaluation, 1, IntBytes, count);
        }
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
            foreach ((ConvGeometry conv, int count) in _gathered) Exchange(pass, purpose, conv, batch, backward, count);
            Sum(pass, purpose, (long)batch * Network.Classes, ElementBytes);
        }
        plan.Add(pass, times);
    }

    private void Exchange(CommunicationPlan plan, CommunicationPurpose purpose, ConvGeometry conv, int batch, bool backward, int alike)
    {
        long images = batch, area = (long)conv.InputSide * conv.InputSide;
        // Channels-last, a pixel takes the place of an image.
        if (Setting.Layout.Format is MemoryFormat.ChannelsLast) (images, area) = (images * area, 1);
        long imageBytes = conv.Conv.InputChannels * area * Setting.ActivationBytes;
        Gather(plan, purpose, images, [.. _assignment[conv.Conv.In!].Counts.Select(channels => channels * area)], backward, alike);
        // On the CPU what MPI sends is packed, but for one image, which needs no packing.
        long perPiece = Math.Min(images, Setting.Cut.ImagesPerPiece(imageBytes));
        if (Setting.Cut.ByImage && perPiece > 1) _scratch = Math.Max(_scratch, perPiece * imageBytes);
    }
}
