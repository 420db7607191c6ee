using LoftHpc.Results;

namespace LoftHpc.Output;

/// <summary>The tables that a run prints.</summary>
public static class ResultTables
{
    /// <summary>Where each rank runs.</summary>
    public static TextTable Ranks(IReadOnlyList<RankRecord> ranks) => new(
        "", ["rank", "host", "local", "device", "threads", "processor"],
        [.. ranks.Select(r => (IReadOnlyList<string>)
            [Number(r.Rank), r.Host, Number(r.LocalRank), r.Device, Number(r.Threads), WithoutMarks(r.CpuModel)])],
        new HashSet<int> { 0, 2, 4 });

    /// <summary>The networks of summary.csv; sizes also relative to the dense one, where there is one.</summary>
    public static TextTable Summary(IReadOnlyList<SummaryRow> networks)
    {
        SummaryRow? dense = networks.FirstOrDefault(n => n.Network == NetworkState.Dense);
        return new TextTable(
            "Test set (pruned: before retraining; ticket: after it)", ["network", "accuracy", "loss", "parameters", "FLOPs an image"],
            [.. networks.Select(n => (IReadOnlyList<string>)
            [
                n.Network.ToString().ToLowerInvariant(), EpochClock.Percent(n.TestAccuracy), EpochClock.Invariant($"{n.TestLoss:F4}"),
                Number(n.Parameters) + Share(n.Parameters, dense?.Parameters), Number(n.Flops) + Share(n.Flops, dense?.Flops),
            ])],
            new HashSet<int> { 1, 2, 3, 4 });
    }

    private static string WithoutMarks(string processor) =>
        processor.Replace("(R)", "", StringComparison.Ordinal).Replace("(TM)", "", StringComparison.Ordinal);

    private static string Number(long value) => EpochClock.Invariant($"{value:N0}");

    private static string Share(long value, long? whole) =>
        whole is > 0 ? EpochClock.Invariant($" ({100.0 * value / whole.Value,3:F0} %)") : "";
}
