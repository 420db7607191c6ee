using LoftHpc.Communication;
using LoftHpc.Configuration;
using LoftHpc.Mpi;
using LoftHpc.Networks;
using LoftHpc.Training;
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

    /// <summary>The layers' tensors are views of the flat ones, wherever in them; parameters come first, and what is copied lies together.</summary>
    [Fact]
    public void Tensors_are_views_of_flat_ones()
    {
        using DisposeScope scope = NewDisposeScope();
        bool IsCopied(TensorSpec tensor) => tensor.Name.StartsWith("layer2", StringComparison.Ordinal);
        using ModelState state = ModelState.InitializeWhole(Network, 1, ScalarType.Float32, CPU, IsCopied);
        using IDisposable frozen = no_grad();
        foreach (TensorSlice slice in state.Parameters)
        {
            state[slice.Name].fill_(1);
            state.Gradient(slice.Name).fill_(2);
            state.Momentum(slice.Name).fill_(3);
        }
        long parameters = Network.ParameterCount;
        Assert.Equal((parameters, 2 * parameters, 3 * parameters), (state.Weights.sum().item<float>(), state.Gradients.sum().item<float>(), state.Momenta.sum().item<float>()));
        // At most 63 zeros lie between what is copied and what is not, and none where nothing is.
        Assert.InRange(state.Weights.numel() - parameters, 0, 63);
        using ModelState whole = ModelState.InitializeWhole(Network, 1, ScalarType.Float32, CPU);
        Assert.Equal((parameters, 0), (whole.Gradients.numel(), whole.Copied.numel()));
        TensorSlice[] copied = [.. state.Slices.Where(slice => IsCopied(slice.Spec))];
        Assert.Equal(copied.Sum(slice => slice.Count), state.Copied.numel());
        foreach (TensorSlice slice in state.Slices) state[slice.Name].fill_(IsCopied(slice.Spec) ? 7 : 0);
        Assert.True(state.Copied.eq(7).all().item<bool>());
        for (int i = 0; i < copied.Length; i++)
        {
            state[copied[i].Name].fill_(i);
            Assert.True(state.Copied.narrow(0, state.StartInCopied(copied[i].Name)!.Value, copied[i].Count).eq(i).all().item<bool>());
        }
    }

    /// <summary>Autograd, and the tape's norms, add to the gradients that are there, step after step and part after part of a batch.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Backward_passes_add_to_the_flat_gradients(bool taped)
    {
        using DisposeScope scope = NewDisposeScope();
        using ModelState state = ModelState.InitializeWhole(Network, 1, ScalarType.Float64, CPU), plain = ModelState.InitializeWhole(Network, 1, ScalarType.Float64, CPU);
        using SelfCommunicator self = new();
        using TensorTransport transport = TensorTransport.For(CPU, direct: false);
        INetworkExchange exchange = taped ? new SynchronisedBatchNormExchange(new ChannelExchange(self, transport)) : new SerialExchange();
        (ResidualNetwork network, ResidualNetwork reference) = (new(Network, state, exchange), new(Network, plain, new SerialExchange()));
        // Without a gradient that is set before, autograd makes its own.
        foreach (TensorSlice slice in plain.Parameters) plain[slice.Name].grad = null;
        for (int part = 0; part < 2; part++)
        {
            Tensor images = rand([3, 3, 8, 8], float64, generator: new Generator((ulong)part));
            exchange.Backward(network.Forward(images, training: true).square().sum());
            reference.Forward(images, training: true).square().sum().backward();
            // A step changes the weights in their flat tensor, and a norm its statistics, which autograd must not mind.
            Assert.NotEqual(0, state.Gradients.abs().sum().item<double>());
        }
        foreach (TensorSlice slice in state.Parameters)
        {
            Tensor gradient = state.Gradient(slice.Name), expected = plain[slice.Name].grad!;
            Assert.Equal(TensorMemory.Address(gradient), TensorMemory.Address(state[slice.Name].grad!));
            Assert.True((gradient - expected).norm().item<double>() <= 1e-10 * expected.norm().item<double>(), slice.Name);
        }
        state.ZeroGradients();
        Assert.True(state.Parameters.All(slice => state[slice.Name].grad!.eq(0).all().item<bool>()));
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
