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

    /// <summary>at::Context::setUserEnabledMkldnn and setUserEnabledNNPACK.</summary>
    private static readonly string[] Switches = ["_ZN2at7Context20setUserEnabledMkldnnEb", "_ZN2at7Context20setUserEnabledNNPACKEb"];

    private const string Warnings = "1", Errors = "2";

    /// <summary>
    /// Has libtorch compute convolutions on the CPU by its own code, without oneDNN. Without NNPACK too, which it would then take
    /// for batches of 16 images and more.
    /// </summary>
    /// <returns>False where this libtorch has no such switches.</returns>
    public static bool UseOwnConvolutions()
    {
        nint[] switches = [.. Switches.Select(name => NativeLibrary.TryGetExport(TorchLibrary.Cpu, name, out nint address) ? address : 0)];
        if (switches.Contains(0) || !NativeLibrary.TryGetExport(TorchLibrary.Cpu, "_ZN2at13globalContextEv", out nint context)) return false;
        foreach (nint use in switches) ((delegate* unmanaged<nint, byte, void>)use)(((delegate* unmanaged<nint>)context)(), 0);
        return true;
    }

    /// <summary>Has libtorch print its warnings; before it is loaded.</summary>
    public static void AskForWarnings() => NativeEnvironment.SetDefault(LogLevelVariable, Warnings);

    /// <summary>
    /// libtorch keeps its warnings to itself, unless the user asks for them: on some processors each process says that it
    /// cannot use NNPACK, and computes by other code.
    /// </summary>
    /// <param name="c10">Handle of libc10.so.</param>
    public static void SetLogLevel(nint c10)
    {
        NativeEnvironment.SetDefault(LogLevelVariable, Errors);
        if (NativeLibrary.TryGetExport(c10, "_ZN3c1011initLoggingEv", out nint read)) ((delegate* unmanaged<void>)read)();
    }
}
