using LoftHpc.Networks;
using static TorchSharp.torch;

namespace LoftHpc.Tickets;

/// <summary>The absolute value of the scale that the batch norm after the convolution gives a filter's channel (network slimming, Liu et al. 2017).</summary>
public sealed class BatchNormScaleCriterion : IFilterCriterion
{
    public bool ComparesLayers => true;

    public double[] Scores(NetworkSpec network, BlockSpec block, Func<string, Tensor> read)
    {
        using Tensor scale = read($"{network.InnerNorm(block).Name}.weight");
        return [.. FilterValues.Of(scale).Select(channel => Math.Abs(channel[0]))];
    }
}
