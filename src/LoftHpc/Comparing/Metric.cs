using LoftHpc.Results;

namespace LoftHpc.Comparing;

/// <summary>One figure of a finished run.</summary>
/// <param name="Name">As a column of comparison.csv; what it means stands in results/README.md.</param>
/// <param name="Better">Which values are the better ones.</param>
/// <param name="IsCounted">True: work or size, counted, so that a difference which is the same in all pairs is no chance; false: measured.</param>
/// <param name="Unit">In which it is printed: its values times <paramref name="Scale"/>, with so many decimals.</param>
/// <param name="Of">The figure of a run; not-a-number where it has none.</param>
public sealed record Metric(string Name, BetterSide Better, bool IsCounted, string Unit, double Scale, int Decimals, Func<ComparedRun, double> Of)
{
    public static IReadOnlyList<Metric> All { get; } =
    [
        Accuracy("pretrained_accuracy", row => row.PretrainedAccuracy),
        Accuracy("pruned_accuracy", row => row.PrunedAccuracy),
        Accuracy("retrained_accuracy", row => row.RetrainedAccuracy),
        Ticket("chosen_test_accuracy", ticket => ticket.ChosenTestAccuracy),
        Ticket("best_test_accuracy", ticket => ticket.BestTestAccuracy),
        new("samples", BetterSide.Lower, true, "images", 1, 0, run => run.Row.Samples),
        new("flops", BetterSide.Lower, true, "GFLOP", 1e-9, 1, run => run.Row.Flops),
        new("bytes", BetterSide.Lower, true, "MB", 1e-6, 1, run => run.Row.Bytes),
        new("measurement_bytes", BetterSide.Lower, true, "MB", 1e-6, 1, run => run.Row.MeasurementBytes),
        new("seconds", BetterSide.Lower, false, "s", 1, 1, run => run.Row.Seconds),
        new("images_per_second", BetterSide.Higher, false, "images/s", 1, 0, run => run.Row.ImagesPerSecond),
        new("peak_memory_bytes", BetterSide.Lower, false, "MB", 1e-6, 0, run => run.Row.PeakMemoryBytes),
        new("ticket_parameters", BetterSide.Lower, true, "numbers", 1, 0, run => run.Ticket?.Parameters ?? double.NaN),
        new("ticket_flops", BetterSide.Lower, true, "FLOPs an image", 1, 0, run => run.Ticket?.Flops ?? double.NaN),
    ];

    /// <summary>Those that are shown where none is named. Every test more asks more of each one, by Holm's correction.</summary>
    public static IReadOnlyList<Metric> Default { get; } =
        [.. All.Where(metric => metric.Name is "pretrained_accuracy" or "retrained_accuracy" or "flops" or "bytes" or "seconds" or "peak_memory_bytes")];

    /// <summary>Whether it is a share of the test images.</summary>
    public bool IsAccuracy => Unit == "%";

    /// <exception cref="UserError">There is none of this name.</exception>
    public static Metric Named(string name, string option) => All.FirstOrDefault(metric => metric.Name == name)
        ?? throw new UserError($"{option}: there is no metric '{PlainText.Of(name)}'; allowed are {string.Join(", ", All.Select(metric => metric.Name))}");

    private static Metric Ticket(string name, Func<SummaryRow, double?> of) =>
        new(name, BetterSide.Higher, false, "%", 100, 2, run => (run.Ticket is { } ticket ? of(ticket) : null) ?? double.NaN);

    private static Metric Accuracy(string name, Func<ComparisonRow, double> of) => new(name, BetterSide.Higher, false, "%", 100, 2, run => of(run.Row));
}
