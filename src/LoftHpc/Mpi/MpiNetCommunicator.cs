using System.Diagnostics.CodeAnalysis;
using System.Runtime.InteropServices;
using MPI;

namespace LoftHpc.Mpi;

/// <summary>
/// A communicator whose calls go through the MPI.NET package. The program's own binding makes the communicator and frees
/// it; MPI.NET adopts it. MPI.NET's calls take managed arrays and int counts, so every call copies and larger counts are
/// refused; non-blocking collectives, which it lacks, complete before they return. Its calls on objects need a serialiser
/// that .NET no longer has: only the calls on arrays of numbers are used.
/// </summary>
internal sealed class MpiNetCommunicator : ICommunicator
{
    /// <summary>Above the tags that the program uses.</summary>
    private const int BarrierTag = 32_000;

    private readonly MpiCommunicator _own;
    private readonly Intracommunicator _adopted;

    /// <param name="own">Of the library that was given to <see cref="UseLibrary"/>.</param>
    [SuppressMessage("Usage", "CA1816", Justification = "The finalizer of what is adopted must not run; this class has none.")]
    public MpiNetCommunicator(MpiCommunicator own)
    {
        _own = own;
        _adopted = Intracommunicator.Adopt((int)own.CommunicatorHandle);
        // Its finalizer would call MPI_Comm_free, on a thread of its own.
        GC.SuppressFinalize(_adopted);
    }

    public int Rank => _own.Rank;

    public int Size => _own.Size;

    /// <summary>Gives MPI.NET the loaded library where it asks for msmpi.dll. Once in a process, before the first communicator.</summary>
    /// <param name="library">Of the MPICH family: MPI.NET has that family's handles and constants in its code.</param>
    public static void UseLibrary(MpiLibrary library) => NativeLibrary.SetDllImportResolver(
        typeof(Intracommunicator).Assembly, (name, _, _) => name == "msmpi.dll" ? library.Handle : 0);

    /// <summary>Frees the MPI types that MPI.NET makes at its first call and never frees: MPI_Finalize would warn of a leak.</summary>
    public static unsafe void FreeTypes(MpiLibrary library)
    {
        // An address is one of them: MPI.NET takes a C long for 32 bits, as on Windows.
        foreach (Type made in new[] { typeof(decimal), typeof(nint), typeof(nuint) })
        {
            int type = DatatypeCache.GetDatatype(made);
            library.Function("MPI_Type_free").Call((nint)(&type));
        }
    }

    public ICommunicator Split(int color, int key) => new MpiNetCommunicator((MpiCommunicator)_own.Split(color, key));

    public ICommunicator SplitByHost() => new MpiNetCommunicator((MpiCommunicator)_own.SplitByHost());

    public void Dispose() => _own.Dispose();

    public void Abort(int exitCode) => _own.Abort(exitCode);

    public void Barrier() => Call("MPI_Barrier", _adopted.Barrier);

    public void Broadcast(MpiBuffer buffer, int root) => Of(buffer.Type).Broadcast(buffer, root);

    public void Allgather(MpiBuffer send, MpiBuffer receive)
    {
        long count = _own.CheckAllgather(send, receive);
        long[] counts = new long[Size], displacements = new long[Size];
        for (int r = 0; r < Size; r++) (counts[r], displacements[r]) = (count, r * count);
        Allgatherv(send, receive, counts, displacements);
    }

    public void Allgatherv(MpiBuffer send, MpiBuffer receive, ReadOnlySpan<long> counts, ReadOnlySpan<long> displacements)
    {
        _own.CheckAllgatherv(send, receive, counts, displacements);
        Of(receive.Type).Allgatherv(
            send.IsInPlace ? receive.Slice(displacements[Rank], counts[Rank]) : send, receive, Ints(counts), Ints(displacements));
    }

    public void Reduce(MpiBuffer send, MpiBuffer receive, MpiOperation operation, int root)
    {
        _own.CheckReduce(send, receive, root);
        MpiBuffer values = send.IsInPlace ? receive : send;
        MpiCommunicator.CheckOperation(operation, values.Type);
        Of(values.Type).Reduce(values, receive, operation, root);
    }

    public void Allreduce(MpiBuffer send, MpiBuffer receive, MpiOperation operation)
    {
        MpiCommunicator.CheckSameShape(send, receive);
        MpiCommunicator.CheckOperation(operation, receive.Type);
        Of(receive.Type).Allreduce(send.IsInPlace ? receive : send, receive, operation);
    }

    public void ReduceScatter(MpiBuffer send, MpiBuffer receive, ReadOnlySpan<long> counts, MpiOperation operation)
    {
        _own.CheckReduceScatter(send, receive, counts);
        MpiCommunicator.CheckOperation(operation, receive.Type);
        int[] narrow = Ints(counts);
        Of(receive.Type).ReduceScatter((send.IsInPlace ? receive : send).Slice(0, narrow.Sum()), receive, narrow, operation);
    }

    public void Alltoallv(
        MpiBuffer send, ReadOnlySpan<long> sendCounts, ReadOnlySpan<long> sendDisplacements,
        MpiBuffer receive, ReadOnlySpan<long> receiveCounts, ReadOnlySpan<long> receiveDisplacements)
    {
        _own.CheckAlltoallv(send, sendCounts, sendDisplacements, receive, receiveCounts, receiveDisplacements);
        bool inPlace = send.IsInPlace;
        Of(receive.Type).Alltoallv(
            inPlace ? receive : send, Ints(inPlace ? receiveCounts : sendCounts), Ints(inPlace ? receiveDisplacements : sendDisplacements),
            receive, Ints(receiveCounts), Ints(receiveDisplacements));
    }

    public void Send(MpiBuffer buffer, int destination, int tag) => StartSend(buffer, destination, tag).Wait();

    public void Receive(MpiBuffer buffer, int source, int tag) => StartReceive(buffer, source, tag).Wait();

    public bool HasMessage(int tag) => _own.HasMessage(tag);

    /// <summary>Every rank sends a byte to every other, so that it does not block.</summary>
    public IMpiRequest StartBarrier()
    {
        List<IMpiRequest> parts = [];
        for (int r = 0; r < Size; r++)
        {
            int other = r;
            if (other == Rank) continue;
            parts.Add(ArrayRequest.Start("MPI_Irecv", () => _adopted.ImmediateReceive(other, BarrierTag, new byte[1])));
            parts.Add(ArrayRequest.Start("MPI_Isend", () => _adopted.ImmediateSend(new byte[1], other, BarrierTag)));
        }
        return new MpiRequestSet(parts, null);
    }

    public IMpiRequest StartSend(MpiBuffer buffer, int destination, int tag) => Of(buffer.Type).StartSend(buffer, destination, tag);

    public IMpiRequest StartReceive(MpiBuffer buffer, int source, int tag) => Of(buffer.Type).StartReceive(buffer, source, tag);

    private Typed Of(MpiDataType type) => type switch
    {
        MpiDataType.Byte => new Typed<byte>(_adopted),
        MpiDataType.Int32 => new Typed<int>(_adopted),
        MpiDataType.Int64 => new Typed<long>(_adopted),
        MpiDataType.Float32 => new Typed<float>(_adopted),
        MpiDataType.Bfloat16 => new Typed<short>(_adopted),
        _ => new Typed<double>(_adopted),
    };

    private static int[] Ints(ReadOnlySpan<long> values)
    {
        int[] result = new int[values.Length];
        for (int i = 0; i < result.Length; i++) result[i] = Int(values[i]);
        return result;
    }

    private static int Int(long count) =>
        count <= Array.MaxLength ? (int)count : throw new MpiException("MPI.NET", 0, $"{count} elements: its counts are ints");

    private static void Call(string name, Action call)
    {
        MpiCalls.Enter(name);
        try
        {
            call();
        }
        catch (System.Exception e) when (e.Data["MPI Error Code"] is int code)
        {
            throw new MpiException(name, code, e.Message);
        }
        finally
        {
            MpiCalls.Leave();
        }
    }

    /// <summary>The calls with buffers; one class for each element type, since MPI.NET's are generic.</summary>
    private abstract class Typed
    {
        public abstract void Broadcast(MpiBuffer buffer, int root);

        public abstract void Allgatherv(MpiBuffer send, MpiBuffer receive, int[] counts, int[] displacements);

        public abstract void Reduce(MpiBuffer send, MpiBuffer receive, MpiOperation operation, int root);

        public abstract void Allreduce(MpiBuffer send, MpiBuffer receive, MpiOperation operation);

        public abstract void ReduceScatter(MpiBuffer send, MpiBuffer receive, int[] counts, MpiOperation operation);

        public abstract void Alltoallv(
            MpiBuffer send, int[] sendCounts, int[] sendDisplacements, MpiBuffer receive, int[] receiveCounts, int[] receiveDisplacements);

        public abstract IMpiRequest StartSend(MpiBuffer buffer, int destination, int tag);

        public abstract IMpiRequest StartReceive(MpiBuffer buffer, int source, int tag);
    }

    private sealed unsafe class Typed<T>(Intracommunicator inner) : Typed where T : unmanaged
    {
        public override void Broadcast(MpiBuffer buffer, int root)
        {
            T[] values = Elements(buffer).ToArray();
            Call("MPI_Bcast", () => inner.Broadcast(ref values, root));
            values.CopyTo(Elements(buffer));
        }

        public override void Allgatherv(MpiBuffer send, MpiBuffer receive, int[] counts, int[] displacements)
        {
            T[]? all = null;
            Call("MPI_Allgatherv", () => inner.AllgatherFlattened(Elements(send).ToArray(), counts, ref all));
            Spread(all, receive, counts, displacements);
        }

        public override void Reduce(MpiBuffer send, MpiBuffer receive, MpiOperation operation, int root)
        {
            T[]? result = null;
            Call("MPI_Reduce", () => inner.Reduce(Elements(send).ToArray(), Operation(operation), root, ref result));
            if (inner.Rank == root) result.CopyTo(Elements(receive));
        }

        public override void Allreduce(MpiBuffer send, MpiBuffer receive, MpiOperation operation)
        {
            T[]? result = null;
            Call("MPI_Allreduce", () => inner.Allreduce(Elements(send).ToArray(), Operation(operation), ref result));
            result.CopyTo(Elements(receive));
        }

        public override void ReduceScatter(MpiBuffer send, MpiBuffer receive, int[] counts, MpiOperation operation)
        {
            T[]? result = null;
            Call("MPI_Reduce_scatter", () => inner.ReduceScatter(Elements(send).ToArray(), Operation(operation), counts, ref result));
            result.CopyTo(Elements(receive));
        }

        public override void Alltoallv(
            MpiBuffer send, int[] sendCounts, int[] sendDisplacements, MpiBuffer receive, int[] receiveCounts, int[] receiveDisplacements)
        {
            // Its parts stand one after the other.
            T[] packed = new T[sendCounts.Sum()];
            int start = 0;
            for (int r = 0; r < sendCounts.Length; r++)
            {
                Elements(send.Slice(sendDisplacements[r], sendCounts[r])).CopyTo(packed.AsSpan(start));
                start += sendCounts[r];
            }
            T[]? received = null;
            Call("MPI_Alltoallv", () => inner.AlltoallFlattened(packed, sendCounts, receiveCounts, ref received));
            Spread(received, receive, receiveCounts, receiveDisplacements);
        }

        public override IMpiRequest StartSend(MpiBuffer buffer, int destination, int tag) =>
            ArrayRequest.Start("MPI_Isend", () => inner.ImmediateSend(Elements(buffer).ToArray(), destination, tag));

        public override IMpiRequest StartReceive(MpiBuffer buffer, int source, int tag)
        {
            T[] values = new T[Int(buffer.Count)];
            return ArrayRequest.Start("MPI_Irecv", () => inner.ImmediateReceive(source, tag, values), () => values.CopyTo(Elements(buffer)));
        }

        private static ReductionOperation<T> Operation(MpiOperation operation) => operation switch
        {
            MpiOperation.Sum => Operation<T>.Add,
            MpiOperation.Min => Operation<T>.Min,
            _ => Operation<T>.Max,
        };

        private static Span<T> Elements(MpiBuffer buffer) => new((void*)buffer.Address, Int(buffer.Count));

        /// <summary>Puts parts that stand one after the other where they belong.</summary>
        private static void Spread(ReadOnlySpan<T> parts, MpiBuffer receive, int[] counts, int[] displacements)
        {
            for (int r = 0; r < counts.Length; r++)
            {
                parts[..counts[r]].CopyTo(Elements(receive.Slice(displacements[r], counts[r])));
                parts = parts[counts[r]..];
            }
        }
    }

    /// <summary>A request of MPI.NET; <paramref name="finish"/> copies what was received to where it belongs.</summary>
    private sealed class ArrayRequest(Request request, Action? finish) : IMpiRequest
    {
        private bool _done;

        public static ArrayRequest Start(string name, Func<Request> call, Action? finish = null)
        {
            Request? request = null;
            Call(name, () => request = call());
            return new ArrayRequest(request!, finish);
        }

        public void Wait()
        {
            if (_done) return;
            Call("MPI_Wait", () => request.Wait());
            Finish();
        }

        public bool Test()
        {
            CompletedStatus? status = null;
            if (!_done) Call("MPI_Test", () => status = request.Test());
            if (status is not null) Finish();
            return _done;
        }

        private void Finish()
        {
            _done = true;
            finish?.Invoke();
        }
    }
}
