using System.Globalization;
using LoftHpc.Checkpoints;
using LoftHpc.Mpi;
using LoftHpc.Results;
using LoftHpc.Tests.Mpi;
using Xunit;

namespace LoftHpc.Tests.Commands;

/// <summary>Launches that stop by themselves, and jobs in which one rank gets no further.</summary>
public sealed class LimitsTests : ProgramTests
{
    /// <summary>Three launches each stop after one more step or so, each by another limit; a fourth ends what they began.</summary>
    [SkippableFact]
    public void A_launch_that_a_limit_stops_is_gone_on_with()
    {
        MpiFamily family = MpiLauncher.AnyFamily();
        Start(family, 2, "run", "run.name=whole").MustSucceed();
        LaunchResult GoOn(Dictionary<string, string>? variables, params string[] limits) =>
            Start(family, 2, variables, "run", ["run.name=cut", "run.resume=auto", .. limits]);

        MustBeOneLine(GoOn(null, "limits.stop_file=config.yaml"), ExitCodes.Configuration, "limits.stop_file: config.yaml is not the plain name of a file; allowed: a name without / and dots");
        MustBeOneLine(GoOn(null, "limits.minutes=0"), ExitCodes.Stopped, "pretrain: stopped by limits.minutes after step 1 of 6; the same command with --resume auto goes on from there");
        File.WriteAllText(Path.Combine(Folder("cut").Path, "enough"), "");
        MustBeOneLine(GoOn(null, "limits.stop_file=enough"), ExitCodes.Stopped, "pretrain: stopped by limits.stop_file after step 2 of 6");
        Assert.False(File.Exists(Path.Combine(Folder("cut").Path, "enough")));
        // As a newer Slurm tells it. A checkpoint and a minute fit in before it, or do not.
        Dictionary<string, string> end = new()
        {
            ["SLURM_JOB_END_TIME"] = DateTimeOffset.UtcNow.AddSeconds(59).ToUnixTimeSeconds().ToString(CultureInfo.InvariantCulture),
        };
        MustBeOneLine(GoOn(end), ExitCodes.Stopped, "pretrain: stopped before the end of the Slurm job after step 3 of 6");
        GoOn(end, "limits.minutes_before_end=0").MustSucceed();
        MustBeAlike("whole", "cut");
        Assert.Equal([75, 75, 75, 0], RunManifest.Read(Folder("cut").Manifest).Launches.Select(launch => launch.ExitCode));
    }

    /// <summary>Begun with fewer epochs: what a step does depends on none that follow.</summary>
    [SkippableFact]
    public void A_run_that_is_not_finished_may_get_more_epochs()
    {
        MpiFamily family = MpiLauncher.AnyFamily();
        string[] method = ["pretrain.method=loft", "pretrain.local_steps=2", "pretrain.snapshots=[]"];
        Start(family, 2, "run", ["run.name=whole", .. method]).MustSucceed();
        LaunchResult GoOn(params string[] more) => Start(family, 2, "run", ["run.name=cut", "run.resume=auto", .. method, .. more]);
        MustBeOneLine(GoOn("limits.minutes=0", "pretrain.epochs=1"), ExitCodes.Stopped, "after step 2 of 3");
        MustBeOneLine(GoOn("limits.minutes=0", "retrain.epochs=2"), ExitCodes.Stopped, "after step 3 of 6");
        MustBeOneLine(GoOn("pretrain.epochs=1", "retrain.epochs=2"), ExitCodes.Configuration, "pretrain.epochs is 2 and 1");
        MustBeOneLine(GoOn(), ExitCodes.Configuration, "retrain.epochs is 2 and 1");
        GoOn("retrain.epochs=2").MustSucceed();
        Assert.True(File.ReadAllBytes(Folder("whole").DenseWeights).SequenceEqual(File.ReadAllBytes(Folder("cut").DenseWeights)));
        Assert.Equal((2, 2), (Folder("cut").Metrics.Read().Max(row => row.Phase is TrainingPhase.Pretrain ? row.Epoch : 0), Folder("cut").Metrics.Read().Max(row => row.Phase is TrainingPhase.Retrain ? row.Epoch : 0)));
        Assert.Contains("epochs: 2", File.ReadAllText(Folder("cut").Config), StringComparison.Ordinal);
        Assert.DoesNotContain("\n  epochs: 1", File.ReadAllText(Folder("cut").Config), StringComparison.Ordinal);
        MustBeOneLine(
            Start(family, 2, "retrain", ["run.name=cut", "run.resume=auto", .. method, "retrain.epochs=3"]), ExitCodes.Configuration, "config.yaml: the run was begun with another config than this launch's: retrain.epochs is 2 and 3");
        MustBeOneLine(GoOn("retrain.epochs=3"), ExitCodes.Configuration, $"retrain.epochs: retrain is finished in {Folder("cut").Path}, after 2 epochs; allowed: 2");
    }

    /// <summary>A round that would take hours: ten seconds after the limit the ranks call each other.</summary>
    [SkippableFact]
    public void A_long_round_is_not_waited_for()
    {
        (long Furthest, long All) Stop(string every)
        {
            LaunchResult result = Start(
                MpiLauncher.AnyFamily(), 2, "pretrain", "run.name=a", "run.resume=auto", "limits.minutes=0.001", "pretrain.method=loft",
                "pretrain.local_steps=1000000", "data.train_images=300000", "pretrain.epochs=1", "pretrain.snapshots=[]", "distance.every=1 epoch", $"checkpoint.every={every}");
            MustBeOneLine(result, ExitCodes.Stopped, "pretrain: stopped by limits.minutes after step ", " of 9375; the same command with --resume auto goes on from there");
            CheckpointFolder newest = CheckpointFolder.Of(Folder("a"), "pretrain")[0];
            return (newest.Step, Enumerable.Range(0, 2).Sum(rank =>
            {
                using SafetensorsFile part = SafetensorsFile.Open(newest.Part(rank));
                return long.Parse(part.Metadata["loop/step"], CultureInfo.InvariantCulture);
            }));
        }
        (long first, long all) = Stop("10 minutes");
        Assert.InRange(first, 1, 9373);
        // The furthest rank is at this step already: another checkpoint of it does not replace the first before it is whole. On a busy
        // machine the other rank may be called before it has come to where this one waits for it.
        (long second, long allThen) = Stop($"{first} steps");
        Assert.InRange(second, first, 9374);
        Assert.InRange(allThen, all + 1, 2 * 9374);
        Assert.True(File.Exists(Path.Combine(Folder("a").Checkpoints, $"pretrain-{first:D9}.1", "commit.json")));
    }

    [SkippableFact]
    public void A_loss_that_is_not_finite_names_the_checkpoint_from_before()
    {
        LaunchResult result = Start(
            MpiLauncher.AnyFamily(), 2, "pretrain", "run.name=a", "pretrain.optimizer.learning_rate=1e28", "checkpoint.every=1 step");
        MustBeOneLine(result, ExitCodes.NonFiniteLoss, "the loss is not finite in step 2 of 3 of epoch 1", $"; {Folder("a").Checkpoints}/pretrain-000000001 is the checkpoint from before");
        Assert.True(File.Exists(Path.Combine(Folder("a").Checkpoints, "pretrain-000000001", "commit.json")));
    }

    /// <summary>The others wait for it in MPI, for ever; and the job ends.</summary>
    [SkippableTheory]
    [InlineData(MpiFamily.OpenMpi)]
    [InlineData(MpiFamily.Mpich)]
    public void A_rank_that_computes_for_ever_is_named_and_ends_the_job(MpiFamily family)
    {
        MpiLauncher.SkipIfAbsent(family);
        LaunchResult result = Start(
            family, 3, BrokenMachine.With("late-hang", 1), "pretrain", "run.name=a", "pretrain.epochs=30", "limits.collective_seconds=5");
        MustBeOneLine(
            result, ExitCodes.Environment, "rank 0 waits in MPI_", " of pretrain, for ", " s (limits.collective_seconds): rank 1 on ", " computes, ", " (rank 0 of 3 on ");
        Assert.DoesNotContain("rank 2 ", result.Error.Split('\n').Single(line => line.Contains("waits in", StringComparison.Ordinal)), StringComparison.Ordinal);
        Assert.Equal(ExitCodes.Environment, RunManifest.Read(Folder("a").Manifest).Launches[0].ExitCode);
    }

    /// <summary>Ranks of a round may be far apart: rank 1 gets a twentieth of a second in each half, and rank 0 waits for it at the end.</summary>
    [SkippableFact]
    public void A_rank_that_is_slow_is_waited_for()
    {
        MpiLauncher.SkipIfAbsent(MpiFamily.OpenMpi);
        LaunchResult result = MpiLauncher.RunAlone(["bash", "-c", $"""
            mpiexec.openmpi --allow-run-as-root --oversubscribe --bind-to none -n 2 {MpiLauncher.LoftHpc} pretrain --config {ConfigFile} run.folder={TemporaryPath}/results run.name=a \
                pretrain.method=local-sgd pretrain.local_steps=100 data.train_images=2000 pretrain.epochs=1 pretrain.snapshots=[] 'distance.every=1 epoch' limits.collective_seconds=2 & job=$!
            until [ -s {Folder("a").FilterNorms.Path} ]; do kill -0 $job || exit 99; done
            rank=$(pgrep -P $job | tail -n 1)
            for i in $(seq 30); do kill -STOP $rank; sleep 0.45; kill -CONT $rank; sleep 0.05; done
            wait $job; exit $?
            """], TimeSpan.FromMinutes(2));
        Assert.True(result.ExitCode == ExitCodes.Done, result.Output + result.Error);
    }

    [SkippableFact]
    public void A_rank_that_is_stopped_is_named_too()
    {
        MpiLauncher.SkipIfAbsent(MpiFamily.OpenMpi);
        LaunchResult result = MpiLauncher.RunAlone(["bash", "-c", $"""
            mpiexec.openmpi --allow-run-as-root --oversubscribe --bind-to none -n 2 {MpiLauncher.LoftHpc} pretrain --config {ConfigFile} run.folder={TemporaryPath}/results run.name=a pretrain.epochs=200 limits.collective_seconds=5 & job=$!
            until [ -e {Folder("a").SnapshotWeights(1)} ]; do kill -0 $job || exit 99; done
            kill -STOP $(pgrep -P $job | tail -n 1)
            wait $job; exit $?
            """], TimeSpan.FromMinutes(2));
        MustBeOneLine(result, ExitCodes.Environment, "rank 0 waits in MPI_", "(limits.collective_seconds): rank 1 says nothing, as one that was stopped or whose host is gone");
    }
}
