using LoftHpc.Communication;
using LoftHpc.Networks;
using static LoftHpc.Planning.PlanSetting;

namespace LoftHpc.Planning;

/// <summary>Pipeline-parallel training: activations and their gradients go to the neighbour, one micro-batch at a time.</summary>
public sealed class GpipePlan(PlanSetting setting) : MethodPlan(setting)
{
    private readonly (int First, int End)[] _stages =
        StageCuts.Create(setting.Network, setting.Images.Side, setting.Ranks, setting.Pretrain.Gpipe.Cuts);

    /// <summary>Values of one image that cross each boundary between ranks.</summary>
    public IEnumerable<long> Boundaries => _stages.Take(Ranks - 1).Select(stage =>
        Network.UnitOutput(stage.End - 1, Setting.Images.Side).Aggregate(1L, (product, side) => product * side));

    public override void Evaluate(CommunicationPlan plan)
    {
        foreach (int batch in Setting.EvaluationBatches) Cross(plan, CommunicationPurpose.Evaluation, batch, backward: false);
        plan.Allreduce(CommunicationPurpose.Evaluation, 3, DoubleBytes);
    }

    public override void Save(CommunicationPlan plan) => SendToRoot(plan, CommunicationPurpose.Save, Held);

    public override long FiltersMeasured(int rank) => Held(rank).Where(slice => slice.Spec.Role is TensorRole.ConvWeight).Sum(slice => slice.Shape[0]);

    public override IEnumerable<TensorSlice> Held(int rank) => Enumerable.Range(_stages[rank].First, _stages[rank].End - _stages[rank].First)
        .SelectMany(Network.TensorsOf).Select(TensorSlice.Whole);

    protected override (int First, int End)? Units(int rank) => _stages[rank];

    protected override void Communicate(CommunicationPlan plan, long step, int batch)
    {
        int parts = Setting.Pretrain.Gpipe.MicroBatches;
        for (int part = 0; part < parts; part++)
        {
            (int start, int end) = new Shard(part, parts).Of(batch);
            if (end > start) Cross(plan, CommunicationPurpose.Step, end - start, backward: true);
        }
    }

    private void Cross(CommunicationPlan plan, CommunicationPurpose purpose, int images, bool backward)
    {
        int rank = 0;
        foreach (long values in Boundaries)
        {
            plan.Send(purpose, rank, rank + 1, images * values, ElementBytes);
            if (backward) plan.Send(purpose, rank + 1, rank, images * values, ElementBytes);
            rank++;
        }
    }
}

/// <summary>The units of each rank in a pipeline.</summary>
internal static class StageCuts
{
    /// <summary>Cut before the units named, or where the stage with the most FLOPs has the least.</summary>
    /// <exception cref="UserError">The cuts do not make so many stages, or there are too few units.</exception>
    public static (int First, int End)[] Create(NetworkSpec network, int imageSide, int ranks, IReadOnlyList<string> cuts)
    {
        int units = network.UnitCount;
        if (ranks > units) throw new UserError($"pretrain.method: gpipe has {units} units to deal out, so it trains on {units} ranks at most");
        if (cuts.Count == 0) return Balanced(network, imageSide, ranks);
        int[] starts = [0, .. cuts.Select(cut => Enumerable.Range(0, units).FirstOrDefault(unit => network.UnitName(unit) == cut, -1))];
        if (starts.Length != ranks || starts.Zip(starts.Skip(1)).Any(pair => pair.First >= pair.Second))
            throw new UserError($"pretrain.gpipe.cuts: [{string.Join(", ", cuts)}] do not cut the network into {ranks} stages");
        return [.. starts.Zip([.. starts.Skip(1), units])];
    }

    private static (int, int)[] Balanced(NetworkSpec network, int imageSide, int ranks)
    {
        int units = network.UnitCount;
        long[] before = new long[units + 1];
        for (int unit = 0; unit < units; unit++)
            before[unit + 1] = before[unit] + network.Flops(imageSide, network.TensorsOf(unit).Select(TensorSlice.Whole));

        // best[stages, end]: the least that the largest of so many stages over the first units can have; of equals the earliest cut.
        long[,] best = new long[ranks + 1, units + 1];
        int[,] cut = new int[ranks + 1, units + 1];
        for (int end = 1; end <= units; end++) best[1, end] = before[end];
        for (int stages = 2; stages <= ranks; stages++)
        {
            for (int end = stages; end <= units; end++)
            {
                best[stages, end] = long.MaxValue;
                for (int start = stages - 1; start < end; start++)
                {
                    long largest = Math.Max(best[stages - 1, start], before[end] - before[start]);
                    if (largest < best[stages, end]) (best[stages, end], cut[stages, end]) = (largest, start);
                }
            }
        }
        (int, int)[] dealt = new (int, int)[ranks];
        for (int stage = ranks, end = units; stage > 0; stage--)
        {
            dealt[stage - 1] = (cut[stage, end], end);
            end = cut[stage, end];
        }
        return dealt;
    }
}
