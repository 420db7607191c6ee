using System.Diagnostics;
using System.Globalization;
using LoftHpc.Communication;
using LoftHpc.Mpi;
using LoftHpc.Output;
using TorchSharp;
using static TorchSharp.torch;

namespace LoftHpc.SelfTest;

/// <summary>Bandwidth of collectives by size: of MPI on host memory, and on the way that tensors really go.</summary>
internal sealed class BandwidthMeasurement(ICommunicator world, Device device, bool direct)
{
    /// <summary>Float32 values of the whole of what is gathered, reduced or exchanged.</summary>
    private static readonly int[] Sizes = [1 << 10, 1 << 14, 1 << 18, 1 << 22];

    /// <summary>Values of a channel of an image.</summary>
    private const int Area = 8 * 8;

    /// <summary>The table. Collective.</summary>
    public TextTable Run()
    {
        List<IReadOnlyList<string>> rows = [];
        foreach (int size in Sizes)
        {
            // As many channels as make up the size in one image, dealt to the ranks.
            int channels = Math.Max(world.Size, size / Area), values = channels * Area;
            int[] dealt = [.. Enumerable.Range(0, world.Size).Select(rank => new Shard(rank, world.Size).Of(channels)).Select(part => part.End - part.Start)];
            double[] bandwidths = [.. OnHost(dealt, values).Concat(OfTensors(dealt, values))];
            rows.Add([
                string.Create(CultureInfo.InvariantCulture, $"{(long)values * sizeof(float):N0}"),
                .. bandwidths.Select(bandwidth => string.Create(CultureInfo.InvariantCulture, $"{bandwidth / 1e9:g3}"))]);
        }
        string[] calls = ["allgatherv", "reduce-scatter", "allreduce", "alltoallv"];
        return new TextTable(
            "Bandwidth, GB/s: bytes of the whole (first column) by the time that the slowest rank takes; host: MPI on host memory; tensor: as tensors go",
            ["bytes", .. calls.Select(call => $"host {call}"), .. calls.Select(call => $"tensor {call}")], rows, Enumerable.Range(0, 9).ToHashSet());
    }

    private IEnumerable<double> OnHost(int[] dealt, int values)
    {
        long[] counts = [.. dealt.Select(channels => (long)channels * Area)], starts = Starts(counts), equal = Equal(values), equalStarts = Starts(equal);
        using NativeBuffer whole = new(), part = new(), other = new();
        MpiBuffer all = whole.View(values, MpiDataType.Float32), own = part.View(counts[world.Rank], MpiDataType.Float32), received = other.View(values, MpiDataType.Float32);
        whole.Span<float>(values).Fill(1);
        part.Span<float>((int)counts[world.Rank]).Fill(1);
        other.Span<float>(values).Fill(1);
        yield return Time(values, () => world.Allgatherv(own, all, counts, starts));
        yield return Time(values, () => world.ReduceScatter(all, own, counts, MpiOperation.Sum));
        yield return Time(values, () => world.Allreduce(all, received, MpiOperation.Sum));
        yield return Time(values, () => world.Alltoallv(all, equal, equalStarts, received, equal, equalStarts));
    }

    private IEnumerable<double> OfTensors(int[] dealt, int values)
    {
        using DisposeScope scope = NewDisposeScope();
        using TensorTransport transport = TensorTransport.For(device, direct);
        ChannelExchange exchange = new(world, transport);
        Tensor whole = ones([1, values / Area, 8, 8], float32, device), part = ones([1, dealt[world.Rank], 8, 8], float32, device);
        Tensor flat = ones([values], float32, device), received = ones([values], float32, device);
        long[] equal = Equal(values);
        yield return Time(values, () => exchange.Gather(part, whole, dealt));
        yield return Time(values, () => exchange.ReduceScatter(whole, part, dealt));
        yield return Time(values, () => exchange.AllreduceSum(flat));
        yield return Time(values, () => exchange.Alltoallv(flat, equal, received, equal));
    }

    /// <summary>Bytes a second: the median of the calls that there is time for after a first one.</summary>
    private double Time(int values, Action call)
    {
        const double enoughSeconds = 0.1;
        double first = Once(call);
        double[] seconds = [.. Enumerable.Range(0, (int)Math.Min(enoughSeconds / first, 30)).Select(_ => Once(call)).DefaultIfEmpty(first)];
        Array.Sort(seconds);
        return values * sizeof(float) / seconds[seconds.Length / 2];
    }

    /// <summary>Seconds that the slowest rank takes.</summary>
    private double Once(Action call)
    {
        world.Barrier();
        long start = Stopwatch.GetTimestamp();
        call();
        return world.Allreduce(Stopwatch.GetElapsedTime(start).TotalSeconds, MpiOperation.Max);
    }

    /// <summary>Equal parts to and from each rank.</summary>
    private long[] Equal(int values) => [.. Enumerable.Repeat((long)values / world.Size, world.Size)];

    private static long[] Starts(long[] counts)
    {
        long[] starts = new long[counts.Length];
        for (int r = 1; r < counts.Length; r++) starts[r] = starts[r - 1] + counts[r - 1];
        return starts;
    }
}
