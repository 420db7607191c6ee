namespace LoftHpc.Mpi;

/// <summary>One process without a launcher: a group of this rank alone, without an MPI library.</summary>
internal sealed unsafe class SelfCommunicator : ICommunicator
{
    public int Rank => 0;

    public int Size => 1;

    public ICommunicator Split(int color, int key) => new SelfCommunicator();

    public ICommunicator SplitByHost() => new SelfCommunicator();

    public void Dispose()
    {
    }

    public void Barrier()
    {
    }

    public void Broadcast(MpiBuffer buffer, int root) => CheckRank(root, "MPI_Bcast");

    public void Allgather(MpiBuffer send, MpiBuffer receive) => Copy(send, receive);

    public void Allgatherv(MpiBuffer send, MpiBuffer receive, ReadOnlySpan<long> counts, ReadOnlySpan<long> displacements) =>
        Copy(send, receive.Slice(displacements[0], counts[0]));

    public void Reduce(MpiBuffer send, MpiBuffer receive, MpiOperation operation, int root)
    {
        CheckRank(root, "MPI_Reduce");
        Copy(send, receive);
    }

    public void Allreduce(MpiBuffer send, MpiBuffer receive, MpiOperation operation) => Copy(send, receive);

    public void ReduceScatter(MpiBuffer send, MpiBuffer receive, ReadOnlySpan<long> counts, MpiOperation operation) =>
        Copy(send.IsInPlace ? send : send.Slice(0, counts[0]), receive.Slice(0, counts[0]));

    public void Alltoallv(
        MpiBuffer send, ReadOnlySpan<long> sendCounts, ReadOnlySpan<long> sendDisplacements,
        MpiBuffer receive, ReadOnlySpan<long> receiveCounts, ReadOnlySpan<long> receiveDisplacements) =>
        Copy(
            send.IsInPlace ? send : send.Slice(sendDisplacements[0], sendCounts[0]),
            receive.Slice(receiveDisplacements[0], receiveCounts[0]));

    public void Send(MpiBuffer buffer, int destination, int tag) => throw Alone("MPI_Send");

    public void Receive(MpiBuffer buffer, int source, int tag) => throw Alone("MPI_Recv");

    public IMpiRequest StartBarrier() => Completed.Instance;

    public IMpiRequest StartSend(MpiBuffer buffer, int destination, int tag) => throw Alone("MPI_Isend");

    public IMpiRequest StartReceive(MpiBuffer buffer, int source, int tag) => throw Alone("MPI_Irecv");

    public bool HasMessage(int tag) => false;

    public void Abort(int exitCode) => Environment.Exit(exitCode);

    private static void CheckRank(int root, string call)
    {
        if (root != 0) throw new MpiException(call, 0, $"rank {root} does not exist: this process is alone");
    }

    private static MpiException Alone(string call) => new(call, 0, "this process is alone, there is nobody to send to");

    private static void Copy(MpiBuffer send, MpiBuffer receive)
    {
        if (send.IsInPlace) return;
        if (send.Type != receive.Type || send.Count != receive.Count)
            throw new ArgumentException($"{send.Count} {send.Type} to send, {receive.Count} {receive.Type} to receive", nameof(send));
        Buffer.MemoryCopy((void*)send.Address, (void*)receive.Address, receive.Bytes, send.Bytes);
    }
}

/// <summary>The request of a call that has completed already.</summary>
internal sealed class Completed : IMpiRequest
{
    public static readonly Completed Instance = new();

    public void Wait()
    {
    }

    public bool Test() => true;
}
