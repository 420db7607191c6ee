using LoftHpc.Mpi;
using TorchSharp;
using static TorchSharp.torch;

namespace LoftHpc.Benchmarks;

/// <summary>
/// Collectives through MPI.NET, with the copies to and from its arrays, against the same through the program's own
/// binding, on the same memory in the same processes. Sizes are those of one rank's part, and of an allreduce's whole.
/// </summary>
internal static class MpiNetBenchmark
{
    private const int MostCalls = 2000;
    private const double RoundSeconds = 0.005;

    private static readonly int[] Sizes = [4 << 10, 256 << 10, 4 << 20, 16 << 20];

    /// <param name="mpiNet">The ranks of the timer through MPI.NET.</param>
    public static IEnumerable<BenchmarkRow> Run(AlternatingTimer timer, ICommunicator mpiNet)
    {
        // Until the hot paths are compiled with all optimisations.
        Measure(timer, mpiNet, Sizes[0]);
        return Sizes.SelectMany(bytes => Measure(timer, mpiNet, bytes)).GroupBy(row => row.Measured).SelectMany(rows => rows);
    }

    private static List<BenchmarkRow> Measure(AlternatingTimer timer, ICommunicator mpiNet, int bytes)
    {
        using DisposeScope scope = NewDisposeScope();
        int ranks = timer.World.Size, own = bytes / sizeof(float);
        long[] counts = [.. Enumerable.Repeat((long)own, ranks)], displacements = [.. Enumerable.Range(0, ranks).Select(r => (long)r * own)];
        Tensor part = rand(own), whole = rand((long)own * ranks), gathered = zeros((long)own * ranks), reduced = zeros(own), summed = rand(own);
        (MpiBuffer partBuffer, MpiBuffer wholeBuffer) = (MpiBuffer.Of(part), MpiBuffer.Of(whole));
        (MpiBuffer gatheredBuffer, MpiBuffer reducedBuffer, MpiBuffer summedBuffer) = (MpiBuffer.Of(gathered), MpiBuffer.Of(reduced), MpiBuffer.Of(summed));
        return
        [
            Compare("allgatherv", gathered, c => c.Allgatherv(partBuffer, gatheredBuffer, counts, displacements)),
            Compare("allreduce in place", summed, c => c.Allreduce(MpiBuffer.InPlace, summedBuffer, MpiOperation.Sum)),
            Compare("reduce-scatter", reduced, c => c.ReduceScatter(wholeBuffer, reducedBuffer, counts, MpiOperation.Sum)),
        ];

        BenchmarkRow Compare(string name, Tensor result, Action<ICommunicator> call)
        {
            Tensor before = result.clone();
            call(timer.World);
            Tensor expected = result.clone();
            result.copy_(before);
            call(mpiNet);
            if (!result.eq(expected).all().item<bool>() || expected.eq(before).all().item<bool>())
                throw new InvalidOperationException($"not as through the own binding: {name} of {bytes} bytes");
            // Zeros stay zeros, however often they are summed.
            result.zero_();

            int calls = (int)Math.Clamp(RoundSeconds / Enumerable.Range(0, 10).Min(_ => timer.Time(() => call(timer.World))), 1, MostCalls);
            Sample[] seconds = timer.Alternate(
                new Rounds(WarmUps: 3, Counted: 21, calls, Untimed: 1), count => Repeat(timer.World, count), count => Repeat(mpiNet, count));
            string size = bytes < 1 << 20 ? $"{bytes >> 10} KiB" : $"{bytes >> 20} MiB";
            return BenchmarkRow.Shown($"{name}, MPI.NET / own binding", size, seconds[1], seconds[0], "same bits");

            void Repeat(ICommunicator through, int count)
            {
                for (int i = 0; i < count; i++) call(through);
            }
        }
    }
}
