using System.Runtime.InteropServices;
using LoftHpc.BrokenMachine;

/// <summary>
/// Breaks this process before its Main, so that tests, and people, can see what the unchanged program does on a machine that
/// computes wrongly: .NET runs it where DOTNET_STARTUP_HOOKS names this assembly. BROKEN_MACHINE says what is broken, with
/// commas between:
/// caches (oneDNN believes in caches of one byte, as on some virtual machines), memory (what is allocated holds NaN),
/// padding (pads with NaN), late-convolution (gives NaN after a while), late-gradient (has NaN in the input gradient after a while), convolution, batch-norm, loss, optimizer (libtorch's own results, changed a little),
/// version (libtorch says that it is 2.11), death (SIGKILL, now), death:FILE (SIGKILL while a file whose path ends like this is written).
/// what@1 breaks it on rank 1 only.
/// </summary>
internal static class StartupHook
{
    private static readonly string[] Libraries = ["libc10.so", "libtorch_cpu.so", "libtorch.so"];

    public static void Initialize()
    {
        string? own = Environment.GetEnvironmentVariable("OMPI_COMM_WORLD_RANK") ?? Environment.GetEnvironmentVariable("PMI_RANK");
        string[] broken = [.. (Environment.GetEnvironmentVariable("BROKEN_MACHINE") ?? "").Split(',', StringSplitOptions.RemoveEmptyEntries)
            .Select(item => item.Split('@')).Where(item => item.Length == 1 || item[1] == own).Select(item => item[0]).Distinct()];
        string folder = Environment.GetEnvironmentVariable("LOFTHPC_LIBTORCH") is { Length: > 0 } named ? named : AppContext.BaseDirectory;
        string[] libraries = [Path.Combine(AppContext.BaseDirectory, "libLibTorchSharp.so"), .. Libraries.Select(library => Path.Combine(folder, library))];
        // Under make test every program of .NET comes by here; those without a libtorch of their own stay as they are.
        if (broken.Length == 0 || !libraries.All(File.Exists)) return;
        // As the program does: TorchSharp left to itself takes a libtorch of LD_LIBRARY_PATH.
        foreach (string library in libraries[1..]) NativeLibrary.Load(library);
        foreach (string what in broken) Faults.Make(what);
    }
}
