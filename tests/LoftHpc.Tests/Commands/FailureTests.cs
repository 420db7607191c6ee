using LoftHpc.Checkpoints;
using LoftHpc.Mpi;
using LoftHpc.Results;
using LoftHpc.Tests.Mpi;
using Xunit;

namespace LoftHpc.Tests.Commands;

/// <summary>Rows of docs/failure.md that need the whole program on real ranks, and that stand nowhere else.</summary>
public sealed class FailureTests : ProgramTests
{
    private static readonly string[] Settings = ["pretrain.method=loft", "pretrain.local_steps=2", "checkpoint.every=1 step"];

    /// <summary>Each launch but the last dies by SIGKILL in another moment, and leaves what the moment says.</summary>
    [SkippableTheory]
    [InlineData(MpiFamily.OpenMpi)]
    [InlineData(MpiFamily.Mpich)]
    public void Killed_where_it_starts_and_where_it_writes_a_run_ends_with_the_bytes_of_one_that_was_not(MpiFamily family)
    {
        Start(family, 2, "run", ["run.name=whole", .. Settings]).MustSucceed();
        (string Moment, int Rank, string? Left)[] deaths =
        [
            ("death", 1, null),
            ("death:checkpoints/pretrain-000000002/rank-1.safetensors.part", 1, "checkpoints/pretrain-000000002/rank-1.safetensors.part"),
            ("death:metrics.csv", 0, "checkpoints/pretrain-000000002/commit.json"),
            ("death:checkpoints/pretrain-000000004/commit.json.part", 0, "checkpoints/pretrain-000000004/commit.json.part"),
            ("death:.lock", 0, ".lock"),
            ("death:pruned.safetensors.part", 0, "pruned.safetensors.part"),
            ("death:accuracy.png.part", 0, "accuracy.png.part"),
        ];
        // What is written does not depend on the MPI.
        foreach ((string moment, int rank, string? left) in family is MpiFamily.Mpich ? deaths : deaths[..3])
        {
            LaunchResult killed = Start(family, 2, BrokenMachine.With(moment, rank), "run", ["run.name=cut", "run.resume=auto", .. Settings]);
            Assert.True(killed.ExitCode != ExitCodes.Done && !killed.TimedOut, $"{moment}\n{killed.Output}{killed.Error}");
            Assert.DoesNotContain("lofthpc: error: ", killed.Error, StringComparison.Ordinal);
            if (left is not null) Assert.True(File.Exists(Path.Combine(Folder("cut").Path, left)), $"{moment}\n{killed.Output}{killed.Error}");
        }
        Start(family, 2, "run", ["run.name=cut", "run.resume=auto", .. Settings]).MustSucceed();
        MustBeSame("whole", "cut");
    }

    /// <summary>Real: the runtime may have so much memory for objects of .NET, which the images do not fit into.</summary>
    [SkippableTheory]
    [InlineData(MpiFamily.OpenMpi)]
    [InlineData(MpiFamily.Mpich)]
    public void A_rank_that_runs_out_of_NETs_memory_says_so_in_one_line(MpiFamily family)
    {
        string[] command = [MpiLauncher.LoftHpc, "run", "--config", ConfigFile, $"run.folder={TemporaryPath}/results", "run.name=a", "data.train_images=200000", "data.synthetic.channels=3"];
        MustBeOneLine(
            MpiLauncher.Run(family, 1, [.. command, ":", "-n", "1", "env", "DOTNET_GCHeapHardLimit=0x8000000", .. command]),
            ExitCodes.Environment, "the memory does not suffice: ", "(rank 1 of 2 on ");
    }

    /// <summary>
    /// A small disk becomes full in the middle of weights and of a checkpoint, and others, on which a table and a figure lie through
    /// links, in the middle of these. What was written before stays.
    /// </summary>
    [SkippableFact]
    public void When_there_is_room_again_the_same_command_goes_on()
    {
        MpiFamily family = Quicker();
        SkipWithoutMounts();
        string[] settings = [.. Settings, "network.width=8", "distance.every=1 step"];
        Start(family, 2, "run", ["run.name=whole", .. settings]).MustSucceed();
        string command = $"{Launcher(family, 2)} {MpiLauncher.LoftHpc} run --config {ConfigFile} run.folder={TemporaryPath}/results/disk run.name=cut --resume auto {string.Join(' ', settings.Select(item => $"'{item}'"))}";
        LaunchResult result = MpiLauncher.RunAlone(["unshare", "-rm", "bash", "-c", $$"""
            cd {{TemporaryPath}}/results && mkdir disk table figure && for disk in disk=700k table=100k figure=8k; do mount -t tmpfs -o size=${disk#*=} none ${disk%=*}; done
            full() { {{command}} > out 2> error; echo "code $?, $(find . -name '*.part' | wc -l) parts, $(ls disk/cut/checkpoints/*/commit.json | wc -l) checkpoints, $(grep '^lofthpc: ' error)"; }
            full
            mount -o remount,size=4000k disk; full
            mount -o remount,size=50m disk; mv disk/cut/filter_norms.csv table; ln -s $PWD/table/filter_norms.csv disk/cut; full
            mount -o remount,size=5m table; ln -s $PWD/figure/accuracy.png disk/cut; full
            mount -o remount,size=5m figure; {{command}}; code=$?
            cp -aL disk/cut .; exit $code
            """], TimeSpan.FromMinutes(3));
        Assert.True(result.ExitCode == ExitCodes.Done, result.Error + result.Output);
        string[] lines = [.. result.Output.Split('\n').Where(line => line.StartsWith("code ", StringComparison.Ordinal))];
        (int, string)[] expected = [(0, "initial.safetensors"), (1, "checkpoints/pretrain-000000002/rank-[01].safetensors"), (2, "filter_norms.csv"), (0, "accuracy.png")];
        Assert.Equal(expected.Length, lines.Length);
        foreach (((int checkpoints, string file), string line) in expected.Zip(lines))
            Assert.Matches($"^code 3, 0 parts, {checkpoints} checkpoints, lofthpc: error: .*/disk/cut/{file}: cannot be written: No space left on device \\([0-9]+ bytes are free there\\)", line);
        MustBeSame("whole", "cut");
    }

    /// <summary>One rank sees the folder of checkpoints as it was before the newest, until it has been found to miss that one.</summary>
    [SkippableFact]
    public void A_rank_that_sees_an_old_listing_is_waited_for()
    {
        MpiLauncher.SkipIfAbsent(MpiFamily.Mpich);
        SkipWithoutMounts();
        Start(MpiFamily.Mpich, 2, "run", ["run.name=whole", .. Settings]).MustSucceed();
        Start(MpiFamily.Mpich, 2, BrokenMachine.With("death:epoch-1.safetensors.part", 0), "run", ["run.name=cut", .. Settings]);
        for (int blind = 0; blind < 2; blind++)
        {
            string name = $"cut-{blind}", old = $"{TemporaryPath}/old-{blind}", late = $"{TemporaryPath}/late-{blind}.sh", log = $"{TemporaryPath}/log-{blind}";
            Assert.Equal(0, MpiLauncher.RunAlone(["cp", "-a", Folder("cut").Path, Folder(name).Path]).ExitCode);
            CheckpointFolder newest = CheckpointFolder.Of(Folder(name), "pretrain")[0];
            Assert.True(newest.IsCommitted);
            File.WriteAllText(late, $$"""
                cp -a {{Folder(name).Checkpoints}} {{old}}
                rm -r {{old}}/{{Path.GetFileName(newest.Path)}}
                mount --bind {{old}} {{Folder(name).Checkpoints}}
                { until grep -q 'not seen as a whole yet' {{log}}; do sleep 0.05; done; umount -l {{Folder(name).Checkpoints}}; } > /dev/null 2>&1 &
                exec "$@"
                """);
            string own = $"{MpiLauncher.LoftHpc} run --config {ConfigFile} run.folder={TemporaryPath}/results run.name={name} --resume auto {string.Join(' ', Settings.Select(item => $"'{item}'"))}";
            string[] ranks = [own, own];
            ranks[blind] = $"unshare -m bash {late} {own}";
            LaunchResult result = MpiLauncher.RunAlone(
                ["unshare", "-rm", "bash", "-c", $"mpiexec.mpich -n 1 {ranks[0]} : -n 1 {ranks[1]} | tee {log}; exit ${{PIPESTATUS[0]}}"], TimeSpan.FromMinutes(2));
            Assert.True(result.ExitCode == ExitCodes.Done, result.Error + result.Output);
            Assert.Contains($"not seen as a whole yet by rank {blind} on ", result.Output, StringComparison.Ordinal);
            Assert.Contains($"pretrain: goes on after step {newest.Step}, from ", result.Output, StringComparison.Ordinal);
            Assert.DoesNotContain("passed over", result.Error, StringComparison.Ordinal);
            MustBeSame("whole", name);
        }
    }

    [SkippableFact]
    public void A_read_only_folder_is_told_in_one_line()
    {
        MpiFamily family = Quicker();
        SkipWithoutMounts();
        Start(family, 2, "run", ["run.name=a", "pretrain.epochs=0", "retrain.epochs=0", "pretrain.snapshots=[]"]).MustSucceed();
        LaunchResult Try(string name) => MpiLauncher.RunAlone(["unshare", "-rm", "bash", "-c", $"""
            mount --bind {TemporaryPath}/results {TemporaryPath}/results && mount -o remount,bind,ro {TemporaryPath}/results || exit 99
            {Launcher(family, 2)} {MpiLauncher.LoftHpc} run --config {ConfigFile} run.folder={TemporaryPath}/results run.name={name} --resume auto pretrain.epochs=0 retrain.epochs=0 'pretrain.snapshots=[]'
            """]);
        MustBeOneLine(Try("b"), ExitCodes.Environment, "results/b", "cannot be made: Read-only file system");
        MustBeOneLine(Try("a"), ExitCodes.Environment, "results/a: cannot be written: Read-only file system");
    }

    /// <summary>Two hosts with a file system that keeps no locks: what launches know of each other is what they find in .lock.</summary>
    [SkippableFact]
    public void A_launch_on_another_host_is_refused_and_one_that_has_lost_its_folder_ends()
    {
        MpiFamily family = Quicker();
        Skip.If(MpiLauncher.RunAlone(["unshare", "-ru", "hostname", "n2"]).ExitCode != 0, "this system allows no host names of one's own (unshare -ru)");
        string command = $"{Launcher(family, 2)} {MpiLauncher.LoftHpc} run --config {ConfigFile} run.folder={TemporaryPath}/results run.name=a pretrain.epochs=100000";
        LaunchResult result = MpiLauncher.RunAlone(["bash", "-c", $"""
            cd {TemporaryPath}
            {command} > log 2> first & job=$!
            until grep -q 'epoch  *1/' log; do kill -0 $job || exit 99; sleep 0.05; done
            unshare -ru bash -c 'hostname n2; {command} run.overwrite=true' > /dev/null 2> second; codes=$?
            # As if the first had stood still for so long that another one took the folder.
            sed 's/"key":"/&another/; s/"host":"/&n2-of-/' results/a/.lock > taken && cat taken > results/a/.lock
            wait $job; echo "codes $codes $?"
            grep -h '^lofthpc: ' second first
            """], TimeSpan.FromMinutes(2), new Dictionary<string, string>
        {
            ["LOFTHPC_PROGRESS"] = "lines",
            ["DOTNET_SYSTEM_IO_DISABLEFILELOCKING"] = "1",
            ["SLURM_JOB_ID"] = "77",
        });
        string[] lines = result.Output.Trim().Split('\n');
        Assert.True(lines.Length == 3, result.Output + result.Error);
        Assert.Equal($"codes {ExitCodes.Configuration} {ExitCodes.Environment}", lines[0]);
        string holder = $"on {Environment.MachineName}, Slurm job 77, since 2";
        Assert.Matches($"^lofthpc: error: .*/results/a: another launch works in this folder: process [0-9]+ {holder}.*; wait for its end, or end it$", lines[1]);
        Assert.Matches($"^lofthpc: error: .*/results/a: another launch has taken this folder from this one: process [0-9]+ {holder.Replace("on ", "on n2-of-", StringComparison.Ordinal)}", lines[2]);
    }

    /// <summary>The family whose jobs start and end in less time, where one is enough and there are many launches.</summary>
    private static MpiFamily Quicker()
    {
        MpiLauncher.SkipIfAbsent(MpiFamily.Mpich);
        return MpiFamily.Mpich;
    }

    private static void SkipWithoutMounts() => Skip.If(
        MpiLauncher.RunAlone(["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"]).ExitCode != 0, "this system allows no mounts of one's own (unshare -rm)");

}
