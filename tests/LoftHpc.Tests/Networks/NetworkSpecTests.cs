using LoftHpc.Configuration;
using LoftHpc.Networks;
using Xunit;

namespace LoftHpc.Tests.Networks;

public class NetworkSpecTests
{
    private static NetworkSpec Create(
        NetworkFamily family, int depth, int width, int classes, NetworkForm form = NetworkForm.Cifar, int widen = 1, int channels = 3) =>
        NetworkCatalog.Create(new NetworkSection { Family = family, Depth = depth, Width = width, Form = form, WidenFactor = widen }, channels, classes);

    // Published counts: the (PreAct-18), the papers' and public implementations' (ResNet-18 and -34 on CIFAR,
    // WRN-28-10, WRN-16-4). PreAct-34 from the two halves that LoFT's communication table rests on, with batch norms:
    // 5,044,938 + 9,856 shared and 16,220,160 + 5,376 partitioned. PreAct-18 on ImageNet likewise: 5,486,760 + 6,193,152
    // without batch norms, which are 2 * (1,472 + 1,920 + 512) here.
    [Theory]
    [InlineData(NetworkFamily.PreactResnet, 18, 64, 10, NetworkForm.Cifar, 1, 11_172_170)]
    [InlineData(NetworkFamily.PreactResnet, 34, 64, 10, NetworkForm.Cifar, 1, 5_044_938 + 9_856 + 16_220_160 + 5_376)]
    [InlineData(NetworkFamily.Resnet, 18, 64, 10, NetworkForm.Cifar, 1, 11_173_962)]
    [InlineData(NetworkFamily.Resnet, 34, 64, 10, NetworkForm.Cifar, 1, 21_282_122)]
    [InlineData(NetworkFamily.WideResnet, 28, 16, 10, NetworkForm.Cifar, 10, 36_479_194)]
    [InlineData(NetworkFamily.WideResnet, 16, 16, 10, NetworkForm.Cifar, 4, 2_748_890)]
    [InlineData(NetworkFamily.PreactResnet, 18, 64, 1000, NetworkForm.Imagenet, 1, 5_486_760 + 6_193_152 + 7_808)]
    public void Parameters_are_those_that_are_published(
        NetworkFamily family, int depth, int width, int classes, NetworkForm form, int widen, long expected) =>
        Assert.Equal(expected, Create(family, depth, width, classes, form, widen).ParameterCount);

    [Fact]
    public void Multiply_adds_of_PreActResNet18_are_555_million()
    {
        long multiplyAdds = Create(NetworkFamily.PreactResnet, 18, 64, 10).Flops(32) / 2;
        // By hand, in units of 64 * 64 * 9 * 32 * 32: the stem 3/64; stage 1 four; each later stage 1/2 + 3 = 3.5, and
        // its shortcut 1/18; the head 512 * 10.
        double unit = 64 * 64 * 9 * 32 * 32;
        Assert.Equal((unit * ((3.0 / 64) + 4 + (3 * 3.5) + (3.0 / 18))) + 5120, multiplyAdds, 1e-3);
        Assert.InRange(multiplyAdds, 555_000_000, 556_000_000);
    }

    [Fact]
    public void Names_are_those_of_PyTorchs_models()
    {
        string[] names = [.. Create(NetworkFamily.PreactResnet, 18, 8, 10).Tensors.Select(tensor => tensor.Name)];
        Assert.Equal("conv1.weight", names[0]);
        Assert.Superset(
            new HashSet<string> { "layer2.0.bn1.weight", "layer2.0.shortcut.0.weight", "layer4.1.conv2.weight", "bn.weight", "bn.running_var", "linear.bias" },
            names.ToHashSet());
        Assert.DoesNotContain("layer1.0.shortcut.0.weight", names);
        string[] post = [.. Create(NetworkFamily.Resnet, 18, 8, 10).Tensors.Select(tensor => tensor.Name)];
        Assert.Superset(new HashSet<string> { "bn1.weight", "layer2.0.shortcut.1.running_mean" }, post.ToHashSet());
        Assert.DoesNotContain("bn.weight", post);
    }

    [Fact]
    public void Convolutions_that_write_to_one_stream_share_its_channels()
    {
        NetworkSpec network = Create(NetworkFamily.PreactResnet, 18, 8, 10);
        ChannelSpace[] third = [.. network.Blocks.Where(block => block.Stage == 3).Select(block => block.Conv2.Out)];
        Assert.All(third, space => Assert.Equal(network.Blocks.First(block => block.Stage == 3).Shortcut!.Out, space));
        Assert.Equal(network.Stem.Out, network.Blocks[0].Conv2.Out);
        // 8 blocks' insides, and 4 streams.
        Assert.Equal(12, network.Spaces.Count());
    }

    [Theory]
    [InlineData(AssignmentKind.Contiguous)]
    [InlineData(AssignmentKind.Random)]
    public void Assignment_deals_every_filter_once_in_near_equal_shares(AssignmentKind kind)
    {
        NetworkSpec network = Create(NetworkFamily.PreactResnet, 18, 7, 10);
        FilterAssignment assignment = FilterAssignment.Create(network, kind, seed: 1, ranks: 4);
        foreach (ChannelSpace space in network.Spaces)
        {
            ChannelSplit split = assignment[space];
            Assert.Equal(Enumerable.Range(0, space.Count), split.Gathered.Order());
            Assert.True(split.Counts.Max() - split.Counts.Min() <= 1);
            Assert.All(split.Owned, own => Assert.Equal(own.Order(), own));
        }
    }

    [Fact]
    public void Random_assignment_differs_by_space_and_by_seed()
    {
        NetworkSpec network = Create(NetworkFamily.PreactResnet, 18, 32, 10);
        int[] Own(long seed, int block) => FilterAssignment.Create(network, AssignmentKind.Random, seed, 2)[network.Blocks[block].Inner].Owned[0];
        Assert.NotEqual(Own(1, 0), Own(1, 1));
        Assert.NotEqual(Own(1, 0), Own(2, 0));
        Assert.Equal(Own(1, 0), Own(1, 0));
    }
}
