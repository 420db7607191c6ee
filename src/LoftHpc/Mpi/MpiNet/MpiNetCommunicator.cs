using System.Runtime.InteropServices;
using MPI;

namespace LoftHpc.Mpi;

/// <summary>
/// A communicator of the MPI.NET package, for builds with MpiNet=true. Its calls take managed arrays and int counts, so
/// every call copies and larger counts are refused; non-blocking collectives, which it lacks, complete before they
/// return. It is bound to the MPICH family, and its calls on objects need a serialiser that .NET no longer has: only the
/// calls on arrays of numbers are used.
/// </summary>
internal sealed class MpiNetCommunicator(Intracommunicator inner, bool owned) : ICommunicator
{
    /// <summary>Above the tags that the program uses.</summary>
    private const int BarrierTag = 32_000;

    public int Rank => inner.Rank;

    public int Size => inner.Size;

    /// <summary>Starts MPI through MPI.NET, with the given library in place of the msmpi.dll that it asks for.</summary>
    /// <exception cref="UserError">The library is not of the MPICH family.</exception>
    public static MPI.Environment Start(MpiLibrary library, MpiThreadLevel required)
    {
        if (library.Abi.Family != MpiFamily.Mpich)
        {
            throw new UserError(
                $"this build uses MPI.NET, which is bound to the MPICH family, but {library.Path} is Open MPI ({library.Choice}): "
                + "start it by MPICH's mpiexec, or build without MpiNet=true", ExitCodes.Environment);
        }
        NativeLibrary.SetDllImportResolver(
            typeof(MPI.Environment).Assembly, (name, _, _) => name == "msmpi.dll" ? NativeLibrary.Load(library.Path) : 0);
        string[]? none = null;
        return new MPI.Environment(ref none, (Threading)required);
    }

    /// <summary>The same ranks with a context of their own.</summary>
    public MpiNetCommunicator Duplicate() => new((Intracommunicator)inner.Clone(), owned: true);

    public ICommunicator Split(int color, int key) => new MpiNetCommunicator((Intracommunicator)inner.Split(color, key), owned: true);

    /// <summary>MPI.NET has no split by host: ranks of one host name form a group.</summary>
    public ICommunicator SplitByHost()
    {
        string[] hosts = this.Allgather(System.Environment.MachineName);
        return Split(Array.IndexOf(hosts, hosts[Rank]), Rank);
    }

    public void Dispose()
    {
        if (owned) inner.Dispose();
    }

    public void Abort(int exitCode) => inner.Abort(exitCode);

    public void Barrier() => Call("MPI_Barrier", inner.Barrier);

    public void Broadcast(MpiBuffer buffer, int root) => Of(buffer.Type).Broadcast(buffer, root);

    public void Allgather(MpiBuffer send, MpiBuffer receive)
    {
        long[] counts = new long[Size], displacements = new long[Size];
        for (int r = 0; r < Size; r++) (counts[r], displacements[r]) = (receive.Count / Size, r * (receive.Count / Size));
        Allgatherv(send, receive, counts, displacements);
    }

    public void Allgatherv(MpiBuffer send, MpiBuffer receive, ReadOnlySpan<long> counts, ReadOnlySpan<long> displacements) =>
        Of(receive.Type).Allgatherv(
            send.IsInPlace ? receive.Slice(displacements[Rank], counts[Rank]) : send, receive, Ints(counts), Ints(displacements));

    public void Reduce(MpiBuffer send, MpiBuffer receive, MpiOperation operation, int root) =>
        Of((send.IsInPlace ? receive : send).Type).Reduce(send.IsInPlace ? receive : send, receive, operation, root);

    public void Allreduce(MpiBuffer send, MpiBuffer receive, MpiOperation operation) =>
        Of(receive.Type).Allreduce(send.IsInPlace ? receive : send, receive, operation);

    public void ReduceScatter(MpiBuffer send, MpiBuffer receive, ReadOnlySpan<long> counts, MpiOperation operation)
    {
        int[] narrow = Ints(counts);
        Of(receive.Type).ReduceScatter((send.IsInPlace ? receive : send).Slice(0, narrow.Sum()), receive, narrow, operation);
    }

    public void Alltoallv(
        MpiBuffer send, ReadOnlySpan<long> sendCounts, ReadOnlySpan<long> sendDisplacements,
        MpiBuffer receive, ReadOnlySpan<long> receiveCounts, ReadOnlySpan<long> receiveDisplacements)
    {
        bool inPlace = send.IsInPlace;
        Of(receive.Type).Alltoallv(
            inPlace ? receive : send, Ints(inPlace ? receiveCounts : sendCounts), Ints(inPlace ? receiveDisplacements : sendDisplacements),
            receive, Ints(receiveCounts), Ints(receiveDisplacements));
    }

    public void Send(MpiBuffer buffer, int destination, int tag) => Of(buffer.Type).StartSend(buffer, destination, tag).Wait();

    public void Receive(MpiBuffer buffer, int source, int tag) => Of(buffer.Type).StartReceive(buffer, source, tag).Wait();

    /// <summary>Every rank sends a byte to every other, so that it does not block.</summary>
    public IMpiRequest StartBarrier()
    {
        List<IMpiRequest> parts = [];
        for (int r = 0; r < Size; r++)
        {
            if (r == Rank) continue;
            parts.Add(new ArrayRequest(inner.ImmediateReceive(r, BarrierTag, new byte[1]), null));
            parts.Add(new ArrayRequest(inner.ImmediateSend(new byte[1], r, BarrierTag), null));
        }
        return new MpiRequestSet(parts, null);
    }

    public IMpiRequest StartBroadcast(MpiBuffer buffer, int root)
    {
        Broadcast(buffer, root);
        return Completed.Instance;
    }

    public IMpiRequest StartAllgatherv(MpiBuffer send, MpiBuffer receive, ReadOnlySpan<long> counts, ReadOnlySpan<long> displacements)
    {
        Allgatherv(send, receive, counts, displacements);
        return Completed.Instance;
    }

    public IMpiRequest StartAllreduce(MpiBuffer send, MpiBuffer receive, MpiOperation operation)
    {
        Allreduce(send, receive, operation);
        return Completed.Instance;
    }

    public IMpiRequest StartReduceScatter(MpiBuffer send, MpiBuffer receive, ReadOnlySpan<long> counts, MpiOperation operation)
    {
        ReduceScatter(send, receive, counts, operation);
        return Completed.Instance;
    }

    public IMpiRequest StartAlltoallv(
        MpiBuffer send, ReadOnlySpan<long> sendCounts, ReadOnlySpan<long> sendDisplacements,
        MpiBuffer receive, ReadOnlySpan<long> receiveCounts, ReadOnlySpan<long> receiveDisplacements)
    {
        Alltoallv(send, sendCounts, sendDisplacements, receive, receiveCounts, receiveDisplacements);
        return Completed.Instance;
    }

    public IMpiRequest StartSend(MpiBuffer buffer, int destination, int tag) => Of(buffer.Type).StartSend(buffer, destination, tag);

    public IMpiRequest StartReceive(MpiBuffer buffer, int source, int tag) => Of(buffer.Type).StartReceive(buffer, source, tag);

    private Typed Of(MpiDataType type) => type switch
    {
        MpiDataType.Byte => new Typed<byte>(inner),
        MpiDataType.Int32 => new Typed<int>(inner),
        MpiDataType.Int64 => new Typed<long>(inner),
        MpiDataType.Float32 => new Typed<float>(inner),
        _ => new Typed<double>(inner),
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
        try
        {
            call();
        }
        catch (System.Exception e) when (e.Data["MPI Error Code"] is int code)
        {
            throw new MpiException(name, code, e.Message);
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
            T[] values = Read(buffer);
            Call("MPI_Bcast", () => inner.Broadcast(ref values, root));
            Write(values, buffer);
        }

        public override void Allgatherv(MpiBuffer send, MpiBuffer receive, int[] counts, int[] displacements)
        {
            T[]? all = null;
            Call("MPI_Allgatherv", () => inner.AllgatherFlattened(Read(send), counts, ref all));
            Spread(all!, receive, counts, displacements);
        }

        public override void Reduce(MpiBuffer send, MpiBuffer receive, MpiOperation operation, int root)
        {
            T[]? result = null;
            Call("MPI_Reduce", () => inner.Reduce(Read(send), Operation(operation), root, ref result));
            if (inner.Rank == root) Write(result!, receive);
        }

        public override void Allreduce(MpiBuffer send, MpiBuffer receive, MpiOperation operation)
        {
            T[]? result = null;
            Call("MPI_Allreduce", () => inner.Allreduce(Read(send), Operation(operation), ref result));
            Write(result!, receive);
        }

        public override void ReduceScatter(MpiBuffer send, MpiBuffer receive, int[] counts, MpiOperation operation)
        {
            T[]? result = null;
            Call("MPI_Reduce_scatter", () => inner.ReduceScatter(Read(send), Operation(operation), counts, ref result));
            Write(result!, receive.Slice(0, counts[inner.Rank]));
        }

        public override void Alltoallv(
            MpiBuffer send, int[] sendCounts, int[] sendDisplacements, MpiBuffer receive, int[] receiveCounts, int[] receiveDisplacements)
        {
            // Its parts stand one after the other.
            T[] packed = new T[sendCounts.Sum()];
            int start = 0;
            for (int r = 0; r < sendCounts.Length; r++)
            {
                Read(send.Slice(sendDisplacements[r], sendCounts[r])).CopyTo(packed, start);
                start += sendCounts[r];
            }
            T[]? received = null;
            Call("MPI_Alltoallv", () => inner.AlltoallFlattened(packed, sendCounts, receiveCounts, ref received));
            Spread(received!, receive, receiveCounts, receiveDisplacements);
        }

        public override IMpiRequest StartSend(MpiBuffer buffer, int destination, int tag)
        {
            Request? request = null;
            Call("MPI_Isend", () => request = inner.ImmediateSend(Read(buffer), destination, tag));
            return new ArrayRequest(request!, null);
        }

        public override IMpiRequest StartReceive(MpiBuffer buffer, int source, int tag)
        {
            T[] values = new T[Int(buffer.Count)];
            Request? request = null;
            Call("MPI_Irecv", () => request = inner.ImmediateReceive(source, tag, values));
            return new ArrayRequest(request!, () => Write(values, buffer));
        }

        private static ReductionOperation<T> Operation(MpiOperation operation) => operation switch
        {
            MpiOperation.Sum => Operation<T>.Add,
            MpiOperation.Min => Operation<T>.Min,
            _ => Operation<T>.Max,
        };

        private static T[] Read(MpiBuffer buffer) => new Span<T>((void*)buffer.Address, Int(buffer.Count)).ToArray();

        private static void Write(T[] values, MpiBuffer buffer) => values.CopyTo(new Span<T>((void*)buffer.Address, Int(buffer.Count)));

        private static void Spread(T[] values, MpiBuffer receive, int[] counts, int[] displacements)
        {
            int start = 0;
            for (int r = 0; r < counts.Length; r++)
            {
                Write(values[start..(start + counts[r])], receive.Slice(displacements[r], counts[r]));
                start += counts[r];
            }
        }
    }

    /// <summary>A request of MPI.NET; <paramref name="finish"/> copies what was received to where it belongs.</summary>
    private sealed class ArrayRequest(Request request, Action? finish) : IMpiRequest
    {
        private bool _done;

        public void Wait()
        {
            if (_done) return;
            Call("MPI_Wait", () => request.Wait());
            Finish();
        }

        public bool Test()
        {
            if (!_done && request.Test() is not null) Finish();
            return _done;
        }

        private void Finish()
        {
            _done = true;
            finish?.Invoke();
        }
    }
}
