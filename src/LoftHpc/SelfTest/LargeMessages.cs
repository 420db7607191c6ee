using System.Diagnostics;
using System.Globalization;
using LoftHpc.Communication;
using LoftHpc.Mpi;
using LoftHpc.Output;
using TorchSharp;
using static TorchSharp.torch;

namespace LoftHpc.SelfTest;

/// <summary>
/// Collectives of messages up to those of real networks, for which an MPI library takes other ways than for small ones: what
/// arrives, and how fast, on host memory and on the way that tensors go.
/// </summary>
/// <param name="direct">Whether MPI takes addresses in the device's memory.</param>
internal sealed class LargeMessages(ICommunicator world, Device device, bool direct, Findings findings)
{
    /// <summary>Float32 values of the whole of what is gathered, reduced or exchanged.</summary>
    private static readonly int[] Sizes = [1 << 10, 1 << 14, 1 << 18, 1 << 22];

    private const int Height = 8, Width = 8;

    /// <summary>Values are whole numbers below this, so that sums over thousands of ranks are exact in float32.</summary>
    private const int Values = 1 << 10;

    private readonly List<IReadOnlyList<string>> _rows = [];

    /// <summary>The table of bandwidths.</summary>
    public TextTable Bandwidths
    {
        get
        {
            string[] calls = ["allgatherv", "reduce-scatter", "allreduce", "alltoallv"];
            return new TextTable(
                "Bandwidth, GB/s: bytes of the whole (first column) by the time that the slowest rank takes; host: MPI on host memory; tensor: as tensors go",
                ["bytes", .. calls.Select(call => $"host {call}"), .. calls.Select(call => $"tensor {call}")], _rows, Enumerable.Range(0, 9).ToHashSet());
        }
    }

    /// <summary>Does every call for every size, looks at what arrives, and measures it. Collective.</summary>
    public void Run()
    {
        foreach (int size in Sizes)
        {
            using DisposeScope scope = NewDisposeScope();
            // Some images of as many channels as make up the size, dealt to the ranks unevenly where they do not divide them.
            int images = Math.Clamp(size / (16 * Height * Width), 1, 64), channels = Math.Max(world.Size, size / (images * Height * Width));
            int[] dealt = [.. Enumerable.Range(0, world.Size).Select(rank => new Shard(rank, world.Size).Of(channels)).Select(part => part.End - part.Start)];
            Tensor whole = arange((long)images * channels * Height * Width, int64).remainder(Values).to(float32).view(images, channels, Height, Width);
            double[] bandwidths = [.. OnHost(dealt, whole.view(-1)).Concat(OfTensors(dealt, whole))];
            _rows.Add([
                string.Create(CultureInfo.InvariantCulture, $"{whole.numel() * sizeof(float):N0}"),
                .. bandwidths.Select(bandwidth => string.Create(CultureInfo.InvariantCulture, $"{bandwidth / 1e9:g3}"))]);
        }
    }

    private IEnumerable<double> OnHost(int[] dealt, Tensor whole)
    {
        long values = whole.numel();
        long[] counts = [.. dealt.Select(channels => values / dealt.Sum() * channels)], starts = Displacements.Of(counts), equal = Equal(values), equalStarts = Displacements.Of(equal);
        Tensor received = empty_like(whole), part = whole.narrow(0, starts[world.Rank], counts[world.Rank]).clone(), share = empty_like(part);
        Tensor given = whole + world.Rank, sum = Sum(whole), exchanged = Exchanged(whole, equal);
        MpiBuffer own = MpiBuffer.Of(part), to = MpiBuffer.Of(received), toShare = MpiBuffer.Of(share), from = MpiBuffer.Of(given);
        yield return Time("host allgatherv", received, whole, () => world.Allgatherv(own, to, counts, starts));
        yield return Time("host reduce-scatter", share, sum.narrow(0, starts[world.Rank], counts[world.Rank]), () => world.ReduceScatter(from, toShare, counts, MpiOperation.Sum), values);
        yield return Time("host allreduce", received, sum, () => world.Allreduce(from, to, MpiOperation.Sum));
        yield return Time("host alltoallv", received.narrow(0, 0, exchanged.numel()), exchanged, () => world.Alltoallv(from, equal, equalStarts, to, equal, equalStarts), values);
    }

    private IEnumerable<double> OfTensors(int[] dealt, Tensor whole)
    {
        using TensorTransport transport = TensorTransport.For(device, direct);
        ChannelExchange exchange = new(world, transport);
        long values = whole.numel(), start = Displacements.Of([.. dealt.Select(channels => (long)channels)])[world.Rank];
        long[] equal = Equal(values);
        Tensor received = empty_like(whole, device: device), part = whole.narrow(1, start, dealt[world.Rank]).contiguous().to(device), share = empty_like(part);
        Tensor given = (whole + world.Rank).to(device), flat = given.view(-1), inPlace = flat.clone(), other = received.view(-1);
        Tensor sum = Sum(whole), exchanged = Exchanged(whole.view(-1), equal);
        yield return Time("tensor allgatherv", received, whole, () => exchange.Gather(part, received, dealt));
        yield return Time("tensor reduce-scatter", share, sum.narrow(1, start, dealt[world.Rank]), () => exchange.ReduceScatter(given, share, dealt), values);
        yield return Time("tensor allreduce", inPlace, sum.view(-1), () => exchange.AllreduceSum(inPlace));
        yield return Time("tensor alltoallv", other.narrow(0, 0, exchanged.numel()), exchanged, () => exchange.Alltoallv(flat, equal, other, equal), values);
    }

    /// <summary>What the ranks' own values, each rank's number above the whole, add up to.</summary>
    private Tensor Sum(Tensor whole) => (whole * world.Size) + (world.Size * (world.Size - 1) / 2);

    /// <summary>What this rank gets where each rank sends it the part of its values that has this rank's number.</summary>
    private Tensor Exchanged(Tensor whole, long[] equal)
    {
        Tensor part = whole.narrow(0, equal[0] * world.Rank, equal[0]);
        return cat([.. Enumerable.Range(0, world.Size).Select(rank => part + rank)]);
    }

    /// <summary>Looks at what a first call gives, and then measures.</summary>
    /// <param name="values">Of the whole; those of the result where not given.</param>
    /// <returns>Bytes a second: the median of the calls that there is time for after the first one.</returns>
    private double Time(string name, Tensor result, Tensor expected, Action call, long? values = null)
    {
        const double enoughSeconds = 0.1;
        long size = values ?? result.numel();
        double first = Once(call);
        findings.True(result.cpu().equal(expected).all().item<bool>(), $"{name} of {size * sizeof(float)} bytes gives other values");
        double[] seconds = [.. Enumerable.Range(0, (int)Math.Min(enoughSeconds / first, 30)).Select(_ => Once(call)).DefaultIfEmpty(first)];
        Array.Sort(seconds);
        return size * sizeof(float) / seconds[seconds.Length / 2];
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
    private long[] Equal(long values) => [.. Enumerable.Repeat(values / world.Size, world.Size)];
}
