using LoftHpc.Communication;
using LoftHpc.Configuration;
using LoftHpc.Output;
using LoftHpc.Results;
using LoftHpc.Training;
using static LoftHpc.Output.EpochClock;

namespace LoftHpc.Planning;

/// <summary>The tables of the commands that plan.</summary>
public static class PlanTables
{
    private const double Giga = 1e9;

    /// <summary>One line: what is planned.</summary>
    public static string Subject(PlanSetting plan)
    {
        NetworkSection network = plan.Config.Network;
        return Invariant($"{ConfigName.Of(network.Family)} {network.Depth} of width {network.Width} on {ConfigName.Of(plan.Config.Data.Set)}: ")
            + Invariant($"{plan.Network.ParameterCount:N0} parameters, {plan.Network.Flops(plan.Images.Side):N0} FLOPs an image forward; ")
            + Invariant($"{ConfigName.Of(plan.Pretrain.Method)}, {plan.Pretrain.Epochs} epochs of {plan.StepsPerEpoch} steps{(plan.InBfloat16 ? ", activations in bfloat16" : "")}");
    }

    /// <summary>FLOPs and memory for each number of ranks.</summary>
    public static TextTable Resources(IReadOnlyList<PretrainPlan> plans)
    {
        bool onGpu = plans.Any(plan => plan.Setting.OnGpu);
        string[] columns = ["ranks", "FLOPs", "FLOPs a rank", "weights", "gradients", "optimizer", "exchange buffers", "activations", .. onGpu ? (string[])["images"] : [], "sum"];
        return new TextTable(
            $"The whole pre-training, forward and backward, and what the rank that holds most holds {(onGpu ? "for its GPU" : "on the CPU")}, in bytes",
            columns, [.. plans.Select(Resources)], Enumerable.Range(0, columns.Length).ToHashSet());
    }

    /// <summary>What the ranks together send in a step, a round and the whole pre-training.</summary>
    public static TextTable Communication(PretrainPlan plan)
    {
        PlanSection network = plan.Setting.Config.Plan;
        List<IReadOnlyList<string>> rows = [];
        void Add(string span, CommunicationPlan of)
        {
            foreach (var part in of.Rows.GroupBy(row => (row.Purpose, row.Collective)).OrderBy(group => group.Key))
            {
                if (part.Any(row => row.Messages > 0))
                    rows.Add([span, ConfigName.Of(part.Key.Purpose), part.Key.Collective, .. Numbers(of.Of(part.Key.Purpose, part.Key.Collective), network)]);
            }
            rows.Add([span, "all", "", .. Numbers(of, network)]);
        }
        int local = plan.Setting.Pretrain.LocalSteps;
        Add("step", plan.Step);
        Add(Invariant($"round ({local} step{(local == 1 ? "" : "s")})"), plan.Round);
        Add("pre-training", plan.Whole);
        return new TextTable(
            Invariant($"{plan.Setting.Ranks} ranks: what all of them send; time of the slowest rank at {network.LatencyMicroseconds} us a message and {network.BandwidthGigabytesPerSecond} GB/s"),
            ["span", "purpose", "collective", "messages", "bytes", "seconds"], rows, new HashSet<int> { 3, 4, 5 });
    }

    /// <summary>Model and published values of the communication columns.</summary>
    public static TextTable Published(IReadOnlyList<PublishedRow> rows) => new(
        "Communication of 20 epochs of pre-training as published, and by a model of the published schemes",
        ["setting", "method", "unit of G", "model, G", "published, G", "model / published"],
        [.. rows.SelectMany(row => row.Cells, (row, cell) => (IReadOnlyList<string>)
        [
            row.Setting, cell.Method, cell.IsLoft ? "1000 MiB" : "10^9 bytes", Two(cell.ModelBytes / cell.Unit), Two(cell.Published),
            Invariant($"{cell.ModelBytes / cell.Unit / cell.Published:F4}"),
        ])],
        new HashSet<int> { 3, 4, 5 });

    /// <summary>The exchange of this program in the same columns, and the gain over pipelines.</summary>
    public static TextTable Gains(IReadOnlyList<PublishedRow> rows) => new(
        "The same pre-training by this program's exchange; G = 10^9 bytes everywhere, so that columns can be divided",
        [
            "setting", "ranks", "loft", "a round, MB", "published LoFT", "a round, MB", "GPipe, published cuts", "gpipe, cut by FLOPs",
            "gain over GPipe", "gain as published",
        ],
        [.. rows.SelectMany(row => row.Exchanges, (row, own) => (IReadOnlyList<string>)
        [
            row.Setting, Invariant($"{own.Ranks}"), Two(own.LoftBytes / Giga), Invariant($"{own.LoftRoundBytes / 1e6:F1}"),
            Two(own.PublishedLoftBytes / Giga), Invariant($"{own.PublishedLoftRoundBytes / 1e6:F1}"),
            Two(own.GpipeBytes / Giga), Two(own.OwnGpipeBytes / Giga), Invariant($"{own.Gain:F2}x"), Invariant($"{own.PublishedGain:F2}x"),
        ])],
        Enumerable.Range(1, 9).ToHashSet());

    private static IReadOnlyList<string> Resources(PretrainPlan plan)
    {
        int[] ranks = [.. plan.DifferentRanks];
        long Sum(int rank) => plan.Memory(rank) is var held
            ? held.Weights + held.Gradients + held.Optimizer + held.ExchangeBuffers + plan.ActivationBytes(rank) + plan.ImageBytes(rank) : 0;
        int largest = ranks.MaxBy(Sum);
        TrainingMemory memory = plan.Memory(largest);
        return
        [
            Number(plan.Setting.Ranks), Number(plan.Flops), Number(ranks.Max(rank => plan.Work(rank).Flops)),
            Number(memory.Weights), Number(memory.Gradients), Number(memory.Optimizer), Number(memory.ExchangeBuffers),
            Number(plan.ActivationBytes(largest)), .. plan.Setting.OnGpu ? (string[])[Number(plan.ImageBytes(largest))] : [], Number(Sum(largest)),
        ];
    }

    private static string[] Numbers(CommunicationPlan plan, PlanSection network) =>
    [
        Number(plan.Rows.Sum(row => row.Messages)), Number(plan.BytesSent),
        Invariant($"{plan.Seconds(network.LatencyMicroseconds * 1e-6, network.BandwidthGigabytesPerSecond * Giga):N6}"),
    ];

    private static string Number(long value) => Invariant($"{value:N0}");

    private static string Two(double value) => Invariant($"{value:N2}");
}
