using System.Runtime.InteropServices;
using TorchSharp;

namespace LoftHpc.Communication;

/// <summary>The GPUs that this process sees (CUDA_VISIBLE_DEVICES).</summary>
public static unsafe class CudaDevices
{
    /// <summary>
    /// Their number; 0 where libtorch has no CUDA or there is no driver. TorchSharp is asked only where libtorch has CUDA:
    /// otherwise it would go looking for packages.
    /// </summary>
    public static int Count()
    {
        TorchLibrary.Load();
        return TorchLibrary.MappedPath("libtorch_cuda.so").Length > 0 && torch.cuda.is_available() ? torch.cuda.device_count() : 0;
    }

    /// <summary>Bytes of a GPU's memory that no process holds.</summary>
    /// <exception cref="InvalidOperationException">The driver does not say.</exception>
    public static long FreeBytes(int index) => CudaCopies.FreeBytes(index);

    /// <summary>
    /// What tells a GPU from every other one whatever number it has in a process (the driver's UUID), or an empty string
    /// where the driver does not say.
    /// </summary>
    public static string Identity(int index)
    {
        if (!NativeLibrary.TryLoad("libcuda.so.1", out nint driver)
            || !NativeLibrary.TryGetExport(driver, "cuInit", out nint init)
            || !NativeLibrary.TryGetExport(driver, "cuDeviceGet", out nint get)
            || !NativeLibrary.TryGetExport(driver, "cuDeviceGetUuid_v2", out nint uuid))
            return "";
        int device;
        byte* bytes = stackalloc byte[16];
        return ((delegate* unmanaged<uint, int>)init)(0) == 0
            && ((delegate* unmanaged<int*, int, int>)get)(&device, index) == 0
            && ((delegate* unmanaged<byte*, int, int>)uuid)(bytes, device) == 0
            ? Convert.ToHexStringLower(new ReadOnlySpan<byte>(bytes, 16))
            : "";
    }
}
