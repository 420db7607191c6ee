using LoftHpc.Mpi;

namespace LoftHpc.RankProgram;

/// <summary>Ways in which an exchange goes wrong without anybody noticing.</summary>
public enum ExchangeFault
{
    None,

    /// <summary>
    /// A reduce-scatter gives this rank its own values, and not the sum over the ranks: the gradient of a gather that forgets the
    /// others. (Of bfloat16, in whose place an alltoallv stands, the others' blocks come as zeros.)
    /// </summary>
    OwnGradientOnly,

    /// <summary>An allgather puts the values of the first and the last rank in each other's place where they have equally many.</summary>
    GatheredElsewhere,

    /// <summary>The first and the last value that arrive in an alltoall are in each other's place.</summary>
    ReceivedElsewhere,
}

/// <summary>Real ranks under a real MPI, with one fault in blocking calls.</summary>
internal sealed unsafe class FaultyCommunicator(ICommunicator inner, ExchangeFault fault) : ICommunicator
{
    public int Rank => inner.Rank;

    public int Size => inner.Size;

    public ICommunicator Split(int color, int key) => inner.Split(color, key);

    public ICommunicator SplitByHost() => inner.SplitByHost();

    public void Barrier() => inner.Barrier();

    public void Broadcast(MpiBuffer buffer, int root) => inner.Broadcast(buffer, root);

    public void Allgather(MpiBuffer send, MpiBuffer receive) => inner.Allgather(send, receive);

    public void Allgatherv(MpiBuffer send, MpiBuffer receive, ReadOnlySpan<long> counts, ReadOnlySpan<long> displacements)
    {
        long[] places = displacements.ToArray();
        // Tensors only: the program's own messages must arrive.
        if (fault is ExchangeFault.GatheredElsewhere && receive.Type is not MpiDataType.Byte && counts[0] == counts[^1])
            (places[0], places[^1]) = (places[^1], places[0]);
        inner.Allgatherv(send, receive, counts, places);
    }

    public void Reduce(MpiBuffer send, MpiBuffer receive, MpiOperation operation, int root) => inner.Reduce(send, receive, operation, root);

    public void Allreduce(MpiBuffer send, MpiBuffer receive, MpiOperation operation) => inner.Allreduce(send, receive, operation);

    public void ReduceScatter(MpiBuffer send, MpiBuffer receive, ReadOnlySpan<long> counts, MpiOperation operation)
    {
        inner.ReduceScatter(send, receive, counts, operation);
        if (fault is not ExchangeFault.OwnGradientOnly || send.IsInPlace) return;
        long start = 0;
        foreach (long count in counts[..Rank]) start += count;
        MpiBuffer own = send.Slice(start, counts[Rank]);
        Buffer.MemoryCopy((void*)own.Address, (void*)receive.Address, receive.Bytes, own.Bytes);
    }

    public void Alltoallv(
        MpiBuffer send, ReadOnlySpan<long> sendCounts, ReadOnlySpan<long> sendDisplacements,
        MpiBuffer receive, ReadOnlySpan<long> receiveCounts, ReadOnlySpan<long> receiveDisplacements)
    {
        inner.Alltoallv(send, sendCounts, sendDisplacements, receive, receiveCounts, receiveDisplacements);
        for (int rank = 0; fault is ExchangeFault.OwnGradientOnly && receive.Type is MpiDataType.Bfloat16 && rank < Size; rank++)
        {
            MpiBuffer block = receive.Slice(receiveDisplacements[rank], receiveCounts[rank]);
            if (rank != Rank) new Span<byte>((void*)block.Address, (int)block.Bytes).Clear();
        }
        if (fault is not ExchangeFault.ReceivedElsewhere || receive.Count == 0) return;
        if (receive.ElementBytes == sizeof(short)) SwapEnds(new Span<short>((void*)receive.Address, (int)receive.Count));
        else if (receive.ElementBytes == sizeof(float)) SwapEnds(new Span<float>((void*)receive.Address, (int)receive.Count));
        else SwapEnds(new Span<double>((void*)receive.Address, (int)receive.Count));
    }

    private static void SwapEnds<T>(Span<T> values) => (values[0], values[^1]) = (values[^1], values[0]);

    public void Send(MpiBuffer buffer, int destination, int tag) => inner.Send(buffer, destination, tag);

    public void Receive(MpiBuffer buffer, int source, int tag) => inner.Receive(buffer, source, tag);

    public IMpiRequest StartBarrier() => inner.StartBarrier();

    public IMpiRequest StartBroadcast(MpiBuffer buffer, int root) => inner.StartBroadcast(buffer, root);

    public IMpiRequest StartAllgatherv(MpiBuffer send, MpiBuffer receive, ReadOnlySpan<long> counts, ReadOnlySpan<long> displacements) =>
        inner.StartAllgatherv(send, receive, counts, displacements);

    public IMpiRequest StartAllreduce(MpiBuffer send, MpiBuffer receive, MpiOperation operation) => inner.StartAllreduce(send, receive, operation);

    public IMpiRequest StartReduceScatter(MpiBuffer send, MpiBuffer receive, ReadOnlySpan<long> counts, MpiOperation operation) =>
        inner.StartReduceScatter(send, receive, counts, operation);

    public IMpiRequest StartAlltoallv(
        MpiBuffer send, ReadOnlySpan<long> sendCounts, ReadOnlySpan<long> sendDisplacements,
        MpiBuffer receive, ReadOnlySpan<long> receiveCounts, ReadOnlySpan<long> receiveDisplacements) =>
        inner.StartAlltoallv(send, sendCounts, sendDisplacements, receive, receiveCounts, receiveDisplacements);

    public IMpiRequest StartSend(MpiBuffer buffer, int destination, int tag) => inner.StartSend(buffer, destination, tag);

    public IMpiRequest StartReceive(MpiBuffer buffer, int source, int tag) => inner.StartReceive(buffer, source, tag);

    public bool HasMessage(int tag) => inner.HasMessage(tag);

    public void Abort(int exitCode) => inner.Abort(exitCode);

    public void Dispose() => inner.Dispose();
}
