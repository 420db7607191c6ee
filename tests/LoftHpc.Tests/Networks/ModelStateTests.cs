using LoftHpc.Configuration;
using LoftHpc.Networks;
using TorchSharp;
using Xunit;
using static TorchSharp.torch;

namespace LoftHpc.Tests.Networks;

public class ModelStateTests
{
    private static readonly NetworkSpec Network =
        NetworkCatalog.Create(new NetworkSection { Depth = 18, Width = 5 }, imageChannels: 3, classes: 10);

    [Theory]
    [InlineData(AssignmentKind.Contiguous, 3)]
    [InlineData(AssignmentKind.Random, 4)]
    public void Slices_drawn_by_the_ranks_are_those_of_the_whole_network(AssignmentKind kind, int ranks)
    {
        using DisposeScope scope = NewDisposeScope();
        using ModelState whole = Draw(AssignmentKind.Contiguous, 0, 1);
        foreach (TensorSpec tensor in Network.Tensors)
        {
            Tensor assembled = full([.. tensor.Shape], double.NaN, float32);
            for (int rank = 0; rank < ranks; rank++)
            {
                using ModelState part = Draw(kind, rank, ranks);
                TensorSlice slice = part.Slices.Single(s => s.Name == tensor.Name);
                using (no_grad()) slice.Place(part[tensor.Name].detach(), assembled);
                Assert.True(slice.Take(whole[tensor.Name]).equal(part[tensor.Name]).all().item<bool>(), tensor.Name);
            }
            Assert.True(assembled.equal(whole[tensor.Name]).all().item<bool>(), tensor.Name);
        }
    }

    [Fact]
    public void Convolutions_start_normal_with_variance_two_over_fan_in()
    {
        NetworkSpec wide = NetworkCatalog.Create(new NetworkSection { Depth = 18, Width = 32 }, 3, 10);
        using ModelState state = ModelState.Initialize(FilterAssignment.Create(wide, AssignmentKind.Contiguous, 1, 1).Slices(wide, 0), 1, ScalarType.Float64, CPU);
        Tensor weight = state["layer4.1.conv2.weight"];
        double variance = weight.square().mean().item<double>(), fourth = weight.pow(4).mean().item<double>();
        // 589,824 draws: the mean square is within 1 % of 2 / (256 * 9), and a normal's kurtosis is 3.
        Assert.Equal(1, variance * 256 * 9 / 2, 0.01);
        Assert.Equal(3, fourth / (variance * variance), 0.1);
        Assert.False(weight[0].equal(weight[1]).all().item<bool>());
    }

    [Fact]
    public void A_slice_outlives_the_scope_that_it_was_made_in()
    {
        ModelState state;
        using (NewDisposeScope()) state = Draw(AssignmentKind.Contiguous, 1, 2);
        using (state) Assert.Equal(2, state["conv1.weight"].shape[0]);
    }

    private static ModelState Draw(AssignmentKind kind, int rank, int ranks) => ModelState.Initialize(
        FilterAssignment.Create(Network, kind, seed: 1, ranks).Slices(Network, rank), seed: 1, ScalarType.Float32, CPU);
}
