using System.Diagnostics;
using LoftHpc.Mpi;

namespace LoftHpc.Communication;

/// <summary>
/// Counts every call in a ledger by the convention of <see cref="TransferCount"/>, and passes it on. Non-blocking calls
/// stand under the same names; their time is what the start and the waiting took. A barrier is a call without messages.
/// In-place alltoallv has the counts of what is received on both sides.
/// </summary>
public sealed class MeteredCommunicator(ICommunicator inner, CommunicationLedger ledger) : ICommunicator
{
    public int Rank => inner.Rank;

    public int Size => inner.Size;

    public CommunicationLedger Ledger => ledger;

    /// <summary>The part is counted in the same ledger.</summary>
    public ICommunicator Split(int color, int key) => new MeteredCommunicator(inner.Split(color, key), ledger);

    /// <inheritdoc cref="Split"/>
    public ICommunicator SplitByHost() => new MeteredCommunicator(inner.SplitByHost(), ledger);

    public void Abort(int exitCode) => inner.Abort(exitCode);

    public void Dispose() => inner.Dispose();

    public void Barrier()
    {
        using Call call = Count("barrier", default);
        inner.Barrier();
    }

    public IMpiRequest StartBarrier()
    {
        using Call call = Count("barrier", default);
        return call.Meter(inner.StartBarrier());
    }

    public void Broadcast(MpiBuffer buffer, int root)
    {
        using Call call = CountBroadcast(buffer, root);
        inner.Broadcast(buffer, root);
    }

    public IMpiRequest StartBroadcast(MpiBuffer buffer, int root)
    {
        using Call call = CountBroadcast(buffer, root);
        return call.Meter(inner.StartBroadcast(buffer, root));
    }

    public void Allgather(MpiBuffer send, MpiBuffer receive)
    {
        using Call call = Count("allgather", TransferCount.Allgather(Size, receive.Count / Size, receive.ElementBytes));
        inner.Allgather(send, receive);
    }

    public void Allgatherv(MpiBuffer send, MpiBuffer receive, ReadOnlySpan<long> counts, ReadOnlySpan<long> displacements)
    {
        using Call call = CountAllgatherv(receive, counts);
        inner.Allgatherv(send, receive, counts, displacements);
    }

    public IMpiRequest StartAllgatherv(MpiBuffer send, MpiBuffer receive, ReadOnlySpan<long> counts, ReadOnlySpan<long> displacements)
    {
        using Call call = CountAllgatherv(receive, counts);
        return call.Meter(inner.StartAllgatherv(send, receive, counts, displacements));
    }

    public void Reduce(MpiBuffer send, MpiBuffer receive, MpiOperation operation, int root)
    {
        MpiBuffer shape = send.IsInPlace ? receive : send;
        using Call call = Count("reduce", TransferCount.Reduce(Rank, Size, root, shape.Count, shape.ElementBytes));
        inner.Reduce(send, receive, operation, root);
    }

    public void Allreduce(MpiBuffer send, MpiBuffer receive, MpiOperation operation)
    {
        using Call call = CountAllreduce(receive);
        inner.Allreduce(send, receive, operation);
    }

    public IMpiRequest StartAllreduce(MpiBuffer send, MpiBuffer receive, MpiOperation operation)
    {
        using Call call = CountAllreduce(receive);
        return call.Meter(inner.StartAllreduce(send, receive, operation));
    }

    public void ReduceScatter(MpiBuffer send, MpiBuffer receive, ReadOnlySpan<long> counts, MpiOperation operation)
    {
        using Call call = CountReduceScatter(receive, counts);
        inner.ReduceScatter(send, receive, counts, operation);
    }

    public IMpiRequest StartReduceScatter(MpiBuffer send, MpiBuffer receive, ReadOnlySpan<long> counts, MpiOperation operation)
    {
        using Call call = CountReduceScatter(receive, counts);
        return call.Meter(inner.StartReduceScatter(send, receive, counts, operation));
    }

    public void Alltoallv(
        MpiBuffer send, ReadOnlySpan<long> sendCounts, ReadOnlySpan<long> sendDisplacements,
        MpiBuffer receive, ReadOnlySpan<long> receiveCounts, ReadOnlySpan<long> receiveDisplacements)
    {
        using Call call = CountAlltoallv(send, sendCounts, receive, receiveCounts);
        inner.Alltoallv(send, sendCounts, sendDisplacements, receive, receiveCounts, receiveDisplacements);
    }

    public IMpiRequest StartAlltoallv(
        MpiBuffer send, ReadOnlySpan<long> sendCounts, ReadOnlySpan<long> sendDisplacements,
        MpiBuffer receive, ReadOnlySpan<long> receiveCounts, ReadOnlySpan<long> receiveDisplacements)
    {
        using Call call = CountAlltoallv(send, sendCounts, receive, receiveCounts);
        return call.Meter(inner.StartAlltoallv(send, sendCounts, sendDisplacements, receive, receiveCounts, receiveDisplacements));
    }

    public void Send(MpiBuffer buffer, int destination, int tag)
    {
        using Call call = CountSend(buffer, destination);
        inner.Send(buffer, destination, tag);
    }

    public IMpiRequest StartSend(MpiBuffer buffer, int destination, int tag)
    {
        using Call call = CountSend(buffer, destination);
        return call.Meter(inner.StartSend(buffer, destination, tag));
    }

    public void Receive(MpiBuffer buffer, int source, int tag)
    {
        using Call call = CountReceive(buffer, source);
        inner.Receive(buffer, source, tag);
    }

    public IMpiRequest StartReceive(MpiBuffer buffer, int source, int tag)
    {
        using Call call = CountReceive(buffer, source);
        return call.Meter(inner.StartReceive(buffer, source, tag));
    }

    public bool HasMessage(int tag) => inner.HasMessage(tag);

    private Call CountBroadcast(MpiBuffer buffer, int root) =>
        Count("broadcast", TransferCount.Broadcast(Rank, Size, root, buffer.Count, buffer.ElementBytes));

    private Call CountAllgatherv(MpiBuffer receive, ReadOnlySpan<long> counts) =>
        Count("allgatherv", TransferCount.Allgatherv(Rank, counts, receive.ElementBytes));

    private Call CountAllreduce(MpiBuffer receive) =>
        Count("allreduce", TransferCount.Allreduce(Rank, Size, receive.Count, receive.ElementBytes));

    private Call CountReduceScatter(MpiBuffer receive, ReadOnlySpan<long> counts) =>
        Count("reduce_scatter", TransferCount.ReduceScatter(Rank, counts, receive.ElementBytes));

    private Call CountAlltoallv(MpiBuffer send, ReadOnlySpan<long> sendCounts, MpiBuffer receive, ReadOnlySpan<long> receiveCounts) =>
        Count("alltoallv", TransferCount.Alltoallv(Rank, send.IsInPlace ? receiveCounts : sendCounts, receiveCounts, receive.ElementBytes));

    private Call CountSend(MpiBuffer buffer, int destination) =>
        Count("send", destination == Rank ? default : TransferCount.Send(buffer.Count, buffer.ElementBytes));

    private Call CountReceive(MpiBuffer buffer, int source) =>
        Count("receive", source == Rank ? default : TransferCount.Receive(buffer.Count, buffer.ElementBytes));

    private Call Count(string collective, Transfers transfers)
    {
        CommunicationLedger.Entry entry = ledger.Current(collective);
        entry.AddCall(transfers);
        return new Call(entry, Stopwatch.GetTimestamp());
    }

    /// <summary>One call under way in this thread; disposal adds its time.</summary>
    private readonly struct Call(CommunicationLedger.Entry entry, long start) : IDisposable
    {
        public MeteredRequest Meter(IMpiRequest request) => new(request, entry);

        public void Dispose() => entry.AddTimeSince(start);
    }

    private sealed class MeteredRequest(IMpiRequest request, CommunicationLedger.Entry entry) : IMpiRequest
    {
        public void Wait()
        {
            using Call call = new(entry, Stopwatch.GetTimestamp());
            request.Wait();
        }

        public bool Test()
        {
            using Call call = new(entry, Stopwatch.GetTimestamp());
            return request.Test();
        }
    }
}
