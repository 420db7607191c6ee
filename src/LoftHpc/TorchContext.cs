using System.Runtime.InteropServices;

namespace LoftHpc;

/// <summary>
/// Switches of libtorch that TorchSharp has no call for, by libtorch's own exported functions (class at::Context). Where a
/// libtorch lacks one, the switch stays as it is.
/// </summary>
internal static unsafe class TorchContext
{
    /// <summary>Whether libtorch may use oneDNN, its library for convolutions on the CPU.</summary>
    /// <returns>False where this libtorch has no such switch.</returns>
    public static bool UseOneDnn(bool use) => Set(TorchLibrary.Cpu, "_ZN2at7Context20setUserEnabledMkldnnEb", use);

    /// <summary>
    /// Whether libtorch may use NNPACK. Beside oneDNN it is never used, but looked at, and where it knows nothing of the
    /// processor it says so on the standard error, dozens of times.
    /// </summary>
    /// <param name="library">Handle of libtorch_cpu.so.</param>
    /// <returns>False where this libtorch has no such switch.</returns>
    public static bool UseNnpack(nint library, bool use) => Set(library, "_ZN2at7Context20setUserEnabledNNPACKEb", use);

    private static bool Set(nint library, string function, bool value)
    {
        if (!NativeLibrary.TryGetExport(library, "_ZN2at13globalContextEv", out nint context) || !NativeLibrary.TryGetExport(library, function, out nint set))
            return false;
        ((delegate* unmanaged<nint, byte, void>)set)(((delegate* unmanaged<nint>)context)(), value ? (byte)1 : (byte)0);
        return true;
    }
}
