using LoftHpc.Networks;
using static TorchSharp.torch;

namespace LoftHpc.Tickets;

/// <summary>The l1 norm of a filter's weights (Li et al. 2017).</summary>
public sealed class L1Criterion : IFilterCriterion
{
    public double[] Scores(NetworkSpec network, BlockSpec block, Func<string, Tensor> read)
    {
        using Tensor weight = read($"{block.Conv1.Name}.weight");
        return [.. FilterValues.Of(weight).Select(filter => filter.Sum(Math.Abs))];
    }
}
