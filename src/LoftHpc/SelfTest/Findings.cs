using System.Globalization;

namespace LoftHpc.SelfTest;

/// <summary>
/// What some checks found on this rank. A check that fails is noted and the next one is done, so that all ranks go on making
/// the same calls.
/// </summary>
public sealed class Findings
{
    /// <summary>Failures of one rank that are kept; a broken machine has thousands.</summary>
    private const int Kept = 20;

    private readonly List<string> _failures = [];

    /// <summary>Comparisons made.</summary>
    public long Checks { get; private set; }

    /// <summary>Comparisons that failed.</summary>
    public long Failed { get; private set; }

    /// <summary>A line for each of the first failures: what, and by how much.</summary>
    public IReadOnlyList<string> Failures => _failures;

    /// <summary>The largest error as a share of what was allowed.</summary>
    public double Worst { get; private set; }

    /// <summary>Notes whether something is so.</summary>
    public bool True(bool condition, string what)
    {
        Checks++;
        if (condition) return true;
        Failed++;
        if (_failures.Count < Kept) _failures.Add(what);
        return false;
    }

    /// <summary>Notes whether an error is small enough; NaN is not.</summary>
    public void Within(string what, double error, double allowed)
    {
        if (allowed > 0) Worst = Math.Max(Worst, double.IsNaN(error) ? double.PositiveInfinity : error / allowed);
        True(error <= allowed, string.Create(CultureInfo.InvariantCulture, $"{what} is off by {error:g3}, allowed {allowed:g3}"));
    }

    /// <summary>Notes whether all values are as expected; names the first that is not.</summary>
    public void Equal<T>(ReadOnlySpan<T> expected, ReadOnlySpan<T> actual, string what) where T : IEquatable<T>
    {
        int same = expected.CommonPrefixLength(actual);
        True(
            same == expected.Length && same == actual.Length,
            same < expected.Length && same < actual.Length
                ? string.Create(CultureInfo.InvariantCulture, $"{what}: element {same} of {expected.Length} is {actual[same]} instead of {expected[same]}")
                : string.Create(CultureInfo.InvariantCulture, $"{what}: {actual.Length} elements instead of {expected.Length}"));
    }
}
