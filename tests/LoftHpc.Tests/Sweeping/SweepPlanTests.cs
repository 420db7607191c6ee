using LoftHpc.Commands;
using LoftHpc.Configuration;
using LoftHpc.Sweeping;
using LoftHpc.Tests.Results;
using Xunit;

namespace LoftHpc.Tests.Sweeping;

/// <summary>Which runs a sweep's file stands for, and what is refused before one of them begins.</summary>
public sealed class SweepPlanTests : IDisposable
{
    private const string Methods = """
        config: base.yaml
        folder: out
        seeds: [1, 2]
        methods:
          - name: dense
            set: [pretrain.method=dense]
          - name: local
            ranks: [1, 3]
            set: [pretrain.method=filter-parallel, pretrain.backward=local]
        """;

    private readonly TemporaryFolder _folder = new();

    public SweepPlanTests() => File.WriteAllText(_folder.File("base.yaml"), "network: {width: 8}\npretrain: {batch: 32, epochs: 3}\n");

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void The_first_seed_of_all_methods_comes_first()
    {
        SweepPlan plan = Plan(Methods);
        Assert.Equal(["dense-1-1", "local-1-1", "local-3-1", "dense-1-2", "local-1-2", "local-3-2"], plan.Runs.Select(run => run.Name));
        Assert.Equal([1, 1, 3, 1, 1, 3], plan.Runs.Select(run => run.Ranks));
        Assert.Equal("out/runs", plan.RunsFolder);
        Assert.Equal(_folder.File("base.yaml"), plan.ConfigFile);
        // The first run's group, as there are others.
        Assert.Equal(["dense-1-1"], plan.Baseline);
        RunConfig last = plan.Runs[5].Config;
        Assert.Equal((2L, "local-3-2", "out/runs"), (last.Run.Seed, last.Run.Name, last.Run.Folder));
        Assert.Equal((PretrainMethod.FilterParallel, BackwardKind.Local, 32), (last.Pretrain.Method, last.Pretrain.Backward, last.Pretrain.Batch));
    }

    [Fact]
    public void The_command_line_wins_over_a_method_and_that_over_what_is_for_all()
    {
        string text = $"{Methods}\n    # more\noverrides: [pretrain.batch=16, pretrain.epochs=5]\n".Replace("[pretrain.method=dense]", "[pretrain.method=dense, pretrain.epochs=6]", StringComparison.Ordinal);
        Assert.Equal((16, 6), Sizes(Plan(text).Runs[0]));
        Assert.Equal((16, 5), Sizes(Plan(text).Runs[1]));
        SweepPlan changed = Plan(text, new SweepChanges(["pretrain.epochs=7"], "elsewhere", "4, 9", ["ranks=3", "method=dense"]));
        Assert.Equal((16, 7), Sizes(changed.Runs[0]));
        Assert.Equal([4, 4, 4, 9, 9, 9], changed.Runs.Select(run => run.Config.Run.Seed));
        Assert.Equal("elsewhere/runs", changed.RunsFolder);
        Assert.Equal(["ranks=3", "method=dense"], changed.Baseline);
        Assert.Empty(Plan(text, new SweepChanges([], Baseline: ["none"])).Baseline);
        Assert.Equal(["local"], Plan($"{Methods}\nbaseline: local\n").Baseline);

        static (int, int) Sizes(SweepRun run) => (run.Config.Pretrain.Batch, run.Config.Pretrain.Epochs);
    }

    [Fact]
    public void Axes_are_combined_and_their_values_stand_in_the_names()
    {
        SweepPlan plan = Plan("""
            config: base.yaml
            ranks: [1, 2]
            axes:
              pretrain.optimizer.learning_rate: [0.1, 0.05]
              retrain.optimizer.warmup: [2 steps, 1 epoch]
            """);
        // Without methods the config's name stands for them; without a folder the file's.
        Assert.Equal(
            [
                "base-0.1-2_steps-1-1", "base-0.1-2_steps-2-1", "base-0.1-1_epoch-1-1", "base-0.1-1_epoch-2-1",
                "base-0.05-2_steps-1-1", "base-0.05-2_steps-2-1", "base-0.05-1_epoch-1-1", "base-0.05-1_epoch-2-1",
            ], plan.Runs.Select(run => run.Name));
        Assert.Equal(Path.Combine("results", "sweep"), plan.Folder);
        RunConfig last = plan.Runs[^1].Config;
        Assert.Equal((0.05, TrainingTime.Epochs(1)), (last.Pretrain.Optimizer.LearningRate, last.Retrain.Optimizer.Warmup!.Value));
    }

    /// <summary>A config that replaces run folders, or goes on with them, does neither here unasked.</summary>
    [Theory]
    [InlineData("overwrite: true", "run.overwrite=false")]
    [InlineData("resume: auto", "run.resume=never")]
    public void How_a_run_begins_is_not_the_configs_to_say(string key, string expected)
    {
        File.AppendAllText(_folder.File("base.yaml"), $"run: {{{key}}}\n");
        Assert.All(Plan(Methods).Runs, run => Assert.Equal(expected, run.Settings[^1]));
    }

    [Theory]
    [InlineData("folder: out", "folder: out\nbaseline: densee", "baseline: no run is named densee, nor has a group that before its ranks and seed; allowed: first, none, KEY=VALUE, a run's name, or dense, local")]
    [InlineData("folder: out", "folders: out", "sweep.yaml:2: unknown key folders, did you mean folder?; allowed at the top: config, folder, baseline, seeds, ranks, overrides, methods, axes")]
    [InlineData("config: base.yaml\n", "", "config is missing")]
    [InlineData("config: base.yaml", "config: absent.yaml", "absent.yaml: there is no such file")]
    [InlineData("config: base.yaml", "config: .", "it is a folder")]
    [InlineData("[1, 2]", "[]", "sweep.yaml:3: seeds: found an empty list")]
    [InlineData("[1, 2]", "[1, x]", "sweep.yaml:3: seeds: found x; allowed: a list")]
    [InlineData("- name: dense", "- nam: dense", "sweep.yaml:5: unknown key nam, did you mean name?; allowed at the top: name, ranks, set")]
    [InlineData("name: dense", "name: ../dense", "sweep.yaml:5: name: found ../dense; allowed: letters")]
    [InlineData("ranks: [1, 3]", "ranks: [0]", "sweep.yaml:8: ranks: found 0; allowed")]
    [InlineData("set: [pretrain.method=dense]", "set: pretrain.method=dense", "sweep.yaml:6: set: found pretrain.method=dense; allowed: a list")]
    [InlineData("method=dense", "method=dens", "sweep.yaml:5: run dense-1-1: override pretrain.method=dens: pretrain.method: found dens; allowed: ")]
    // What only the number of ranks makes wrong, in a later method.
    [InlineData("filter-parallel, pretrain.backward=local", "dense", "sweep.yaml:7: run local-3-1: pretrain.method: dense trains on one rank")]
    [InlineData("pretrain.backward=local", "extract.from=other", "run local-1-1: extract.from: 'run' draws its ticket")]
    [InlineData("pretrain.backward=local", "run.seed=3", "sweep.yaml:7: run.seed=3: every run has its own")]
    [InlineData("pretrain.backward=local", "'run={seed: 3}'", "sweep.yaml:7: run={seed: 3}: every run has its own")]
    [InlineData("name: local", "name: dense", "sweep.yaml:7: two runs are named dense-1-1")]
    [InlineData("[1, 2]", "[1, 1]", "two runs are named dense-1-1")]
    [InlineData("folder: out", "axes: [pretrain.batch]", "sweep.yaml:2: axes: found a list; allowed: section.key: [value, value]")]
    [InlineData("folder: out", "axes: {pretrain.batch: 3}", "sweep.yaml:2: axes: pretrain.batch: found 3; allowed: a list of values")]
    [InlineData("folder: out", "axes: {run.seed: [3]}", "axes: run.seed: every run has its own")]
    [InlineData("folder: out", "axes: {pretrain.batch: [16, 0]}", "run dense-0-1-1: override pretrain.batch=0: pretrain.batch: found 0; allowed")]
    [InlineData("folder: out", "overrides: [pretrain.batch=3]\naxes: {pretrain.batch: [16]}", "pretrain.batch=3: axes of ")]
    public void A_mistake_is_one_line_with_its_place(string old, string now, string expected)
    {
        Assert.Contains(old, Methods, StringComparison.Ordinal);
        UserError error = Assert.Throws<UserError>(() => Plan(Methods.Replace(old, now, StringComparison.Ordinal)));
        Assert.Contains(expected, error.Message.Split('\n')[0], StringComparison.Ordinal);
        Assert.Equal(ExitCodes.Configuration, error.ExitCode);
    }

    [Theory]
    [InlineData("run.name=x", null, "run.name=x: every run has its own")]
    [InlineData("pretrain.batch=0", null, "run dense-1-1: override pretrain.batch=0")]
    [InlineData(null, "1,x", "--seeds: found x; allowed: whole numbers")]
    [InlineData(null, ",", "--seeds: found nothing")]
    [InlineData(null, "1 1", "two runs are named dense-1-1; a name, number of ranks and seed may stand once in ")]
    public void A_mistake_of_the_command_line_is_one_line(string? setting, string? seeds, string expected)
    {
        UserError error = Assert.Throws<UserError>(() => Plan(Methods, new SweepChanges(setting is null ? [] : [setting], Seeds: seeds)));
        Assert.Contains(expected, Assert.Single(error.Message.Split('\n')), StringComparison.Ordinal);
    }

    [Fact]
    public void More_runs_than_anyone_waits_for_are_a_mistake()
    {
        string seeds = string.Join(',', Enumerable.Range(1, 4000));
        // Three runs a seed.
        Assert.Contains("it makes 12000 runs; allowed: 10000 at most", Assert.Throws<UserError>(() => Plan(Methods, new SweepChanges([], Seeds: seeds))).Message, StringComparison.Ordinal);
    }

    /// <summary>xargs, by which slurm/array.sbatch reads a line, gives the words back.</summary>
    [Fact]
    public void A_list_has_a_line_for_each_run_of_a_number_of_ranks()
    {
        SweepPlan plan = Plan(Methods, new SweepChanges(["pretrain.optimizer.milestones=[5 steps, 9 steps]"], _folder.File("a \"b\" o'c")));
        IReadOnlyList<string> commands = SweepList.Write(_folder.File("runs.txt"), plan, plan.Runs.Skip(1));
        Assert.Equal(
            [
                $"sbatch --array=1-3 --ntasks=1 slurm/array.sbatch --list={_folder.File("runs-1.txt")}",
                $"sbatch --array=1-2 --ntasks=3 slurm/array.sbatch --list={_folder.File("runs-3.txt")}",
            ], commands);
        string[] Words(int line) => Repository.Run("bash", ["-c", $"sed -n {line}p \"$1\" | xargs printf '%s\\n'", "-", _folder.File("runs-3.txt")]).Output.TrimEnd('\n').Split('\n');
        Assert.Equal(
            [
                _folder.File("base.yaml"), "run.seed=2", "pretrain.method=filter-parallel", "pretrain.backward=local", "pretrain.optimizer.milestones=[5 steps, 9 steps]",
                $"run.folder={_folder.File("a \"b\" o'c")}/runs", "run.name=local-3-2",
            ], Words(2));
        Assert.Equal("run.name=local-3-1", Words(1)[^1]);
    }

    /// <summary>Two groups took 10 and 20 minutes: another seed of the first is to take 10, a run of a third their mean, 15.</summary>
    [Fact]
    public void The_time_that_is_left_goes_by_other_seeds_and_else_by_the_mean()
    {
        IReadOnlyList<SweepRun> runs = Plan(Methods).Runs;
        SweepTimes times = new();
        Assert.Equal("0:00:00", SweepTimes.Text(times.Of(runs)));
        times.Add(runs[0], TimeSpan.FromMinutes(10));
        times.Add(runs[1], TimeSpan.FromMinutes(20));
        Assert.Equal("0:25:00", SweepTimes.Text(times.Of([runs[3], runs[5]])));
        Assert.Equal("26:03:04", SweepTimes.Text(new TimeSpan(1, 2, 3, 4)));
    }

    private SweepPlan Plan(string text, SweepChanges? changes = null)
    {
        File.WriteAllText(_folder.File("sweep.yaml"), text + "\n");
        return SweepCommand.Plan(_folder.File("sweep.yaml"), changes ?? new SweepChanges([]));
    }
}
