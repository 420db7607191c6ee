using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using LoftHpc.Communication;
using LoftHpc.Mpi;

namespace LoftHpc.RankProgram;

/// <summary>MPI.NET and the program's own binding on the same ranks.</summary>
public static class MpiNetScenarios
{
    /// <summary>
    /// Sums and exchanges of values that round, through both bindings: the same bytes. Of few elements and of many, since
    /// MPI chooses another algorithm, and with it another order of the sum, by the size.
    /// </summary>
    public static void SameBits(ICommunicator world, string[] arguments)
    {
        foreach (int count in new[] { 1, 1_000, 60_001 })
        {
            SameBits<float>(world, count);
            SameBits<double>(world, count);
        }
        if (world.Rank == 0) Console.WriteLine("same bits");
    }

    private static void SameBits<T>(ICommunicator world, int count) where T : unmanaged, IFloatingPointIeee754<T>
    {
        (int rank, int size) = (world.Rank, world.Size);
        // Rank r has (r + 2) / 2 times the count, and sends (2 r + d) mod 3 times the count to rank d.
        long[] counts = [.. Enumerable.Range(0, size).Select(r => (long)count * (r + 2) / 2)];
        long[] sends = [.. Enumerable.Range(0, size).Select(d => (long)count * (((2 * rank) + d) % 3))];
        long[] receives = [.. Enumerable.Range(0, size).Select(s => (long)count * (((2 * s) + rank) % 3))];
        long own = counts[rank], total = counts.Sum();
        T[] values = [.. Enumerable.Range(0, (int)Math.Max(total, 2L * count * size)).Select(i =>
            T.CreateTruncating(Math.Sin((1.7 * rank) + (0.61 * i)) * Math.Exp(9 * Math.Cos((2.3 * i) + rank))))];
        foreach (bool inPlace in new[] { false, true })
        {
            MpiBuffer From(MpiBuffer send) => inPlace ? MpiBuffer.InPlace : send;
            Compare("allreduce", count, count, (c, send, receive) => c.Allreduce(From(send), receive, MpiOperation.Sum));
            Compare("allgatherv", own, total, (c, send, receive) => c.Allgatherv(From(send), receive, counts, Displacements.Of(counts)));
        }
        // Not in place, which training does not do either: with many elements MPICH 4.0 may crash there.
        foreach (int root in new[] { 0, size - 1 })
            Compare($"reduce to {root}", count, count, (c, send, receive) => c.Reduce(send, rank == root ? receive : default, MpiOperation.Sum, root));
        Compare("reduce-scatter", total, own, (c, send, receive) => c.ReduceScatter(send, receive, counts, MpiOperation.Sum));
        Compare("alltoallv", sends.Sum(), receives.Sum(), (c, send, receive) => c.Alltoallv(send, sends, Displacements.Of(sends), receive, receives, Displacements.Of(receives)));

        // The receive buffer after a call through each binding; before it both buffers hold the values.
        void Compare(string what, long send, long receive, Action<ICommunicator, MpiBuffer, MpiBuffer> call)
        {
            byte[] expected = Through(Program.Runtime!.World), actual = Through(Program.Runtime.WorldThroughMpiNet());
            Check.True(expected.AsSpan().SequenceEqual(actual), $"{what} of {send} {typeof(T).Name}, rank {rank}: other bits");

            byte[] Through(ICommunicator communicator)
            {
                MpiDataType type = typeof(T) == typeof(float) ? MpiDataType.Float32 : MpiDataType.Float64;
                using NativeBuffer from = new(), to = new();
                (MpiBuffer sent, MpiBuffer received) = (from.View(send, type), to.View(receive, type));
                values.AsSpan(0, (int)send).CopyTo(from.Span<T>((int)send));
                values.AsSpan(0, (int)receive).CopyTo(to.Span<T>((int)receive));
                call(communicator, sent, received);
                return MemoryMarshal.AsBytes(to.Span<T>((int)receive)).ToArray();
            }
        }
    }

    /// <summary>The program's own binding frees communicators, so one that MPI.NET adopted and .NET collected is there still.</summary>
    public static void CollectedCommunicator(ICommunicator world, string[] arguments)
    {
        using MpiCommunicator own = ((MpiCommunicator)Program.Runtime!.World).Duplicate();
        UseAndDrop(own);
        GC.Collect();
        GC.WaitForPendingFinalizers();
        Check.True(own.Allreduce(1, MpiOperation.Sum) == world.Size, "a sum after the collection");
        if (world.Rank == 0) Console.WriteLine("still there");
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void UseAndDrop(MpiCommunicator own) =>
        Check.True(new MpiNetCommunicator(own).Allreduce(1, MpiOperation.Sum) == own.Size, "a sum through MPI.NET");
}
