using LoftHpc.Tests.Mpi;
using Xunit;

namespace LoftHpc.Tests.Slurm;

/// <summary>slurm/run.sbatch under a real Slurm.</summary>
public sealed class RunScriptTests(SlurmCluster cluster) : IClassFixture<SlurmCluster>, IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("lofthpc-job-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [SkippableTheory]
    [InlineData("openmpi", 1)]
    [InlineData("openmpi", 2)]
    [InlineData("mpich", 1)]
    [InlineData("mpich", 2)]
    public void A_job_on_two_nodes_is_one_world(string mpi, int tasksPerNode)
    {
        (string state, string exitCode, string log) = Doctor(mpi, ["--nodes=2", $"--ntasks={2 * tasksPerNode}", $"--ntasks-per-node={tasksPerNode}"]);
        Assert.True((state, exitCode) == ("COMPLETED", "0:0"), $"{state} {exitCode}\n{log}");
        Assert.Contains($"allreduce over {2 * tasksPerNode} ranks: right", log, StringComparison.Ordinal);
        Assert.Contains(mpi == "openmpi" ? "Open MPI v" : "MPICH Version", log, StringComparison.Ordinal);
        for (int rank = 0; rank < 2 * tasksPerNode; rank++)
        {
            Assert.Matches($"(?m)^rank {rank} +n{1 + (rank / tasksPerNode)}, local rank {rank % tasksPerNode}, (cpu|cuda:[0-9]+), 1 thread$", log);
        }
    }

    [SkippableFact]
    public void Ranks_get_the_processors_of_their_task()
    {
        (string state, _, string log) = Doctor("openmpi", ["--nodes=2", "--ntasks=2", "--ntasks-per-node=1", "--cpus-per-task=2"]);
        Assert.Equal("COMPLETED", state);
        Assert.Matches("(?m)^rank 1 +n2, local rank 0, (cpu|cuda:[0-9]+), 2 threads$", log);
    }

    [SkippableTheory]
    [InlineData("openmpi")]
    [InlineData("mpich")]
    public void A_run_over_two_nodes_writes_into_a_folder_named_by_the_job(string mpi)
    {
        File.WriteAllText(Path.Combine(_folder, "tiny.yaml"), """
            network: { width: 4 }
            data: { set: synthetic, train_images: 48, test_images: 16, synthetic: { channels: 1, size: 28 } }
            pretrain: { epochs: 1, batch: 16 }
            retrain: { epochs: 1, batch: 16 }
            """);
        (string state, string exitCode, string log) = Submit(mpi, ["--nodes=2", "--ntasks=2", "--ntasks-per-node=1"], ["tiny.yaml", "run.seed=3"]);
        Assert.True((state, exitCode) == ("COMPLETED", "0:0"), $"{state} {exitCode}\n{log}");

        string run = Assert.Single(Directory.GetDirectories(Path.Combine(_folder, "results")));
        Assert.Matches("^tiny-job[0-9]+$", Path.GetFileName(run));
        Assert.Equal(4, File.ReadAllLines(Path.Combine(run, "summary.csv")).Length);
        Assert.Contains("seed: 3", File.ReadAllText(Path.Combine(run, "config.yaml")), StringComparison.Ordinal);
        string manifest = File.ReadAllText(Path.Combine(run, "manifest.json"));
        Assert.All((string[])["n1", "n2"], host => Assert.Contains($"\"{host}\"", manifest, StringComparison.Ordinal));
    }

    [SkippableFact]
    public void A_job_whose_time_ends_goes_back_to_the_queue_and_on()
    {
        const string mpi = "openmpi";
        File.WriteAllText(Path.Combine(_folder, "long.yaml"), """
            network: { width: 4 }
            data: { set: synthetic, train_images: 48, test_images: 16, synthetic: { channels: 1, size: 28 } }
            pretrain: { epochs: 60, batch: 16, method: loft, local_steps: 2 }
            retrain: { epochs: 1, batch: 16 }
            """);
        string[] options = ["--nodes=2", "--ntasks=2", "--ntasks-per-node=1"];
        string metrics = Path.Combine(_folder, "results", "cut", "metrics.csv");
        (string state, string exitCode, string log) = Submit(
            mpi, options, ["long.yaml", "run.name=cut"], when: () => File.Exists(metrics) && File.ReadAllLines(metrics).Length > 3);
        Assert.True((state, exitCode) == ("COMPLETED", "0:0"), $"{state} {exitCode}\n{log}");
        Assert.Contains("the same command with --resume auto goes on from there", log, StringComparison.Ordinal);
        Assert.Contains("pretrain: goes on after step ", log, StringComparison.Ordinal);

        (state, exitCode, log) = Submit(mpi, options, ["long.yaml", "run.name=whole"]);
        Assert.True((state, exitCode) == ("COMPLETED", "0:0"), $"{state} {exitCode}\n{log}");
        foreach (string file in (string[])["dense.safetensors", "ticket.safetensors", "filter_norms.csv", "filter_distance.csv", "summary.csv"])
            Assert.True(File.ReadAllBytes(Path.Combine(_folder, "results", "cut", file)).SequenceEqual(File.ReadAllBytes(Path.Combine(_folder, "results", "whole", file))), file);
    }

    /// <summary>It needs no config, and takes settings.</summary>
    [SkippableFact]
    public void A_self_test_over_two_nodes_passes()
    {
        (string state, string exitCode, string log) = Submit("openmpi", ["--nodes=2", "--ntasks=2", "--ntasks-per-node=1"], ["selftest", "network.width=3"]);
        Assert.True((state, exitCode) == ("COMPLETED", "0:0"), $"{state} {exitCode}\n{log}");
        Assert.Matches("(?m)^[0-9]+ checks passed$", log);
        Assert.All((string[])["n1", "n2"], host => Assert.Matches($"(?m)^\\| +[01] \\| {host} ", log));
        Assert.Empty(Directory.GetDirectories(_folder));
    }

    [SkippableFact]
    public void The_wrong_pair_of_srun_and_library_is_refused_in_one_line()
    {
        (string state, string exitCode, string log) = Doctor(
            "openmpi", ["--nodes=2", "--ntasks=2"], new Dictionary<string, string?> { ["LOFTHPC_MPI_LIBRARY"] = "libmpich.so.12" });
        // srun gives the highest code of its tasks: 3, or 143 where it had to end one.
        Assert.Equal("FAILED", state);
        Assert.Contains(exitCode, (string[])["3:0", "143:0"]);
        Assert.Single(log.Split('\n'), line => line.Contains("srun started 2 tasks, but MPI sees 1", StringComparison.Ordinal)
            && line.Contains("srun --mpi=pmi2", StringComparison.Ordinal));
    }

    [SkippableTheory]
    [InlineData("no config", "")]
    [InlineData("there is no config absent.yaml", "absent.yaml")]
    public void What_is_missing_is_said_before_any_rank_starts(string message, string argument)
    {
        Skip.If(cluster.Unavailable is not null, cluster.Unavailable);
        (string state, string exitCode, string log) = cluster.RunJob(
            _folder, [], argument.Length == 0 ? [] : [argument], new Dictionary<string, string?> { ["LOFTHPC_MPI"] = "openmpi" });
        Assert.Equal(("FAILED", "2:0"), (state, exitCode));
        Assert.Contains(message, log, StringComparison.Ordinal);
    }

    private (string State, string ExitCode, string Log) Doctor(
        string mpi, IEnumerable<string> options, IReadOnlyDictionary<string, string?>? variables = null) =>
        Submit(mpi, options, ["doctor"], variables);

    private (string State, string ExitCode, string Log) Submit(
        string mpi, IEnumerable<string> options, IEnumerable<string> arguments, IReadOnlyDictionary<string, string?>? variables = null, Func<bool>? when = null)
    {
        Skip.If(cluster.Unavailable is not null, cluster.Unavailable);
        Skip.IfNot(Repository.HasProgram($"mpiexec.{mpi}"), $"{mpi} is not installed");
        Dictionary<string, string?> all = new(variables ?? new Dictionary<string, string?>())
        {
            ["LOFTHPC_MPI"] = mpi,
            ["LOFTHPC_PROGRAM"] = MpiLauncher.LoftHpc,
        };
        (string State, string ExitCode, string Log) job = cluster.RunJob(_folder, options, arguments, all, when);
        // Slurm has a plug-in of this name, but it finds no library.
        string protocol = mpi == "openmpi" ? "pmix" : "pmi2";
        Skip.If(job.Log.Contains($"Invalid MPI type '{protocol}'", StringComparison.Ordinal), $"this Slurm cannot start {mpi} by {protocol}");
        return job;
    }
}
