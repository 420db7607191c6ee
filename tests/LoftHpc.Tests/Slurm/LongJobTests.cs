using Xunit;

namespace LoftHpc.Tests.Slurm;

/// <summary>Jobs that are stopped in every way that Slurm has end with the bytes of one that was not. Both MPI families at once: most of the time is waiting.</summary>
public sealed class LongJobTests(SlurmCluster cluster) : JobTests(cluster)
{
    private static readonly string[] Families = ["openmpi", "mpich"];
    private static readonly string[] Options = ["--nodes=2", "--ntasks-per-node=1"];

    /// <summary>The script as it is: of two minutes Slurm leaves a turn less than one.</summary>
    [SkippableFact]
    public void A_run_of_several_minutes_ends_in_turns_of_two()
    {
        NeedTime();
        Write("long.yaml", Config(epochs: 800, checkpoint: "10 minutes"));
        string[] cut = [.. Families.Select(mpi => Submit(mpi, [.. Options, "--time=2"], ["long.yaml", $"run.name=cut-{mpi}"]))];
        string[] whole = [.. Families.Select(mpi => Submit(mpi, Options, ["long.yaml", $"run.name=whole-{mpi}"]))];
        foreach (string job in (string[])[.. cut, .. whole]) Wait(job, timeoutSeconds: 3600).MustBe("COMPLETED", "0:0");
        foreach (string job in cut) Assert.True(int.Parse(Wait(job).Restarts, System.Globalization.CultureInfo.InvariantCulture) >= 2, $"job {job} ended in one turn or two");
        foreach (string job in whole) Assert.Equal("0", Wait(job).Restarts);
        foreach (string mpi in Families) MustBeSame($"whole-{mpi}", $"cut-{mpi}");
    }

    [SkippableFact]
    public void A_node_that_goes_down_a_requeue_and_a_preemption_change_no_byte()
    {
        NeedTime();
        Write("long.yaml", Config(epochs: 150, checkpoint: "20 steps"));
        string[] Start(string name) => [.. Families.Select(mpi => Submit(mpi, Options, ["long.yaml", $"run.name={name}-{mpi}"]))];

        string[] lost = Start("lost");
        for (int i = 0; i < 2; i++) WaitForEpochs(lost[i], $"lost-{Families[i]}", 12);
        Cluster.ChangeNode("freeze", "n2");
        // Slurm finds out by itself, and puts the jobs back.
        foreach (string job in lost) WaitUntil(job, () => Cluster.Field(job, "Restarts") == "1");
        Cluster.ChangeNode("kill", "n2");
        Cluster.ChangeNode("revive", "n2");
        foreach (string job in lost)
        {
            JobEnd end = Wait(job, timeoutSeconds: 900);
            end.MustBe("COMPLETED", "0:0");
            Assert.Contains("pretrain: goes on after step ", end.Log, StringComparison.Ordinal);
        }

        string[] requeued = Start("requeued");
        for (int i = 0; i < 2; i++) WaitForEpochs(requeued[i], $"requeued-{Families[i]}", 12);
        Cluster.Run("scontrol", ["requeue", string.Join(',', requeued)]);
        string[] preempted = Start("preempted");
        for (int i = 0; i < 2; i++) Send([i == 0 ? "--signal=USR2" : "--signal=TERM"], preempted[i], $"preempted-{Families[i]}", 12);
        string[] whole = Start("whole");
        foreach (string job in (string[])[.. requeued, .. preempted, .. whole]) Wait(job, timeoutSeconds: 1800).MustBe("COMPLETED", "0:0");
        foreach (string job in (string[])[.. requeued, .. preempted]) Assert.Contains("pretrain: goes on after step ", Wait(job).Log, StringComparison.Ordinal);
        foreach (string mpi in Families)
        {
            foreach (string name in (string[])["lost", "requeued", "preempted"]) MustBeSame($"whole-{mpi}", $"{name}-{mpi}");
        }
    }

    /// <summary>What the short tests do under one family.</summary>
    [SkippableTheory]
    [InlineData("openmpi")]
    [InlineData("mpich")]
    public void A_chain_an_array_and_a_failure_over_two_nodes(string mpi)
    {
        NeedTime();
        Write("tiny.yaml", Config(epochs: 1, checkpoint: "10 minutes"));
        string[] options = ["--nodes=2", "--ntasks-per-node=2"];
        Assert.All(Chain(mpi, options, "tiny.yaml", "0.25,0.75"), job => Wait(job, timeoutSeconds: 600).MustBe("COMPLETED", "0:0"));
        string array = Submit(mpi, [.. options, "--array=1-2"], ["tiny.yaml"], script: "array.sbatch");
        string failing = Submit(mpi, options, ["tiny.yaml", "pretrain.optimizer.learning_rate=1e20"]);
        string[] chain = Chain(mpi, options, "tiny.yaml", "0.5", "pretrain.optimizer.learning_rate=1e20");
        foreach (int seed in (int[])[1, 2])
        {
            Wait($"{array}_{seed}").MustBe("COMPLETED", "0:0");
            Assert.Contains($"seed: {seed}", File.ReadAllText(Path.Combine(Folder, "results", $"tiny-job{array}_{seed}", "config.yaml")), StringComparison.Ordinal);
        }
        Wait(failing).MustBe("FAILED", "4:0");
        Wait(chain[0]).MustBe("FAILED", "4:0");
        // What hangs on a job that has failed is not left in the queue.
        foreach (string job in chain[1..]) Assert.Equal("CANCELLED", Wait(job).State);
    }

    private static string Config(int epochs, string checkpoint) => $$"""
        network: { width: 4 }
        data: { set: synthetic, train_images: 48, test_images: 16, synthetic: { channels: 1, size: 28 } }
        pretrain: { epochs: {{epochs}}, batch: 16, method: loft, local_steps: 2, optimizer: { learning_rate: 0.01 } }
        retrain: { epochs: 1, batch: 16 }
        latency: { batches: [] }
        checkpoint: { every: {{checkpoint}} }
        """;

    private void NeedTime()
    {
        Skip.If(Environment.GetEnvironmentVariable(TestEnvironment.Large) != "1", "waits for time limits and nodes; make slurm-check runs it");
        NeedMpi(Families);
    }

    private void MustBeSame(string whole, string other)
    {
        foreach (string file in (string[])["dense.safetensors", "ticket.safetensors", "filter_norms.csv", "filter_distance.csv", "summary.csv"])
        {
            byte[] Read(string run) => File.ReadAllBytes(Path.Combine(Folder, "results", run, file));
            Assert.True(Read(whole).SequenceEqual(Read(other)), $"{file} of {other} and of {whole}");
        }
    }
}
