using System.Globalization;
using System.Runtime.InteropServices;
using LoftHpc.Communication;
using LoftHpc.Configuration;
using LoftHpc.Mpi;
using LoftHpc.Networks;
using LoftHpc.Training;
using TorchSharp;
using static TorchSharp.torch;

namespace LoftHpc.Benchmarks;

/// <summary>
/// A round of LoFT on 2 ranks against the same steps of the dense network on one; and the exchange at the end of a round:
/// its MPI calls through our layers, and all of it, against the same calls in C on bare buffers.
/// </summary>
internal static partial class LoftBenchmark
{
    private const int Width = 32, Batch = 32, LocalSteps = 5, WarmUps = 2, Counted = 7;

    public static IEnumerable<BenchmarkRow> Run(AlternatingTimer timer) => [.. Round(timer), .. Exchange(timer)];

    private static IEnumerable<BenchmarkRow> Round(AlternatingTimer timer)
    {
        int batches = (WarmUps + Counted) * LocalSteps;
        PretrainSection config = new() { Method = PretrainMethod.Loft, LocalSteps = LocalSteps, Batch = Batch };
        using BenchmarkTraining loft = new(timer.World, Width, batches, config);
        // Of two ranks that compute at once on one machine each takes longer than one alone, whatever they compute.
        using BenchmarkTraining dense = new(new SelfCommunicator(), Width, batches, config with { Method = PretrainMethod.Dense });
        void Dense(int count) => dense.Steps(count * LocalSteps);
        // At 2 ranks a rank has half of the filters of the partitioned blocks, so half of their operations.
        double narrow = loft.Network.Flops(loft.Images.ImageSide, ((LoftTraining)loft.Method).State.Slices);
        double saved = 1 - (narrow / loft.Network.Flops(loft.Images.ImageSide));
        Sample[] seconds = timer.Alternate(
            new Rounds(WarmUps, Counted), count => loft.Steps(count * LocalSteps), timer.World.Rank > 0 ? null : Dense, Dense);
        string what = $"{LocalSteps} steps and exchange, PreActResNet-18, width {Width}, batch {Batch} a rank", saves = string.Create(CultureInfo.InvariantCulture, $"saves {100 * saved:F1} % of the operations");
        yield return BenchmarkRow.Shown($"loft round on {timer.World.Size} ranks / dense on one", what, seconds[0], seconds[1], saves);
        yield return BenchmarkRow.Shown($"dense on {timer.World.Size} ranks, each by itself / dense on one", $"{LocalSteps} steps", seconds[2], seconds[1], "");
        yield return BenchmarkRow.AtMost(1 - (saved / 2), $"loft round / dense, both on {timer.World.Size} ranks", what, seconds[0], seconds[2], saves);
    }

    private static IEnumerable<BenchmarkRow> Exchange(AlternatingTimer timer)
    {
        NetworkSpec network = NetworkCatalog.Create(new NetworkSection { Depth = 34, Width = 64 }, 3, 10);
        IReadOnlyList<BlockSpec> blocks = FilterPartition.BlocksOf(network, [2, 3, 4], firstBlocks: false);
        CommunicationLedger ledger = new();
        MeteredCommunicator metered = new(timer.World, ledger);
        using TensorTransport transport = TensorTransport.For(CPU, direct: false);
        RankContext context = new(metered, ledger, new ChannelExchange(metered, transport), CPU);
        FilterPartition[] rounds = [FilterPartition.AtRandom(blocks, 1, 0, context.Size), FilterPartition.AtRandom(blocks, 1, 1, context.Size)];
        using FilterExchange filters = new(context, network, blocks, momentum: false, statistics: false);
        using ModelState state = ModelState.Initialize(
            [.. network.Tensors.Select(tensor => rounds[0].Slice(tensor, context.Rank))], 1, ScalarType.Float32, CPU, filters.Copied(rounds[0]));
        using SharedAverage average = new(context, state);
        average.Share();
        int at = 0;
        void Whole(int count)
        {
            for (int i = 0; i < count; i++, at = 1 - at)
            {
                average.Invalidate();
                average.Apply();
                filters.Move(state, rounds[at], rounds[1 - at]);
            }
        }

        // What a round does to its optimizer's state, where momentum restarts.
        void WithMomentum(int count)
        {
            for (int i = 0; i < count; i++)
            {
                Whole(1);
                state.ZeroMomentum();
            }
        }

        // The same amounts on buffers that hold them already.
        (long[] sendCounts, long[] receiveCounts) = filters.Counts(rounds[0], rounds[1]);
        using DisposeScope scope = NewDisposeScope();
        Tensor flat = ones(state.Copied.numel()), send = ones(sendCounts.Sum()), receive = zeros(receiveCounts.Sum());
        int[] sends = [.. sendCounts.Select(count => (int)count)], receives = [.. receiveCounts.Select(count => (int)count)];
        int[] sendStarts = Starts(sends), receiveStarts = Starts(receives);
        // The program keeps its own buffers on huge pages; what a C program gets without asking is the reference.
        Tensor[] huge = [flat.clone(), send.clone(), receive.clone()];
        foreach (Tensor buffer in huge) TensorMemory.UseHugePages(buffer);
        Action<int> InC(Tensor shared, Tensor leaving, Tensor arriving) => count =>
        {
            int code = RoundExchangeInC(
                MpiBuffer.Of(shared).Address, (int)shared.numel(), MpiBuffer.Of(leaving).Address, sends, sendStarts,
                MpiBuffer.Of(arriving).Address, receives, receiveStarts, count);
            if (code != 0) throw new InvalidOperationException("the calls in C fail");
        };
        void Calls(int count)
        {
            for (int i = 0; i < count; i++)
            {
                context.Channels.AllreduceSum(flat);
                context.Channels.Alltoallv(send, sendCounts, receive, receiveCounts);
            }
        }
        Sample[] seconds = timer.Alternate(new Rounds(WarmUps: 10, Counted: 31, Calls: 2, Untimed: 2), InC(flat, send, receive), Calls, Whole, InC(huge[0], huge[1], huge[2]), WithMomentum);
        string size = string.Create(CultureInfo.InvariantCulture, $"PreActResNet-34, width 64: {MpiBuffer.Of(flat).Bytes / 1e6:F1} MB shared, {MpiBuffer.Of(send).Bytes / 1e6:F1} MB moved a rank");
        yield return BenchmarkRow.AtMost(1.1, "calls of a round / in C", size, seconds[1], seconds[0], "");
        yield return BenchmarkRow.AtMost(2.5, "packed, averaged, rebuilt / calls in C", size, seconds[2], seconds[0], "");
        yield return BenchmarkRow.Shown("the same / calls in C on huge pages", size, seconds[2], seconds[3], "");
        yield return BenchmarkRow.Shown("with momentum restarted / calls in C", size, seconds[4], seconds[0], "");
    }

    private static int[] Starts(int[] counts)
    {
        int[] starts = new int[counts.Length];
        for (int i = 1; i < counts.Length; i++) starts[i] = starts[i - 1] + counts[i - 1];
        return starts;
    }

    [LibraryImport("mpi_reference", EntryPoint = "round_exchange")]
    private static partial int RoundExchangeInC(
        nint shared, int sharedCount, nint send, int[] sendCounts, int[] sendStarts, nint receive, int[] receiveCounts, int[] receiveStarts, int calls);
}
