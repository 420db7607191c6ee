using System.CommandLine.Parsing;
using System.ComponentModel;
using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;

namespace LoftHpc.Sweeping;

/// <summary>Starts ranks by a launcher such as mpiexec, one launch at a time, and ends a launch in good order.</summary>
public sealed partial class RunLauncher
{
    private const string Ranks = "{ranks}";

    private static readonly TimeSpan Look = TimeSpan.FromMilliseconds(200);

    private readonly IReadOnlyList<string> _words;
    private readonly Lock _gate = new();
    private readonly TaskCompletionSource _ended = new();
    private Process? _running;
    private bool _stopping;

    /// <param name="command">A launcher with its options, in which {ranks} stands for the number of ranks; null: mpiexec.</param>
    /// <exception cref="UserError">There is no {ranks} in it, or no such program.</exception>
    public RunLauncher(string? command)
    {
        _words = command is null ? Default(Environment.GetEnvironmentVariable("MPIEXEC") is { Length: > 0 } named ? named : "mpiexec") : [.. CommandLineParser.SplitCommandLine(command)];
        if (!_words.Any(word => word.Contains(Ranks, StringComparison.Ordinal)))
            throw new UserError($"--launcher: {PlainText.Of(command ?? "")}: {Ranks} must stand where the number of ranks belongs, such as \"mpiexec -n {Ranks}\"");
        if (!IsProgram(_words[0]))
            throw new UserError($"--launcher: there is no program {PlainText.Of(_words[0])}{(_words[0].Contains('/', StringComparison.Ordinal) ? "" : " on PATH")}; name one that starts ranks, such as \"mpiexec -n {Ranks}\"", ExitCodes.Environment);
    }

    /// <summary>The words that start a program on so many ranks.</summary>
    public IReadOnlyList<string> Words(int ranks) => [.. _words.Select(word => word.Replace(Ranks, ranks.ToString(CultureInfo.InvariantCulture), StringComparison.Ordinal))];

    /// <summary>What build/launch.sh does, for whoever has no repository: the flags of Open MPI's mpiexec are none of the MPICH family's.</summary>
    internal static IReadOnlyList<string> Default(string mpiexec)
    {
        string version = IsProgram(mpiexec) ? VersionOf(mpiexec) : "";
        bool openMpi = version.Contains("Open MPI", StringComparison.Ordinal) || version.Contains("OpenRTE", StringComparison.Ordinal);
        // Ranks share out the cores themselves (threads: auto), and there may be more of them than cores.
        return [mpiexec, "-n", Ranks, .. openMpi ? (string[])["--bind-to", "none", "--map-by", ":OVERSUBSCRIBE"] : [], .. openMpi && Environment.IsPrivilegedProcess ? (string[])["--allow-run-as-root"] : []];
    }

    /// <summary>Runs this program on so many ranks, to its end. Its output is added to a file.</summary>
    /// <param name="threads">Of each rank, for libraries that the program does not tell; null: the environment says it.</param>
    /// <returns>The launcher's exit code.</returns>
    public int Run(int ranks, IReadOnlyList<string> arguments, string log, int? threads)
    {
        // In a session of its own, so that control-C does not come to the launcher too, which would end the ranks at once. The output is
        // the launcher's own: it goes on where this process is killed.
        const string script = """log=$1; shift; exec setsid "$@" >>"$log" 2>&1 </dev/null""";
        ProcessStartInfo start = new("/bin/sh", ["-c", script, "sh", log, .. Words(ranks), .. Program(), .. arguments])
        {
            // Nothing comes through these; without them .NET would set the terminal.
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        if (threads is int count) start.Environment.TryAdd("OMP_NUM_THREADS", count.ToString(CultureInfo.InvariantCulture));
        start.Environment.TryAdd("LOFTHPC_PROGRESS", "lines");
        lock (_gate)
        {
            if (!_stopping) _running = Process.Start(start)!;
        }
        if (_running is not Process process) return WaitForEver();
        for (bool asked = false; !process.WaitForExit(Look);)
        {
            if (!Signals.StopIsAsked || asked) continue;
            asked = true;
            Send(AskToStop);
        }
        lock (_gate)
        {
            _running = null;
            if (_stopping) _ended.SetResult();
        }
        int exitCode = process.ExitCode;
        process.Dispose();
        return _ended.Task.IsCompleted ? WaitForEver() : exitCode;
    }

    /// <summary>Asks the launch that runs to stop where it can go on later, waits for that, and lets no other begin. From another thread.</summary>
    /// <param name="tell">Gets a line where there is something to wait for.</param>
    public void Stop(Action<string> tell)
    {
        bool waits;
        lock (_gate)
        {
            _stopping = true;
            waits = _running is not null;
        }
        if (!waits) return;
        tell("waiting for the run to stop where it can go on; another signal ends it at once");
        Send(AskToStop);
        _ended.Task.Wait();
    }

    /// <summary>Ends the launch that runs at once, as its launcher does that.</summary>
    public void End() => Send(Terminate);

    /// <summary>All launchers hand it on to the ranks. Sent SIGTERM, that of Open MPI kills them a second later.</summary>
    private const int AskToStop = 10;

    private const int Terminate = 15;

    private void Send(int signal)
    {
        lock (_gate)
        {
            if (_running is { HasExited: false } process) _ = Kill(process.Id, signal);
        }
    }

    /// <summary>For the thread that has stopped the launch, and ends this process.</summary>
    private static int WaitForEver()
    {
        Thread.Sleep(Timeout.Infinite);
        return 0;
    }

    /// <summary>This program, which may be run by the dotnet command.</summary>
    private static IEnumerable<string> Program()
    {
        string path = Environment.ProcessPath!;
        return Path.GetFileName(path) == "dotnet" ? [path, Path.GetFullPath(Environment.GetCommandLineArgs()[0])] : [path];
    }

    private static bool IsProgram(string name) => name.Contains('/', StringComparison.Ordinal) ? File.Exists(name)
        : (Environment.GetEnvironmentVariable("PATH") ?? "").Split(':').Any(folder => File.Exists(Path.Combine(folder, name)));

    private static string VersionOf(string mpiexec)
    {
        try
        {
            using Process process = Process.Start(new ProcessStartInfo(mpiexec, ["--version"]) { RedirectStandardInput = true, RedirectStandardOutput = true, RedirectStandardError = true })!;
            process.StandardInput.Close();
            Task<string> error = process.StandardError.ReadToEndAsync();
            string output = process.StandardOutput.ReadToEnd();
            process.WaitForExit();
            return output;
        }
        catch (Win32Exception)
        {
            // It cannot be executed: the first launch says so.
            return "";
        }
    }

    [LibraryImport("libc", EntryPoint = "kill")]
    private static partial int Kill(int process, int signal);
}
