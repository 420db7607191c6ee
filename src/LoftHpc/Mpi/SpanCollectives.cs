using System.Text;

namespace LoftHpc.Mpi;

/// <summary>The blocking calls on spans, which are pinned for the call's time. In-place forms take the one span.</summary>
public static unsafe class SpanCollectives
{
    public static void Broadcast<T>(this ICommunicator communicator, Span<T> values, int root) where T : unmanaged
    {
        fixed (T* address = values) communicator.Broadcast(View(address, values.Length), root);
    }

    /// <summary>Reduces in place on every rank.</summary>
    public static void Allreduce<T>(this ICommunicator communicator, Span<T> values, MpiOperation operation) where T : unmanaged
    {
        fixed (T* address = values) communicator.Allreduce(MpiBuffer.InPlace, View(address, values.Length), operation);
    }

    /// <summary>The reduction of one value of each rank.</summary>
    public static T Allreduce<T>(this ICommunicator communicator, T value, MpiOperation operation) where T : unmanaged
    {
        communicator.Allreduce(new Span<T>(ref value), operation);
        return value;
    }

    /// <summary>Reduces into the root's span, in place; the other ranks' spans stay as they are.</summary>
    public static void Reduce<T>(this ICommunicator communicator, Span<T> values, MpiOperation operation, int root) where T : unmanaged
    {
        fixed (T* address = values)
        {
            MpiBuffer buffer = View(address, values.Length);
            if (communicator.Rank == root) communicator.Reduce(MpiBuffer.InPlace, buffer, operation, root);
            else communicator.Reduce(buffer, default, operation, root);
        }
    }

    /// <summary>Equal counts: <paramref name="all"/> holds Size times as many elements.</summary>
    public static void Allgather<T>(this ICommunicator communicator, ReadOnlySpan<T> own, Span<T> all) where T : unmanaged
    {
        fixed (T* send = own, receive = all) communicator.Allgather(View(send, own.Length), View(receive, all.Length));
    }

    /// <summary>The parts stand one after the other, counts[r] elements of rank r.</summary>
    public static void Allgatherv<T>(this ICommunicator communicator, ReadOnlySpan<T> own, Span<T> all, ReadOnlySpan<long> counts)
        where T : unmanaged
    {
        Span<long> displacements = stackalloc long[counts.Length];
        for (int r = 1; r < counts.Length; r++) displacements[r] = displacements[r - 1] + counts[r - 1];
        fixed (T* send = own, receive = all)
            communicator.Allgatherv(View(send, own.Length), View(receive, all.Length), counts, displacements);
    }

    public static void ReduceScatter<T>(
        this ICommunicator communicator, ReadOnlySpan<T> all, Span<T> own, ReadOnlySpan<long> counts, MpiOperation operation)
        where T : unmanaged
    {
        fixed (T* send = all, receive = own)
            communicator.ReduceScatter(View(send, all.Length), View(receive, own.Length), counts, operation);
    }

    public static void Send<T>(this ICommunicator communicator, ReadOnlySpan<T> values, int destination, int tag) where T : unmanaged
    {
        fixed (T* address = values) communicator.Send(View(address, values.Length), destination, tag);
    }

    public static void Receive<T>(this ICommunicator communicator, Span<T> values, int source, int tag) where T : unmanaged
    {
        fixed (T* address = values) communicator.Receive(View(address, values.Length), source, tag);
    }

    /// <summary>The root's text on every rank; the other ranks' is ignored.</summary>
    public static string Broadcast(this ICommunicator communicator, string text, int root)
    {
        byte[] bytes = Encoding.UTF8.GetBytes(text);
        int length = bytes.Length;
        communicator.Broadcast(new Span<int>(ref length), root);
        if (communicator.Rank != root) bytes = new byte[length];
        communicator.Broadcast(bytes.AsSpan(), root);
        return Encoding.UTF8.GetString(bytes);
    }

    /// <summary>Every rank's text, by rank.</summary>
    public static string[] Allgather(this ICommunicator communicator, string text)
    {
        byte[] own = Encoding.UTF8.GetBytes(text);
        long[] counts = new long[communicator.Size];
        communicator.Allgather<long>([own.Length], counts);
        byte[] all = new byte[counts.Sum()];
        communicator.Allgatherv<byte>(own, all, counts);
        string[] texts = new string[counts.Length];
        int start = 0;
        for (int r = 0; r < texts.Length; r++)
        {
            texts[r] = Encoding.UTF8.GetString(all, start, (int)counts[r]);
            start += (int)counts[r];
        }
        return texts;
    }

    private static MpiBuffer View<T>(T* address, int count) where T : unmanaged => new((nint)address, count, TypeOf<T>());

    private static MpiDataType TypeOf<T>() where T : unmanaged
    {
        if (typeof(T) == typeof(byte)) return MpiDataType.Byte;
        if (typeof(T) == typeof(int)) return MpiDataType.Int32;
        if (typeof(T) == typeof(long)) return MpiDataType.Int64;
        if (typeof(T) == typeof(float)) return MpiDataType.Float32;
        if (typeof(T) == typeof(double)) return MpiDataType.Float64;
        throw new NotSupportedException($"MPI does not send elements of {typeof(T)}");
    }
}
