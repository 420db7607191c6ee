using LoftHpc.Networks;
using static TorchSharp.torch;

namespace LoftHpc.Tickets;

/// <summary>By what the filters of a prunable layer are ranked (config key extract.criterion). docs/tickets.md has the formulas.</summary>
public interface IFilterCriterion
{
    /// <summary>One score for each filter of the block's first convolution: those of the largest scores stay.</summary>
    /// <param name="network">The dense network, whose block it is.</param>
    /// <param name="read">The whole weight of this name, on the host or elsewhere; the caller disposes it.</param>
    double[] Scores(NetworkSpec network, BlockSpec block, Func<string, Tensor> read);

    /// <summary>
    /// Whether scores of different layers can be compared as they are. Otherwise scope global divides them by the mean of their
    /// absolute values over the layer.
    /// </summary>
    bool ComparesLayers => false;
}
