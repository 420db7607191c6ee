namespace LoftHpc.Statistics;

/// <summary>
/// The exact permutation test of paired differences (Fisher 1935, The Design of Experiments, section 21): if a pair's two values
/// could as well be exchanged, each difference has either sign with the same probability.
/// </summary>
public static class SignPermutation
{
    /// <summary>With fewer pairs no outcome would be below 0.05: of 5 the smallest two-sided probability is 2 / 2^5 = 0.0625.</summary>
    public const int LeastPairs = 6;

    /// <summary>With more the sums of one half would take too much memory.</summary>
    public const int MostPairs = 40;

    /// <summary>Sums that differ by less, as a part of the largest, are equal but for rounding.</summary>
    private const double Rounding = 1e-9;

    /// <summary>Share of the 2^n choices of signs whose sum lies at least as far from 0 as the sum that was found; null for too few or too many pairs.</summary>
    public static double? TwoSided(IReadOnlyList<double> differences)
    {
        if (differences.Count is < LeastPairs or > MostPairs) return null;
        double limit = Math.Abs(differences.Sum()) - (Rounding * differences.Sum(Math.Abs));
        if (limit <= 0) return 1;
        // A choice of signs is one of each half; of the second half's sums, in order, a search counts those that reach the limit.
        int half = differences.Count / 2;
        double[] first = Sums([.. differences.Take(half)]), second = Sums([.. differences.Skip(half)]);
        Array.Sort(second);
        // The sums lie evenly on both sides of 0: those that reach it above are half of all.
        long reached = first.Sum(sum => (long)(second.Length - Below(second, limit - sum)));
        return 2.0 * reached / Math.Pow(2, differences.Count);
    }

    /// <summary>The sums by all choices of signs.</summary>
    private static double[] Sums(double[] values)
    {
        double[] sums = new double[1 << values.Length];
        for (int i = 0; i < values.Length; i++)
        {
            int done = 1 << i;
            for (int choice = done - 1; choice >= 0; choice--) (sums[choice + done], sums[choice]) = (sums[choice] + values[i], sums[choice] - values[i]);
        }
        return sums;
    }

    /// <summary>How many of some numbers, in order, are less than a limit.</summary>
    private static int Below(double[] ordered, double limit)
    {
        int low = 0, high = ordered.Length;
        while (low < high)
        {
            int middle = (low + high) / 2;
            if (ordered[middle] < limit) low = middle + 1;
            else high = middle;
        }
        return low;
    }
}
