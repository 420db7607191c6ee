using MathNet.Numerics.Distributions;

namespace LoftHpc.Statistics;

/// <summary>Student's t distribution, as MathNet.Numerics computes it.</summary>
public static class Student
{
    /// <summary>Share of samples whose interval holds the true mean.</summary>
    public const double Confidence = 0.95;

    /// <summary>The t that so many degrees of freedom exceed, to both sides together, with probability 1 - <see cref="Confidence"/>.</summary>
    public static double Critical(int freedom) => StudentT.InvCDF(0, 1, freedom, (1 + Confidence) / 2);

    /// <summary>Probability of a t at least as far from 0, to both sides together.</summary>
    public static double TwoSided(double t, int freedom) => Math.Min(1, 2 * Above(Math.Abs(t), freedom));

    /// <summary>Probability of a t of at least this.</summary>
    public static double Above(double t, int freedom) => StudentT.CDF(0, 1, freedom, -t);
}
