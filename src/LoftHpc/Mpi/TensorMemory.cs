using System.Runtime.InteropServices;
using TorchSharp;

namespace LoftHpc.Mpi;

/// <summary>
/// The address and shape of a tensor, on whatever device it lies, straight from libtorch: TorchSharp's own properties
/// each take as long as a tenth of a small message.
/// </summary>
internal static partial class TensorMemory
{
    /// <summary>Address of element 0 of the tensor, its offset in the storage included; 0 for an empty tensor.</summary>
    public static nint Address(torch.Tensor tensor) => ElementCount(tensor.Handle) == 0 ? 0 : Data(tensor.Handle);

    /// <summary>The values of a contiguous tensor on the CPU, below 2^31 of them; the tensor must outlive the span.</summary>
    public static unsafe Span<T> Span<T>(torch.Tensor tensor) where T : unmanaged => new((void*)Address(tensor), checked((int)tensor.numel()));

    /// <summary>Elements along one of a tensor's axes.</summary>
    public static long Size(torch.Tensor tensor, int axis) => SizeAlong(tensor.Handle, axis);

    [LibraryImport("LibTorchSharp", EntryPoint = "THSTensor_data"), SuppressGCTransition]
    private static partial nint Data(nint tensor);

    [LibraryImport("LibTorchSharp", EntryPoint = "THSTensor_numel"), SuppressGCTransition]
    private static partial long ElementCount(nint tensor);

    [LibraryImport("LibTorchSharp", EntryPoint = "THSTensor_size"), SuppressGCTransition]
    private static partial long SizeAlong(nint tensor, long axis);
}
