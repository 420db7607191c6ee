using LoftHpc.Tests.Mpi;
using Xunit;

namespace LoftHpc.Tests.Slurm;

/// <summary>The scripts of slurm/ as they are, under a real Slurm. Jobs are submitted from a folder whose name has a space.</summary>
public sealed class JobScriptTests(SlurmCluster cluster) : JobTests(cluster)
{
    private const string Tiny = """
        network: { width: 4 }
        data: { set: synthetic, train_images: 48, test_images: 16, synthetic: { channels: 1, size: 28 } }
        pretrain: { epochs: 1, batch: 16 }
        retrain: { epochs: 1, batch: 16 }
        """;

    [SkippableTheory]
    [InlineData("openmpi", 1)]
    [InlineData("openmpi", 2)]
    [InlineData("mpich", 1)]
    [InlineData("mpich", 2)]
    public void Two_tasks_on_each_node_are_one_world(string mpi, int nodes)
    {
        JobEnd end = Run(mpi, [$"--nodes={nodes}", "--ntasks-per-node=2"], ["doctor"]);
        end.MustBe("COMPLETED", "0:0");
        Assert.Contains($"allreduce over {2 * nodes} ranks: right", end.Log, StringComparison.Ordinal);
        Assert.Contains(mpi == "openmpi" ? "Open MPI v" : "MPICH Version", end.Log, StringComparison.Ordinal);
        for (int rank = 0; rank < 2 * nodes; rank++)
            Assert.Matches($"(?m)^rank {rank} +n{1 + (rank / 2)}, local rank {rank % 2}, (cpu|cuda:[0-9]+), 1 thread$", end.Log);
    }

    /// <summary>Ranks have a thread for each processor of their task.</summary>
    [SkippableTheory]
    [InlineData("openmpi", 1)]
    [InlineData("mpich", 2)]
    public void A_run_over_two_nodes_writes_into_a_folder_named_by_the_job(string mpi, int processors)
    {
        Write("tiny.yaml", Tiny);
        Run(mpi, ["--nodes=2", "--ntasks-per-node=1", $"--cpus-per-task={processors}"], ["tiny.yaml", "run.seed=3"]).MustBe("COMPLETED", "0:0");

        string run = Assert.Single(Directory.GetDirectories(Path.Combine(Folder, "results")));
        Assert.Matches("^tiny-job[0-9]+$", Path.GetFileName(run));
        Assert.Equal(4, File.ReadAllLines(Path.Combine(run, "summary.csv")).Length);
        Assert.Contains("seed: 3", File.ReadAllText(Path.Combine(run, "config.yaml")), StringComparison.Ordinal);
        string manifest = File.ReadAllText(Path.Combine(run, "manifest.json"));
        Assert.All((string[])["n1", "n2"], host => Assert.Contains($"\"{host}\"", manifest, StringComparison.Ordinal));
        Assert.Equal(3, manifest.Split($"\"threads\": {processors}").Length);
    }

    /// <summary>
    /// By the signal that Slurm sends the script before a time limit, and by one to the ranks, as when a job is preempted. (To the end,
    /// and with which bytes: <see cref="LongJobTests"/>.)
    /// </summary>
    [SkippableFact]
    public void A_job_that_is_asked_to_stop_goes_back_to_the_queue_and_on_but_one_that_is_cancelled_does_not()
    {
        NeedMpi("openmpi", "mpich");
        Write("long.yaml", Tiny, ("pretrain: { epochs: 1,", "pretrain: { epochs: 10000, method: loft, local_steps: 2,"));
        string[] options = ["--nodes=2", "--ntasks-per-node=1"];
        string preempted = Submit("mpich", options, ["long.yaml", "run.name=preempted"]);
        // As a task of an array, whose scripts are two.
        string asked = $"{Submit("openmpi", [.. options, "--array=3"], ["long.yaml"], "array.sbatch")}_3";
        Send(["--batch", "--signal=USR1"], asked, $"long-job{asked}");
        Send(["--signal=TERM"], preempted, "preempted");
        WaitForLog(asked, "pretrain: goes on after step ");
        WaitForLog(preempted, "pretrain: goes on after step ");
        // One that cannot go on from where it is yet would be ended at once.
        Send([], asked, $"long-job{asked}", epochs: 1);
        Send([], preempted, "preempted", epochs: 1);
        foreach (string job in (string[])[asked, preempted])
        {
            JobEnd end = Wait(job);
            end.MustBe("CANCELLED", "75:0");
            Assert.Equal("1", end.Restarts);
            Assert.Equal(2, end.Log.Split("the same command with --resume auto goes on from there").Length - 1);
            Assert.Contains($"the job was cancelled; scontrol requeue {job} goes on from its checkpoint", end.Log, StringComparison.Ordinal);
        }
    }

    /// <summary>A task that fails fails alone, with the program's own exit code.</summary>
    [SkippableFact]
    public void An_array_takes_a_line_of_a_list_a_task()
    {
        Write("tiny.yaml", Tiny);
        Write("list.txt", """
            # two runs

            run.seed=7
              tiny.yaml run.name=burnt pretrain.optimizer.learning_rate=1e20
            """);
        string job = Submit("openmpi", ["--array=1-3", "--ntasks=2"], ["--list=list.txt", "pretrain", "tiny.yaml", "run.seed=5"], script: "array.sbatch");
        Wait($"{job}_1").MustBe("COMPLETED", "0:0");
        Assert.Contains("seed: 7", File.ReadAllText(Path.Combine(Folder, "results", $"tiny-job{job}_1", "config.yaml")), StringComparison.Ordinal);
        JobEnd burnt = Wait($"{job}_2");
        burnt.MustBe("FAILED", "4:0");
        Assert.Contains("seed: 5", File.ReadAllText(Path.Combine(Folder, "results", "burnt", "config.yaml")), StringComparison.Ordinal);
        JobEnd over = Wait($"{job}_3");
        over.MustBe("FAILED", "2:0");
        Assert.Contains("list.txt has no line for task 3", over.Log, StringComparison.Ordinal);
    }

    [SkippableFact]
    public void A_sweeps_list_is_an_array_and_the_sweep_takes_its_runs()
    {
        NeedMpi("openmpi");
        Write("tiny.yaml", Tiny);
        Write("sweep.yaml", """
            config: tiny.yaml
            folder: out
            ranks: [2]
            overrides: ["pretrain.optimizer.milestones=[1 steps]"]
            """);
        string Sweep(params string[] options)
        {
            (int exitCode, string output, string error) = Repository.Run(MpiLauncher.LoftHpc, ["sweep", "sweep.yaml", .. options], folder: Folder);
            Assert.True(exitCode == ExitCodes.Done, error);
            return output;
        }
        Assert.EndsWith("sbatch --array=1-1 --ntasks=2 slurm/array.sbatch --list=runs-2.txt\n", Sweep("--list", "runs.txt"), StringComparison.Ordinal);
        string job = Submit("openmpi", ["--array=1-1", "--ntasks=2"], ["--list=runs-2.txt"], script: "array.sbatch");
        Wait($"{job}_1").MustBe("COMPLETED", "0:0");
        Assert.Contains("1 runs into out/runs, 1 of them finished already", Sweep(), StringComparison.Ordinal);
        Assert.Equal(2, File.ReadAllLines(Path.Combine(Folder, "out", "comparison.csv")).Length);
    }

    [SkippableFact]
    public void A_chain_draws_several_tickets_from_one_pre_training()
    {
        Write("tiny.yaml", Tiny);
        string[] jobs = Chain("mpich", ["--ntasks=1"], "tiny.yaml", "0.25,0.75", "run.seed=3");
        Assert.Equal(5, jobs.Length);
        Assert.All(jobs, job => Wait(job).MustBe("COMPLETED", "0:0"));
        string dense = $"tiny-job{jobs[0]}";
        Assert.Equal([dense, $"{dense}-0.25", $"{dense}-0.75"], Directory.GetDirectories(Path.Combine(Folder, "results")).Select(Path.GetFileName).Order(StringComparer.Ordinal));
        long[] tickets = [.. ((string[])["0.25", "0.75"]).Select(ratio => new FileInfo(Path.Combine(Folder, "results", $"{dense}-{ratio}", "ticket.safetensors")).Length)];
        Assert.True(tickets[1] < tickets[0], "the larger ratio leaves the smaller ticket");
    }

    /// <summary>It needs no config, and takes settings.</summary>
    [SkippableFact]
    public void A_self_test_over_two_nodes_passes()
    {
        JobEnd end = Run("openmpi", ["--nodes=2", "--ntasks=2", "--ntasks-per-node=1"], ["selftest", "network.width=3"]);
        end.MustBe("COMPLETED", "0:0");
        Assert.Matches("(?m)^[0-9]+ checks passed$", end.Log);
        Assert.All((string[])["n1", "n2"], host => Assert.Matches($"(?m)^\\| +[01] \\| {host} ", end.Log));
        Assert.Empty(Directory.GetDirectories(Folder));
    }

    [SkippableFact]
    public void The_wrong_pair_of_srun_and_library_is_refused_in_one_line()
    {
        JobEnd end = Run("openmpi", ["--nodes=2", "--ntasks=2"], ["doctor"], ("LOFTHPC_MPI_LIBRARY", "libmpich.so.12"));
        // srun gives the highest code of its tasks: 3, or 143 where it had to end one.
        Assert.Equal("FAILED", end.State);
        Assert.Contains(end.ExitCode, (string[])["3:0", "143:0"]);
        Assert.Single(end.Log.Split('\n'), line => line.Contains("srun started 2 tasks, but MPI sees 1", StringComparison.Ordinal)
            && line.Contains("srun --mpi=pmi2", StringComparison.Ordinal));
    }

    /// <summary>As a container that cleans the environment does it: each task would be a world of its own.</summary>
    [SkippableFact]
    public void Ranks_without_their_launchers_variables_are_refused_in_one_line()
    {
        string stripped = Stub($$"""
            exec env $(env | sed -n 's/^\(\(PMI\|PMIX\|OMPI\)[^=]*\)=.*/-u \1/p') '{{MpiLauncher.LoftHpc}}' "$@"
            """);
        Write("tiny.yaml", Tiny);
        JobEnd end = Run("openmpi", ["--nodes=2", "--ntasks=2"], ["tiny.yaml"], ("LOFTHPC_PROGRAM", stripped));
        Assert.Equal("FAILED", end.State);
        Assert.Contains(end.ExitCode, (string[])["3:0", "143:0"]);
        Assert.Single(end.Log.Split('\n'), line => line.Contains("srun started 2 tasks without an MPI interface", StringComparison.Ordinal));
        Assert.False(Directory.Exists(Path.Combine(Folder, "results")));
    }

    [SkippableTheory]
    [InlineData("run.sbatch", "no config", "")]
    [InlineData("run.sbatch", "there is no config absent.yaml", "absent.yaml")]
    [InlineData("array.sbatch", "would be the name of all tasks", "run.name=same")]
    [InlineData("array.sbatch", "there is no list absent.txt", "--list=absent.txt")]
    public void What_is_missing_is_said_before_any_rank_starts(string script, string message, string argument)
    {
        JobEnd end = Wait(Submit("openmpi", script == "array.sbatch" ? ["--array=1"] : [], argument.Length == 0 ? [] : [argument], script) + (script == "array.sbatch" ? "_1" : ""));
        end.MustBe("FAILED", "2:0");
        Assert.Contains(message, end.Log, StringComparison.Ordinal);
    }

    /// <summary>By make submit, whose job has the shape that was asked for; the profile is read on both sides.</summary>
    [SkippableFact]
    public void Each_rank_sees_one_GPU()
    {
        NeedMpi("openmpi");
        Write("profile.sh", """
            # A module that is not fit for set -eu.
            false; : $NOT_SET
            export SBATCH_TIMELIMIT=00:07:00
            LOFTHPC_SRUN_OPTIONS=--label
            """);
        Dictionary<string, string?> variables = new(Variables("openmpi"))
        {
            ["LOFTHPC_PROGRAM"] = Stub("echo \"$(hostname) GPU $CUDA_VISIBLE_DEVICES: $*\"; env | grep '^LOFTHPC_\\(PROFILE\\|SRUN_OPTIONS\\|MAX_REQUEUES\\)='; exit 0"),
            ["LOFTHPC_PROFILE"] = Path.Combine(Folder, "profile.sh"),
            ["LOFTHPC_MAX_REQUEUES"] = "3",
            ["SBATCH_OUTPUT"] = Path.Combine(Folder, "lofthpc-%j.log"),
        };
        string said = Cluster.Run("make", ["-s", "submit", "CONFIG=configs/quick.yaml", "NODES=2", "GPUS=2", "ARGS=run.seed=3 'plot.layers=[a, b]'"], null, variables);
        string job = said.Split(' ')[^1];
        Assert.Equal("00:07:00", Cluster.Field(job, "TimeLimit"));
        JobEnd end = Wait(job);
        string command = $"run --config configs/quick.yaml run.name=quick-job{job} --resume=auto run.seed=3 plot.layers=[a, b]";
        Assert.Equal(
            [$"0: n1 GPU 0: {command}", $"1: n1 GPU 1: {command}", $"2: n2 GPU 0: {command}", $"3: n2 GPU 1: {command}"],
            end.Log.Split('\n').Where(line => line.Contains(": n", StringComparison.Ordinal) || line.Contains("LOFTHPC_", StringComparison.Ordinal)).Order(StringComparer.Ordinal));
    }

    [SkippableFact]
    public void Where_a_node_cannot_requeue_the_log_says_how_to()
    {
        // All that is on PATH but scontrol, and a program that has stopped with a checkpoint.
        string programs = Directory.CreateDirectory(Path.Combine(Folder, "bin")).FullName;
        foreach (string file in Directory.GetFiles("/usr/bin").Where(file => Path.GetFileName(file) != "scontrol"))
            File.CreateSymbolicLink(Path.Combine(programs, Path.GetFileName(file)), file);
        Write("tiny.yaml", Tiny);
        (string, string?)[] variables = [("LOFTHPC_PROGRAM", Stub("exit 75")), ("PATH", programs)];
        string job = Submit("openmpi", [], ["tiny.yaml"], variables: variables);
        JobEnd end = Wait(job);
        end.MustBe("FAILED", "75:0");
        Assert.Contains($"this node cannot requeue the job; where scontrol is: scontrol requeue {job} goes on", end.Log, StringComparison.Ordinal);
        Cluster.Run("scontrol", ["requeue", job]);
        Assert.Equal("1", Cluster.Field(job, "Restarts"));
        Cluster.Run("scancel", [job]);
    }

    [SkippableFact]
    public void A_job_goes_back_no_more_often_than_is_allowed()
    {
        Write("tiny.yaml", Tiny);
        JobEnd end = Run("openmpi", [], ["tiny.yaml"], ("LOFTHPC_PROGRAM", Stub("exit 75")), ("LOFTHPC_MAX_REQUEUES", "0"));
        end.MustBe("FAILED", "75:0");
        Assert.Contains("stopped after 0 requeues (LOFTHPC_MAX_REQUEUES)", end.Log, StringComparison.Ordinal);
    }
}
