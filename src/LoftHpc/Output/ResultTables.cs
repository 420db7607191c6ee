using System.Globalization;
using LoftHpc.Communication;
using LoftHpc.Comparing;
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
        bool chosen = networks.Any(n => n.ChosenTestAccuracy is not null);
        return new TextTable(
            "Test set (pruned: before retraining; ticket: after it)",
            ["network", "accuracy", .. chosen ? (string[])["at validation's epoch"] : [], "loss", "parameters", "FLOPs an image"],
            [.. networks.Select(n => (IReadOnlyList<string>)
            [
                n.Network.ToString().ToLowerInvariant(), EpochClock.Percent(n.TestAccuracy),
                .. chosen ? (string[])[n.ChosenTestAccuracy is double accuracy ? EpochClock.Invariant($"{EpochClock.Percent(accuracy)} ({n.ChosenEpoch})") : ""] : [],
                EpochClock.Loss(n.TestLoss),
                Number(n.Parameters) + Share(n.Parameters, dense?.Parameters), Number(n.Flops) + Share(n.Flops, dense?.Flops),
            ])],
            new HashSet<int>(Enumerable.Range(1, chosen ? 5 : 4)));
    }

    /// <summary>Of each pass and batch of latency.csv the dense network and the ticket side by side.</summary>
    public static TextTable Latency(IReadOnlyList<LatencyRow> rows)
    {
        static string Milliseconds(LatencyRow row) => EpochClock.Invariant(
            $"{1e3 * row.MedianSeconds:N2} ({1e3 * row.LowerQuartileSeconds:N2} to {1e3 * row.UpperQuartileSeconds:N2})");
        return new TextTable(
            "Time of a pass on rank 0 alone in ms: median (quartiles); ticket/dense beside that of their FLOPs",
            ["pass", "images", "dense", "ticket", "ratio", "FLOPs", "dense MB", "ticket MB"],
            [.. from dense in rows
                where dense.Network == NetworkState.Dense
                join ticket in rows.Where(row => row.Network == NetworkState.Ticket) on (dense.Pass, dense.Batch) equals (ticket.Pass, ticket.Batch)
                select (IReadOnlyList<string>)
                [
                    dense.Pass.ToString().ToLowerInvariant(), Number(dense.Batch), Milliseconds(dense), Milliseconds(ticket),
                    Decimals(ticket.MedianSeconds / dense.MedianSeconds, 2), Decimals((double)ticket.Flops / dense.Flops, 2), Megabytes(dense), Megabytes(ticket),
                ]],
            new HashSet<int> { 1, 2, 3, 4, 5, 6, 7 });

        static string Megabytes(LatencyRow row) => row.PeakMemoryBytes is long bytes ? Decimals(bytes / 1e6, 1) : "";
    }

    /// <summary>The finished tickets of a run's grids, one line each.</summary>
    public static TextTable Tickets(IReadOnlyList<TicketsRow> tickets) => new(
        "Tickets, on the test set (pruned: before retraining)", ["ticket", "filters", "parameters", "FLOPs an image", "pruned", "retrained", "loss"],
        [.. tickets.Select(ticket => (IReadOnlyList<string>)
        [
            ticket.Ticket, Number(ticket.Filters), Number(ticket.Parameters), Number(ticket.Flops),
            EpochClock.Percent(ticket.PrunedAccuracy), EpochClock.Percent(ticket.RetrainedAccuracy), EpochClock.Loss(ticket.RetrainedLoss),
        ])],
        new HashSet<int> { 1, 2, 3, 4, 5, 6 });

    /// <summary>The groups of runs, one line each.</summary>
    public static TextTable Comparison(RunComparison comparison) => new(
        "Test accuracy: mean (smallest to largest); costs of pre-training: mean over seeds, all ranks together, memory of the largest rank",
        [.. comparison.Columns, "seeds", "pre-trained", "pruned", "retrained", "images", "GFLOP", "sent MB", "seconds", "images/s", "peak MB"],
        [.. from runs in comparison.Groups
            let seeds = runs.Runs.Select(run => run.Row).ToArray()
            select (IReadOnlyList<string>)
            [
                .. runs.Values.Select(PlainText.Of), Number(seeds.Length),
                Spread([.. seeds.Select(run => run.PretrainedAccuracy)]),
                Spread([.. seeds.Select(run => run.PrunedAccuracy)]),
                Spread([.. seeds.Select(run => run.RetrainedAccuracy)]),
                Mean(seeds.Select(run => (double)run.Samples), 0), Mean(seeds.Select(run => run.Flops / 1e9), 0),
                Mean(seeds.Select(run => run.Bytes / 1e6), 1), Mean(seeds.Select(run => run.Seconds), 1),
                Mean(seeds.Select(run => run.ImagesPerSecond), 0), Mean(seeds.Select(run => run.PeakMemoryBytes / 1e6), 0),
            ]],
        RightOf(comparison.Columns, comparison.Groups, 10));

    /// <summary>The statistics of each metric over the groups; and, where there is a baseline, of the differences to it.</summary>
    public static IEnumerable<TextTable> Statistics(GroupComparison comparison) => comparison.Metrics.Select(metric =>
    {
        (Metric Metric, RunGroup Group, StatisticsRow Row)[] rows = [.. comparison.Rows.Where(row => row.Metric == metric)];
        bool compared = comparison.Baseline is not null, signs = rows.Any(row => row.Row.PSigns is not null);
        string[] numbers = ["seeds", "mean", "deviation", "95 % interval"];
        string[] differences = !compared ? [] : ["pairs", "difference", "its 95 % interval", "p", "p (Holm)", .. signs ? (string[])["p (signs)"] : []];
        string Value(double? value) => ResultTables.Value(metric, value);
        string Range(double? low, double? high) => low is null ? "" : $"{Value(low)} to {Value(high)}";
        IReadOnlyList<string> Cells(RunGroup group, StatisticsRow row) =>
        [
            .. group.Values.Select(PlainText.Of), Number(row.Seeds), Value(row.Mean), Value(row.Deviation), Range(row.Low, row.High),
            .. !compared ? [] : (string[])
            [
                row.Baseline ? "" : Number(row.Pairs), Value(row.Difference), Range(row.DifferenceLow, row.DifferenceHigh), Probability(row.P), Probability(row.PHolm),
                .. signs ? (string[])[Probability(row.PSigns)] : [],
                row.Baseline ? "baseline" : Words(row.Verdict),
            ],
        ];
        return new TextTable(
            $"{metric.Name} in {metric.Unit}, {ConfigName.Of(metric.Better)} is better"
            + (compared ? $"; difference to the baseline, paired by seed{(rows.Select(row => row.Row.Margin).FirstOrDefault(margin => margin is not null) is double margin ? $", margin {Value(margin)}" : "")}" : ""),
            [.. comparison.Columns, .. numbers, .. differences, .. compared ? (string[])["verdict"] : []],
            [.. rows.Select(row => Cells(row.Group, row.Row))],
            RightOf(comparison.Columns, rows.Select(row => row.Group), numbers.Length + differences.Length));
    });

    /// <summary>A figure as the tables of its metric have it, without the unit; empty for none.</summary>
    public static string Value(Metric metric, double? value) => value is double number ? Decimals(number * metric.Scale, metric.Decimals) : "";

    /// <summary>What a comparison says, in words.</summary>
    public static string Words(Verdict verdict) => ConfigName.Of(verdict).Replace('-', ' ');

    /// <summary>The columns of numbers: settings that are numbers, and so many after the settings.</summary>
    private static HashSet<int> RightOf(IReadOnlyList<string> settings, IEnumerable<RunGroup> groups, int more) =>
    [
        .. Enumerable.Range(0, settings.Count).Where(i => groups.All(group => double.TryParse(group.Values[i], NumberStyles.Float, CultureInfo.InvariantCulture, out _))),
        .. Enumerable.Range(settings.Count, more),
    ];

    private static string Probability(double? p) => p switch
    {
        null => "",
        < 0.0001 => "< 0.0001",
        double value => Decimals(value, 4),
    };

    private static string Decimals(double value, int decimals) => value.ToString($"N{decimals}", CultureInfo.InvariantCulture);

    private static string Spread(IReadOnlyList<double> fractions) => fractions.Count == 1
        ? EpochClock.Percent(fractions[0])
        : EpochClock.Invariant($"{EpochClock.Percent(fractions.Average())} ({100 * fractions.Min():F2} to {100 * fractions.Max():F2})");

    private static string Mean(IEnumerable<double> values, int decimals) =>
        values.Average() is var mean && double.IsNaN(mean) ? "" : Decimals(mean, decimals);

    private static string WithoutMarks(string processor) =>
        processor.Replace("(R)", "", StringComparison.Ordinal).Replace("(TM)", "", StringComparison.Ordinal);

    private static string Number(long value) => EpochClock.Invariant($"{value:N0}");

    private static string Share(long value, long? whole) =>
        whole is > 0 ? EpochClock.Invariant($" ({100.0 * value / whole.Value,3:F0} %)") : "";
}
