using System.Runtime.InteropServices;
using TorchSharp;

namespace LoftHpc.Mpi;

/// <summary>The address of a tensor's first element, on whatever device it lies.</summary>
internal static partial class TensorMemory
{
    /// <summary>Address of element 0 of the tensor, its offset in the storage included; 0 for an empty tensor.</summary>
    public static nint Address(torch.Tensor tensor) => tensor.numel() == 0 ? 0 : Data(tensor.Handle);

    /// <summary>The values of a contiguous tensor on the CPU, below 2^31 of them; the tensor must outlive the span.</summary>
    public static unsafe Span<T> Span<T>(torch.Tensor tensor) where T : unmanaged => new((void*)Address(tensor), checked((int)tensor.numel()));

    [LibraryImport("LibTorchSharp", EntryPoint = "THSTensor_data")]
    private static partial nint Data(nint tensor);
}
