namespace LoftHpc.Mpi;

/// <summary>
/// A group of ranks and the collectives over it, in MPI's own terms. Counts and displacements are in elements. Every
/// call is made by all ranks of the group in the same order. Where a send buffer is <see cref="MpiBuffer.InPlace"/>,
/// MPI's rules for MPI_IN_PLACE hold. Errors are thrown as <see cref="MpiException"/>. A Start call does its collective at
/// once and returns a request that is complete, where an implementation has no other way.
/// </summary>
public interface ICommunicator : IDisposable
{
    int Rank { get; }

    int Size { get; }

    /// <summary>MPI_Comm_split.</summary>
    ICommunicator Split(int color, int key);

    /// <summary>The ranks that share this rank's host (MPI_Comm_split_type with MPI_COMM_TYPE_SHARED).</summary>
    ICommunicator SplitByHost();

    void Barrier();

    void Broadcast(MpiBuffer buffer, int root);

    /// <summary>Equal counts: rank r's <paramref name="send"/> stands at r * send.Count of <paramref name="receive"/>.</summary>
    void Allgather(MpiBuffer send, MpiBuffer receive);

    void Allgatherv(MpiBuffer send, MpiBuffer receive, ReadOnlySpan<long> counts, ReadOnlySpan<long> displacements);

    /// <summary><paramref name="receive"/> is used on the root only.</summary>
    void Reduce(MpiBuffer send, MpiBuffer receive, MpiOperation operation, int root);

    void Allreduce(MpiBuffer send, MpiBuffer receive, MpiOperation operation);

    /// <summary>Rank r receives the reduced elements after the first sum(counts[..r]), counts[r] of them.</summary>
    void ReduceScatter(MpiBuffer send, MpiBuffer receive, ReadOnlySpan<long> counts, MpiOperation operation);

    void Alltoallv(
        MpiBuffer send, ReadOnlySpan<long> sendCounts, ReadOnlySpan<long> sendDisplacements,
        MpiBuffer receive, ReadOnlySpan<long> receiveCounts, ReadOnlySpan<long> receiveDisplacements);

    void Send(MpiBuffer buffer, int destination, int tag);

    void Receive(MpiBuffer buffer, int source, int tag);

    IMpiRequest StartBarrier();

    IMpiRequest StartBroadcast(MpiBuffer buffer, int root)
    {
        Broadcast(buffer, root);
        return Completed.Instance;
    }

    IMpiRequest StartAllgatherv(MpiBuffer send, MpiBuffer receive, ReadOnlySpan<long> counts, ReadOnlySpan<long> displacements)
    {
        Allgatherv(send, receive, counts, displacements);
        return Completed.Instance;
    }

    IMpiRequest StartAllreduce(MpiBuffer send, MpiBuffer receive, MpiOperation operation)
    {
        Allreduce(send, receive, operation);
        return Completed.Instance;
    }

    IMpiRequest StartReduceScatter(MpiBuffer send, MpiBuffer receive, ReadOnlySpan<long> counts, MpiOperation operation)
    {
        ReduceScatter(send, receive, counts, operation);
        return Completed.Instance;
    }

    IMpiRequest StartAlltoallv(
        MpiBuffer send, ReadOnlySpan<long> sendCounts, ReadOnlySpan<long> sendDisplacements,
        MpiBuffer receive, ReadOnlySpan<long> receiveCounts, ReadOnlySpan<long> receiveDisplacements)
    {
        Alltoallv(send, sendCounts, sendDisplacements, receive, receiveCounts, receiveDisplacements);
        return Completed.Instance;
    }

    IMpiRequest StartSend(MpiBuffer buffer, int destination, int tag);

    IMpiRequest StartReceive(MpiBuffer buffer, int source, int tag);

    /// <summary>Whether a message with this tag, from any rank, waits to be received (MPI_Iprobe); never blocks.</summary>
    bool HasMessage(int tag);

    /// <summary>Ends every rank of the job at once (MPI_Abort).</summary>
    void Abort(int exitCode);
}

/// <summary>A non-blocking call under way. Its buffers must live, unchanged, until it has completed.</summary>
public interface IMpiRequest
{
    void Wait();

    /// <summary>True once it has completed; never blocks.</summary>
    bool Test();
}

/// <summary>An MPI call failed; the message holds the call's name and MPI's own text.</summary>
public sealed class MpiException : Exception
{
    public MpiException(string call, int code, string text) : base($"{call}: {text} (code {code})")
    {
        Call = call;
        Code = code;
    }

    public string Call { get; }

    public int Code { get; }
}
