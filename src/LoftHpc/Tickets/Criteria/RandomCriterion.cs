using LoftHpc.Networks;
using static TorchSharp.torch;

namespace LoftHpc.Tickets;

/// <summary>A control: scores uniform in [0, 1), whatever the weights are. A function of the run's seed, extract.seed, the layer and the filter.</summary>
/// <param name="runSeed">run.seed.</param>
/// <param name="seed">extract.seed.</param>
/// <param name="iteration">Each of extract.iterations draws others.</param>
public sealed class RandomCriterion(long runSeed, long seed, int iteration = 1) : IFilterCriterion
{
    public double[] Scores(NetworkSpec network, BlockSpec block, Func<string, Tensor> read)
    {
        RandomStream stream = RandomStream.For(runSeed, $"extract/random/{block.Conv1.Name}{(iteration > 1 ? $"/{iteration}" : "")}", seed);
        double[] scores = new double[block.Inner.Count];
        for (int filter = 0; filter < scores.Length; filter++) scores[filter] = stream.NextDouble();
        return scores;
    }
}
