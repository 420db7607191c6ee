using LoftHpc.Distances;
using LoftHpc.Networks;
using static TorchSharp.torch;

namespace LoftHpc.Tickets;

/// <summary>
/// Layer-adaptive magnitude (LAMP, Lee et al. 2021) of whole filters: the square of a filter's l2 norm, divided by the sum of the
/// squares of all filters of the layer that are not smaller, itself included. The largest has 1 in every layer. Within a layer the
/// order is that of the norms.
/// </summary>
public sealed class LampCriterion : IFilterCriterion
{
    public bool ComparesLayers => true;

    public double[] Scores(NetworkSpec network, BlockSpec block, Func<string, Tensor> read)
    {
        using Tensor weight = read($"{block.Conv1.Name}.weight");
        double[] squares = FilterNorms.SquaresOfRows(weight, columns: null), scores = new double[squares.Length];
        int[] positions = FilterDistance.Positions(squares);
        double notSmaller = 0;
        foreach (int filter in Enumerable.Range(0, squares.Length).OrderBy(filter => positions[filter]))
        {
            notSmaller += squares[filter];
            scores[filter] = notSmaller == 0 ? 0 : squares[filter] / notSmaller;
        }
        return scores;
    }
}
