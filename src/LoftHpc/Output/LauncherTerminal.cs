using System.Globalization;
using System.Runtime.InteropServices;

namespace LoftHpc.Output;

/// <summary>
/// The terminal, if any, at which the user of this launch sits. A rank cannot tell by its own standard output: Open MPI
/// always gives it a pseudo terminal and MPICH always a pipe. So the launcher's output counts: the outermost ancestor
/// that is a launcher, as /proc shows it.
/// </summary>
/// <param name="Device">For example /dev/pts/3.</param>
public sealed partial record LauncherTerminal(string Device)
{
    private static readonly string[] Launchers =
    [
        "mpiexec", "mpirun", "orterun", "prterun", "prun", "orted", "prted", "mpiexec.hydra", "mpirun.hydra", "hydra_pmi_proxy",
        "mpiexec.openmpi", "mpirun.openmpi", "mpiexec.mpich", "mpirun.mpich",
    ];

    /// <summary>Set by a launcher for its ranks.</summary>
    private static readonly string[] LauncherVariables = ["OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK"];

    private static readonly string? Term = Environment.GetEnvironmentVariable("TERM");

    /// <summary>Of this process; null where the output goes to a file, a pipe, a batch log (srun's included), or a dumb terminal.</summary>
    public static LauncherTerminal? Current { get; } = Term is null or "" or "dumb"
        ? null
        : Find("/proc", Environment.ProcessId, LauncherVariables.Any(v => Environment.GetEnvironmentVariable(v) is not null));

    /// <summary>
    /// .NET's Console greets a terminal with control codes, and takes the pseudo terminal that Open MPI gives to every rank
    /// for one, so that they would stand in batch logs. A dumb terminal has no such codes. Called before anything is printed.
    /// </summary>
    public static void KeepConsolePlain()
    {
        _ = Current;
        Environment.SetEnvironmentVariable("TERM", "dumb");
    }

    internal static LauncherTerminal? Find(string proc, int process, bool launched)
    {
        int source = launched ? 0 : process;
        // The kernel cuts names to 15 characters.
        for (int id = process; id > 1 && ReadProcess(proc, id) is (string name, int parent); id = parent)
        {
            if (name == "slurmstepd") return null;
            if (Launchers.Any(l => l.AsSpan(0, Math.Min(15, l.Length)).SequenceEqual(name))) source = id;
        }
        if (source == 0) return null;
        try
        {
            string? output = new FileInfo($"{proc}/{source}/fd/1").LinkTarget;
            bool isTerminal = output is not null &&
                (output.StartsWith("/dev/pts/", StringComparison.Ordinal) || output.StartsWith("/dev/tty", StringComparison.Ordinal));
            return isTerminal ? new LauncherTerminal(output!) : null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    /// <summary>Columns of the terminal as it is now; 80 where it does not say.</summary>
    public int Columns()
    {
        const int noControllingTerminal = 0x100;
        const nuint getWindowSize = 0x5413;
        int descriptor = Open(Device, noControllingTerminal);
        if (descriptor < 0) return 80;
        Span<ushort> size = stackalloc ushort[4];
        int result = Control(descriptor, getWindowSize, ref MemoryMarshal.GetReference(size));
        _ = Close(descriptor);
        return result == 0 && size[1] > 0 ? size[1] : 80;
    }

    /// <summary>Name and parent of a process; null if it is gone.</summary>
    private static (string Name, int Parent)? ReadProcess(string proc, int id)
    {
        try
        {
            // "id (name) state parent ...", where the name may hold spaces and brackets.
            string stat = File.ReadAllText($"{proc}/{id}/stat");
            int end = stat.LastIndexOf(')');
            string[] rest = stat[(end + 2)..].Split(' ');
            return (stat[(stat.IndexOf('(') + 1)..end], int.Parse(rest[1], CultureInfo.InvariantCulture));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    [LibraryImport("libc", EntryPoint = "open", StringMarshalling = StringMarshalling.Utf8)]
    private static partial int Open(string path, int flags);

    [LibraryImport("libc", EntryPoint = "ioctl")]
    private static partial int Control(int descriptor, nuint request, ref ushort size);

    [LibraryImport("libc", EntryPoint = "close")]
    private static partial int Close(int descriptor);
}
