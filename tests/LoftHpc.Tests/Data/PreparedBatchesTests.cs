using LoftHpc.Communication;
using LoftHpc.Configuration;
using LoftHpc.Data;
using LoftHpc.Mpi;
using LoftHpc.Training;
using TorchSharp;
using Xunit;
using static TorchSharp.torch;

namespace LoftHpc.Tests.Data;

/// <summary>Batches that workers prepare ahead, on the CPU: against those that are made when they are asked for.</summary>
public sealed class PreparedBatchesTests
{
    private const int Count = 47, Channels = 3, Height = 5, Width = 7;

    private static readonly DataSection Section = new() { CropPadding = 2, Flip = true };

    /// <summary>Every shard of every rank, over some epochs; 10 images, and 7 in the last batch, which 1 to 4 and 12 ranks mostly do not divide.</summary>
    [Theory]
    [InlineData(1, 0, ScalarType.Float32, false)]
    [InlineData(2, 1, ScalarType.Float32, false)]
    [InlineData(3, 0, ScalarType.Float64, false)]
    [InlineData(4, 2, ScalarType.Float32, false)]
    [InlineData(12, 0, ScalarType.Float32, false)]
    [InlineData(4, 0, ScalarType.Float32, true)] // Micro-batches of one rank.
    [InlineData(12, 0, ScalarType.Float32, true)]
    public void They_have_the_same_bits_in_the_order_of_training(int shards, int walk, ScalarType type, bool inParts)
    {
        using DisposeScope scope = NewDisposeScope();
        using SelfCommunicator self = new();
        using TensorTransport transport = TensorTransport.For(CPU, direct: false);
        RankContext context = new(self, new CommunicationLedger(), new ChannelExchange(self, transport), CPU, type);
        Shard[][] ranks = inParts ? [Shards(shards)] : [.. Shards(shards).Select(shard => (Shard[])[shard])];
        foreach (Shard[] rank in ranks)
        {
            using BatchLoader ahead = new(Set(), Section, 3) { PreparesAhead = true };
            BatchLoader plain = new(Set(), Section, 3);
            EpochBatches expected = new(plain.Walk(walk), 10), batches = new(ahead.Walk(walk), 10) { InParts = inParts };
            int loaded = 0;
            for (int step = 0; step < 3 * batches.StepsPerEpoch; step++)
            {
                (int epoch, int inEpoch) = (step / batches.StepsPerEpoch, step % batches.StepsPerEpoch);
                foreach (Shard shard in rank)
                {
                    // GPipe has no empty micro-batches.
                    if (inParts && shard.Index >= batches.SizeOf(inEpoch)) continue;
                    Batch batch = batches.Load(epoch, inEpoch, shard, context);
                    MustEqual(expected.Load(epoch, inEpoch, shard, context), batch);
                    if (batch.Count > 0) loaded++;
                }
            }
            // All but the first.
            if (loaded > 0) Assert.Equal(loaded - 1, ahead.Prepared!.Taken);
        }
    }

    [Fact]
    public void They_have_the_same_bits_in_every_evaluation()
    {
        using DisposeScope scope = NewDisposeScope();
        using BatchLoader ahead = new(Set(), Section, 3) { PreparesAhead = true };
        BatchLoader plain = new(Set(), Section, 3);
        for (int evaluation = 1; evaluation <= 3; evaluation++)
        {
            foreach ((int start, int count) in Batches.Of(5, Count, 8))
            {
                int[] samples = [.. Enumerable.Range(start, count)];
                MustEqual(plain.Load(samples, 0, false, CPU), ahead.Load(samples, 0, false, CPU, coming: BatchLoader.InOrder(start + count, Count, 8)));
            }
            Assert.Equal(5 * evaluation, ahead.Prepared!.Taken);
        }
    }

    /// <summary>Steps that are done again, other epochs, other walks, the images as they are, and what nobody follows up.</summary>
    [Fact]
    public void What_was_not_foreseen_has_the_same_bits_too()
    {
        using DisposeScope scope = NewDisposeScope();
        using BatchLoader ahead = new(Set(), Section, 3) { PreparesAhead = true };
        BatchLoader plain = new(Set(), Section, 3);
        Random random = new(1);
        long known = 0;
        for (int i = 0; i < 300; i++)
        {
            (int epoch, int step, int walk, bool augment) = (random.Next(3), random.Next(5), random.Next(2), random.Next(4) > 0);
            int steps = random.Next(1, 9);
            for (int at = step; at < step + steps; at++)
            {
                int[] Samples(int of) => plain.Walk(walk).EpochOrder(epoch + (of / 5))[(of % 5 * 10)..Math.Min(Count, (of % 5 * 10) + 10)];
                IEnumerable<BatchRequest> coming = Enumerable.Range(at + 1, 20).Select(of => new BatchRequest(Samples(of), epoch + (of / 5), augment));
                // The walk with its number 0 is the loader itself.
                ScalarType type = i % 3 == 0 ? ScalarType.Float64 : ScalarType.Float32;
                Batch expected = plain.Walk(walk).Load(Samples(at), epoch + (at / 5), augment, CPU, type);
                MustEqual(expected, ahead.Walk(walk).Load(Samples(at), epoch + (at / 5), augment, CPU, type, random.Next(3) == 0 ? null : coming));
            }
            known += steps - 1;
        }
        Assert.InRange(ahead.Prepared!.Taken, known / 10, known);
    }

    /// <summary>The same samples in another walk, epoch or type, or as they are.</summary>
    [Theory]
    [InlineData(1, 0, true, ScalarType.Float32)]
    [InlineData(0, 1, true, ScalarType.Float32)]
    [InlineData(0, 0, false, ScalarType.Float32)]
    [InlineData(0, 0, true, ScalarType.Float64)]
    [InlineData(0, 0, true, ScalarType.Float32)] // What was foreseen.
    public void What_was_foreseen_is_taken_for_nothing_else(int walk, int epoch, bool augment, ScalarType type)
    {
        using DisposeScope scope = NewDisposeScope();
        using BatchLoader ahead = new(Set(), Section, 3) { PreparesAhead = true };
        int[] samples = [.. Enumerable.Range(0, 20)];
        ahead.Load([1], 0, true, CPU, coming: [new BatchRequest(samples, 0, true)]);
        Batch batch = ahead.Walk(walk).Load(samples, epoch, augment, CPU, type, []);
        MustEqual(new BatchLoader(Set(), Section, 3).Walk(walk).Load(samples, epoch, augment, CPU, type), batch);
        Assert.Equal((walk, epoch, augment, type) == (0, 0, true, ScalarType.Float32) ? 1 : 0, ahead.Prepared!.Taken);
    }

    [Fact]
    public void What_goes_wrong_on_a_worker_comes_out_in_the_step_that_needs_it()
    {
        using DisposeScope scope = NewDisposeScope();
        // The last images have no pixels.
        ImageSet cut = Set() with { Pixels = Set().Pixels[..(30 * Channels * Height * Width)] };
        using BatchLoader ahead = new(cut, Section, 3) { PreparesAhead = true };
        Batch Load(int start) => ahead.Load([.. Enumerable.Range(start, 10)], 0, false, CPU, coming: BatchLoader.InOrder(start + 10, 40, 10));
        foreach (int start in new[] { 0, 10, 20 }) Assert.Equal(10, Load(start).Count);
        // It is known by now, and nobody needs it yet.
        Thread.Sleep(50);
        Assert.Equal(10, ahead.Load([.. Enumerable.Range(0, 10)], 0, false, CPU).Count);
        ArgumentOutOfRangeException error = Assert.Throws<ArgumentOutOfRangeException>(() => Load(30));
        Assert.Contains("PreparedBatches.Work", error.StackTrace, StringComparison.Ordinal);
        foreach (int start in new[] { 0, 10, 20 }) Assert.Equal(10, Load(start).Count);
    }

    /// <summary>With copies that are done only when somebody waits for them, as a GPU that is far behind would do them.</summary>
    [Theory]
    [InlineData(1)]
    [InlineData(4)]
    public void Memory_is_written_again_only_after_its_copy(int workers)
    {
        using DisposeScope scope = NewDisposeScope();
        BatchLoader plain = new(Set(), Section, 3);
        SlowestCopies copies = new();
        List<(Batch Expected, Batch Batch)> taken = [];
        IEnumerable<BatchRequest> Requests(int first) => Enumerable.Range(first, 60 - first).Select(i => new BatchRequest([i % Count, (i + 1) % Count], i, true));
        using (PreparedBatches prepared = new(Set(), CPU, copies, workers))
        {
            prepared.Begin(plain, Requests(0), ScalarType.Float32);
            foreach ((int i, BatchRequest request) in Requests(0).Index())
            {
                if (i == 30) prepared.Begin(plain, Requests(30), ScalarType.Float32);
                Batch batch = prepared.Take(plain, request.Samples, request.Epoch, request.Augment, ScalarType.Float32)!;
                taken.Add((plain.Load(request.Samples, request.Epoch, request.Augment, CPU), batch));
            }
            Assert.Null(prepared.Take(plain, [1], 0, true, ScalarType.Float32));
        }
        foreach ((Batch expected, Batch batch) in taken) MustEqual(expected, batch);
        Assert.True(copies.LeftBehind >= PreparedBatches.InFlight - 1, $"at most {copies.LeftBehind} copies were not done when the next one began");
        // As docs/planning.md says: the slots, each of two images of float32 and their labels.
        Assert.Equal((PreparedBatches.Ahead + PreparedBatches.InFlight) * ((((2 * Channels * Height * Width * 4) + 63) / 64 * 64) + (2 * 8)), copies.AllocatedBytes);
        Assert.Equal(0, copies.Held);
    }

    [Fact]
    public void Workers_end_with_the_loader_and_keep_no_process_alive()
    {
        using DisposeScope scope = NewDisposeScope();
        BatchLoader ahead = new(Set(), Section, 3) { PreparesAhead = true };
        ahead.Load([1, 2], 0, true, CPU, coming: BatchLoader.InOrder(0, Count, 2));
        IReadOnlyList<Thread> workers = ahead.Prepared!.Workers;
        Assert.NotEmpty(workers);
        Assert.All(workers, worker => Assert.True(worker.IsAlive && worker.IsBackground));
        ahead.Dispose();
        Assert.All(workers, worker => Assert.False(worker.IsAlive));
        Assert.Equal([1, 1, 3, 4, 4], new[] { 1, 2, 4, 5, 64 }.Select(cores => PreparedBatches.WorkersOf(cores)));
    }

    private static Shard[] Shards(int count) => [.. Enumerable.Range(0, count).Select(index => new Shard(index, count))];

    private static ImageSet Set()
    {
        byte[] pixels = new byte[Count * Channels * Height * Width];
        new Random(1).NextBytes(pixels);
        return new("", Channels, Height, Width, 10, pixels, [.. Enumerable.Range(0, Count).Select(i => (byte)(i % 10))], [0.49f, 0.48f, 0.44f], [0.2f, 0.3f, 0.25f]);
    }

    private static void MustEqual(Batch expected, Batch batch)
    {
        Assert.Equal(expected.Images.shape, batch.Images.shape);
        Assert.Equal(expected.Images.dtype, batch.Images.dtype);
        Assert.True(expected.Images.bytes.SequenceEqual(batch.Images.bytes));
        Assert.True(expected.Labels.bytes.SequenceEqual(batch.Labels.bytes));
    }

    /// <summary>A copy waits for somebody who waits for it, or for its memory's end.</summary>
    private sealed unsafe class SlowestCopies : StagingCopies
    {
        private readonly List<(nint From, nint To, long Bytes)> _begun = [];
        private readonly Dictionary<int, List<(nint From, nint To, long Bytes)>> _marked = [];

        public int LeftBehind { get; private set; }

        public long AllocatedBytes { get; private set; }

        public int Held { get; private set; }

        public override nint Allocate(long bytes)
        {
            (AllocatedBytes, Held) = (AllocatedBytes + bytes, Held + 1);
            return (nint)System.Runtime.InteropServices.NativeMemory.AlignedAlloc((nuint)bytes, 64);
        }

        public override void Free(nint memory)
        {
            foreach (int slot in _marked.Keys.ToArray()) Wait(CopyDirection.ToDevice, slot);
            System.Runtime.InteropServices.NativeMemory.AlignedFree((void*)memory);
            Held--;
        }

        public override void AfterComputing() => LeftBehind = Math.Max(LeftBehind, _marked.Count);

        public override void Start(CopyDirection direction, nint device, nint host, long bytes) => _begun.Add((host, device, bytes));

        public override void Mark(CopyDirection direction, int slot)
        {
            Assert.False(_marked.ContainsKey(slot));
            _marked.Add(slot, [.. _begun]);
            _begun.Clear();
        }

        public override void Wait(CopyDirection direction, int slot)
        {
            if (!_marked.Remove(slot, out List<(nint From, nint To, long Bytes)>? copies)) return;
            foreach ((nint from, nint to, long bytes) in copies) Buffer.MemoryCopy((void*)from, (void*)to, bytes, bytes);
        }

        public override void BeforeComputing()
        {
        }

        public override void Dispose()
        {
        }
    }
}
