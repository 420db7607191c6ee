using LoftHpc.Distances;
using LoftHpc.Networks;
using static TorchSharp.torch;

namespace LoftHpc.Tickets;

/// <summary>The l2 norm of a filter's weights, as LoFT was published (Wang et al. 2023).</summary>
public sealed class L2Criterion : IFilterCriterion
{
    public double[] Scores(NetworkSpec network, BlockSpec block, Func<string, Tensor> read)
    {
        using Tensor weight = read($"{block.Conv1.Name}.weight");
        return FilterNorms.OfRows(weight, columns: null);
    }
}
