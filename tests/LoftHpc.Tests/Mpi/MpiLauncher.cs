using System.Diagnostics;
using System.Text;
using LoftHpc.Mpi;
using Xunit;

namespace LoftHpc.Tests.Mpi;

/// <summary>How a job of real ranks ended.</summary>
public sealed record LaunchResult(int ExitCode, string Output, string Error, bool TimedOut)
{
    /// <summary>Fails the test, with everything that the job printed, unless it ended well.</summary>
    public LaunchResult MustSucceed()
    {
        Assert.True(ExitCode == 0 && !TimedOut, $"exit code {ExitCode}{(TimedOut ? ", killed on time-out" : "")}\n{Output}\n{Error}");
        return this;
    }
}

/// <summary>Starts programs under the real mpiexec of both MPI families.</summary>
public static class MpiLauncher
{
    private static readonly TimeSpan LongestTime = TimeSpan.FromMinutes(5);

    /// <summary>Both families at 1, 2, 3 and 4 ranks.</summary>
    public static TheoryData<MpiFamily, int> FamiliesAndRanks
    {
        get
        {
            TheoryData<MpiFamily, int> data = [];
            foreach (MpiFamily family in Enum.GetValues<MpiFamily>())
            {
                for (int ranks = 1; ranks <= 4; ranks++) data.Add(family, ranks);
            }
            return data;
        }
    }

    /// <summary>The program with the test scenarios.</summary>
    public static string RankProgram => Path.Combine(AppContext.BaseDirectory, "rankprogram");

    /// <summary>The product.</summary>
    public static string LoftHpc => Path.Combine(AppContext.BaseDirectory, "lofthpc");

    /// <summary>Skips the test, with the reason, where the family's launcher is not installed.</summary>
    public static void SkipIfAbsent(MpiFamily family) =>
        Skip.If(Find(family) is null, $"{Name(family)} is not on the PATH");

    /// <summary>A family to test with where one is enough: the first that is installed; skips where there is none.</summary>
    public static MpiFamily AnyFamily()
    {
        MpiFamily? found = Enum.GetValues<MpiFamily>().Cast<MpiFamily?>().FirstOrDefault(f => Find(f!.Value) is not null);
        Skip.If(found is null, "no mpiexec on the PATH");
        return found!.Value;
    }

    /// <summary>Runs a scenario of the rank program: "Class.Method" and its arguments.</summary>
    public static LaunchResult RunScenario(MpiFamily family, int ranks, params string[] scenario) =>
        Run(family, ranks, [RankProgram, .. scenario]);

    /// <summary>
    /// Runs several scenarios one after the other in the same ranks, which saves what the start of ranks takes; each is "Class.Method" and
    /// its arguments. The first that fails ends the job, and is named in what the job printed.
    /// </summary>
    public static LaunchResult RunScenarios(
        MpiFamily family, int ranks, IEnumerable<string[]> scenarios, IReadOnlyDictionary<string, string>? environment = null) =>
        Run(family, ranks, [RankProgram, .. scenarios.SelectMany(scenario => (string[])["+", .. scenario]).Skip(1)], environment: environment);

    /// <summary>Runs a command on so many ranks; skips the test where the family is not installed.</summary>
    /// <param name="timeout">Then the whole process tree is killed; 5 minutes where not given.</param>
    /// <param name="environment">Variables on top of those of this process.</param>
    /// <param name="timeoutFrom">Text of a line of output from which on the time counts; from the start where not given.</param>
    public static LaunchResult Run(
        MpiFamily family, int ranks, IReadOnlyList<string> command,
        TimeSpan? timeout = null, IReadOnlyDictionary<string, string>? environment = null, string? timeoutFrom = null)
    {
        SkipIfAbsent(family);
        List<string> arguments = family == MpiFamily.OpenMpi
            ? ["--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-n", $"{ranks}"]
            : ["-n", $"{ranks}"];
        return RunProcess(Find(family)!, [.. arguments, .. command], timeout, environment, timeoutFrom);
    }

    /// <summary>Runs one process without a launcher.</summary>
    public static LaunchResult RunAlone(
        IReadOnlyList<string> command, TimeSpan? timeout = null, IReadOnlyDictionary<string, string>? environment = null) =>
        RunProcess(command[0], [.. command.Skip(1)], timeout, environment, timeoutFrom: null);

    private static LaunchResult RunProcess(
        string file, IReadOnlyList<string> arguments, TimeSpan? timeout, IReadOnlyDictionary<string, string>? environment,
        string? timeoutFrom)
    {
        ProcessStartInfo start = new(file, arguments)
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            RedirectStandardInput = true,
        };
        start.Environment["OMP_NUM_THREADS"] = "1";
        start.Environment["OMP_WAIT_POLICY"] = "PASSIVE";
        foreach ((string name, string value) in environment ?? new Dictionary<string, string>()) start.Environment[name] = value;

        using Process process = Process.Start(start)!;
        process.StandardInput.Close();
        TaskCompletionSource counting = new();
        if (timeoutFrom is null) counting.SetResult();
        Task<string> output = Read(process.StandardOutput, timeoutFrom, counting), error = Read(process.StandardError, null, counting);
        Task.WaitAny([counting.Task, output], LongestTime);
        bool ended = process.WaitForExit(timeout ?? LongestTime);
        if (!ended)
        {
            process.Kill(entireProcessTree: true);
            process.WaitForExit();
        }
        // Pipes stay open as long as any process of the tree lives.
        Task.WaitAll([output, error], TimeSpan.FromSeconds(10));
        return new LaunchResult(process.ExitCode, Text(output), Text(error), TimedOut: !ended);
    }

    private static async Task<string> Read(StreamReader stream, string? mark, TaskCompletionSource seen)
    {
        StringBuilder text = new();
        while (await stream.ReadLineAsync() is string line)
        {
            text.Append(line).Append('\n');
            if (mark is not null && line.Contains(mark, StringComparison.Ordinal)) seen.TrySetResult();
        }
        return text.ToString();
    }

    private static string Text(Task<string> reading) => reading.IsCompletedSuccessfully ? reading.Result : "(output still open)";

    private static string Name(MpiFamily family) => family == MpiFamily.OpenMpi ? "mpiexec.openmpi" : "mpiexec.mpich";

    private static string? Find(MpiFamily family) =>
        (Environment.GetEnvironmentVariable("PATH") ?? "").Split(':')
            .Select(folder => Path.Combine(folder, Name(family))).FirstOrDefault(File.Exists);
}
