using LoftHpc.Configuration;
using LoftHpc.Networks;
using Xunit;

namespace LoftHpc.Tests.Configuration;

/// <summary>A network's description that need not come from a config file.</summary>
public sealed class RunConfigRulesTests
{
    private static NetworkSection Wide(int depth, int width, int widen) =>
        new() { Family = NetworkFamily.WideResnet, Depth = depth, Width = width, WidenFactor = widen };

    public static TheoryData<NetworkSection, string> Refused => new()
    {
        { new() { Depth = 2_000_000_002 }, "network.depth: found 2000000002; allowed: a whole number from 10 to 1000" },
        { new() { Depth = int.MinValue }, "network.depth: found -2147483648; allowed: a whole number from 10 to 1000" },
        { new() { Depth = 20 }, "network.depth: 20 is not a depth of preact-resnet; allowed: 18, 34" },
        { Wide(11, 8, 1), "network.depth: 11 is not a depth of wide-resnet; allowed: 6n + 4 (10, " },
        { new() { Width = 0 }, "network.width: found 0; allowed: a whole number from 1 to 4096" },
        { new() { Width = 46_341 }, "network.width: found 46341; allowed: a whole number from 1 to 4096" },
        { new() { WidenFactor = int.MaxValue }, "network.widen_factor: found 2147483647; allowed: a whole number from 1 to 1000" },
        { new() { WidenFactor = 2 }, "network.widen_factor: preact-resnet has no widen factor" },
        { new() { Family = (NetworkFamily)7 }, "network.family: found 7; allowed: preact-resnet, resnet, wide-resnet" },
        { new() { Form = (NetworkForm)(-1) }, "network.form: found -1; allowed: cifar, imagenet" },
        // 9 x (8 x 1931)^2 and 9 x (4 x 4 x 966)^2 weights are more than an array holds.
        { new() { Width = 1931 }, "network.width: the largest convolution would have 2147766336 weights" },
        { Wide(10, 4, 966), "network.width: the largest convolution would have 2149991424 weights and all together 4315067904; allowed: 2147483591 and 10000000000 at most" },
        // No convolution is too large, but there are some thousand.
        { Wide(1000, 1000, 1), "network.width: the largest convolution would have 144000000 weights and all together 62669000000" },
    };

    [Theory]
    [MemberData(nameof(Refused))]
    public void A_network_that_is_not_allowed_is_refused_and_never_built(NetworkSection network, string start)
    {
        Assert.StartsWith(start, RunConfigRules.ProblemOf(network));
        Assert.StartsWith(start, Assert.Throws<UserError>(() => NetworkCatalog.Create(network, 3, 10)).Message);
    }

    public static TheoryData<NetworkSection> Allowed =>
        [new(), new() { Depth = 34, Width = 1 }, new() { Width = 1915, Family = NetworkFamily.Resnet }, Wide(10, 3861, 1), Wide(10, 4, 965), Wide(40, 16, 10), Wide(1000, 4, 19), Wide(28, 1, 965)];

    /// <summary>What is counted without building the network is what the network has.</summary>
    [Theory]
    [MemberData(nameof(Allowed))]
    public void The_weights_are_those_of_the_network(NetworkSection section)
    {
        Assert.Null(RunConfigRules.ProblemOf(section));
        NetworkSpec network = NetworkCatalog.Create(section, 3, 10);
        long[] weights = [.. network.Tensors.Where(tensor => tensor.Role is TensorRole.ConvWeight).Skip(1).Select(tensor => tensor.Count)];
        (long largest, long all) = NetworkStages.ConvolutionWeights(section);
        Assert.Equal(weights.Max(), largest);
        // A first stage of the stem's width has no shortcut.
        Assert.InRange(all - weights.Sum(), 0, (long)section.Width * network.Blocks[0].Inner.Count);
        Assert.InRange(NetworkStages.Convolutions(section) - network.Convolutions.Count(), 0, 1);
    }
}
