using LoftHpc.Checkpoints;
using LoftHpc.Mpi;
using LoftHpc.Results;
using LoftHpc.Tests.Mpi;
using Xunit;

namespace LoftHpc.Tests.Commands;

/// <summary>A console that cannot be written, and signals: results are whole, and the manifest tells how the launch ended.</summary>
public sealed class ConsoleAndSignalTests : ProgramTests
{
    [Theory]
    [InlineData("0<&- 1>&- 2>&-")]
    [InlineData(">/dev/full 2>&1")]
    [InlineData("2>&-")]
    [InlineData("| head -n 1")]
    public void A_console_that_cannot_be_written_costs_nothing_but_its_lines(string redirection)
    {
        LaunchResult result = Shell($"{Run("a")} {redirection}; exit ${{PIPESTATUS[0]}}");
        Assert.True(result.ExitCode == ExitCodes.Done, $"{result.ExitCode}\n{result.Output}\n{result.Error}");
        Assert.Equal([NetworkState.Dense, NetworkState.Pruned, NetworkState.Ticket], Folder("a").Summary.Read().Select(row => row.Network));
        Assert.True(File.Exists(Folder("a").AccuracyPlot));
        Assert.Equal(ExitCodes.Done, Assert.Single(RunManifest.Read(Folder("a").Manifest).Launches).ExitCode);
    }

    [SkippableTheory]
    [InlineData(MpiFamily.OpenMpi)]
    [InlineData(MpiFamily.Mpich)]
    public void Exit_codes_stay_where_ranks_have_no_console(MpiFamily family)
    {
        string Line(string command) => $"exec {MpiLauncher.LoftHpc} {command} --config {ConfigFile} run.folder={TemporaryPath}/results 0<&- >/dev/full 2>&-";
        MpiLauncher.Run(family, 2, ["bash", "-c", Line("run run.name=a")]).MustSucceed();
        Assert.True(File.Exists(Folder("a").TicketWeights));
        Assert.Equal(ExitCodes.Configuration, MpiLauncher.Run(family, 2, ["bash", "-c", Line("run run.name=a")]).ExitCode);
    }

    [Theory]
    [InlineData("TERM", 143)]
    [InlineData("INT", 130)]
    [InlineData("HUP", 129)]
    public void A_signal_that_ends_a_launch_is_told_and_stands_in_the_manifest(string signal, int exitCode)
    {
        // A shell in the background ignores SIGINT, nohup SIGHUP, and their children with them; "env" gives them the default back.
        LaunchResult result = Shell($"""
            env --default-signal={signal} {Run("a")} pretrain.epochs=100000 checkpoint.every=never > {TemporaryPath}/log 2> {TemporaryPath}/errors & job=$!
            until grep -q 'epoch  *2/' {TemporaryPath}/log; do kill -0 $job || exit 99; sleep 0.05; done
            kill -{signal} $job; wait $job; exit $?
            """);
        Assert.True(exitCode == result.ExitCode, $"{result.ExitCode}\n{result.Error}");
        string said = Assert.Single(File.ReadLines($"{TemporaryPath}/errors"), line => line.StartsWith("lofthpc: ", StringComparison.Ordinal));
        Assert.Equal($"lofthpc: ended by SIG{signal}; what it has written stays", said);
        LaunchRecord launch = Assert.Single(RunManifest.Read(Folder("a").Manifest).Launches);
        Assert.Equal(exitCode, launch.ExitCode);
        Assert.NotNull(launch.End);
        Assert.True(Folder("a").Metrics.Read().Count >= 4);
        Assert.Empty(Directory.EnumerateFiles(Folder("a").Path, ".lock"));
    }

    [SkippableFact]
    public void A_signal_to_Open_MPIs_launcher_stands_in_the_manifest_too()
    {
        MpiLauncher.SkipIfAbsent(MpiFamily.OpenMpi);
        LaunchResult result = Shell($"""
            mpiexec.openmpi --allow-run-as-root --oversubscribe --bind-to none -n 2 {Run("a")} pretrain.epochs=100000 checkpoint.every=never > {TemporaryPath}/log 2> {TemporaryPath}/errors & job=$!
            until grep -q 'epoch  *2/' {TemporaryPath}/log; do kill -0 $job || exit 99; sleep 0.05; done
            kill -TERM $job; wait $job; exit $?
            """);
        Assert.NotEqual(ExitCodes.Done, result.ExitCode);
        Assert.Equal(ExitCodes.BySignal + 15, Assert.Single(RunManifest.Read(Folder("a").Manifest).Launches).ExitCode);
        Assert.Single(File.ReadLines($"{TemporaryPath}/errors"), line => line.StartsWith("lofthpc: ", StringComparison.Ordinal));
    }

    [Theory]
    [InlineData("TERM")]
    [InlineData("USR2")]
    public void A_training_with_checkpoints_stops_where_it_can_go_on(string signal)
    {
        LaunchResult result = Shell($"""
            {Run("a")} pretrain.epochs=100000 > {TemporaryPath}/log & job=$!
            until grep -q 'epoch  *2/' {TemporaryPath}/log; do kill -0 $job || exit 99; sleep 0.05; done
            kill -{signal} $job; wait $job; exit $?
            """);
        MustBeOneLine(result, ExitCodes.Stopped, "pretrain: stopped on request after step ", "the same command with --resume auto goes on from there");
        Assert.Equal(ExitCodes.Stopped, Assert.Single(RunManifest.Read(Folder("a").Manifest).Launches).ExitCode);
        Assert.Single(CheckpointFolder.Of(Folder("a"), "pretrain"), checkpoint => checkpoint.IsCommitted);
    }

    /// <summary>The first one waits for the end of a round that does not come.</summary>
    [Fact]
    public void A_second_SIGTERM_ends_a_training_at_once()
    {
        LaunchResult result = Shell($"""
            {Run("a")} pretrain.method=loft pretrain.local_steps=1000000 data.train_images=300000 pretrain.epochs=1 'pretrain.snapshots=[]' 'distance.every=1 epoch' > {TemporaryPath}/log & job=$!
            until [ -s {Folder("a").FilterNorms.Path} ]; do kill -0 $job || exit 99; sleep 0.05; done
            sleep 2; kill -TERM $job
            # The first one is waited for: the round may end within ten seconds.
            sleep 1; kill -TERM $job; wait $job; exit $?
            """);
        Assert.Equal("lofthpc: ended by SIGTERM; what it has written stays", result.Error.Trim());
        Assert.Equal(143, result.ExitCode);
    }

    [Fact]
    public void A_signal_that_was_to_be_ignored_is_ignored()
    {
        LaunchResult result = Shell($"""
            trap '' HUP
            {Run("a")} pretrain.epochs=12 > {TemporaryPath}/log & job=$!
            until grep -q 'epoch  *2/' {TemporaryPath}/log; do kill -0 $job || exit 99; sleep 0.05; done
            kill -HUP $job; wait $job; exit $?
            """);
        Assert.True(result.ExitCode == ExitCodes.Done, result.Error);
    }

    /// <summary>Long before there are ranks, a config or images: as soon as libtorch's own libraries are being loaded.</summary>
    [Fact]
    public void A_request_to_stop_is_heard_from_the_start_on()
    {
        LaunchResult result = Shell($"""
            {Run("a")} pretrain.epochs=100000 & job=$!
            until grep -qs libc10 /proc/$job/maps; do kill -0 $job || exit 99; done
            kill -USR1 $job; wait $job; exit $?
            """);
        MustBeOneLine(result, ExitCodes.Stopped, "pretrain: stopped on request after step 1 of 300000");
        Assert.Equal(ExitCodes.Stopped, Assert.Single(RunManifest.Read(Folder("a").Manifest).Launches).ExitCode);
    }

    private static LaunchResult Shell(string script) => MpiLauncher.RunAlone(
        ["bash", "-c", script], TimeSpan.FromMinutes(2), new Dictionary<string, string> { ["LOFTHPC_PROGRESS"] = "lines" });

    private string Run(string name) => $"{MpiLauncher.LoftHpc} run --config {ConfigFile} run.folder={TemporaryPath}/results run.name={name}";
}
