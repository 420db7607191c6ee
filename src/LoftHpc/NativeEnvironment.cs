using System.Runtime.InteropServices;

namespace LoftHpc;

/// <summary>
/// The process environment as native libraries see it. They read it once, when they are loaded, with getenv;
/// <see cref="Environment.SetEnvironmentVariable(string, string)"/> changes only .NET's own copy.
/// </summary>
public static partial class NativeEnvironment
{
    /// <summary>
    /// Sets what the libraries need, where the user has not set it. Called first in Main, before libtorch or MPI is
    /// loaded.
    /// </summary>
    public static void Prepare()
    {
        // libgomp, which libtorch brings: waiting threads sleep instead of spinning. Where ranks or jobs share cores, a
        // step is else several times slower.
        SetDefault("OMP_WAIT_POLICY", "PASSIVE");
        KeepFreedMemory();
    }

    /// <summary>Sets a variable for .NET and for native libraries, unless it is set already.</summary>
    public static void SetDefault(string name, string value)
    {
        if (Environment.GetEnvironmentVariable(name) is not null) return;
        Environment.SetEnvironmentVariable(name, value);
        _ = SetNative(name, value, overwrite: 0);
    }

    /// <summary>
    /// Tells glibc's malloc to keep what is freed. A training step frees and allocates the same tensors over and over;
    /// giving them back in between makes the kernel zero thousands of pages in every step (8 % of its time).
    /// </summary>
    private static void KeepFreedMemory()
    {
        const int trimThreshold = -1, mappedBlocks = -4;
        if (Environment.GetEnvironmentVariable("MALLOC_TRIM_THRESHOLD_") is null) _ = SetMalloc(trimThreshold, -1);
        if (Environment.GetEnvironmentVariable("MALLOC_MMAP_MAX_") is null) _ = SetMalloc(mappedBlocks, 0);
    }

    /// <summary>The line of a failed load's message in which the dynamic loader names the cause.</summary>
    internal static string LoaderText(Exception error)
    {
        string[] lines = error.Message.Split('\n', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);
        return lines.FirstOrDefault(l => l.Contains("GLIBC", StringComparison.Ordinal) || l.Contains("undefined symbol", StringComparison.Ordinal))
            ?? lines.FirstOrDefault(l => l.Contains(": ", StringComparison.Ordinal) && !l.StartsWith("Unable to load", StringComparison.Ordinal))
            ?? lines.FirstOrDefault() ?? "";
    }

    [LibraryImport("libc", EntryPoint = "mallopt")]
    private static partial int SetMalloc(int parameter, int value);

    [LibraryImport("libc", EntryPoint = "setenv", StringMarshalling = StringMarshalling.Utf8)]
    private static partial int SetNative(string name, string value, int overwrite);
}
