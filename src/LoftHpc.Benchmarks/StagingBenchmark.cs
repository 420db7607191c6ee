using System.Globalization;
using LoftHpc.Communication;
using LoftHpc.Mpi;
using TorchSharp;
using static TorchSharp.torch;

namespace LoftHpc.Benchmarks;

/// <summary>
/// Exchanges of tensors on a GPU through pinned memory of the host, over what they are made of: one copy each way of what
/// goes from and to the GPU, and the MPI call on host memory of the same sizes, one after the other. Without a GPU the same
/// code runs on tensors on the CPU, with ordinary memory and ordinary copies in place of pinned ones. Beside the table stand
/// lines "figures: ...", for scripts.
/// </summary>
internal static class StagingBenchmark
{
    private const double Limit = 1.5;

    /// <summary>Whole activations [N, C, H, W]: 1 to 128 MiB on a GPU, else the first, which shows that the code works.</summary>
    private static readonly long[][] Shapes = [[64, 64, 8, 8], [128, 64, 16, 16], [128, 64, 32, 32], [512, 64, 32, 32]];

    /// <param name="say">Gets the lines for scripts.</param>
    public static IEnumerable<BenchmarkRow> Run(AlternatingTimer timer, Action<string> say)
    {
        int gpus = CudaDevices.Count();
        using ICommunicator host = timer.World.SplitByHost();
        bool onGpu = timer.World.Allreduce(gpus, MpiOperation.Min) > 0;
        Device device = onGpu ? new Device(DeviceType.CUDA, host.Rank % gpus) : CPU;
        List<BenchmarkRow>[] shapes = [.. Shapes.Take(onGpu ? Shapes.Length : 1).Select(shape => Measure(timer, shape, device))];
        foreach (BenchmarkRow[] exchange in Enumerable.Range(0, shapes[0].Count).Select(i => shapes.Select(rows => rows[i]).ToArray()))
        {
            // Without a GPU there is nothing that the time could be compared with.
            string ratios = string.Join(", ", exchange.Select(row => string.Create(CultureInfo.InvariantCulture, $"{row.Ratio:F2}")));
            string judged = onGpu ? string.Create(CultureInfo.InvariantCulture, $" (at most {Limit:F2}: {(exchange.All(row => row.Met) ? "met" : "MISSED")})") : " (no GPU: not judged)";
            say($"figures: {exchange[0].Measured}: {ratios}{judged}");
        }
        return shapes.SelectMany(rows => rows);
    }

    private static List<BenchmarkRow> Measure(AlternatingTimer timer, long[] shape, Device device)
    {
        using DisposeScope scope = NewDisposeScope();
        ICommunicator world = timer.World;
        ExchangeCut cut = device.type is DeviceType.CUDA ? ExchangeCut.For(device.type, direct: false) : ExchangeCut.Staged;
        using DeviceTransport transport = new(device, cut);
        ChannelExchange exchange = new(world, transport);
        int own = (int)shape[1] / world.Size;
        int[] channels = [.. Enumerable.Repeat(own, world.Size)];
        Tensor part = rand([shape[0], own, shape[2], shape[3]], device: device), whole = rand(shape, device: device), flat = whole.view(-1);
        long partBytes = part.numel() * part.element_size(), wholeBytes = world.Size * partBytes;
        long[] counts = [.. channels.Select(_ => part.numel())], starts = Displacements.Of(counts);

        using StagingCopies copies = StagingCopies.For(device);
        nint memory = copies.Allocate(2 * wholeBytes);
        MpiBuffer first = new(memory, whole.numel(), MpiDataType.Float32), second = new(memory + (nint)wholeBytes, whole.numel(), MpiDataType.Float32);
        string gib = $"{wholeBytes >> 20} MiB, tensor [{string.Join(", ", shape)}]", memoryKind = device.type is DeviceType.CUDA ? "pinned memory" : "ordinary memory and copies: no GPU";
        List<BenchmarkRow> rows =
        [
            Row("gather", partBytes, wholeBytes - partBytes, () => world.Allgatherv(first.Slice(0, part.numel()), second, counts, starts), () => exchange.Gather(part, whole, channels)),
            Row("reduce-scatter", wholeBytes, partBytes, () => world.ReduceScatter(first, second.Slice(0, part.numel()), counts, MpiOperation.Sum), () => exchange.ReduceScatter(whole, part, channels)),
            Row("allreduce", wholeBytes, wholeBytes, () => world.Allreduce(first, second, MpiOperation.Sum), () => exchange.AllreduceSum(flat)),
        ];
        copies.Free(memory);
        return rows;

        BenchmarkRow Row(string name, long toHost, long toDevice, Action call, Action exchanged)
        {
            Must(name);
            nint address = TensorMemory.Address(whole);
            Sample[] seconds = timer.Alternate(
                new Rounds(WarmUps: 1, Counted: 7, Calls: 2),
                Times(() => Copy(CopyDirection.ToHost, address, first.Address, toHost)),
                // Back goes what MPI has received; the tensor's values do not matter here.
                Times(() => Copy(CopyDirection.ToDevice, address, second.Address, toDevice)),
                Times(call),
                Times(() =>
                {
                    exchanged();
                    if (device.type is DeviceType.CUDA) cuda.synchronize(device);
                }));
            Sample made = new([.. Enumerable.Range(0, seconds[0].Values.Length).Select(i => seconds[0].Values[i] + seconds[1].Values[i] + seconds[2].Values[i])]);
            string what = $"staged {name} / copies and MPI call";
            return device.type is DeviceType.CUDA
                ? BenchmarkRow.AtMost(Limit, what, gib, seconds[3], made, memoryKind)
                : BenchmarkRow.Shown(what, gib, seconds[3], made, memoryKind);
        }

        void Copy(CopyDirection direction, nint onDevice, nint onHost, long bytes)
        {
            copies.AfterComputing();
            copies.Start(direction, onDevice, onHost, bytes);
            copies.Mark(direction, 0);
            copies.Wait(direction, 0);
            copies.BeforeComputing();
        }

        // Values that are sums of whole numbers, on this rank's place.
        void Must(string name)
        {
            part.fill_(world.Rank + 1);
            whole.fill_(-1);
            exchange.Gather(part, whole, channels);
            bool gathered = Enumerable.Range(0, world.Size).All(rank => whole.narrow(1, rank * own, own).eq(rank + 1).all().item<bool>());
            exchange.ReduceScatter(whole, part, channels);
            if (!gathered || !part.eq((world.Rank + 1) * world.Size).all().item<bool>()) throw new InvalidOperationException($"a staged {name} is wrong");
            // Zeros, which the allreduce adds up without end.
            whole.zero_();
        }
    }

    private static Action<int> Times(Action action) => calls =>
    {
        for (int i = 0; i < calls; i++) action();
    };
}
