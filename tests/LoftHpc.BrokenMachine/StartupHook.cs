using LoftHpc.BrokenMachine;

/// <summary>
/// Breaks this process before its Main, so that tests, and people, can see what the unchanged program does on a machine that
/// computes wrongly: .NET runs it where DOTNET_STARTUP_HOOKS names this assembly. BROKEN_MACHINE says what is broken, with
/// commas between:
/// caches (oneDNN believes in caches of one byte, as on some virtual machines), memory (what is allocated holds NaN),
/// padding (pads with NaN), convolution, batch-norm, loss, optimizer (libtorch's own results, changed a little).
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
        foreach (string what in broken) Faults.Make(what);
    }
}
