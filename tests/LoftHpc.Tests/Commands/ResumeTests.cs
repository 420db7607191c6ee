using LoftHpc.Checkpoints;
using LoftHpc.Mpi;
using LoftHpc.Results;
using LoftHpc.Tests.Mpi;
using Xunit;

namespace LoftHpc.Tests.Commands;

/// <summary>Runs of which real ranks are killed, and which are gone on with, against runs that nothing has disturbed.</summary>
public sealed class ResumeTests : ProgramTests
{
    /// <summary>What is there when a rank is killed: in an epoch, while a snapshot is saved, in the next epoch, at the end of pre-training, and in retraining.</summary>
    private static readonly string[] Moments =
        ["checkpoints/pretrain-000000002/commit.json", "epoch-1.safetensors", "checkpoints/pretrain-000000004/commit.json", "dense.safetensors", "checkpoints/retrain-000000002/commit.json"];

    /// <param name="moments">Numbers of <see cref="Moments"/>, one after the other.</param>
    [SkippableTheory]
    [InlineData("03", 1, "method=dense")]
    [InlineData("04", 3, "method=filter-parallel")]
    [InlineData("24", 2, "method=data-parallel", "batch_norm=per-rank")]
    [InlineData("02", 3, "method=local-sgd", "local_steps=4")]
    [InlineData("1", 2, "method=loft", "local_steps=4", "samples=shard")]
    [InlineData("01234", 3, "method=loft", "local_steps=3", "loft.momentum=travel", "loft.running_statistics=average", "loft.deal=norm", "loft.warmup_rounds=1")]
    [InlineData("2", 2, "method=gpipe")]
    public void Killed_again_and_again_a_run_ends_with_the_bytes_of_one_that_was_not(string moments, int ranks, params string[] method)
    {
        MpiLauncher.SkipIfAbsent(MpiFamily.OpenMpi);
        string[] overrides = [.. method.Select(item => $"pretrain.{item}"), "checkpoint.every=2 steps"];
        LaunchResult whole = Start(MpiFamily.OpenMpi, ranks, "run", ["run.name=whole", .. overrides]);
        Assert.True(whole.ExitCode == ExitCodes.Done, whole.Error);
        foreach (string moment in moments.Select(number => Moments[number - '0'])) KillWhen(MpiFamily.OpenMpi, ranks, "cut", moment, overrides);
        LaunchResult last = Start(MpiFamily.OpenMpi, ranks, "run", ["run.name=cut", "run.resume=auto", .. overrides]);
        Assert.True(last.ExitCode == ExitCodes.Done, last.Error);
        // A rank may have been too fast for the last kill.
        Assert.Matches("train: (goes on after step |is finished)", last.Output);
        MustBeSame("whole", "cut");
        Assert.Equal(moments.Length + 1, RunManifest.Read(Folder("cut").Manifest).Launches.Count);
    }

    [SkippableFact]
    public void Killed_before_the_first_checkpoint_a_stage_starts_anew()
    {
        MpiLauncher.SkipIfAbsent(MpiFamily.OpenMpi);
        LaunchResult whole = Start(MpiFamily.OpenMpi, 2, "run", "run.name=whole", "checkpoint.every=never");
        Assert.True(whole.ExitCode == ExitCodes.Done, whole.Error);
        KillWhen(MpiFamily.OpenMpi, 2, "cut", "epoch-1.safetensors", "checkpoint.every=10 minutes");
        LaunchResult last = Start(MpiFamily.OpenMpi, 2, "run", "run.name=cut", "run.resume=auto");
        Assert.True(last.ExitCode == ExitCodes.Done, last.Error);
        MustBeSame("whole", "cut");
        // And what is finished is not done again.
        LaunchResult again = Start(MpiFamily.OpenMpi, 2, "run", "run.name=cut", "run.resume=auto");
        Assert.True(again.ExitCode == ExitCodes.Done, again.Error);
        Assert.Contains("pretrain: is finished in ", again.Output, StringComparison.Ordinal);
        Assert.Contains("retrain: is finished in ", again.Output, StringComparison.Ordinal);
        MustBeSame("whole", "cut");
    }

    [SkippableFact]
    public void A_damaged_checkpoint_is_passed_over_and_where_none_is_whole_that_is_an_error()
    {
        MpiLauncher.SkipIfAbsent(MpiFamily.OpenMpi);
        string[] overrides = ["pretrain.method=data-parallel", "checkpoint.every=1 step", "checkpoint.keep=4"];
        LaunchResult whole = Start(MpiFamily.OpenMpi, 2, "run", ["run.name=whole", .. overrides]);
        Assert.True(whole.ExitCode == ExitCodes.Done, whole.Error);
        KillWhen(MpiFamily.OpenMpi, 2, "cut", "checkpoints/pretrain-000000004/commit.json", overrides);
        LaunchResult Resume(params string[] more) => Start(MpiFamily.OpenMpi, 2, "run", ["run.name=cut", "run.resume=auto", .. overrides, .. more]);
        CheckpointFolder[] kept = [.. CheckpointFolder.Of(Folder("cut"), "pretrain").Where(checkpoint => checkpoint.IsCommitted)];
        Assert.Equal(4, kept.Length);

        // What may not differ.
        MustBeOneLine(Resume("pretrain.optimizer.learning_rate=0.04"), ExitCodes.Configuration, "config.yaml: the run was begun with another config", "pretrain.optimizer.learning_rate is 0.05 and 0.04");
        MustBeOneLine(Resume("pretrain.batch=16"), ExitCodes.Configuration, "pretrain.batch is 32 and 16");
        string rows = File.ReadAllText(Folder("cut").Metrics.Path);
        File.WriteAllText(Folder("cut").Metrics.Path, rows.Replace("train", "tests", StringComparison.Ordinal));
        MustBeOneLine(Resume(), ExitCodes.Environment, "metrics.csv: its bytes have changed");
        File.WriteAllText(Folder("cut").Metrics.Path, rows[..^1]);
        MustBeOneLine(Resume(), ExitCodes.Environment, "metrics.csv: it has ");
        File.Delete(Folder("cut").Metrics.Path);
        MustBeOneLine(Resume(), ExitCodes.Environment, "metrics.csv: it is missing");
        File.WriteAllText(Folder("cut").Metrics.Path, rows);

        // All damaged, each in another way; then the oldest is mended.
        byte[] part = File.ReadAllBytes(kept[0].Part(1)), oldest = File.ReadAllBytes(kept[3].Part(0));
        part[part.Length / 2] ^= 4;
        File.WriteAllBytes(kept[0].Part(1), part);
        File.WriteAllText(kept[1].Record, File.ReadAllText(kept[2].Record));
        File.Delete(kept[2].Part(1));
        File.WriteAllBytes(kept[3].Part(0), oldest[..^1]);
        LaunchResult refused = Resume();
        Assert.True(refused.ExitCode == ExitCodes.Environment, refused.Error);
        Assert.Contains($"{kept[0].Part(1)}: its bytes have changed: this checkpoint is passed over", refused.Error, StringComparison.Ordinal);
        Assert.Contains($"{kept[1].Record}: it is the record of another checkpoint: this checkpoint is passed over", refused.Error, StringComparison.Ordinal);
        Assert.Contains($"{kept[2].Part(1)}: it is missing: this checkpoint is passed over", refused.Error, StringComparison.Ordinal);
        Assert.Contains($"{kept[3].Part(0)}: it has {oldest.Length - 1} bytes, and had {oldest.Length}: this checkpoint is passed over", refused.Error, StringComparison.Ordinal);
        Assert.Contains("lofthpc: error: " + Folder("cut").Checkpoints + ": none of the 4 checkpoints of pretrain is whole", refused.Error, StringComparison.Ordinal);
        File.WriteAllBytes(kept[3].Part(0), oldest);
        LaunchResult last = Resume();
        Assert.True(last.ExitCode == ExitCodes.Done, last.Error);
        Assert.Contains($"pretrain: goes on after step {kept[3].Step}, from", last.Output, StringComparison.Ordinal);
        MustBeSame("whole", "cut");
    }

    /// <summary>Begun by 3 ranks, gone on with by 2, then by 1 and again by 3: the networks are those of 3 ranks, to rounding.</summary>
    [SkippableTheory]
    [InlineData("method=filter-parallel")]
    [InlineData("method=gpipe", "gpipe.micro_batches=2")]
    public void Other_ranks_go_on(params string[] method)
    {
        MpiFamily family = MpiLauncher.AnyFamily();
        string[] overrides = [.. method.Select(item => $"pretrain.{item}"), "limits.minutes=0"];
        LaunchResult whole = Start(family, 3, "run", ["run.name=whole", .. overrides, "limits.minutes=never"]);
        Assert.True(whole.ExitCode == ExitCodes.Done, whole.Error);
        int before = 0;
        foreach (int ranks in (int[])[3, 2, 1])
        {
            LaunchResult stopped = Start(family, ranks, "run", ["run.name=cut", "run.resume=auto", .. overrides]);
            Assert.True(stopped.ExitCode == ExitCodes.Stopped, stopped.Error);
            if (before > 0) Assert.Contains($"pretrain: a checkpoint of {before} ranks goes on with {ranks}\n", stopped.Output, StringComparison.Ordinal);
            before = ranks;
        }
        Start(family, 3, "run", ["run.name=cut", "run.resume=auto", .. overrides, "limits.minutes=never"]).MustSucceed();
        Assert.Equal(Files("whole"), Files("cut"));
        Assert.Equal(Folder("whole").Metrics.Read().Select(row => (row.Phase, row.Epoch, row.Split, row.Images)), Folder("cut").Metrics.Read().Select(row => (row.Phase, row.Epoch, row.Split, row.Images)));
        Assert.Equal(Folder("whole").FilterDistance.Read().Select(row => (row.Step, row.ReferenceStep, row.Layer)), Folder("cut").FilterDistance.Read().Select(row => (row.Step, row.ReferenceStep, row.Layer)));
        foreach ((MetricsRow one, MetricsRow other) in Folder("whole").Metrics.Read().Zip(Folder("cut").Metrics.Read())) Assert.Equal(one.Loss, other.Loss, 1e-3);
        // What the ranks have counted together. Those of the filter-parallel step send other bytes where they are fewer.
        long Images(string name) => Folder(name).Resources.Read().Where(row => row.Phase is TrainingPhase.Pretrain).Sum(row => row.Images);
        Assert.InRange(Images("cut"), 1, Images("whole"));
    }

    [SkippableFact]
    public void Stopped_by_USR1_it_goes_on()
    {
        MpiLauncher.SkipIfAbsent(MpiFamily.OpenMpi);
        string[] overrides = ["pretrain.epochs=16", "pretrain.snapshots=[]", "pretrain.method=local-sgd", "pretrain.local_steps=2"];
        LaunchResult whole = Start(MpiFamily.OpenMpi, 2, "run", ["run.name=whole", .. overrides]);
        Assert.True(whole.ExitCode == ExitCodes.Done, whole.Error);
        LaunchResult stopped = Shell(MpiFamily.OpenMpi, 2, "cut", "[ $(wc -l < metrics.csv) -ge 5 ]", "kill -USR1 $(pgrep -P $job | tail -n 1)", overrides);
        Assert.True(stopped.ExitCode == ExitCodes.Stopped, stopped.Error);
        Assert.Contains("the same command with --resume auto goes on from there", stopped.Error, StringComparison.Ordinal);
        LaunchResult last = Start(MpiFamily.OpenMpi, 2, "run", ["run.name=cut", "run.resume=auto", .. overrides]);
        Assert.True(last.ExitCode == ExitCodes.Done, last.Error);
        Assert.Contains("pretrain: goes on after step ", last.Output, StringComparison.Ordinal);
        MustBeSame("whole", "cut");
    }

    [SkippableFact]
    public void Retraining_alone_goes_on()
    {
        MpiLauncher.SkipIfAbsent(MpiFamily.OpenMpi);
        foreach (string name in (string[])["whole", "cut"])
        {
            foreach (string command in (string[])["pretrain", "extract"])
            {
                LaunchResult made = Start(MpiFamily.OpenMpi, 2, command, $"run.name={name}");
                Assert.True(made.ExitCode == ExitCodes.Done, made.Error);
            }
        }
        LaunchResult whole = Start(MpiFamily.OpenMpi, 2, "retrain", "run.name=whole", "checkpoint.every=1 step");
        Assert.True(whole.ExitCode == ExitCodes.Done, whole.Error);
        LaunchResult killed = Shell(
            MpiFamily.OpenMpi, 2, "cut", "[ -e checkpoints/retrain-000000001/commit.json ]", "kill -9 $(pgrep -P $job | tail -n 1)", ["checkpoint.every=1 step"], "retrain");
        Assert.True(killed.ExitCode is not (0 or 99), killed.Output + killed.Error);
        LaunchResult last = Start(MpiFamily.OpenMpi, 2, "retrain", "run.name=cut", "run.resume=auto", "checkpoint.every=1 step");
        Assert.True(last.ExitCode == ExitCodes.Done, last.Error);
        Assert.Contains("retrain: goes on after step ", last.Output, StringComparison.Ordinal);
        MustBeSame("whole", "cut");
    }

    /// <summary>Starts a run, or goes on with it, and kills its last rank as soon as a file is there.</summary>
    private void KillWhen(MpiFamily family, int ranks, string name, string file, params string[] overrides)
    {
        string rank = family is MpiFamily.OpenMpi ? "$(pgrep -P $job | tail -n 1)" : "$(pgrep -P $(pgrep -P $job) | tail -n 1)";
        LaunchResult killed = Shell(family, ranks, name, $"[ -e {file} ]", $"kill -9 {rank}", overrides);
        Assert.True(killed.ExitCode is not (0 or 99), $"{file}: exit code {killed.ExitCode}\n{killed.Output}{killed.Error}");
    }

    private LaunchResult Shell(MpiFamily family, int ranks, string name, string condition, string action, string[] overrides, string command = "run")
    {
        string launcher = family is MpiFamily.OpenMpi ? "mpiexec.openmpi --allow-run-as-root --oversubscribe --bind-to none" : "mpiexec.mpich";
        string settings = string.Join(' ', overrides.Select(item => $"'{item}'"));
        return MpiLauncher.RunAlone(["bash", "-c", $"""
            {launcher} -n {ranks} {MpiLauncher.LoftHpc} {command} --config {ConfigFile} --resume auto run.folder={TemporaryPath}/results run.name={name} {settings} & job=$!
            # A pipe that nobody writes to: waiting for it takes no core from the ranks, and no process.
            exec 9<> <(:)
            until cd {Folder(name).Path} 2> /dev/null; do read -t 0.005 -u 9; kill -0 $job || exit 99; done
            until {condition} 2> /dev/null; do read -t 0.005 -u 9; kill -0 $job || exit 99; done
            {action}
            wait $job; exit $?
            """], TimeSpan.FromMinutes(2));
    }
}
