using System.Runtime.InteropServices;
using LoftHpc.Mpi;

namespace LoftHpc.Communication;

/// <summary>
/// Native memory for messages, aligned to 64 bytes (a receive buffer a few bytes off can make a call several times
/// slower). It grows on demand and is meant to be kept and used again. Growing loses the contents and invalidates
/// every view taken before.
/// </summary>
public sealed unsafe class NativeBuffer : IDisposable
{
    private const int Alignment = 64;
    private void* _memory;
    private bool _disposed;

    public NativeBuffer(long bytes = 0)
    {
        if (bytes > 0) Reserve(bytes);
    }

    public long CapacityBytes { get; private set; }

    /// <summary>The first <paramref name="count"/> elements of the given type; grows the buffer where it is too small.</summary>
    public MpiBuffer View(long count, MpiDataType type)
    {
        Reserve(checked(count * MpiBuffer.SizeOf(type)));
        return new MpiBuffer((nint)_memory, count, type);
    }

    /// <summary>The first <paramref name="count"/> elements as a span; grows the buffer where it is too small.</summary>
    public Span<T> Span<T>(int count) where T : unmanaged
    {
        Reserve((long)count * sizeof(T));
        return new Span<T>(_memory, count);
    }

    /// <summary>Makes room for at least so many bytes.</summary>
    public void Reserve(long bytes)
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        ArgumentOutOfRangeException.ThrowIfNegative(bytes);
        if (bytes <= CapacityBytes) return;
        // Old contents are not kept, so the old memory goes first: the two never exist together.
        Free();
        _memory = NativeMemory.AlignedAlloc(checked((nuint)bytes), Alignment);
        CapacityBytes = bytes;
    }

    /// <summary>Keeps just so many bytes from now on, without their contents.</summary>
    public void Keep(long bytes)
    {
        Free();
        Reserve(bytes);
    }

    public void Dispose()
    {
        Free();
        _disposed = true;
    }

    private void Free()
    {
        NativeMemory.AlignedFree(_memory);
        _memory = null;
        CapacityBytes = 0;
    }
}
