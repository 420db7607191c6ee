using System.Runtime.InteropServices;
using LoftHpc.BrokenMachine;

/// <summary>
/// Breaks this process before its Main, so that tests, and people, can see what the unchanged program does on a machine that
/// computes wrongly: .NET runs it where DOTNET_STARTUP_HOOKS names this assembly. BROKEN_MACHINE says what is broken, with
/// commas between:
/// caches (oneDNN believes in caches of one byte, as on some virtual machines), memory (what is allocated holds NaN),
/// padding (pads with NaN), late-convolution (gives NaN after a while), late-gradient (has NaN in the input gradient after a while), convolution, batch-norm, loss, optimizer (libtorch's own results, changed a little).
/// BROKEN_RANK restricts that to one rank.
/// </summary>
internal static class StartupHook
{
    public static void Initialize()
    {
        string[] broken = (Environment.GetEnvironmentVariable("BROKEN_MACHINE") ?? "").Split(',', StringSplitOptions.RemoveEmptyEntries);
        string? rank = Environment.GetEnvironmentVariable("BROKEN_RANK");
        string? own = Environment.GetEnvironmentVariable("OMPI_COMM_WORLD_RANK") ?? Environment.GetEnvironmentVariable("PMI_RANK");
        // Under make test every program of .NET comes by here.
        if (broken.Length == 0 || (rank is not null && rank != own) || !File.Exists(Path.Combine(AppContext.BaseDirectory, "libLibTorchSharp.so"))) return;
        // As the program does: TorchSharp left to itself takes a libtorch of LD_LIBRARY_PATH.
        foreach (string library in (string[])["libc10.so", "libtorch_cpu.so", "libtorch.so"])
        {
            string path = Path.Combine(AppContext.BaseDirectory, library);
            if (File.Exists(path)) NativeLibrary.Load(path);
        }
        foreach (string what in broken) Faults.Make(what);
    }
}
