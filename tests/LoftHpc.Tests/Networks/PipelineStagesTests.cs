using LoftHpc.Configuration;
using LoftHpc.Networks;
using Xunit;

namespace LoftHpc.Tests.Networks;

public class PipelineStagesTests
{
    private static NetworkSpec PreactResnet18 =>
        NetworkCatalog.Create(new NetworkSection { Family = NetworkFamily.PreactResnet, Depth = 18, Width = 64 }, 3, 10);

    // By hand, in units of 64 * 64 * 9 * 32 * 32 multiply-adds: the stem 3/64, a block 2, the first of each later stage
    // 1/2 + 1 + 1/18, the head next to nothing. 2 ranks: 7.60 and 7.11 (one block less: 5.60 and 9.11). 3 ranks: 4.05,
    // 5.11 and 5.56, where the last stage must have its last three blocks and no more. 4 ranks: 4.05, then 3.56 each.
    [Theory]
    [InlineData(1, "conv1")]
    [InlineData(2, "conv1 layer3.0")]
    [InlineData(3, "conv1 layer2.0 layer3.1")]
    [InlineData(4, "conv1 layer2.0 layer3.0 layer4.0")]
    [InlineData(10, "conv1 layer1.0 layer1.1 layer2.0 layer2.1 layer3.0 layer3.1 layer4.0 layer4.1 linear")]
    public void Stages_are_balanced_by_FLOPs(int ranks, string expected)
    {
        NetworkSpec network = PreactResnet18;
        IReadOnlyList<PipelineStage> stages = PipelineStages.Create(network, 32, ranks, []);
        Assert.Equal(expected, string.Join(' ', stages.Select(stage => network.UnitName(stage.First))));
        Assert.Equal(network.UnitCount, stages[^1].End);
        Assert.All(stages.Zip(stages.Skip(1)), pair => Assert.Equal(pair.First.End, pair.Second.First));
        Assert.Equal(network.Tensors.Select(tensor => tensor.Name), stages.SelectMany(stage => stage.Slices(network)).Select(slice => slice.Name));
    }

    [Theory]
    [InlineData(new long[] { 1, 2, 3, 4, 5 }, 2, new[] { 0, 3 })] // 6 and 9; one later: 10 and 5
    [InlineData(new long[] { 5, 4, 3, 2, 1 }, 2, new[] { 0, 2 })] // 9 and 6
    [InlineData(new long[] { 9, 1, 1, 1 }, 3, new[] { 0, 1, 2 })] // whatever follows 9 may stand anyhow: the earliest cuts
    [InlineData(new long[] { 1, 1, 1, 9 }, 3, new[] { 0, 1, 3 })]
    [InlineData(new long[] { 0, 0, 7, 0 }, 4, new[] { 0, 1, 2, 3 })] // none is empty
    [InlineData(new long[] { 2, 2, 2, 2, 2, 2 }, 3, new[] { 0, 2, 4 })]
    [InlineData(new long[] { 7 }, 1, new[] { 0 })]
    public void Parts_of_a_row_are_balanced(long[] costs, int parts, int[] expected) => Assert.Equal(expected, PipelineStages.Balance(costs, parts));

    [Fact]
    public void No_other_cut_has_a_smaller_largest_part()
    {
        RandomStream random = RandomStream.For(1, "costs");
        for (int trial = 0; trial < 50; trial++)
        {
            long[] costs = [.. Enumerable.Range(0, 1 + random.NextInt(8)).Select(_ => (long)random.NextInt(20))];
            int parts = 1 + random.NextInt(costs.Length);
            long Largest(IReadOnlyList<int> starts) =>
                starts.Zip([.. starts.Skip(1), costs.Length], (first, end) => costs[first..end].Sum()).Max();
            // Every choice of places to cut at, as the bits of a number.
            long least = Enumerable.Range(0, 1 << (costs.Length - 1))
                .Select(bits => (int[])[0, .. Enumerable.Range(1, costs.Length - 1).Where(at => (bits >> (at - 1) & 1) == 1)])
                .Where(starts => starts.Length == parts).Min(Largest);
            Assert.Equal(least, Largest(PipelineStages.Balance(costs, parts)));
        }
    }

    [Fact]
    public void Given_cuts_are_the_first_units_of_the_stages() =>
        Assert.Equal([new(0, 1), new(1, 8), new(8, 9), new(9, 10)], PipelineStages.Create(PreactResnet18, 32, 4, ["layer1.0", "layer4.1", "linear"]));

    [Theory]
    [InlineData(11, "", "gpipe gives each rank a stage of the network, and there are 11 ranks; allowed: 1 to 10 ranks (the stem, 8 blocks, the head)")]
    [InlineData(2, "layer2.0 layer3.0", "pretrain.gpipe.cuts: [layer2.0, layer3.0] has 2 names, and there are 2 ranks; allowed: one name fewer than ranks")]
    [InlineData(3, "layer2.0 layer5.0", "pretrain.gpipe.cuts: layer5.0 is nothing that a stage can begin with; allowed: layer1.0, layer1.1, layer2.0, layer2.1, ")]
    [InlineData(2, "conv1", "pretrain.gpipe.cuts: conv1 is nothing that a stage can begin with")]
    [InlineData(3, "layer2.1 layer2.0", "pretrain.gpipe.cuts: layer2.0 does not come after layer2.1; allowed: names in the order of the forward pass, each once")]
    [InlineData(3, "layer2.1 layer2.1", "pretrain.gpipe.cuts: layer2.1 does not come after layer2.1")]
    public void Cuts_that_do_not_fit_are_told(int ranks, string cuts, string expected)
    {
        UserError error = Assert.Throws<UserError>(() => PipelineStages.Create(PreactResnet18, 32, ranks, cuts.Split(' ', StringSplitOptions.RemoveEmptyEntries)));
        Assert.Contains(expected, error.Message, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', error.Message);
    }
}
