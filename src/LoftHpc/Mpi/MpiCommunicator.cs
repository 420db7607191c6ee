using System.Runtime.InteropServices;

namespace LoftHpc.Mpi;

/// <summary>
/// A communicator of the system's MPI library. Calls whose counts or displacements do not fit into an int go through
/// MPI 4's large-count calls; where the library lacks them they go in pieces, and what cannot go in pieces is refused.
/// Past an int's range both sides of a send state the same count.
/// </summary>
internal sealed unsafe class MpiCommunicator : ICommunicator
{
    /// <summary>Elements of one piece of a call that goes in pieces: bounds the memory that MPI takes for a reduction.</summary>
    private const long LargestPiece = 1L << 27;

    private readonly MpiLibrary _library;
    private readonly bool _owned;
    private nint _handle;

    /// <param name="owned">Whether disposal frees the communicator (collective, as MPI_Comm_free).</param>
    public MpiCommunicator(MpiLibrary library, nint handle, bool owned)
    {
        _library = library;
        _handle = handle;
        _owned = owned;
        library.CommSetErrorHandler.Call(handle, library.Abi.ErrorsReturn);
        int value = 0;
        library.CommRank.Call(handle, (nint)(&value));
        Rank = value;
        library.CommSize.Call(handle, (nint)(&value));
        Size = value;
    }

    public int Rank { get; }

    public int Size { get; }

    /// <summary>MPI's handle of the communicator.</summary>
    internal nint CommunicatorHandle => _handle;

    /// <summary>The largest count or displacement for the calls with int counts; tests lower it.</summary>
    internal long CountLimit { get; init; } = int.MaxValue;

    /// <summary>Whether MPI 4's large-count calls are used past the limit; tests turn it off.</summary>
    internal bool UseLargeCounts { get; init; } = true;

    private bool HasLarge => UseLargeCounts && _library.HasLargeCounts;

    public ICommunicator Split(int color, int key)
    {
        nint result = 0;
        _library.CommSplit.Call(_handle, color, key, (nint)(&result));
        return Child(result);
    }

    public ICommunicator SplitByHost()
    {
        nint result = 0;
        _library.CommSplitType.Call(_handle, _library.Abi.SharedMemoryType, Rank, _library.Abi.InfoNull, (nint)(&result));
        return Child(result);
    }

    /// <summary>The same ranks with a context of their own (MPI_Comm_dup), and settings for tests.</summary>
    internal MpiCommunicator Duplicate(long countLimit = int.MaxValue, bool useLargeCounts = true)
    {
        nint result = 0;
        _library.CommDuplicate.Call(_handle, (nint)(&result));
        return new MpiCommunicator(_library, result, owned: true) { CountLimit = countLimit, UseLargeCounts = useLargeCounts };
    }

    private MpiCommunicator Child(nint handle) =>
        new(_library, handle, owned: true) { CountLimit = CountLimit, UseLargeCounts = UseLargeCounts };

    public void Dispose()
    {
        if (!_owned || _handle == 0) return;
        nint handle = _handle;
        _handle = 0;
        _library.CommFree.Call((nint)(&handle));
    }

    public void Abort(int exitCode) => _library.Abort.Call(_handle, exitCode);

    public void Barrier() => BarrierCall(0);

    public IMpiRequest StartBarrier() => Begin(BarrierCall);

    private void BarrierCall(nint request) => _library.Barrier.Of(false, request != 0).Call(_handle, request);

    // ---- Calls of one count: in pieces, a call is a row of the same calls on parts of the buffers. ----

    public void Broadcast(MpiBuffer buffer, int root)
    {
        if (FitsOneCall(buffer.Count)) BroadcastCall(buffer, root, 0);
        else RunAll(BroadcastPieces(buffer, root));
    }

    public IMpiRequest StartBroadcast(MpiBuffer buffer, int root) =>
        FitsOneCall(buffer.Count) ? Begin(r => BroadcastCall(buffer, root, r)) : BeginAll(BroadcastPieces(buffer, root));

    private void BroadcastCall(MpiBuffer buffer, int root, nint request) =>
        Form(_library.Broadcast, buffer.Count, request).Call(buffer.Address, (nint)buffer.Count, Type(buffer), root, _handle, request);

    private IEnumerable<Action<nint>> BroadcastPieces(MpiBuffer buffer, int root) =>
        Pieces(buffer.Count).Select(p => (Action<nint>)(r => BroadcastCall(buffer.Slice(p.Start, p.Count), root, r)));

    public void Allreduce(MpiBuffer send, MpiBuffer receive, MpiOperation operation)
    {
        CheckSameShape(send, receive);
        if (FitsOneCall(receive.Count)) AllreduceCall(send, receive, operation, 0);
        else RunAll(AllreducePieces(send, receive, operation));
    }

    public IMpiRequest StartAllreduce(MpiBuffer send, MpiBuffer receive, MpiOperation operation)
    {
        CheckSameShape(send, receive);
        return FitsOneCall(receive.Count)
            ? Begin(r => AllreduceCall(send, receive, operation, r))
            : BeginAll(AllreducePieces(send, receive, operation));
    }

    private void AllreduceCall(MpiBuffer send, MpiBuffer receive, MpiOperation operation, nint request) =>
        Form(_library.Allreduce, receive.Count, request).Call(
            SendAddress(send), receive.Address, (nint)receive.Count, Type(receive), Handle(operation, receive.Type), _handle, request);

    private IEnumerable<Action<nint>> AllreducePieces(MpiBuffer send, MpiBuffer receive, MpiOperation operation) =>
        Pieces(receive.Count).Select(p => (Action<nint>)(r =>
            AllreduceCall(SliceSend(send, p.Start, p.Count), receive.Slice(p.Start, p.Count), operation, r)));

    public void Reduce(MpiBuffer send, MpiBuffer receive, MpiOperation operation, int root)
    {
        CheckReduce(send, receive, root);
        long count = send.IsInPlace ? receive.Count : send.Count;
        if (FitsOneCall(count)) ReduceCall(send, receive, operation, root, 0);
        else RunAll(ReducePieces(send, receive, operation, root));
    }

    private void ReduceCall(MpiBuffer send, MpiBuffer receive, MpiOperation operation, int root, nint request)
    {
        MpiBuffer shape = send.IsInPlace ? receive : send;
        Form(_library.Reduce, shape.Count, request).Call(
            SendAddress(send), receive.Address, (nint)shape.Count, Type(shape), Handle(operation, shape.Type), root, _handle, request);
    }

    private IEnumerable<Action<nint>> ReducePieces(MpiBuffer send, MpiBuffer receive, MpiOperation operation, int root) =>
        Pieces(send.IsInPlace ? receive.Count : send.Count).Select(p => (Action<nint>)(r => ReduceCall(
            SliceSend(send, p.Start, p.Count), Rank == root ? receive.Slice(p.Start, p.Count) : default, operation, root, r)));

    public void Send(MpiBuffer buffer, int destination, int tag)
    {
        if (FitsOneCall(buffer.Count)) SendCall(buffer, destination, tag, 0);
        else RunAll(SendPieces(buffer, destination, tag));
    }

    public IMpiRequest StartSend(MpiBuffer buffer, int destination, int tag) =>
        FitsOneCall(buffer.Count) ? Begin(r => SendCall(buffer, destination, tag, r)) : BeginAll(SendPieces(buffer, destination, tag));

    private void SendCall(MpiBuffer buffer, int destination, int tag, nint request) =>
        Form(_library.Send, buffer.Count, request).Call(
            buffer.Address, (nint)buffer.Count, Type(buffer), destination, tag, _handle, request);

    private IEnumerable<Action<nint>> SendPieces(MpiBuffer buffer, int destination, int tag) =>
        Pieces(buffer.Count).Select(p => (Action<nint>)(r => SendCall(buffer.Slice(p.Start, p.Count), destination, tag, r)));

    public void Receive(MpiBuffer buffer, int source, int tag)
    {
        if (FitsOneCall(buffer.Count)) ReceiveCall(buffer, source, tag, 0);
        else RunAll(ReceivePieces(buffer, source, tag));
    }

    public IMpiRequest StartReceive(MpiBuffer buffer, int source, int tag) =>
        FitsOneCall(buffer.Count) ? Begin(r => ReceiveCall(buffer, source, tag, r)) : BeginAll(ReceivePieces(buffer, source, tag));

    private void ReceiveCall(MpiBuffer buffer, int source, int tag, nint request) =>
        Form(_library.Receive, buffer.Count, request).Call(
            buffer.Address, (nint)buffer.Count, Type(buffer), source, tag, _handle, request == 0 ? _library.Abi.StatusIgnore : request);

    private IEnumerable<Action<nint>> ReceivePieces(MpiBuffer buffer, int source, int tag) =>
        Pieces(buffer.Count).Select(p => (Action<nint>)(r => ReceiveCall(buffer.Slice(p.Start, p.Count), source, tag, r)));

    public bool HasMessage(int tag)
    {
        int found = 0;
        _library.Probe.Call(_library.Abi.AnySource, tag, _handle, (nint)(&found), _library.Abi.StatusIgnore);
        return found != 0;
    }

    // ---- Calls with a count for each rank. ----

    public void Allgather(MpiBuffer send, MpiBuffer receive)
    {
        long count = CheckAllgather(send, receive);
        if (receive.Count <= CountLimit || HasLarge)
        {
            _library.Allgather.Of(receive.Count > CountLimit, false).Call(
                SendAddress(send), (nint)count, Type(receive), receive.Address, (nint)count, Type(receive), _handle);
            return;
        }
        long[] counts = new long[Size], displacements = new long[Size];
        for (int r = 0; r < Size; r++) (counts[r], displacements[r]) = (count, r * count);
        RunAll(AllgathervPieces(send, receive, counts, displacements));
    }

    public void Allgatherv(MpiBuffer send, MpiBuffer receive, ReadOnlySpan<long> counts, ReadOnlySpan<long> displacements)
    {
        CheckAllgatherv(send, receive, counts, displacements);
        if (InPieces(counts, displacements))
        {
            RunAll(AllgathervPieces(send, receive, counts.ToArray(), displacements.ToArray()));
            return;
        }
        bool large = IsPastLimit(counts, displacements);
        long* memory = stackalloc long[2 * Size];
        Write(counts, memory, large);
        Write(displacements, memory + Size, large);
        AllgathervCall(send, receive, memory, large, 0);
    }

    public IMpiRequest StartAllgatherv(MpiBuffer send, MpiBuffer receive, ReadOnlySpan<long> counts, ReadOnlySpan<long> displacements)
    {
        CheckAllgatherv(send, receive, counts, displacements);
        if (InPieces(counts, displacements)) return BeginAll(AllgathervPieces(send, receive, counts.ToArray(), displacements.ToArray()));
        bool large = IsPastLimit(counts, displacements);
        MpiRequest request = new(_library, 2 * Size);
        Write(counts, request.Counts, large);
        Write(displacements, request.Counts + Size, large);
        return Begin(request, slot => AllgathervCall(send, receive, request.Counts, large, slot));
    }

    private void AllgathervCall(MpiBuffer send, MpiBuffer receive, long* memory, bool large, nint request) =>
        _library.Allgatherv.Of(large, request != 0).Call(
            SendAddress(send), (nint)send.Count, Type(receive),
            receive.Address, (nint)memory, (nint)(memory + Size), Type(receive), _handle, request);

    /// <summary>Every rank broadcasts its part, in pieces.</summary>
    private IEnumerable<Action<nint>> AllgathervPieces(MpiBuffer send, MpiBuffer receive, long[] counts, long[] displacements)
    {
        if (!send.IsInPlace) Copy(send, receive.Slice(displacements[Rank], counts[Rank]));
        return Enumerable.Range(0, Size).SelectMany(root => BroadcastPieces(receive.Slice(displacements[root], counts[root]), root));
    }

    public void ReduceScatter(MpiBuffer send, MpiBuffer receive, ReadOnlySpan<long> counts, MpiOperation operation)
    {
        CheckReduceScatter(send, receive, counts);
        if (InPieces(counts, default))
        {
            RunAll(ReduceScatterPieces(send, receive, counts.ToArray(), operation));
            MoveResult(send, receive, counts);
            return;
        }
        bool large = IsPastLimit(counts, default);
        long* memory = stackalloc long[Size];
        Write(counts, memory, large);
        ReduceScatterCall(send, receive, memory, operation, large, 0);
    }

    public IMpiRequest StartReduceScatter(MpiBuffer send, MpiBuffer receive, ReadOnlySpan<long> counts, MpiOperation operation)
    {
        CheckReduceScatter(send, receive, counts);
        if (InPieces(counts, default))
        {
            long[] kept = counts.ToArray();
            return BeginAll(ReduceScatterPieces(send, receive, kept, operation), () => MoveResult(send, receive, kept));
        }
        bool large = IsPastLimit(counts, default);
        MpiRequest request = new(_library, Size);
        Write(counts, request.Counts, large);
        return Begin(request, slot => ReduceScatterCall(send, receive, request.Counts, operation, large, slot));
    }

    private void ReduceScatterCall(MpiBuffer send, MpiBuffer receive, long* memory, MpiOperation operation, bool large, nint request) =>
        _library.ReduceScatter.Of(large, request != 0).Call(
            SendAddress(send), receive.Address, (nint)memory, Type(receive), Handle(operation, receive.Type), _handle, request);

    /// <summary>Every part is reduced to its rank, in pieces. In place, a part's result stands where the part stood.</summary>
    private IEnumerable<Action<nint>> ReduceScatterPieces(MpiBuffer send, MpiBuffer receive, long[] counts, MpiOperation operation)
    {
        long start = 0;
        for (int root = 0; root < Size; root++)
        {
            MpiBuffer part = (send.IsInPlace ? receive : send).Slice(start, counts[root]);
            MpiBuffer result = Rank != root ? default : send.IsInPlace ? part : receive.Slice(0, counts[root]);
            bool inPlace = send.IsInPlace && Rank == root;
            foreach (Action<nint> piece in ReducePieces(inPlace ? MpiBuffer.InPlace : part, result, operation, root)) yield return piece;
            start += counts[root];
        }
    }

    /// <summary>MPI_IN_PLACE puts the result at the start of the buffer.</summary>
    private void MoveResult(MpiBuffer send, MpiBuffer receive, ReadOnlySpan<long> counts)
    {
        if (send.IsInPlace) Copy(receive.Slice(Sum(counts[..Rank]), counts[Rank]), receive.Slice(0, counts[Rank]));
    }

    public void Alltoallv(
        MpiBuffer send, ReadOnlySpan<long> sendCounts, ReadOnlySpan<long> sendDisplacements,
        MpiBuffer receive, ReadOnlySpan<long> receiveCounts, ReadOnlySpan<long> receiveDisplacements)
    {
        bool large = CheckAlltoallv(send, sendCounts, sendDisplacements, receive, receiveCounts, receiveDisplacements);
        long* memory = stackalloc long[4 * Size];
        WriteAlltoallv(sendCounts, sendDisplacements, receiveCounts, receiveDisplacements, memory, large);
        AlltoallvCall(send, receive, memory, large, 0);
    }

    public IMpiRequest StartAlltoallv(
        MpiBuffer send, ReadOnlySpan<long> sendCounts, ReadOnlySpan<long> sendDisplacements,
        MpiBuffer receive, ReadOnlySpan<long> receiveCounts, ReadOnlySpan<long> receiveDisplacements)
    {
        bool large = CheckAlltoallv(send, sendCounts, sendDisplacements, receive, receiveCounts, receiveDisplacements);
        MpiRequest request = new(_library, 4 * Size);
        WriteAlltoallv(sendCounts, sendDisplacements, receiveCounts, receiveDisplacements, request.Counts, large);
        return Begin(request, slot => AlltoallvCall(send, receive, request.Counts, large, slot));
    }

    private void AlltoallvCall(MpiBuffer send, MpiBuffer receive, long* memory, bool large, nint request) =>
        _library.Alltoallv.Of(large, request != 0).Call(
            SendAddress(send), (nint)memory, (nint)(memory + Size), Type(receive),
            receive.Address, (nint)(memory + (2 * Size)), (nint)(memory + (3 * Size)), Type(receive), _handle, request);

    private void WriteAlltoallv(
        ReadOnlySpan<long> sendCounts, ReadOnlySpan<long> sendDisplacements,
        ReadOnlySpan<long> receiveCounts, ReadOnlySpan<long> receiveDisplacements, long* memory, bool large)
    {
        // Not significant for MPI_IN_PLACE, and then they may be empty.
        Write(sendCounts, memory, large);
        Write(sendDisplacements, memory + Size, large);
        Write(receiveCounts, memory + (2 * Size), large);
        Write(receiveDisplacements, memory + (3 * Size), large);
    }

    // ---- Requests ----

    private IMpiRequest Begin(Action<nint> call) => Begin(new MpiRequest(_library), call);

    private static MpiRequest Begin(MpiRequest request, Action<nint> call)
    {
        try
        {
            call(request.Slot);
            return request;
        }
        catch
        {
            request.Free();
            throw;
        }
    }

    private MpiRequestSet BeginAll(IEnumerable<Action<nint>> calls, Action? finish = null) => new(calls.Select(Begin).ToList(), finish);

    private static void RunAll(IEnumerable<Action<nint>> calls)
    {
        foreach (Action<nint> call in calls) call(0);
    }

    // ---- Counts. Whether a collective goes in pieces must come out alike on every rank, so it depends on nothing else. ----

    private bool FitsOneCall(long count) => count <= CountLimit || HasLarge;

    private bool InPieces(ReadOnlySpan<long> counts, ReadOnlySpan<long> displacements)
    {
        if (HasLarge) return false;
        if (Sum(counts) > CountLimit) return true;
        foreach (long displacement in displacements)
        {
            if (displacement > CountLimit) throw TooLarge("a displacement", displacement);
        }
        return false;
    }

    private bool IsPastLimit(ReadOnlySpan<long> counts, ReadOnlySpan<long> displacements)
    {
        foreach (long displacement in displacements)
        {
            if (displacement > CountLimit) return true;
        }
        return Sum(counts) > CountLimit;
    }

    private MpiException TooLarge(string what, long value) => new(
        "MPI", 0, $"{what} of {value} elements is past the range of an int, and {_library.Path} has no calls with large counts");

    private MpiFunction Form(MpiForms forms, long count, nint request) => forms.Of(count > CountLimit, request != 0);

    private IEnumerable<(long Start, long Count)> Pieces(long count)
    {
        long piece = Math.Min(CountLimit, LargestPiece);
        for (long start = 0; start < count; start += piece) yield return (start, Math.Min(piece, count - start));
    }

    private static long Sum(ReadOnlySpan<long> counts)
    {
        long sum = 0;
        foreach (long count in counts) sum = checked(sum + count);
        return sum;
    }

    /// <summary>Writes counts as MPI's int or MPI_Count (MPI_Aint for displacements), each array in room for long.</summary>
    private static void Write(ReadOnlySpan<long> values, long* memory, bool large)
    {
        if (large)
        {
            values.CopyTo(new Span<long>(memory, values.Length));
            return;
        }
        int* narrow = (int*)memory;
        for (int i = 0; i < values.Length; i++) narrow[i] = checked((int)values[i]);
    }

    // ---- Buffers ----

    private nint Type(MpiBuffer buffer) => _library.Abi.Handle(buffer.Type);

    private nint Handle(MpiOperation operation, MpiDataType type)
    {
        CheckOperation(operation, type);
        return _library.Abi.Handle(operation);
    }

    private nint SendAddress(MpiBuffer send) => send.IsInPlace ? _library.Abi.InPlace : send.Address;

    private static MpiBuffer SliceSend(MpiBuffer send, long start, long count) => send.IsInPlace ? send : send.Slice(start, count);

    private static void Copy(MpiBuffer source, MpiBuffer target) =>
        Buffer.MemoryCopy((void*)source.Address, (void*)target.Address, target.Bytes, source.Bytes);

    // ---- Checks: MPI would write past the end of a buffer without an error. MPI.NET's calls have the same. ----

    private static void CheckTypes(MpiBuffer send, MpiBuffer receive)
    {
        if (!send.IsInPlace && send.Type != receive.Type)
            throw new ArgumentException($"{send.Type} to send and {receive.Type} to receive", nameof(send));
    }

    internal static void CheckSameShape(MpiBuffer send, MpiBuffer receive)
    {
        CheckTypes(send, receive);
        if (!send.IsInPlace && send.Count != receive.Count)
            throw new ArgumentException($"{send.Count} elements to send and {receive.Count} to receive", nameof(send));
    }

    internal static void CheckOperation(MpiOperation operation, MpiDataType type)
    {
        if (type == MpiDataType.Byte && operation != MpiOperation.Sum)
            throw new ArgumentException($"{operation} of bytes: MPICH 4.0 takes them for signed numbers", nameof(operation));
        if (type == MpiDataType.Bfloat16) throw new ArgumentException($"{operation} of bfloat16: MPI has no such numbers", nameof(operation));
    }

    internal void CheckReduce(MpiBuffer send, MpiBuffer receive, int root)
    {
        if (Rank == root) CheckSameShape(send, receive);
        else if (send.IsInPlace) throw new ArgumentException("MPI_IN_PLACE is for the root of a reduction only", nameof(send));
    }

    /// <summary>The elements of one rank.</summary>
    internal long CheckAllgather(MpiBuffer send, MpiBuffer receive)
    {
        long count = receive.Count / Size;
        if (receive.Count % Size != 0 || (!send.IsInPlace && send.Count != count))
            throw new ArgumentException($"{receive.Count} elements to receive, {send.Count} to send, over {Size} ranks", nameof(receive));
        CheckTypes(send, receive);
        return count;
    }

    private void CheckParts(MpiBuffer buffer, ReadOnlySpan<long> counts, ReadOnlySpan<long> displacements, string name)
    {
        if (counts.Length != Size || displacements.Length != Size)
            throw new ArgumentException($"{counts.Length} counts and {displacements.Length} displacements for {Size} ranks", name);
        for (int r = 0; r < Size; r++)
        {
            if (counts[r] < 0 || displacements[r] < 0 || checked(displacements[r] + counts[r]) > buffer.Count)
                throw new ArgumentException($"rank {r}: {counts[r]} elements at {displacements[r]} of {buffer.Count}", name);
        }
    }

    internal void CheckAllgatherv(MpiBuffer send, MpiBuffer receive, ReadOnlySpan<long> counts, ReadOnlySpan<long> displacements)
    {
        CheckTypes(send, receive);
        CheckParts(receive, counts, displacements, nameof(counts));
        if (!send.IsInPlace && send.Count != counts[Rank])
            throw new ArgumentException($"{send.Count} elements to send, {counts[Rank]} in the counts", nameof(send));
    }

    internal void CheckReduceScatter(MpiBuffer send, MpiBuffer receive, ReadOnlySpan<long> counts)
    {
        CheckTypes(send, receive);
        if (counts.Length != Size) throw new ArgumentException($"{counts.Length} counts for {Size} ranks", nameof(counts));
        long total = Sum(counts);
        foreach (long count in counts) ArgumentOutOfRangeException.ThrowIfNegative(count, nameof(counts));
        if (send.IsInPlace ? receive.Count < total : send.Count < total || receive.Count < counts[Rank])
        {
            throw new ArgumentException(
                $"{total} elements to reduce, {counts[Rank]} to receive: {send.Count} and {receive.Count} given", nameof(receive));
        }
    }

    /// <summary>Whether large counts are needed. A rank does not know the other ranks' counts, so pieces are no choice here.</summary>
    internal bool CheckAlltoallv(
        MpiBuffer send, ReadOnlySpan<long> sendCounts, ReadOnlySpan<long> sendDisplacements,
        MpiBuffer receive, ReadOnlySpan<long> receiveCounts, ReadOnlySpan<long> receiveDisplacements)
    {
        CheckTypes(send, receive);
        CheckParts(receive, receiveCounts, receiveDisplacements, nameof(receiveCounts));
        if (!send.IsInPlace) CheckParts(send, sendCounts, sendDisplacements, nameof(sendCounts));
        bool large = IsPastLimit(receiveCounts, receiveDisplacements) || IsPastLimit(sendCounts, sendDisplacements);
        return !large || HasLarge ? large : throw TooLarge("MPI_Alltoallv", Math.Max(Sum(sendCounts), Sum(receiveCounts)));
    }
}
