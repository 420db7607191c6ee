using LoftHpc.Communication;
using LoftHpc.Configuration;
using LoftHpc.Mpi;
using LoftHpc.Networks;
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

    private static IReadOnlyList<LatencyRow> Measure(LatencySection config)
    {
        using SelfCommunicator self = new();
        using TensorTransport transport = TensorTransport.For(CPU, direct: false);
        RankContext context = new(self, new CommunicationLedger(), new ChannelExchange(self, transport), CPU);
        IReadOnlyList<LatencyRow> rows = LatencyMeasurement.Measure(context, Dense, Ticket, new OptimizerSection { Nesterov = true, LabelSmoothing = 0.1 }, config, seed: 1);
        // Of each row two passes more: the first one, and that of the memory. Whoever watches sees each of them.
        Assert.Equal(rows.Count == 0 ? 0 : 2 * (config.Rounds + 2), context.Clock.Steps);
        return rows;
    }

    [Fact]
    public void There_is_a_row_for_each_batch_pass_and_network()
    {
        IReadOnlyList<LatencyRow> rows = Measure(new LatencySection { Batches = [2, 1], Rounds = 4, Seconds = 1000 });
        Assert.Equal(
            from batch in (int[])[2, 1] from pass in (MeasuredPass[])[MeasuredPass.Forward, MeasuredPass.Step] from network in (NetworkState[])[NetworkState.Dense, NetworkState.Ticket] select (batch, pass, network),
            rows.Select(row => (row.Batch, row.Pass, row.Network)));
        foreach (LatencyRow row in rows)
        {
            bool dense = row.Network is NetworkState.Dense;
            Assert.Equal((4, dense ? 176_034 : 126_954, dense ? 14_343_680 : 10_454_528), (row.Rounds, row.Parameters, row.Flops));
            Assert.True(row.LowerQuartileSeconds > 0 && row.LowerQuartileSeconds <= row.MedianSeconds && row.MedianSeconds <= row.UpperQuartileSeconds, row.ToString());
            // The weights are held in any case; in training also their gradients and momentum, and the input of every convolution.
            Assert.True(row.PeakMemoryBytes >= (row.Pass is MeasuredPass.Step ? 3 : 1) * 4 * row.Parameters, row.ToString());
        }
    }

    [Fact]
    public void Where_time_is_up_three_rounds_are_done_and_without_batches_nothing()
    {
        Assert.All(Measure(new LatencySection { Batches = [1], Rounds = 3, Seconds = 0 }), row => Assert.Equal(LatencyMeasurement.LeastRounds, row.Rounds));
        Assert.Empty(Measure(new LatencySection { Batches = [] }));
    }

    /// <summary>It draws from generators of its own, and leaves no tensor; what the process has had at most it does not forget.</summary>
    [Fact]
    public void Nothing_is_left_of_it()
    {
        LatencySection config = new() { Batches = [1], Rounds = 3, Seconds = 0 };
        Measure(config);
        random.manual_seed(7);
        using Tensor expected = rand(5);
        random.manual_seed(7);
        long tensors = DisposeScopeManager.Statistics.ThreadTotalLiveCount, peak = ProcessMemory.PeakBytes;
        Measure(config);
        Assert.Equal(tensors, DisposeScopeManager.Statistics.ThreadTotalLiveCount);
        Assert.True(ProcessMemory.PeakBytes >= peak);
        using Tensor drawn = rand(5);
        Assert.True(drawn.equal(expected).all().item<bool>());
    }

    [Fact]
    public void What_work_takes_is_what_it_touches_and_the_peak_stays()
    {
        const int bytes = 64 << 20;
        static void Touch() => ones([bytes], uint8).Dispose();
        Touch();
        long peak = ProcessMemory.PeakBytes;
        // Also where the heap keeps what was freed, it counts again.
        Assert.InRange(ProcessMemory.GrowthDuring(Touch)!.Value, 0.95 * bytes, 1.25 * bytes);
        Assert.InRange(ProcessMemory.GrowthDuring(() => { })!.Value, 0, 0.1 * bytes);
        Assert.True(ProcessMemory.PeakBytes >= peak);
    }
}
