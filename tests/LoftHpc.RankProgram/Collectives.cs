using System.Globalization;
using LoftHpc.Communication;
using LoftHpc.Mpi;
using LoftHpc.SelfTest;

namespace LoftHpc.RankProgram;

/// <summary>The calls of a communicator: those of the self-test, and what a user's machine is not put through.</summary>
public static class Collectives
{
    /// <summary>Every call gives the values of its definition; errors are told; what cannot be done is refused.</summary>
    public static void All(ICommunicator world, string[] arguments)
    {
        Findings findings = new();
        new CollectiveChecks(findings).All(world);
        Check.Passed(findings);
        if (world is MpiCommunicator mpi)
        {
            using MpiCommunicator pieces = mpi.Duplicate(countLimit: 5, useLargeCounts: false);
            Refusal(pieces);
        }
        if (world is not SelfCommunicator) Errors(world);
        string binding = world is MpiNetCommunicator ? " through MPI.NET" : "";
        if (world.Rank == 0) Console.WriteLine($"all collectives right{binding}");
    }

    /// <summary>MPI's errors become exceptions with the call's name and MPI's text, and the next call works.</summary>
    private static void Errors(ICommunicator world)
    {
        // Through MPI.NET a send is started and waited for, and a broadcast that is started has completed.
        (string sending, string broadcasting) = world is MpiNetCommunicator ? ("MPI_Isend", "MPI_Bcast") : ("MPI_Send", "MPI_Ibcast");
        using NativeBuffer memory = new();
        MpiBuffer buffer = memory.View(4, MpiDataType.Int32);
        MpiException send = Check.Throws<MpiException>(() => world.Send(buffer, world.Size, 1), "send to a rank that does not exist");
        Check.True(send.Call == sending && send.Code != 0, send.Message);
        Check.True(send.Message.Contains("rank", StringComparison.OrdinalIgnoreCase), send.Message);
        MpiException start = Check.Throws<MpiException>(() => world.StartBroadcast(buffer, world.Size), "broadcast from no rank");
        Check.True(start.Call == broadcasting && start.Message.Contains("root", StringComparison.OrdinalIgnoreCase), start.Message);

        long[] counts = new long[world.Size], displacements = new long[world.Size];
        counts[^1] = 5;
        Check.Throws<ArgumentException>(
            () => world.Allgatherv(MpiBuffer.InPlace, buffer, counts, displacements), "more than the buffer holds");
        Check.Throws<ArgumentException>(
            () => world.Allreduce(buffer, new MpiBuffer(1, 4, MpiDataType.Float32), MpiOperation.Sum), "two types");
        Check.Throws<ArgumentException>(() => world.Allreduce((byte)200, MpiOperation.Max), "largest byte");
        Check.Throws<ArgumentException>(() => world.Allreduce(MpiBuffer.InPlace, memory.View(4, MpiDataType.Bfloat16), MpiOperation.Sum), "a sum of bfloat16");
        Check.True(world.Allreduce(1, MpiOperation.Sum) == world.Size, "a call after errors");
    }

    /// <summary>What cannot go in pieces is refused.</summary>
    private static void Refusal(MpiCommunicator world)
    {
        long[] counts = new long[world.Size];
        counts[0] = 6;
        long[] displacements = new long[world.Size];
        using NativeBuffer sending = new(), receiving = new();
        MpiBuffer send = sending.View(6, MpiDataType.Int32), receive = receiving.View(6 * world.Size, MpiDataType.Int32);
        // Every rank would send 6 elements to rank 0, which gets 6 from each.
        long[] receiveCounts = [.. counts.Select(_ => world.Rank == 0 ? 6L : 0L)];
        MpiException error = Check.Throws<MpiException>(
            () => world.Allgatherv(MpiBuffer.InPlace, receive, new long[world.Size], counts), "a displacement past the limit");
        Check.True(error.Message.Contains("a displacement of 6 elements"), error.Message);
        error = Check.Throws<MpiException>(
            () => world.Alltoallv(send, counts, displacements, receive, receiveCounts, Displacements.Of(receiveCounts)), "alltoallv");
        Check.True(error.Message.Contains("MPI_Alltoallv") && error.Message.Contains("large counts"), error.Message);
    }

    /// <summary>
    /// Collectives of more than 2^31 elements (bytes, so that they fit into memory): broadcast, allgatherv, reduce-scatter
    /// and allreduce in place, send and receive. Takes 2.2 GB a rank, and as much again inside some MPI libraries.
    /// </summary>
    public static void PastInt(ICommunicator world, string[] arguments)
    {
        const long total = (1L << 31) + 12_345;
        using NativeBuffer memory = new(total);
        MpiBuffer all = memory.View(total, MpiDataType.Byte);
        long[] counts = new long[world.Size];
        for (int r = 1; r < world.Size; r++) counts[r] = (total / world.Size) - (1000 * r);
        counts[0] = total - counts.Sum();
        long[] displacements = Displacements.Of(counts);
        long start = displacements[world.Rank], end = start + counts[world.Rank];

        FillRange(all, 0, total, 0);
        FillRange(all, start, end, 3);
        world.Allgatherv(MpiBuffer.InPlace, all, counts, displacements);
        MustHold(all, 0, total, 3, "allgatherv");

        FillRange(all, 0, total, world.Rank == 0 ? 5 : 0);
        world.Broadcast(all, 0);
        MustHold(all, 0, total, 5, "broadcast");

        FillRange(all, 0, total, world.Rank == world.Size - 1 ? 5 : 0);
        world.Allreduce(MpiBuffer.InPlace, all, MpiOperation.Sum);
        MustHold(all, 0, total, 5, "allreduce");

        FillRange(all, 0, total, world.Rank == world.Size - 1 ? 7 : 0);
        world.ReduceScatter(MpiBuffer.InPlace, all, counts, MpiOperation.Sum);
        MustHold(all.Slice(0, counts[world.Rank]), start, end, 7, "reduce-scatter");

        if (world.Size > 1 && world.Rank < 2)
        {
            FillRange(all, 0, total, world.Rank == 0 ? 9 : 0);
            if (world.Rank == 0) world.Send(all, 1, 1);
            else world.Receive(all, 0, 1);
            MustHold(all, 0, total, 9, "send and receive");
        }
        if (world.Rank == 0) Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{total} elements right"));
    }

    /// <summary>Bytes that follow from their position and a key; zeros for key 0.</summary>
    private static void FillRange(MpiBuffer buffer, long start, long end, int key)
    {
        byte[] pattern = Pattern(key);
        for (long i = start; i < end;)
        {
            Span<byte> piece = Window(buffer, i, end);
            int from = (int)(i % 251), count = Math.Min(piece.Length, 251 * 4000);
            pattern.AsSpan(from, count).CopyTo(piece);
            i += count;
        }
    }

    /// <param name="start">Position of the buffer's first element in the pattern.</param>
    private static void MustHold(MpiBuffer buffer, long start, long end, int key, string what)
    {
        byte[] pattern = Pattern(key);
        for (long i = start; i < end;)
        {
            Span<byte> piece = Window(buffer, i - start, end - start);
            int count = Math.Min(piece.Length, 251 * 4000);
            Check.True(piece[..count].SequenceEqual(pattern.AsSpan((int)(i % 251), count)), $"{what}, elements from {i} on");
            i += count;
        }
    }

    private static byte[] Pattern(int key) => [.. Enumerable.Range(0, 251 * 4001).Select(i => (byte)(i % 251 * key % 256))];

    private static unsafe Span<byte> Window(MpiBuffer buffer, long start, long end) =>
        new((byte*)buffer.Address + start, (int)Math.Min(end - start, 1 << 30));
}
