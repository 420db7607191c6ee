using System.Globalization;
using LoftHpc.Communication;
using LoftHpc.Configuration;
using LoftHpc.Results;

namespace LoftHpc.Output;

/// <summary>The tables that a run prints.</summary>
public static class ResultTables
{
    /// <summary>Where each rank runs, and in which precision and memory format: the same on all.</summary>
    public static TextTable Ranks(IReadOnlyList<RankRecord> ranks, Precision precision, MemoryFormat format) => new(
        "", ["rank", "host", "local", "device", "threads", "precision", "memory", "processor"],
        [.. ranks.Select(r => (IReadOnlyList<string>)
            [Number(r.Rank), r.Host, Number(r.LocalRank), r.Device, Number(r.Threads), ConfigName.Of(precision), ConfigName.Of(format), WithoutMarks(r.CpuModel)])],
        new HashSet<int> { 0, 2, 4 });

    /// <summary>One line on what ranks had to repair in libtorch's arithmetic; null where none had to.</summary>
    public static string? Repairs(IReadOnlyList<ArithmeticRecord> ranks)
    {
        string[] parts =
        [
            .. from rank in ranks
               where rank.Convolutions > 0
               group rank by (rank.Repair, rank.Convolutions, rank.Checked) into alike
               select $"{alike.Key.Convolutions} of {alike.Key.Checked} on rank{(alike.Count() == 1 ? "" : "s")} {string.Join(", ", alike.Select(rank => rank.Rank))} ({alike.Key.Repair})",
        ];
        return parts.Length == 0
            ? null
            : $"arithmetic: this libtorch computes some convolutions wrongly on these processors; repaired and checked again, so results are right, but steps take longer: {string.Join("; ", parts)}";
    }

    /// <summary>The networks of summary.csv; sizes also relative to the dense one, where there is one.</summary>
    public static TextTable Summary(IReadOnlyList<SummaryRow> networks)
    {
        SummaryRow? dense = networks.FirstOrDefault(n => n.Network == NetworkState.Dense);
        return new TextTable(
            "Test set (pruned: before retraining; ticket: after it)", ["network", "accuracy", "loss", "parameters", "FLOPs an image"],
            [.. networks.Select(n => (IReadOnlyList<string>)
            [
                n.Network.ToString().ToLowerInvariant(), EpochClock.Percent(n.TestAccuracy), EpochClock.Loss(n.TestLoss),
                Number(n.Parameters) + Share(n.Parameters, dense?.Parameters), Number(n.Flops) + Share(n.Flops, dense?.Flops),
            ])],
            new HashSet<int> { 1, 2, 3, 4 });
    }

    /// <summary>The runs of comparison.csv that differ only in their seed, one line each.</summary>
    public static TextTable Comparison(IReadOnlyList<ComparisonRow> runs) => new(
        "Test accuracy: mean (smallest to largest); costs of pre-training: mean over seeds, all ranks together, memory of the largest rank",
        ["method", "schedule", "ranks", "ratio", "seeds", "pre-trained", "pruned", "retrained", "images", "GFLOP", "sent MB", "seconds", "images/s", "peak MB"],
        [.. from run in runs
            group run by (run.Method, run.Schedule, run.Ranks, run.Ratio, run.Name) into seeds
            let name = RunComparison.NameOf(seeds.Key.Method, seeds.Key.Schedule)
            select (IReadOnlyList<string>)
            [
                ConfigName.Of(seeds.Key.Method) + (seeds.Key.Name == name ? "" : $" ({seeds.Key.Name})"),
                ConfigName.Of(seeds.Key.Schedule), Number(seeds.Key.Ranks), EpochClock.Invariant($"{seeds.Key.Ratio}"), Number(seeds.Count()),
                Spread([.. seeds.Select(run => run.PretrainedAccuracy)]),
                Spread([.. seeds.Select(run => run.PrunedAccuracy)]),
                Spread([.. seeds.Select(run => run.RetrainedAccuracy)]),
                Mean(seeds.Select(run => (double)run.Samples), 0), Mean(seeds.Select(run => run.Flops / 1e9), 0),
                Mean(seeds.Select(run => run.Bytes / 1e6), 1), Mean(seeds.Select(run => run.Seconds), 1),
                Mean(seeds.Select(run => run.ImagesPerSecond), 0), Mean(seeds.Select(run => run.PeakMemoryBytes / 1e6), 0),
            ]],
        new HashSet<int> { 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13 });

    private static string Spread(IReadOnlyList<double> fractions) => fractions.Count == 1
        ? EpochClock.Percent(fractions[0])
        : EpochClock.Invariant($"{EpochClock.Percent(fractions.Average())} ({100 * fractions.Min():F2} to {100 * fractions.Max():F2})");

    private static string Mean(IEnumerable<double> values, int decimals) =>
        values.Average().ToString($"N{decimals}", CultureInfo.InvariantCulture);

    private static string WithoutMarks(string processor) =>
        processor.Replace("(R)", "", StringComparison.Ordinal).Replace("(TM)", "", StringComparison.Ordinal);

    private static string Number(long value) => EpochClock.Invariant($"{value:N0}");

    private static string Share(long value, long? whole) =>
        whole is > 0 ? EpochClock.Invariant($" ({100.0 * value / whole.Value,3:F0} %)") : "";
}
