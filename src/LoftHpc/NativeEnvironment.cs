using System.Runtime.InteropServices;

namespace LoftHpc;

/// <summary>
/// The process environment as native libraries see it. They read it once, when they are loaded, with getenv;
/// <see cref="Environment.SetEnvironmentVariable(string, string)"/> changes only .NET's own copy.
/// </summary>
public static partial class NativeEnvironment
{
    /// <summary>
    /// Whether a person sees the standard output as it is written. Open MPI gives its ranks a terminal of their own even
    /// where mpiexec's output goes to a file, so there the launcher's own output is looked at.
    /// </summary>
    public static bool OutputIsTerminal { get; } = IsTerminal(1) != 0 && LauncherOutputIsTerminal();

    /// <summary>
    /// Sets what the libraries need, where the user has not set it. Called first in Main, before libtorch or MPI is
    /// loaded and before anything is printed.
    /// </summary>
    public static void Prepare()
    {
        // libgomp, which libtorch brings: waiting threads sleep instead of spinning. Where ranks or jobs share cores, a
        // step is else several times slower.
        SetDefault("OMP_WAIT_POLICY", "PASSIVE");
        // .NET begins its output with the terminal's control codes, which have no place in a log.
        if (!OutputIsTerminal) Environment.SetEnvironmentVariable("TERM", "dumb");
    }

    /// <summary>Sets a variable for .NET and for native libraries, unless it is set already.</summary>
    public static void SetDefault(string name, string value)
    {
        if (Environment.GetEnvironmentVariable(name) is not null) return;
        Environment.SetEnvironmentVariable(name, value);
        _ = SetNative(name, value, overwrite: 0);
    }

    /// <summary>The line of a failed load's message in which the dynamic loader names the cause.</summary>
    internal static string LoaderText(Exception error)
    {
        string[] lines = error.Message.Split('\n', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);
        return lines.FirstOrDefault(l => l.Contains("GLIBC", StringComparison.Ordinal) || l.Contains("undefined symbol", StringComparison.Ordinal))
            ?? lines.FirstOrDefault(l => l.Contains(": ", StringComparison.Ordinal) && !l.StartsWith("Unable to load", StringComparison.Ordinal))
            ?? lines.FirstOrDefault() ?? "";
    }

    private static bool LauncherOutputIsTerminal()
    {
        if (Environment.GetEnvironmentVariable("OMPI_COMM_WORLD_RANK") is null) return true;
        try
        {
            string? output = new FileInfo($"/proc/{ParentProcessId()}/fd/1").LinkTarget;
            return output is not null && (output.StartsWith("/dev/pts/", StringComparison.Ordinal) || output.StartsWith("/dev/tty", StringComparison.Ordinal));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return false;
        }
    }

    [LibraryImport("libc", EntryPoint = "setenv", StringMarshalling = StringMarshalling.Utf8)]
    private static partial int SetNative(string name, string value, int overwrite);

    [LibraryImport("libc", EntryPoint = "isatty")]
    private static partial int IsTerminal(int descriptor);

    [LibraryImport("libc", EntryPoint = "getppid")]
    private static partial int ParentProcessId();
}
