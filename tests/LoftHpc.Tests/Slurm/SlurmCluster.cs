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

    /// <summary>Submits slurm/run.sbatch from <paramref name="folder"/> and waits for the job's end.</summary>
    /// <returns>The job's final state, its exit code (as Slurm writes it) and its log.</returns>
    /// <param name="when">Asked again and again while the job runs, until it says yes: then Slurm sends the script USR1, as before a time limit.</param>
    public (string State, string ExitCode, string Log) RunJob(
        string folder, IEnumerable<string> options, IEnumerable<string> arguments, IReadOnlyDictionary<string, string?> variables, Func<bool>? when = null)
    {
        Dictionary<string, string?> environment = new(variables) { ["SLURM_CONF"] = Configuration };
        (int exitCode, string output, string error) = Repository.Run(
            "sbatch", ["--parsable", .. options, Repository.File("slurm", "run.sbatch"), .. arguments], environment, folder);
        Assert.True(exitCode == 0, $"sbatch: {output}{error}");
        string job = output.Trim();

        DateTime end = DateTime.UtcNow.AddSeconds(240);
        while (true)
        {
            Dictionary<string, string> fields = Repository.Run("scontrol", ["show", "job", "-o", job], environment).Output
                .Split(' ', StringSplitOptions.RemoveEmptyEntries).Select(f => f.Split('=', 2)).Where(f => f.Length == 2)
                .GroupBy(f => f[0]).ToDictionary(g => g.Key, g => g.First()[1]);
            string state = fields.GetValueOrDefault("JobState", "");
            string log = Path.Combine(folder, $"lofthpc-{job}.log");
            if (state is not ("PENDING" or "CONFIGURING" or "RUNNING" or "COMPLETING"))
                return (state, fields.GetValueOrDefault("ExitCode", ""), File.Exists(log) ? File.ReadAllText(log) : "");
            if (when?.Invoke() == true)
            {
                when = null;
                (exitCode, output, error) = Repository.Run("scancel", ["--batch", "--signal=USR1", job], environment);
                Assert.True(exitCode == 0, $"scancel: {output}{error}");
            }
            if (DateTime.UtcNow > end)
            {
                Repository.Run("scancel", [job], environment);
                throw new TimeoutException(string.Create(CultureInfo.InvariantCulture, $"job {job} is still {state}: {(File.Exists(log) ? File.ReadAllText(log) : "")}"));
            }
            Thread.Sleep(when is null ? 200 : 20);
        }
    }

    public void Dispose() => Repository.Run(Script, ["stop", _folder]);
}
