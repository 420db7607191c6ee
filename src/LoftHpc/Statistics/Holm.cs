namespace LoftHpc.Statistics;

/// <summary>Holm's correction (1979, A simple sequentially rejective multiple test procedure): of all tests together, one or more are rejected wrongly with probability alpha at most.</summary>
public static class Holm
{
    /// <summary>
    /// Probabilities that may be compared with alpha each: the i-th smallest (from 1) of m times m - i + 1, at least that of the
    /// one before, and 1 at most.
    /// </summary>
    /// <returns>In the order of <paramref name="probabilities"/>.</returns>
    public static double[] Adjust(IReadOnlyList<double> probabilities)
    {
        double[] adjusted = new double[probabilities.Count];
        double before = 0;
        int left = probabilities.Count;
        foreach (int i in Enumerable.Range(0, left).OrderBy(i => probabilities[i]))
        {
            before = Math.Min(1, Math.Max(before, left-- * probabilities[i]));
            adjusted[i] = before;
        }
        return adjusted;
    }
}
