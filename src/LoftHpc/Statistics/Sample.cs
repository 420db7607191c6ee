using MathNet.Numerics.Statistics;

namespace LoftHpc.Statistics;

/// <summary>From one number to another.</summary>
public readonly record struct Interval(double Low, double High);

/// <summary>What some values say of the mean of all that they were drawn from.</summary>
/// <param name="Deviation">Standard deviation, with n - 1 in the denominator; null for one value.</param>
/// <param name="Interval">Of the mean, by Student's t: mean ± t(n - 1) deviation / sqrt(n); null for one value.</param>
public sealed record Sample(int Count, double Mean, double? Deviation, Interval? Interval)
{
    /// <param name="values">At least one.</param>
    public static Sample Of(IReadOnlyList<double> values)
    {
        double mean = values.Mean();
        if (values.Count == 1) return new Sample(1, mean, null, null);
        double deviation = values.StandardDeviation(), half = Student.Critical(values.Count - 1) * deviation / Math.Sqrt(values.Count);
        return new Sample(values.Count, mean, deviation, new Interval(mean - half, mean + half));
    }
}
