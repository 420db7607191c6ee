using LoftHpc.Networks;
using static TorchSharp.torch;

namespace LoftHpc.Tickets;

/// <summary>A control, the inverse of the published criterion: minus the l2 norm, so that the smallest filters stay.</summary>
public sealed class SmallestCriterion : IFilterCriterion
{
    private readonly L2Criterion _largest = new();

    public double[] Scores(NetworkSpec network, BlockSpec block, Func<string, Tensor> read) =>
        [.. _largest.Scores(network, block, read).Select(norm => -norm)];
}
