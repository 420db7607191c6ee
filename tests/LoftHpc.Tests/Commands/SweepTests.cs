using LoftHpc.Mpi;
using LoftHpc.Results;
using LoftHpc.Tests.Mpi;
using Xunit;

namespace LoftHpc.Tests.Commands;

/// <summary>lofthpc sweep by a real mpiexec.</summary>
public sealed class SweepTests : ProgramTests
{
    [SkippableFact]
    public void Runs_on_other_numbers_of_ranks_are_made_and_compared()
    {
        MpiLauncher.SkipIfAbsent(MpiFamily.OpenMpi);
        string file = Write("""
            config: test.yaml
            overrides: [pretrain.epochs=1]
            methods:
              - name: dense
                set: [pretrain.method=dense]
              - name: local
                ranks: [2]
                set: [pretrain.method=local-sgd]
            """);
        // Without --launcher: what MPIEXEC names, with the flags of its family.
        LaunchResult Sweep() => MpiLauncher.RunAlone(
            [MpiLauncher.LoftHpc, "sweep", file, "--folder", $"{TemporaryPath}/out", "--seeds", "7"], environment: new Dictionary<string, string> { ["MPIEXEC"] = "mpiexec.openmpi" });
        LaunchResult result = Sweep().MustSucceed();
        Assert.Contains("[2/2] local-2-7 done in ", result.Output, StringComparison.Ordinal);
        foreach ((string name, int ranks) in ((string, int)[])[("dense-1-7", 1), ("local-2-7", 2)])
        {
            LaunchRecord launch = Assert.Single(RunManifest.Read(Run(name).Manifest).Launches);
            Assert.Equal((ranks, 7L, ExitCodes.Done), (launch.Ranks.Count, launch.Seed, launch.ExitCode));
        }
        Assert.Equal(["dense", "local"], new CsvTable<ComparisonRow>($"{TemporaryPath}/out/comparison.csv").Read().Select(row => row.Name));
        Assert.Contains("difference to the baseline", File.ReadAllText($"{TemporaryPath}/out/comparison.md"), StringComparison.Ordinal);
        Assert.Contains("2 runs into ", Sweep().MustSucceed().Output, StringComparison.Ordinal);
        Assert.Single(RunManifest.Read(Run("dense-1-7").Manifest).Launches);
    }

    /// <summary>Killed, its run lives on, and no other sweep begins beside it; ended by a signal, it lets the ranks write their checkpoint.</summary>
    [SkippableFact]
    public void A_sweep_that_is_ended_goes_on_and_never_beside_what_it_has_started()
    {
        MpiLauncher.SkipIfAbsent(MpiFamily.Mpich);
        string file = Write("config: test.yaml\nranks: [2]\noverrides: [pretrain.method=data-parallel, pretrain.epochs=100000]\n");
        string log = $"{TemporaryPath}/out/runs/test-2-1.log", sweep = $"{MpiLauncher.LoftHpc} sweep {file} --folder {TemporaryPath}/out --launcher 'mpiexec.mpich -n {{ranks}}'";
        LaunchResult result = MpiLauncher.RunAlone(["bash", "-c", $$"""
            until_log() { until grep -q "$1" {{log}} 2>/dev/null; do kill -0 $job 2>/dev/null || exit 99; sleep 0.1; done; }
            {{sweep}} & job=$!
            until_log 'epoch  *2/'
            kill -9 $job; wait $job
            {{sweep}}; echo "beside: $?"
            touch {{Run("test-2-1").Path}}/stop
            # The launcher leaves after the ranks.
            until grep -q 'stopped by limits.stop_file' {{log}} && flock -n {{TemporaryPath}}/out/runs/.lock true; do sleep 0.1; done
            {{sweep}} & job=$!
            until_log 'goes on after step'
            kill -TERM $job; wait $job; echo "ended: $?"
            """], TimeSpan.FromMinutes(2));
        string all = $"{result.Output}\n{result.Error}\n{File.ReadAllText(log)}";
        Assert.True(result.Output.Contains("beside: 2\n", StringComparison.Ordinal) && result.Output.Contains("ended: 143\n", StringComparison.Ordinal), all);
        Assert.Contains("another launch works in this folder: process ", result.Error, StringComparison.Ordinal);
        Assert.Contains("which has ended, but not all that it has started; wait for its end, or end it", result.Error, StringComparison.Ordinal);
        Assert.Contains("waiting for the run to stop where it can go on", result.Output, StringComparison.Ordinal);
        Assert.Equal([ExitCodes.Stopped, ExitCodes.Stopped], RunManifest.Read(Run("test-2-1").Manifest).Launches.Select(launch => launch.ExitCode!.Value));
        Assert.False(File.Exists($"{TemporaryPath}/out/runs/.lock"));
    }

    [SkippableFact]
    public void Started_by_mpiexec_it_is_refused()
    {
        string file = Write("config: test.yaml\n");
        LaunchResult result = MpiLauncher.Run(MpiLauncher.AnyFamily(), 2, [MpiLauncher.LoftHpc, "sweep", file, "--folder", $"{TemporaryPath}/out"]);
        MustBeOneLine(result, ExitCodes.Configuration, "sweep: it starts the ranks of its runs itself; start it without mpiexec or srun");
        Assert.False(Directory.Exists($"{TemporaryPath}/out"));
    }

    private RunFolder Run(string name) => RunFolder.At($"{TemporaryPath}/out/runs/{name}");

    private string Write(string text)
    {
        string file = $"{TemporaryPath}/sweep.yaml";
        File.WriteAllText(file, text);
        return file;
    }
}
