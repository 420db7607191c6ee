using TorchSharp;

namespace LoftHpc.Mpi;

/// <summary>Element types that the program sends.</summary>
public enum MpiDataType
{
    Byte,
    Int32,
    Int64,
    Float32,
    Float64,

    /// <summary>16 bits that are sent as they are: MPI has no arithmetic of them, so they cannot be reduced.</summary>
    Bfloat16,
}

/// <summary>Reductions that the program uses. Bytes have a sum only: MPICH 4.0 compares them as signed numbers.</summary>
public enum MpiOperation
{
    Sum,
    Min,
    Max,
}

/// <summary>
/// Native memory that MPI reads or writes: an address and a count of elements of one type. It owns nothing; whoever
/// made it keeps the memory alive until the call, or the request, has completed.
/// </summary>
public readonly record struct MpiBuffer(nint Address, long Count, MpiDataType Type)
{
    /// <summary>Passed as the send buffer where the data already stand in the receive buffer (MPI_IN_PLACE).</summary>
    public static MpiBuffer InPlace => new(-1, 0, MpiDataType.Byte);

    public bool IsInPlace => Address == -1;

    /// <summary>Size of one element in bytes.</summary>
    public int ElementBytes => SizeOf(Type);

    public long Bytes => Count * ElementBytes;

    public static int SizeOf(MpiDataType type) => type switch
    {
        MpiDataType.Byte => 1,
        MpiDataType.Bfloat16 => 2,
        MpiDataType.Int32 or MpiDataType.Float32 => 4,
        MpiDataType.Int64 or MpiDataType.Float64 => 8,
        _ => throw new ArgumentOutOfRangeException(nameof(type)),
    };

    /// <summary>A part of this buffer, in elements.</summary>
    public MpiBuffer Slice(long start, long count) =>
        start < 0 || count < 0 || start + count > Count
            ? throw new ArgumentOutOfRangeException(nameof(start), $"elements {start} to {start + count} of {Count}")
            : new MpiBuffer(Address + (nint)(start * ElementBytes), count, Type);

    /// <summary>The memory of a contiguous tensor on the CPU.</summary>
    /// <exception cref="ArgumentException">The tensor is not contiguous, not on the CPU, or of a type that is not sent.</exception>
    public static MpiBuffer Of(torch.Tensor tensor)
    {
        if (!tensor.is_contiguous() || tensor.device_type != DeviceType.CPU)
            throw new ArgumentException("MPI needs a contiguous tensor on the CPU");
        return new MpiBuffer(TensorMemory.Address(tensor), tensor.numel(), TypeOf(tensor.dtype));
    }

    /// <summary>The element type of tensors of this type.</summary>
    /// <exception cref="ArgumentException">It is not sent.</exception>
    public static MpiDataType TypeOf(torch.ScalarType type) => type switch
    {
        torch.ScalarType.Byte => MpiDataType.Byte,
        torch.ScalarType.Int32 => MpiDataType.Int32,
        torch.ScalarType.Int64 => MpiDataType.Int64,
        torch.ScalarType.Float32 => MpiDataType.Float32,
        torch.ScalarType.Float64 => MpiDataType.Float64,
        torch.ScalarType.BFloat16 => MpiDataType.Bfloat16,
        _ => throw new ArgumentException($"MPI does not send tensors of {type}"),
    };
}
