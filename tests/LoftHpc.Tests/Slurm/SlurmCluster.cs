using System.Globalization;
using Xunit;

namespace LoftHpc.Tests.Slurm;

/// <summary>A real Slurm of two virtual nodes, n1 and n2, of two processors each, on this machine.</summary>
public sealed class SlurmCluster : IDisposable
{
    private static readonly string Script = Repository.File("tests", "LoftHpc.Tests", "Slurm", "slurm-cluster.sh");

    // Short: the path of a munge socket is limited to 107 characters.
    private readonly string _folder = Path.Combine("/tmp", $"lofthpc-slurm-{Environment.ProcessId}");

    public SlurmCluster()
    {
        string? absent = ((string[])["slurmctld", "slurmd", "sbatch", "munged"]).FirstOrDefault(p => !Repository.HasProgram(p));
        if (absent is not null) Unavailable = $"{absent} is not installed";
        else if (!Environment.IsPrivilegedProcess) Unavailable = "a test cluster is started as root only";
        else
        {
            (int exitCode, string output, string error) = Repository.Run(Script, ["start", _folder]);
            if (exitCode == 0) Configuration = output.Trim();
            else if (error.Contains("unshare", StringComparison.Ordinal)) Unavailable = "no namespaces here, for the virtual nodes";
            else throw new InvalidOperationException($"no Slurm: {error}");
        }
    }

    /// <summary>Why there is no cluster; null where there is one.</summary>
    public string? Unavailable { get; }

    /// <summary>SLURM_CONF of the cluster.</summary>
    public string Configuration { get; } = "";

    /// <summary>Runs one of Slurm's commands, or a script that does.</summary>
    /// <returns>What it has printed.</returns>
    public string Run(string file, IEnumerable<string> arguments, string? folder = null, IReadOnlyDictionary<string, string?>? variables = null)
    {
        Dictionary<string, string?> environment = new(variables ?? new Dictionary<string, string?>()) { ["SLURM_CONF"] = Configuration };
        (int exitCode, string output, string error) = Repository.Run(file, arguments, environment, folder);
        Assert.True(exitCode == 0, $"{file}: {output}{error}");
        return output.Trim();
    }

    /// <summary>Submits a script of slurm/ from <paramref name="folder"/>.</summary>
    /// <returns>The job's number.</returns>
    public string Submit(
        string folder, string script, IEnumerable<string> options, IEnumerable<string> arguments, IReadOnlyDictionary<string, string?> variables) =>
        Run("sbatch", ["--parsable", .. options, Repository.File("slurm", script), .. arguments], folder, variables);

    /// <summary>A field of what scontrol says of a job (JOBID, or JOBID_TASK); empty where there is none.</summary>
    public string Field(string job, string name) => Run("scontrol", ["show", "job", "-o", job])
        .Split(' ').Select(field => field.Split('=', 2)).FirstOrDefault(field => field[0] == name) is [_, string value] ? value : "";

    /// <summary>Whether a state is an end; others, such as REQUEUED and SIGNALING, may be seen on the way.</summary>
    public static bool IsEnd(string state) =>
        state is "COMPLETED" or "FAILED" or "CANCELLED" or "TIMEOUT" or "NODE_FAIL" or "PREEMPTED" or "OUT_OF_MEMORY" or "BOOT_FAIL" or "DEADLINE";

    /// <summary>Waits until a job has ended.</summary>
    /// <param name="folder">Where it was submitted.</param>
    public JobEnd Wait(string folder, string job, int timeoutSeconds = 240)
    {
        DateTime end = DateTime.UtcNow.AddSeconds(timeoutSeconds);
        string Log() => string.Concat(Directory.GetFiles(folder, $"lofthpc*-{job}.log").Select(File.ReadAllText));
        while (true)
        {
            string state = Field(job, "JobState");
            if (IsEnd(state)) return new JobEnd(state, Field(job, "ExitCode"), Field(job, "Restarts"), Log());
            if (DateTime.UtcNow > end)
            {
                Run("scancel", [job]);
                throw new TimeoutException(string.Create(CultureInfo.InvariantCulture, $"job {job} is still {state}: {Log()}"));
            }
            Thread.Sleep(200);
        }
    }

    /// <summary>A node answers no more (freeze), all on it is gone (kill), or it is back (revive).</summary>
    public void ChangeNode(string change, string node)
    {
        (int exitCode, _, string error) = Repository.Run(Script, [change, _folder, node]);
        Assert.True(exitCode == 0, error);
    }

    public void Dispose() => Repository.Run(Script, ["stop", _folder]);
}

/// <summary>How a job has ended.</summary>
/// <param name="ExitCode">As Slurm writes it: the code, and the signal.</param>
/// <param name="Restarts">How often it went back to the queue.</param>
public sealed record JobEnd(string State, string ExitCode, string Restarts, string Log)
{
    public void MustBe(string state, string exitCode) => Assert.True((State, ExitCode) == (state, exitCode), $"{State} {ExitCode} after {Restarts} requeues\n{Log}");
}
