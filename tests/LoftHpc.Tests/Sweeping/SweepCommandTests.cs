using LoftHpc.Commands;
using LoftHpc.Configuration;
using LoftHpc.Output;
using LoftHpc.Results;
using LoftHpc.Sweeping;
using LoftHpc.Tests.Build;
using LoftHpc.Tests.Comparing;
using LoftHpc.Tests.Results;
using Xunit;

namespace LoftHpc.Tests.Sweeping;

/// <summary>A sweep with a stand-in for launches and for compare: which runs, in which way, and after failures and stops.</summary>
public sealed class SweepCommandTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();
    private readonly List<string> _began = [];
    private readonly List<(string Baseline, int Finished)> _compared = [];
    private readonly StringWriter _output = new();

    /// <summary>What a launch does instead of finishing its run, by the run's name.</summary>
    private readonly Dictionary<string, Func<SweepRun, string, int>> _instead = [];

    public SweepCommandTests() => WriteBase("# Comment.\npretrain: {batch: 32}\n");

    public void Dispose()
    {
        _folder.Dispose();
        _output.Dispose();
    }

    [Fact]
    public void Each_run_is_launched_with_its_settings_and_the_tables_come_after_each()
    {
        IReadOnlyList<string>? arguments = null;
        SweepPlan plan = Plan("1,2", "data.train_images=70");
        SweepCommand.Make(plan, Tools((run, given) => arguments = run.Name == "local-3-2" ? given : arguments), Reporter());
        Assert.Equal(
            [
                "run", "--config", _folder.File("base.yaml"), "run.seed=2", "pretrain.method=filter-parallel", "data.train_images=70", $"run.folder={_folder.File("out/runs")}",
                "run.name=local-3-2", "run.resume=auto",
            ], arguments);
        string[] lines = Lines();
        Assert.Equal($"6 runs into {_folder.File("out/runs")}, 0 of them finished already", lines[0]);
        Assert.Matches(@"^\[3/6\] local-3-1 done in 0:00:0\d; 0:00:\d\d elapsed, about 0:00:\d\d left$", lines[3]);
        // What compare prints is seen once, in the end, and there alone is a baseline.
        Assert.Equal([("", 1), ("", 2), ("", 3), ("", 4), ("", 5), ("", 6), ("dense-1-1", 6)], _compared);
        Assert.Equal("compared 6", Assert.Single(lines, line => line.StartsWith("compared", StringComparison.Ordinal)));
        Assert.Equal(8, lines.Length);
    }

    [Fact]
    public void Finished_runs_are_kept_and_others_gone_on_with()
    {
        _instead["local-1-1"] = (run, _) => Begin(run, ExitCodes.BySignal + 15);
        // Killed: no end stands in its manifest.
        _instead["local-3-1"] = (run, _) => Begin(run, exitCode: null);
        Assert.Throws<UserError>(() => Make(Plan("1")));
        _instead.Clear();
        _began.Clear();
        Make(Plan("1,2"));
        Assert.Contains($"6 runs into {_folder.File("out/runs")}, 1 of them finished already", _output.ToString(), StringComparison.Ordinal);
        Assert.Equal(["local-1-1 auto", "local-3-1 auto", "dense-1-2 auto", "local-1-2 auto", "local-3-2 auto"], _began);
        // All are finished now: nothing is launched, and the tables are shown.
        (int before, _) = (_compared.Count, _began.RemoveAll(_ => true));
        Make(Plan("1,2"));
        Assert.Empty(_began);
        Assert.Equal([("dense-1-1", 6)], _compared[before..]);
    }

    [Fact]
    public void After_a_failure_the_others_go_on_and_the_end_is_no_success()
    {
        _instead["local-1-1"] = (_, log) =>
        {
            File.AppendAllText(log, "mpiexec: a line\nlofthpc: error: pretrain: no good\nlofthpc: ended\nmore\n");
            return 4;
        };
        UserError error = Assert.Throws<UserError>(() => Make(Plan("1")));
        Assert.Equal(("sweep: failed: local-1-1", ExitCodes.Failure), (error.Message, error.ExitCode));
        Assert.Contains($"[2/3] local-1-1 FAILED with status 4, see {_folder.File("out/runs/local-1-1.log")}: lofthpc: error: pretrain: no good; ", _output.ToString(), StringComparison.Ordinal);
        Assert.Equal(["dense-1-1 auto", "local-1-1 auto", "local-3-1 auto"], _began);
        // Of the next launch's part of the log alone, and of a trace what it is of.
        _instead["local-1-1"] = (_, log) =>
        {
            File.AppendAllText(log, "lofthpc: rank 0 of 1 on host failed:\nSystem.Exception: a cause\n   at Place\n");
            return 1;
        };
        Assert.Throws<UserError>(() => Make(Plan("1")));
        Assert.Contains("FAILED with status 1, see " + _folder.File("out/runs/local-1-1.log") + ": lofthpc: rank 0 of 1 on host failed: System.Exception: a cause; ", _output.ToString(), StringComparison.Ordinal);
        // A launcher without a word of the program, and one without any.
        _instead["local-1-1"] = (_, log) => { File.AppendAllText(log, "one\nsh: mpiexec: not found\n"); return 127; };
        Assert.Throws<UserError>(() => Make(Plan("1")));
        Assert.Contains("status 127, see " + _folder.File("out/runs/local-1-1.log") + ": sh: mpiexec: not found; ", _output.ToString(), StringComparison.Ordinal);
        _instead.Clear();
        Make(Plan("1"));
    }

    /// <summary>The ticket's row stands, but the launch went wrong after it; and a launcher that loses the exit code.</summary>
    [Theory]
    [InlineData(true, 1)]
    [InlineData(false, 0)]
    public void A_run_that_is_not_whole_is_gone_on_with(bool holdsTicket, int status)
    {
        _instead["local-1-1"] = (run, _) =>
        {
            Begin(run, ExitCodes.Failure);
            if (holdsTicket) WriteTicket(run);
            return status;
        };
        for (int time = 0; time < 2; time++) Assert.Equal("sweep: failed: local-1-1", Assert.Throws<UserError>(() => Make(Plan("1"))).Message);
        _instead.Clear();
        Make(Plan("1"));
        Make(Plan("1"));
        Assert.Equal(["dense-1-1 auto", "local-1-1 auto", "local-3-1 auto", "local-1-1 auto", "local-1-1 auto"], _began);
    }

    [Fact]
    public void A_finished_run_of_other_settings_is_refused_and_an_unfinished_one_made_anew()
    {
        _instead["local-3-1"] = (run, log) =>
        {
            File.AppendAllText(log, "of before\n");
            return Begin(run, ExitCodes.NonFiniteLoss);
        };
        Assert.Throws<UserError>(() => Make(Plan("1")));
        UserError error = Assert.Throws<UserError>(() => Make(Plan("1", "pretrain.batch=64")));
        Assert.Equal(ExitCodes.Configuration, error.ExitCode);
        Assert.Contains($"{_folder.File("out/runs")}: finished with other settings than they would have now: dense-1-1, local-1-1 (dense-1-1: pretrain.batch is 32 and 64); ", error.Message, StringComparison.Ordinal);
        // More epochs are other settings too, once a run is finished.
        Assert.Contains("pretrain.epochs is ", Assert.Throws<UserError>(() => Make(Plan("1", "pretrain.epochs=77"))).Message, StringComparison.Ordinal);
        Assert.Equal(3, _began.Count);
        // Neither a comment nor what changes nothing that is computed is a setting.
        WriteBase("# Another.\npretrain: {batch: 32}\ncheckpoint: {every: never}\n");
        _began.Clear();
        Assert.Throws<UserError>(() => Make(Plan("1")));
        Assert.Equal(["local-3-1 auto"], _began);
        foreach (string name in (string[])["dense-1-1", "local-1-1"]) Directory.Delete(_folder.File($"out/runs/{name}"), recursive: true);
        _instead.Clear();
        _began.Clear();
        Make(Plan("1", "pretrain.batch=64"));
        Assert.Equal(["dense-1-1 auto", "local-1-1 auto", "local-3-1 overwrite"], _began);
        Assert.Contains("local-3-1 was begun with other settings (pretrain.batch is 32 and 64) and is made anew", _output.ToString(), StringComparison.Ordinal);
        Assert.False(File.Exists(_folder.File("out/runs/local-3-1.log")));
    }

    [Fact]
    public void A_list_has_what_is_left_and_nothing_of_other_settings()
    {
        _instead["local-1-1"] = (run, _) => Begin(run, ExitCodes.Environment);
        Assert.Throws<UserError>(() => Make(Plan("1")));
        SweepCommand.List(Plan("1"), _folder.File("left.txt"), Reporter());
        Assert.Equal($"sbatch --array=1-1 --ntasks=1 slurm/array.sbatch --list={_folder.File("left-1.txt")}", Lines()[^1]);
        Assert.Contains(" run.name=local-1-1", Assert.Single(File.ReadAllLines(_folder.File("left-1.txt"))), StringComparison.Ordinal);
        foreach (string name in (string[])["dense-1-1", "local-3-1"]) Directory.Delete(_folder.File($"out/runs/{name}"), recursive: true);
        UserError error = Assert.Throws<UserError>(() => SweepCommand.List(Plan("1", "pretrain.batch=64"), _folder.File("left.txt"), Reporter()));
        Assert.Contains("out/runs/local-1-1: begun with other settings (pretrain.batch is 32 and 64)", error.Message, StringComparison.Ordinal);
    }

    /// <summary>The next one would reach the limit too.</summary>
    [Fact]
    public void A_run_that_stops_by_a_limit_ends_the_sweep()
    {
        _instead["local-1-1"] = (run, log) =>
        {
            File.AppendAllText(log, "lofthpc: error: stopped by limits.minutes after extract\n");
            return Begin(run, ExitCodes.Stopped);
        };
        UserError error = Assert.Throws<UserError>(() => Make(Plan("1")));
        Assert.Equal(("sweep: local-1-1 has stopped: lofthpc: error: stopped by limits.minutes after extract; the same command goes on from there", ExitCodes.Stopped), (error.Message, error.ExitCode));
        Assert.DoesNotContain(_began, began => began.StartsWith("local-3-1", StringComparison.Ordinal));
    }

    [Fact]
    public void A_config_that_changes_while_the_runs_are_made_is_told()
    {
        SweepPlan plan = Plan("1"), other = Plan("1", "pretrain.batch=64");
        _instead["local-1-1"] = (run, _) => Finish(other.Runs.Single(one => one.Name == run.Name));
        UserError error = Assert.Throws<UserError>(() => Make(plan));
        Assert.Equal("sweep: failed: local-1-1", error.Message);
        Assert.Contains($"local-1-1 was made with other settings, as {_folder.File("base.yaml")} has changed meanwhile: pretrain.batch is 64 and 32", _output.ToString(), StringComparison.Ordinal);
    }

    /// <summary>Where no run of the baseline is there, the others are compared all the same.</summary>
    [Fact]
    public void A_table_that_cannot_be_written_is_told_and_the_others_go_on()
    {
        _instead["dense-1-1"] = (_, _) => 3;
        UserError error = Assert.Throws<UserError>(() => Make(Plan("1")));
        Assert.Equal("sweep: failed: dense-1-1", error.Message);
        Assert.Equal([("", 1), ("", 2), ("", 2)], _compared);
    }

    [Fact]
    public void The_launcher_of_each_family_gets_its_flags()
    {
        using StubFolder stubs = new();
        stubs.Add("open", "echo 'mpiexec (OpenRTE) 4.1.4'").Add("hydra", "echo 'HYDRA build details:'");
        string[] root = Environment.IsPrivilegedProcess ? ["--allow-run-as-root"] : [];
        Assert.Equal([$"{stubs.Path}/open", "-n", "{ranks}", "--bind-to", "none", "--map-by", ":OVERSUBSCRIBE", .. root], RunLauncher.Default($"{stubs.Path}/open"));
        Assert.Equal([$"{stubs.Path}/hydra", "-n", "{ranks}"], RunLauncher.Default($"{stubs.Path}/hydra"));
        stubs.Add("a b", "");
        Assert.Equal([$"{stubs.Path}/a b", "-n8", "--x"], new RunLauncher($"\"{stubs.Path}/a b\" -n{{ranks}} --x").Words(8));
        Assert.Contains("{ranks} must stand where", Assert.Throws<UserError>(() => new RunLauncher($"{stubs.Path}/open -n 2")).Message, StringComparison.Ordinal);
        UserError error = Assert.Throws<UserError>(() => new RunLauncher("mpiexek -n {ranks}"));
        Assert.Equal(ExitCodes.Environment, error.ExitCode);
        Assert.Contains("there is no program mpiexek on PATH", error.Message, StringComparison.Ordinal);
    }

    private void WriteBase(string text) => File.WriteAllText(_folder.File("base.yaml"), text);

    private SweepPlan Plan(string seeds, params string[] settings)
    {
        File.WriteAllText(_folder.File("sweep.yaml"), """
            config: base.yaml
            methods:
              - name: dense
                set: [pretrain.method=dense]
              - name: local
                ranks: [1, 3]
                set: [pretrain.method=filter-parallel]
            """);
        return SweepCommand.Plan(_folder.File("sweep.yaml"), new SweepChanges(settings, _folder.File("out"), seeds));
    }

    private void Make(SweepPlan plan) => SweepCommand.Make(plan, Tools((_, _) => { }), Reporter());

    private SweepTools Tools(Action<SweepRun, IReadOnlyList<string>> look) => new(
        (run, arguments, log) =>
        {
            look(run, arguments);
            _began.Add($"{run.Name} {(arguments[^1] == "run.overwrite=true" ? "overwrite" : arguments[^1] == "run.resume=auto" ? "auto" : arguments[^1])}");
            return _instead.TryGetValue(run.Name, out Func<SweepRun, string, int>? other) ? other(run, log) : Finish(run);
        },
        (baseline, to) =>
        {
            int finished = Directory.EnumerateDirectories(_folder.File("out/runs")).Count(path => RunFolder.At(path).Holds(NetworkState.Ticket));
            if (baseline.Any(name => !Directory.Exists(_folder.File($"out/runs/{name}")))) throw new UserError($"no run is named {baseline[0]}");
            _compared.Add((string.Join(' ', baseline), finished));
            to.Result($"compared {finished}");
        });

    private ConsoleReporter Reporter()
    {
        Directory.CreateDirectory(_folder.File("out/runs"));
        return new(_output, _output, Verbosity.Normal, ProgressKind.Lines, unicode: false, colors: false, () => 1000);
    }

    private string[] Lines() => _output.ToString().TrimEnd('\n').Split('\n');

    /// <summary>What a launch that ends so leaves before there is a ticket; a killed one leaves no exit code.</summary>
    private static int Begin(SweepRun run, int? exitCode)
    {
        RunFolder folder = FolderOf(run);
        Directory.CreateDirectory(folder.Path);
        File.WriteAllText(folder.Config, RunConfigLoader.ToYaml(run.Config));
        RunManifest.Begin(folder.Manifest, MadeRuns.Launch("run", run.Ranks, run.Config.Run.Seed));
        if (exitCode is int code) RunManifest.End(folder.Manifest, DateTimeOffset.UnixEpoch, code);
        return exitCode ?? 137;
    }

    private static int Finish(SweepRun run)
    {
        WriteTicket(run);
        return Begin(run, ExitCodes.Done);
    }

    private static void WriteTicket(SweepRun run)
    {
        Directory.CreateDirectory(FolderOf(run).Path);
        FolderOf(run).Summary.Write([new(NetworkState.Ticket, 0.5, 1, 60, 600)]);
    }

    private static RunFolder FolderOf(SweepRun run) => RunFolder.At(Path.Combine(run.Config.Run.Folder, run.Name));
}
