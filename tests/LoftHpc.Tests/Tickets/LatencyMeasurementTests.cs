using LoftHpc.Arithmetic;
using LoftHpc.Communication;
using LoftHpc.Configuration;
using LoftHpc.Mpi;
using LoftHpc.Networks;
using LoftHpc.Planning;
using LoftHpc.Results;
using LoftHpc.Stages;
using LoftHpc.Training;
using TorchSharp;
using Xunit;
using static TorchSharp.torch;

namespace LoftHpc.Tests.Tickets;

/// <summary>Of times only that they are there: what they are depends on the machine and what else it does.</summary>
public sealed class LatencyMeasurementTests
{
    /// <summary>The network of configs/quick.yaml; its numbers, and those of its ticket, are those of the README.</summary>
    private static readonly WeightsIdentity Dense = new(new NetworkSection { Width = 8 }, 1, 28, 10);

    /// <summary>Half of the filters of every second block: those of 8, 16, 32 and 64.</summary>
    private static readonly WeightsIdentity Ticket = Dense with
    {
        InnerCounts = new() { ["layer1.1.conv1"] = 4, ["layer2.1.conv1"] = 8, ["layer3.1.conv1"] = 16, ["layer4.1.conv1"] = 32 },
    };

    private static readonly PretrainSection Step = new() { Method = PretrainMethod.Dense };

    /// <summary>Images and labels, which are there before the pass.</summary>
    private static long ImageBytes(int batch) => batch * ((4 * 28 * 28) + 8);

    private static long Statistics(WeightsIdentity identity) => identity.Describe().Tensors.Where(tensor => !tensor.IsParameter).Sum(tensor => tensor.Count);

    private static IReadOnlyList<LatencyRow> Measure(LatencySection config)
    {
        using SelfCommunicator self = new();
        using TensorTransport transport = TensorTransport.For(CPU, direct: false);
        RankContext context = new(self, new CommunicationLedger(), new ChannelExchange(self, transport), CPU);
        IReadOnlyList<LatencyRow> rows = LatencyMeasurement.Measure(context, Dense, Ticket, new OptimizerSection { Nesterov = true, LabelSmoothing = 0.1 }, config, seed: 1, warn: _ => { });
        // Of each row two passes more: the first one, and that of the memory. Whoever watches sees each of them.
        Assert.Equal(rows.Count == 0 ? 0 : 2 * (config.Rounds + 2), context.Clock.Steps);
        return rows;
    }

    [Fact]
    public void There_is_a_row_for_each_batch_pass_and_network()
    {
        IReadOnlyList<LatencyRow> rows = Measure(new LatencySection { Batches = [8, 1], Rounds = 4, Seconds = 1000 });
        Assert.Equal(
            from batch in (int[])[8, 1] from pass in (MeasuredPass[])[MeasuredPass.Forward, MeasuredPass.Step] from network in (NetworkState[])[NetworkState.Dense, NetworkState.Ticket] select (batch, pass, network),
            rows.Select(row => (row.Batch, row.Pass, row.Network)));
        foreach (LatencyRow row in rows)
        {
            bool dense = row.Network is NetworkState.Dense;
            Assert.Equal((4, dense ? 176_034 : 126_954, dense ? 14_343_680 : 10_454_528), (row.Rounds, row.Parameters, row.Flops));
            Assert.True(row.LowerQuartileSeconds > 0 && row.LowerQuartileSeconds <= row.MedianSeconds && row.MedianSeconds <= row.UpperQuartileSeconds, row.ToString());
            // Weights and running statistics; in training gradients, momentum and all that the backward pass needs.
            long held = 4 * (row.Parameters + Statistics(dense ? Dense : Ticket));
            if (row.Pass is MeasuredPass.Step)
                held += (8 * row.Parameters) + ActivationPlan.Bytes(Step with { Batch = row.Batch }, (dense ? Dense : Ticket).Describe(), 28, 1, 0, channels: Convolution.ChannelsOf) - ImageBytes(row.Batch);
            Assert.InRange(row.PeakMemoryBytes!.Value, held, 4 * held);
        }
    }

    [Fact]
    public void Where_time_is_up_three_rounds_are_done_and_without_batches_nothing()
    {
        Assert.All(Measure(new LatencySection { Batches = [1], Rounds = 3, Seconds = 0 }), row => Assert.Equal(LatencyMeasurement.LeastRounds, row.Rounds));
        Assert.Empty(Measure(new LatencySection { Batches = [] }));
    }

    /// <summary>It draws from generators of its own, and leaves no tensor.</summary>
    [Fact]
    public void Nothing_is_left_of_it()
    {
        LatencySection config = new() { Batches = [1], Rounds = 3, Seconds = 0 };
        Measure(config);
        random.manual_seed(7);
        using Tensor expected = rand(5);
        random.manual_seed(7);
        long tensors = DisposeScopeManager.Statistics.ThreadTotalLiveCount;
        Measure(config);
        Assert.Equal(tensors, DisposeScopeManager.Statistics.ThreadTotalLiveCount);
        using Tensor drawn = rand(5);
        Assert.True(drawn.equal(expected).all().item<bool>());
    }
}
