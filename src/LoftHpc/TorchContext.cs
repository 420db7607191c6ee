using System.Runtime.InteropServices;

namespace LoftHpc;

/// <summary>
/// Switches of libtorch that TorchSharp has no call for, by functions that libtorch itself exports. Where a libtorch lacks one,
/// the switch stays as it is.
/// </summary>
internal static unsafe class TorchContext
{
    /// <summary>1: libtorch's own warnings too; 2: its errors only. Read once, when libtorch is loaded.</summary>
    public const string LogLevelVariable = "TORCH_CPP_LOG_LEVEL";

    private const string Warnings = "1", Errors = "2";

    /// <summary>Whether libtorch may use oneDNN, its library for convolutions on the CPU.</summary>
    /// <returns>False where this libtorch has no such switch.</returns>
    public static bool UseOneDnn(bool use)
    {
        if (!NativeLibrary.TryGetExport(TorchLibrary.Cpu, "_ZN2at13globalContextEv", out nint context)
            || !NativeLibrary.TryGetExport(TorchLibrary.Cpu, "_ZN2at7Context20setUserEnabledMkldnnEb", out nint set)) return false;
        ((delegate* unmanaged<nint, byte, void>)set)(((delegate* unmanaged<nint>)context)(), use ? (byte)1 : (byte)0);
        return true;
    }

    /// <summary>Has libtorch print its warnings; before it is loaded.</summary>
    public static void AskForWarnings() => NativeEnvironment.SetDefault(LogLevelVariable, Warnings);

    /// <summary>
    /// libtorch keeps its warnings to itself, unless the user asks for them: on some processors each process says that it
    /// cannot use NNPACK, which it does not need.
    /// </summary>
    /// <param name="c10">Handle of libc10.so.</param>
    public static void SetLogLevel(nint c10)
    {
        NativeEnvironment.SetDefault(LogLevelVariable, Errors);
        if (NativeLibrary.TryGetExport(c10, "_ZN3c1011initLoggingEv", out nint read)) ((delegate* unmanaged<void>)read)();
    }
}
