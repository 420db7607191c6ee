using System.Runtime.InteropServices;
using LoftHpc.Communication;
using LoftHpc.Mpi;
using TorchSharp;
using static TorchSharp.torch;

namespace LoftHpc.Benchmarks;

/// <summary>
/// Allgather and reduce-scatter against the same calls in C, on the same memory in the same processes: the calls alone
/// through the communicator that training uses, and with the copies between the order of the ranks and the tensor's.
/// Sizes are those of one rank's part: what it sends to each other rank in an allgather, and receives from each in a
/// reduce-scatter.
/// </summary>
internal static partial class CollectiveBenchmark
{
    private const int MostCalls = 2000;
    private const double RoundSeconds = 0.005;

    /// <summary>Whole activations [N, C, H, W] as they occur in residual networks; parts of 4 KiB to 64 MiB.</summary>
    private static readonly long[][] Shapes =
    [
        [4, 32, 4, 4], [4, 128, 4, 4], [16, 128, 4, 4], [16, 128, 8, 8],
        [32, 256, 8, 8], [32, 64, 32, 32], [128, 64, 32, 32], [512, 64, 32, 32],
    ];

    public static IEnumerable<BenchmarkRow> Run(AlternatingTimer timer)
    {
        // Until the hot paths are compiled with all optimisations.
        Measure(timer, Shapes[0]);
        return Shapes.SelectMany(shape => Measure(timer, shape)).GroupBy(row => row.Measured).SelectMany(rows => rows);
    }

    private static List<BenchmarkRow> Measure(AlternatingTimer timer, long[] shape)
    {
        using DisposeScope scope = NewDisposeScope();
        ICommunicator world = timer.World;
        MeteredCommunicator metered = new(world, new CommunicationLedger());
        using TensorTransport transport = TensorTransport.For(CPU, direct: false);
        ChannelExchange exchange = new(metered, transport);
        int ranks = world.Size, own = (int)shape[1] / ranks;
        int[] channels = [.. Enumerable.Repeat(own, ranks)];

        Tensor part = rand([shape[0], own, shape[2], shape[3]]), whole = rand(shape), packed = Packed();
        (MpiBuffer partBuffer, MpiBuffer packedBuffer) = (MpiBuffer.Of(part), MpiBuffer.Of(packed));
        long[] counts = [.. channels.Select(_ => part.numel())], displacements = [.. counts.Select((count, rank) => count * rank)];
        int[] countsInC = [.. counts.Select(count => (int)count)], displacementsInC = [.. displacements.Select(at => (int)at)];

        // Before what follows writes into part.
        return
        [
            .. Compare(
                "allgather", packed, () => whole.copy_(zeros_like(whole)), Packed,
                calls => AllgathervInC(partBuffer.Address, packedBuffer.Address, countsInC, displacementsInC, calls),
                () => metered.Allgatherv(partBuffer, packedBuffer, counts, displacements),
                () => exchange.Gather(part, whole, channels)),
            .. Compare(
                "reduce-scatter", part, () => part.zero_(), () => part,
                calls => ReduceScatterInC(packedBuffer.Address, partBuffer.Address, countsInC, calls),
                () => metered.ReduceScatter(packedBuffer, partBuffer, counts, MpiOperation.Sum),
                () => exchange.ReduceScatter(whole, part, channels)),
        ];

        // The whole tensor in the order of the ranks.
        Tensor Packed() => stack(whole.chunk(ranks, 1));

        IEnumerable<BenchmarkRow> Compare(
            string name, Tensor result, Action clear, Func<Tensor> placed, Func<int, int> inC, Action call, Action exchangeCall)
        {
            Must(inC(1) == 0, "the call in C fails");
            Tensor expected = result.clone();
            result.zero_();
            call();
            Must(result.eq(expected).all().item<bool>(), $"{name} {string.Join(" x ", shape)}");
            clear();
            exchangeCall();
            Must(placed().eq(expected).all().item<bool>(), $"{name} into place {string.Join(" x ", shape)}");

            int calls = (int)Math.Clamp(RoundSeconds / Enumerable.Range(0, 10).Min(_ => timer.Time(() => inC(1))), 1, MostCalls);
            Sample[] seconds = timer.Alternate(
                new Rounds(WarmUps: 3, Counted: 21, calls, Untimed: 1), count => inC(count), count => Repeat(call, count), count => Repeat(exchangeCall, count));
            long bytes = part.numel() * part.element_size();
            string size = bytes < 1 << 20 ? $"{bytes >> 10} KiB" : $"{bytes >> 20} MiB";
            yield return BenchmarkRow.AtMost(1.1, $"{name} / in C", size, seconds[1], seconds[0], "same bits");
            yield return BenchmarkRow.AtMost(
                bytes <= 256 << 10 ? 1.5 : 2.0, $"{name} into place / in C", $"{size}, tensor [{string.Join(", ", shape)}]", seconds[2], seconds[0], "same bits");
        }
    }

    private static void Repeat(Action call, int calls)
    {
        for (int i = 0; i < calls; i++) call();
    }

    private static void Must(bool holds, string what)
    {
        if (!holds) throw new InvalidOperationException($"not as in C: {what}");
    }

    [LibraryImport("mpi_reference", EntryPoint = "allgatherv")]
    private static partial int AllgathervInC(nint send, nint receive, int[] counts, int[] displacements, int calls);

    [LibraryImport("mpi_reference", EntryPoint = "reduce_scatter")]
    private static partial int ReduceScatterInC(nint send, nint receive, int[] counts, int calls);
}
