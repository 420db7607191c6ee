using LoftHpc.Networks;
using static TorchSharp.torch;

namespace LoftHpc.Tickets;

/// <summary>
/// The sum of the Euclidean distances from a filter to all others of its layer (FPGM, He et al. 2019): a filter close to the
/// geometric median of the layer is one that the others can stand in for.
/// </summary>
public sealed class GeometricMedianCriterion : IFilterCriterion
{
    public double[] Scores(NetworkSpec network, BlockSpec block, Func<string, Tensor> read)
    {
        using Tensor weight = read($"{block.Conv1.Name}.weight");
        double[][] filters = FilterValues.Of(weight);
        double[] scores = new double[filters.Length];
        for (int one = 0; one < filters.Length; one++)
        {
            for (int other = one + 1; other < filters.Length; other++)
            {
                double distance = Distance(filters[one], filters[other]);
                scores[one] += distance;
                scores[other] += distance;
            }
        }
        return scores;
    }

    private static double Distance(double[] one, double[] other)
    {
        double squares = 0;
        for (int i = 0; i < one.Length; i++)
        {
            double difference = one[i] - other[i];
            squares += difference * difference;
        }
        return Math.Sqrt(squares);
    }
}
