using Xunit;

namespace LoftHpc.Tests.Build;

/// <summary>build/compare.sh with a stand-in for mpiexec and the program: which runs, in which order, and after failures and stops.</summary>
public sealed class CompareScriptTests : IDisposable
{
    private const string Methods = """
        # A comment.
        dense  1    pretrain.method=dense

        local  1,3  pretrain.method=filter-parallel pretrain.backward=local   # another
        """;

    private readonly StubFolder _tree = new();
    private readonly string _runs;

    public CompareScriptTests()
    {
        foreach (string script in (string[])["compare.sh", "launch.sh"])
        {
            Directory.CreateDirectory(Path.Combine(_tree.Path, "build"));
            File.Copy(Repository.File("build", script), Path.Combine(_tree.Path, "build", script));
        }
        Directory.CreateDirectory(Path.Combine(_tree.Path, "configs", "compare"));
        File.WriteAllText(Path.Combine(_tree.Path, "configs", "compare", "base.yaml"), "# Comment.\nnetwork: {width: 8}\n");
        File.WriteAllText(Path.Combine(_tree.Path, "configs", "compare", "methods.txt"), Methods + "\n");
        _runs = Path.Combine(_tree.Path, "results", "compare", "runs");
        // mpiexec notes how it was called; the program finishes its run, or fails where the test says so.
        _tree.Add("mpiexec", """[[ $1 == --version ]] && exit 0; echo "$*" >>calls; while [[ $1 != dist/* ]]; do shift; done; exec "$@" """);
        _tree.Add("dist/lofthpc", """
            if [[ $1 == compare ]]; then
                echo "compared $(ls results/compare/runs/*/summary.csv | wc -l)" | tee -a compared
                echo "$*" >>compare-calls
                exit
            fi
            for word; do [[ $word == run.name=* ]] && name=${word#*=}; done
            if [[ -e again-$name ]]; then build/compare.sh; echo "status $?"; fi
            mkdir -p "results/compare/runs/$name"
            summary=results/compare/runs/$name/summary.csv
            echo network >"$summary"
            if [[ -e fail-$name ]]; then echo 'lofthpc: error: pretrain: no good' >&2; exit 4; fi
            echo ticket,0.5 >>"$summary"
            if [[ -e late-$name ]]; then echo 'lofthpc: error: no plot' >&2; exit 1; fi
            """);
    }

    public void Dispose() => _tree.Dispose();

    [Fact]
    public void The_first_seed_of_all_methods_comes_first_and_each_run_has_its_settings()
    {
        (int exitCode, string output, string error) = Compare(["data.train_images=70"]);
        Assert.Equal((0, ""), (exitCode, error));
        Assert.Equal(["dense-1-1", "local-1-1", "local-3-1", "dense-1-2", "local-1-2", "local-3-2", "dense-1-3", "local-1-3", "local-3-3"], Names());
        Assert.Equal(
            "-n 3 dist/lofthpc run --config configs/compare/base.yaml run.seed=2 pretrain.method=filter-parallel pretrain.backward=local data.train_images=70 "
            + "run.folder=results/compare/runs run.name=local-3-2 run.overwrite=true",
            Calls()[5]);
        string[] lines = output.TrimEnd('\n').Split('\n');
        Assert.Equal("9 runs into results/compare/runs, 0 of them finished already", lines[0]);
        Assert.Matches(@"^\[3/9\] local-3-1 done in 0:00:0\d; 0:00:\d\d elapsed, about 0:00:\d\d left$", lines[3]);
        // The table is written after each run, and shown once.
        Assert.Equal("compared 9", lines[^1]);
        Assert.Equal(11, lines.Length);
        Assert.Equal([1, 2, 3, 4, 5, 6, 7, 8, 9, 9], Compared());
        // In the end the first run's group is what the others are compared with.
        const string files = "--output results/compare/comparison.csv --statistics results/compare/statistics.csv --summary results/compare/comparison.md";
        Assert.Equal([$"compare results/compare/runs {files}", $"compare results/compare/runs --baseline dense-1-1 {files}"], Lines("compare-calls")[^2..]);
        Assert.Equal(0, Compare(["data.train_images=70"], ("BASELINE", "ranks=3")).ExitCode);
        Assert.Equal($"compare results/compare/runs --baseline ranks=3 {files}", Lines("compare-calls")[^1]);
        Assert.Equal(0, Compare(["data.train_images=70"], ("BASELINE", "")).ExitCode);
        Assert.Equal($"compare results/compare/runs {files}", Lines("compare-calls")[^1]);
    }

    [Fact]
    public void Finished_runs_are_kept_and_unfinished_ones_made_anew()
    {
        Assert.Equal(0, Compare([], ("SEEDS", "1 2")).ExitCode);
        File.Delete(Path.Combine(_tree.Path, "calls"));
        // Stopped before the ticket, in the middle of its line, and before anything.
        File.WriteAllText(Path.Combine(_runs, "local-1-1", "summary.csv"), "network\n");
        File.WriteAllText(Path.Combine(_runs, "local-3-1", "summary.csv"), "network\nticket,0");
        Directory.Delete(Path.Combine(_runs, "dense-1-2"), recursive: true);
        (int exitCode, string output, _) = Compare([], ("SEEDS", "1 2"));
        Assert.Equal(0, exitCode);
        Assert.StartsWith("6 runs into results/compare/runs, 3 of them finished already\n", output, StringComparison.Ordinal);
        Assert.Equal(["local-1-1", "local-3-1", "dense-1-2"], Names());
        // All are finished now: nothing runs, and the table is shown.
        File.Delete(Path.Combine(_tree.Path, "calls"));
        Assert.EndsWith("compared 6\n", Compare([], ("SEEDS", "1 2")).Output, StringComparison.Ordinal);
        Assert.Empty(Names());
    }

    [Fact]
    public void After_a_failure_the_others_go_on_and_the_end_is_no_success()
    {
        File.WriteAllText(Path.Combine(_tree.Path, "fail-local-1-1"), "");
        (int exitCode, string output, string error) = Compare([], ("SEEDS", "1"));
        Assert.Equal((1, "compare.sh: failed: local-1-1\n"), (exitCode, error));
        Assert.Contains("[2/3] local-1-1 FAILED with status 4, see results/compare/runs/local-1-1.log: lofthpc: error: pretrain: no good; ", output, StringComparison.Ordinal);
        Assert.Equal(["dense-1-1", "local-1-1", "local-3-1"], Names());
        File.Delete(Path.Combine(_tree.Path, "fail-local-1-1"));
        Assert.Equal(0, Compare([], ("SEEDS", "1")).ExitCode);
        Assert.Equal("local-1-1", Names()[^1]);
    }

    /// <summary>The ticket's line stands, but the launch went wrong after it.</summary>
    [Fact]
    public void A_run_that_fails_late_is_made_anew()
    {
        File.WriteAllText(Path.Combine(_tree.Path, "late-local-1-1"), "");
        Assert.Equal(1, Compare([], ("SEEDS", "1")).ExitCode);
        Assert.Equal(1, Compare([], ("SEEDS", "1")).ExitCode);
        File.Delete(Path.Combine(_tree.Path, "late-local-1-1"));
        Assert.Equal(0, Compare([], ("SEEDS", "1")).ExitCode);
        Assert.Equal(["dense-1-1", "local-1-1", "local-3-1", "local-1-1", "local-1-1"], Names());
        Assert.Equal(0, Compare([], ("SEEDS", "1")).ExitCode);
        Assert.Equal(5, Names().Length);
    }

    [Theory]
    [InlineData("1 1", "", "two runs are named dense-1-1")]
    [InlineData("1", "run.seed=3", "run.seed=3: every run has its own")]
    public void No_two_runs_have_one_name(string seeds, string argument, string expected)
    {
        (int exitCode, _, string error) = Compare(argument.Length > 0 ? [argument] : [], ("SEEDS", seeds));
        Assert.Equal(2, exitCode);
        Assert.Contains(expected, Assert.Single(error.TrimEnd('\n').Split('\n')), StringComparison.Ordinal);
        Assert.Empty(Names());
    }

    [Fact]
    public void Runs_of_other_settings_are_not_mixed_in()
    {
        Assert.Equal(0, Compare([], ("SEEDS", "1")).ExitCode);
        (int exitCode, _, string error) = Compare(["data.train_images=70"], ("SEEDS", "1"));
        Assert.Equal(2, exitCode);
        Assert.Contains("dense-1-1 local-1-1 local-3-1; remove them from results/compare/runs", Assert.Single(error.TrimEnd('\n').Split('\n')), StringComparison.Ordinal);
        Assert.Equal(3, Names().Length);
        // A comment of the base config is no setting.
        File.WriteAllText(Path.Combine(_tree.Path, "configs", "compare", "base.yaml"), "# Another.\nnetwork: {width: 8}\n");
        Assert.Equal(0, Compare([], ("SEEDS", "1")).ExitCode);
    }

    [Fact]
    public void Two_at_once_do_not_replace_each_others_runs()
    {
        File.WriteAllText(Path.Combine(_tree.Path, "again-dense-1-1"), "");
        Assert.Equal(0, Compare([], ("SEEDS", "1")).ExitCode);
        Assert.Equal(3, Names().Length);
        Assert.Equal(
            ["compare.sh: another comparison is at work in results/compare/runs", "status 2"],
            Lines("results/compare/runs/dense-1-1.log")[1..]);
    }

    [Fact]
    public void A_line_without_a_number_of_ranks_is_refused()
    {
        Assert.Equal("compare.sh: absent.txt cannot be read\n", Compare([], ("METHODS", "absent.txt")).Error);
        File.WriteAllText(Path.Combine(_tree.Path, "mine.txt"), "dense pretrain.method=dense\n");
        (int exitCode, _, string error) = Compare([], ("METHODS", "mine.txt"));
        Assert.Equal(2, exitCode);
        Assert.Contains("'dense pretrain.method=dense' is not NAME RANKS", Assert.Single(error.TrimEnd('\n').Split('\n')), StringComparison.Ordinal);
    }

    private (int ExitCode, string Output, string Error) Compare(string[] arguments, params (string Name, string Value)[] variables)
    {
        Dictionary<string, string?> environment = new()
        {
            ["PATH"] = _tree.First,
            ["MPIEXEC"] = null,
            ["COMPARE"] = null,
            ["METHODS"] = null,
            ["SEEDS"] = null,
            ["BASELINE"] = null,
        };
        foreach ((string name, string value) in variables) environment[name] = value;
        return Repository.Run(Path.Combine(_tree.Path, "build", "compare.sh"), arguments, environment);
    }

    private string[] Lines(string file)
    {
        string path = Path.Combine(_tree.Path, file);
        return File.Exists(path) ? File.ReadAllLines(path) : [];
    }

    private string[] Calls() => Lines("calls");

    private string[] Names() => [.. Calls().Select(call => call.Split(' ').Single(word => word.StartsWith("run.name=", StringComparison.Ordinal))["run.name=".Length..])];

    private IEnumerable<int> Compared() => Lines("compared").Select(line => int.Parse(line["compared ".Length..], System.Globalization.CultureInfo.InvariantCulture));
}
