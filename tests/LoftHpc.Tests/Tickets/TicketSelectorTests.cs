using LoftHpc.Configuration;
using LoftHpc.Networks;
using LoftHpc.Tickets;
using TorchSharp;
using Xunit;
using static TorchSharp.torch;

namespace LoftHpc.Tests.Tickets;

public class TicketSelectorTests
{
    private static readonly NetworkSpec PreAct = NetworkCatalog.Create(new NetworkSection { Depth = 18, Width = 8 }, 1, 10);

    [Fact]
    public void All_blocks_but_each_stages_first_are_pruned_stage_one_included()
    {
        Assert.Equal(["layer1.1", "layer2.1", "layer3.1", "layer4.1"], TicketSelector.PrunableBlocks(PreAct, false).Select(block => block.Name));
        Assert.Equal(8, TicketSelector.PrunableBlocks(PreAct, true).Count());
    }

    [Fact]
    public void The_largest_filters_stay_in_every_layer_by_its_own_norms()
    {
        using DisposeScope scope = NewDisposeScope();
        // Filter f of layer k has norm sqrt(8 * ... ) * value: values chosen so that each layer keeps other filters.
        Tensor Weights(string name)
        {
            TensorSpec tensor = PreAct.Tensors.Single(t => t.Name == name);
            Tensor weight = zeros([.. tensor.Shape]);
            int shift = name[5] - '0';
            for (int filter = 0; filter < tensor.Shape[0]; filter++) weight[filter, 0, 0, 0] = -(1 + ((filter + shift) % tensor.Shape[0]));
            return weight;
        }
        Ticket ticket = Select(PreAct, false, Weights);
        // Layer k: filter f has norm 1 + (f + k) mod n, so the n/2 largest are those with (f + k) mod n >= n/2.
        foreach ((int stage, int filters) in new[] { (1, 8), (2, 16), (3, 32), (4, 64) })
        {
            int[] expected = [.. Enumerable.Range(0, filters).Where(f => (f + stage) % filters >= filters / 2)];
            Assert.Equal(expected, ticket.Kept[$"layer{stage}.1.conv1"]);
        }
        Assert.Equal(8 + 16 + 32 + 64, ticket.Rows.Count);
        var top = ticket.Rows.Single(row => row.Layer == "layer1.1.conv1" && row.Position == 1);
        Assert.Equal((6, 8.0, true), (top.Filter, top.Norm, top.Kept));
    }

    [Theory]
    [InlineData(NetworkFamily.PreactResnet, 18, false)]
    [InlineData(NetworkFamily.Resnet, 18, true)]
    [InlineData(NetworkFamily.WideResnet, 10, true)]
    public void The_small_network_computes_what_the_masked_dense_one_does(NetworkFamily family, int depth, bool firstBlocks)
    {
        using DisposeScope scope = NewDisposeScope();
        using IDisposable frozen = no_grad();
        NetworkSpec dense = NetworkCatalog.Create(new NetworkSection { Family = family, Depth = depth, Width = 6, WidenFactor = family is NetworkFamily.WideResnet ? 2 : 1 }, 1, 10);
        using ModelState state = Trained(dense);
        Ticket ticket = Select(dense, firstBlocks, name => state[name].detach().clone());
        using ModelState small = ModelState.Load(ticket.Slices, tensor => state[tensor.Name].detach().clone(), ScalarType.Float32, CPU);
        Tensor images = randn(5, 1, 28, 28);
        Tensor pruned = new ResidualNetwork(ticket.Pruned, small, new SerialExchange()).Forward(images, training: false);
        Tensor whole = new ResidualNetwork(dense, state, new SerialExchange()).Forward(images, training: false);

        // The mask: the norm between the two convolutions gives zero for what is removed, and relu keeps it.
        foreach (BlockSpec block in TicketSelector.PrunableBlocks(dense, firstBlocks))
        {
            string norm = dense.PreActivation ? block.Norm2.Name : block.Norm1.Name;
            foreach (int removed in Enumerable.Range(0, block.Inner.Count).Except(ticket.Kept[block.Inner.Name]))
                state[$"{norm}.weight"][removed] = state[$"{norm}.bias"][removed] = 0;
        }
        Tensor masked = new ResidualNetwork(dense, state, new SerialExchange()).Forward(images, training: false);
        Assert.True(Distance(pruned, masked) < 1e-5, $"{Distance(pruned, masked)}");
        // The mask must matter, or the comparison says nothing.
        Assert.True(Distance(whole, masked) > 1e-2);
        Assert.Equal(ticket.Pruned.ParameterCount, small.Parameters.Sum(p => small[p.Name].numel()));
    }

    /// <summary>The published ticket of half of the filters.</summary>
    private static Ticket Select(NetworkSpec dense, bool firstBlocks, Func<string, Tensor> read)
    {
        ExtractSection config = new() { FirstBlocks = firstBlocks };
        return TicketSelector.Select(dense, config, TicketWidths.Of(dense, 28, config), new L2Criterion(), read);
    }

    private static double Distance(Tensor a, Tensor b) => ((a - b).norm() / b.norm()).ToDouble();

    /// <summary>Weights with norms and running statistics that are not the initial ones.</summary>
    private static ModelState Trained(NetworkSpec network)
    {
        ModelState state = ModelState.Initialize(FilterAssignment.Create(network, AssignmentKind.Contiguous, 1, 1).Slices(network, 0), 1, ScalarType.Float32, CPU);
        foreach (TensorSlice slice in state.Slices)
        {
            Tensor tensor = state[slice.Name];
            if (slice.Spec.Role is TensorRole.NormWeight or TensorRole.RunningVariance) tensor.copy_(rand_like(tensor) + 0.5);
            if (slice.Spec.Role is TensorRole.NormBias or TensorRole.RunningMean) tensor.copy_(randn_like(tensor) * 0.3);
        }
        return state;
    }
}
