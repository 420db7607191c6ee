using LoftHpc.Configuration;
using LoftHpc.Networks;
using Xunit;

namespace LoftHpc.Tests.Networks;

public class FilterPartitionTests
{
    private static readonly NetworkSpec Network = NetworkCatalog.Create(new NetworkSection { Depth = 34, Width = 5 }, 3, 10);
    private static readonly IReadOnlyList<BlockSpec> Published = FilterPartition.BlocksOf(Network, [2, 3, 4], firstBlocks: false);

    /// <summary>All blocks of stages 2, 3 and 4 but each one's first: PreActResNet-34 has 3, 4, 6 and 3 blocks.</summary>
    [Fact]
    public void The_published_blocks_are_partitioned() => Assert.Equal(
        ["layer2.1", "layer2.2", "layer2.3", "layer3.1", "layer3.2", "layer3.3", "layer3.4", "layer3.5", "layer4.1", "layer4.2"],
        Published.Select(block => block.Name));

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(4)]
    [InlineData(7)]
    [InlineData(100)]
    public void Every_filter_has_one_owner_and_shares_differ_by_one_at_most(int ranks)
    {
        foreach (FilterPartition partition in new[] { FilterPartition.AtRandom(Published, 1, 4, ranks), FilterPartition.ByNorm(Published, 1, 4, ranks, Norms) })
        {
            foreach (ChannelSpace space in Published.Select(block => block.Inner))
            {
                ChannelSplit split = partition.Of(space)!;
                Assert.Equal(ranks, split.Owned.Count);
                Assert.Equal(Enumerable.Range(0, space.Count), split.Owned.SelectMany(own => own).Order());
                Assert.All(split.Owned, own => Assert.Equal(own.Order(), own));
                Assert.InRange(split.Counts.Max() - split.Counts.Min(), 0, 1);
            }
        }
    }

    [Fact]
    public void It_is_a_function_of_seed_and_round_and_differs_from_block_to_block()
    {
        int[] Of(long seed, long round, int block) => FilterPartition.AtRandom(Published, seed, round, 2).Of(Published[block].Inner)!.Owned[0];
        Assert.Equal(Of(1, 7, 3), Of(1, 7, 3));
        Assert.NotEqual(Of(1, 7, 3), Of(1, 8, 3));
        Assert.NotEqual(Of(1, 7, 3), Of(2, 7, 3));
        Assert.NotEqual(Of(1, 7, 3), Of(1, 7, 4));
    }

    /// <summary>What a rank owns in one round it keeps in the next with probability 1/S: what is moved is (S-1)/S.</summary>
    [Fact]
    public void Owners_are_drawn_anew_in_every_round()
    {
        ChannelSpace space = Published[^1].Inner;
        double kept = 0, rounds = 400;
        for (long round = 0; round < rounds; round++)
        {
            int[] now = FilterPartition.AtRandom(Published, 1, round, 4).Of(space)!.Owned[2];
            kept += now.Intersect(FilterPartition.AtRandom(Published, 1, round + 1, 4).Of(space)!.Owned[2]).Count() / (double)now.Length / rounds;
        }
        // The mean of 400 rounds of 10 filters has a standard deviation below 0.01.
        Assert.InRange(kept, 0.21, 0.29);
    }

    [Fact]
    public void Dealt_by_norm_each_rank_gets_one_of_every_S_neighbours_and_not_always_the_same()
    {
        ChannelSpace space = Published[0].Inner;
        int[] sorted = [.. Enumerable.Range(0, space.Count).OrderByDescending(filter => Norms(space)[filter])];
        HashSet<int> ownersOfLargest = [];
        for (long round = 0; round < 50; round++)
        {
            ChannelSplit split = FilterPartition.ByNorm(Published, 1, round, 4, Norms).Of(space)!;
            int Owner(int filter) => Enumerable.Range(0, 4).Single(rank => split.Owned[rank].Contains(filter));
            for (int group = 0; group + 4 <= sorted.Length; group += 4)
                Assert.Equal([0, 1, 2, 3], sorted[group..(group + 4)].Select(Owner).Order());
            ownersOfLargest.Add(Owner(sorted[0]));
        }
        Assert.Equal([0, 1, 2, 3], ownersOfLargest.Order());
    }

    /// <summary>The first convolution by rows, the norm between, the second by columns; nothing else.</summary>
    [Theory]
    [InlineData(NetworkFamily.PreactResnet, "bn2")]
    [InlineData(NetworkFamily.Resnet, "bn1")]
    public void What_belongs_to_a_filter_is_cut_with_it(NetworkFamily family, string norm)
    {
        NetworkSpec network = NetworkCatalog.Create(new NetworkSection { Family = family, Depth = 18, Width = 3 }, 3, 10);
        FilterPartition partition = FilterPartition.AtRandom(FilterPartition.BlocksOf(network, [3], firstBlocks: false), 1, 0, 5);
        Assert.Equal(
            [.. new[] { "conv1.weight", $"{norm}.bias", $"{norm}.running_mean", $"{norm}.running_var", $"{norm}.weight", "conv2.weight" }.Select(name => $"layer3.1.{name}").Order()],
            network.Tensors.Where(partition.Cuts).Select(tensor => tensor.Name).Order());
        int[] own = partition.Of(network.Blocks[5].Inner)!.Owned[1];
        Assert.Equal([own.Length, 12, 3, 3], partition.Slice(network.Tensors.Single(t => t.Name == "layer3.1.conv1.weight"), 1).Shape);
        Assert.Equal([12, own.Length, 3, 3], partition.Slice(network.Tensors.Single(t => t.Name == "layer3.1.conv2.weight"), 1).Shape);
    }

    /// <summary>Distinct norms in no particular order.</summary>
    private static double[] Norms(ChannelSpace space) => [.. Enumerable.Range(0, space.Count).Select(filter => (double)(filter * 7 % space.Count))];
}
