using System.Globalization;
using LoftHpc.Output;

namespace LoftHpc.Benchmarks;

/// <summary>One ratio of the table.</summary>
/// <param name="Milliseconds">Median of one step or call of what is measured; null where no time is.</param>
/// <param name="ReferenceMilliseconds">Median of what it is measured against.</param>
/// <param name="Ratio">Median over the rounds of one round's ratio; the times of one round stand next to each other.</param>
/// <param name="LowerQuartile">Of the rounds' ratios.</param>
/// <param name="UpperQuartile">Likewise.</param>
/// <param name="Allowed">What the ratio must be, in words.</param>
/// <param name="Check">What was compared of the results of the two, and found right.</param>
internal sealed record BenchmarkRow(
    string Measured, string Case, double? Milliseconds, double? ReferenceMilliseconds,
    double Ratio, double LowerQuartile, double UpperQuartile, string Allowed, bool Met, string Check)
{
    /// <summary>A ratio of times that may be at most so much.</summary>
    public static BenchmarkRow AtMost(double limit, string measured, string what, Sample times, Sample reference, string check) =>
        Of(measured, what, times, reference, times.Over(reference), $"at most {Number(limit, 2)}", ratio => ratio <= limit, check);

    /// <summary>A speed-up (reference time over time) that must be at least so much.</summary>
    public static BenchmarkRow AtLeast(double limit, string measured, string what, Sample times, Sample reference, string check) =>
        Of(measured, what, times, reference, reference.Over(times), $"at least {Number(limit, 2)}", ratio => ratio >= limit, check);

    /// <summary>A ratio of times without a limit.</summary>
    public static BenchmarkRow Shown(string measured, string what, Sample times, Sample reference, string check) =>
        Of(measured, what, times, reference, times.Over(reference), "", _ => true, check);

    public static TextTable Table(IReadOnlyList<BenchmarkRow> rows) => new(
        "",
        ["measured", "case", "ms", "reference ms", "ratio", "quartiles", "allowed", "", "check"],
        [.. rows.Select(row => (IReadOnlyList<string>)
        [
            row.Measured, row.Case, Time(row.Milliseconds), Time(row.ReferenceMilliseconds), Number(row.Ratio, 3),
            $"{Number(row.LowerQuartile, 2)} to {Number(row.UpperQuartile, 2)}", row.Allowed, row.Allowed.Length == 0 ? "" : row.Met ? "met" : "MISSED", row.Check,
        ])],
        new HashSet<int> { 2, 3, 4 });

    private static BenchmarkRow Of(
        string measured, string what, Sample times, Sample reference, Sample ratios, string allowed, Func<double, bool> met, string check) =>
        new(measured, what, 1000 * times.Median, 1000 * reference.Median, ratios.Median, ratios.Quantile(0.25), ratios.Quantile(0.75),
            allowed, met(ratios.Median), check);

    private static string Time(double? milliseconds) => milliseconds is not { } time ? "" : Number(time, time < 1 ? 4 : time < 100 ? 2 : 0);

    private static string Number(double value, int digits) => value.ToString($"F{digits}", CultureInfo.InvariantCulture);
}
