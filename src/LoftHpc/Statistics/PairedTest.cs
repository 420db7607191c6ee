namespace LoftHpc.Statistics;

/// <summary>The paired t test: whether the mean of differences, one a pair, could be 0 by chance.</summary>
public sealed class PairedTest
{
    /// <summary>Of the values: differences that vary by less differ by rounding alone.</summary>
    private const double Rounding = 1e-12;

    private readonly Sample _sample;

    /// <param name="values">A value of each pair.</param>
    /// <param name="baseline">The other one, in the same order; at least one.</param>
    public PairedTest(IReadOnlyList<double> values, IReadOnlyList<double> baseline)
    {
        Differences = [.. values.Zip(baseline, (value, other) => value - other)];
        _sample = Sample.Of(Differences);
        Varies = _sample.Deviation > Rounding * values.Concat(baseline).Max(Math.Abs);
    }

    /// <summary>Value minus baseline of each pair.</summary>
    public IReadOnlyList<double> Differences { get; }

    /// <summary>Their mean.</summary>
    public double Mean => _sample.Mean;

    /// <summary>Whether the differences vary. Where they do not, or there is one alone, t has no value and nothing can be tested.</summary>
    public bool Varies { get; }

    /// <summary>Of the mean difference.</summary>
    public Interval? Interval => Varies ? _sample.Interval : null;

    /// <summary>Mean divided by its standard error.</summary>
    public double? T => Varies ? Mean / Error : null;

    /// <summary>Two-sided, n - 1 degrees of freedom.</summary>
    public double? P => T is double t ? Student.TwoSided(t, Freedom) : null;

    /// <summary>Probability of a mean as high as this one or higher, if the true one is <paramref name="limit"/>: small where it lies above.</summary>
    public double? PAbove(double limit) => Varies ? Student.Above((Mean - limit) / Error, Freedom) : null;

    /// <summary>The same to the other side: small where the true mean lies below <paramref name="limit"/>.</summary>
    public double? PBelow(double limit) => Varies ? Student.Above((limit - Mean) / Error, Freedom) : null;

    private int Freedom => _sample.Count - 1;

    private double Error => _sample.Deviation!.Value / Math.Sqrt(_sample.Count);
}
