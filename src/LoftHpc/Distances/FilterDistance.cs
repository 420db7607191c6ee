namespace LoftHpc.Distances;

/// <summary>
/// Rankings of the filters of a layer by norm and the distance between two of them: Spearman's footrule with element
/// weights (Kumar and Vassilvitskii 2010) as LoFT uses it (Wang et al. 2023),
/// F(R, R^) = sum over i = 1..n of (1/i) * |ln i - ln sigma(i)|, where sigma(i) is the position in R^ of the filter that
/// stands at position i in R. Position 1 is the largest norm. F is not symmetric: the weights are those of R.
/// </summary>
public static class FilterDistance
{
    /// <summary>The position of each filter, from 1; of equal norms the lower filter number comes first.</summary>
    public static int[] Positions(ReadOnlySpan<double> norms)
    {
        double[] values = norms.ToArray();
        int[] filters = [.. Enumerable.Range(0, values.Length).OrderByDescending(filter => values[filter]).ThenBy(filter => filter)];
        int[] positions = new int[filters.Length];
        for (int i = 0; i < filters.Length; i++) positions[filters[i]] = i + 1;
        return positions;
    }

    /// <summary>One filter's term of F(R, R^), from its positions in R and in R^.</summary>
    public static double Term(int position, int otherPosition) => Math.Abs(Math.Log(position) - Math.Log(otherPosition)) / position;

    /// <summary>F(R, R^) from the positions of the same filters in R and in R^; of some filters: their part of it.</summary>
    public static double Between(ReadOnlySpan<int> positions, ReadOnlySpan<int> otherPositions)
    {
        double sum = 0;
        for (int i = 0; i < positions.Length; i++) sum += Term(positions[i], otherPositions[i]);
        return sum;
    }

    /// <summary>
    /// The mean of F over all permutations of n filters, 1/n * sum over i, j of (1/i) * |ln i - ln j|; 0 for one filter.
    /// </summary>
    public static double RandomMean(int filters)
    {
        double[] logs = [.. Enumerable.Range(1, filters).Select(i => Math.Log(i))];
        double total = logs.Sum(), below = 0, sum = 0;
        for (int i = 1; i <= filters; i++)
        {
            // Logs are ascending: those up to i lie below ln i, the others above it.
            below += logs[i - 1];
            sum += ((2 * i - filters) * logs[i - 1] + total - 2 * below) / i;
        }
        return filters == 0 ? 0 : sum / filters;
    }
}
