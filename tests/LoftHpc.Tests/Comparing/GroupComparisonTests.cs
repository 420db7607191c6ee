using LoftHpc.Commands;
using LoftHpc.Communication;
using LoftHpc.Comparing;
using LoftHpc.Configuration;
using LoftHpc.Output;
using LoftHpc.Results;
using Xunit;

namespace LoftHpc.Tests.Comparing;

/// <summary>Groups of made-up runs against figures that are worked out here: with 3 seeds the t distribution has a closed form.</summary>
public sealed class GroupComparisonTests : IDisposable
{
    private readonly MadeRuns _runs = new();
    private readonly StringWriter _output = new() { NewLine = "\n" };
    private readonly StringWriter _error = new() { NewLine = "\n" };

    public void Dispose()
    {
        _runs.Dispose();
        _output.Dispose();
        _error.Dispose();
    }

    /// <summary>Differences of 0.020, 0.021 and 0.022: t = 0.021 / (0.001 / sqrt(3)), and of p there is one.</summary>
    [Fact]
    public void A_difference_that_chance_does_not_explain()
    {
        Make(PretrainMethod.DataParallel, 0.80, 0.82, 0.85);
        Make(PretrainMethod.Loft, 0.82, 0.841, 0.872);
        StatisticsRow row = Row(Compare(["retrained_accuracy"], "pretrain.method=data-parallel"), "loft");
        Assert.Equal((3, 3, BetterSide.Higher, Verdict.Better), (row.Seeds, row.Pairs, row.Better, row.Verdict));
        double mean = (0.82 + 0.841 + 0.872) / 3, deviation = Math.Sqrt(((0.82 - mean) * (0.82 - mean) + (0.841 - mean) * (0.841 - mean) + (0.872 - mean) * (0.872 - mean)) / 2);
        Assert.Equal(mean, row.Mean, 1e-12);
        Assert.Equal(deviation, row.Deviation!.Value, 1e-12);
        Assert.Equal(mean - (4.302653 * deviation / Math.Sqrt(3)), row.Low!.Value, 1e-7);
        Assert.Equal(mean + (4.302653 * deviation / Math.Sqrt(3)), row.High!.Value, 1e-7);
        Assert.Equal(0.021, row.Difference!.Value, 1e-12);
        Assert.Equal(0.021 - (4.302653 * 0.001 / Math.Sqrt(3)), row.DifferenceLow!.Value, 1e-7);
        Assert.Equal(0.021 + (4.302653 * 0.001 / Math.Sqrt(3)), row.DifferenceHigh!.Value, 1e-7);
        Assert.Equal(TwoSided(0.021 * Math.Sqrt(3) / 0.001), row.P!.Value, 1e-9);
        Assert.Equal(row.P, row.PHolm);
        Assert.Null(row.PSigns);
        Assert.Null(row.PMarginHolm);
        StatisticsRow baseline = Row(Compare(["retrained_accuracy"], "pretrain.method=data-parallel"), "data-parallel");
        Assert.Equal((true, 0, (double?)null, Verdict.None), (baseline.Baseline, baseline.Pairs, baseline.P, baseline.Verdict));
    }

    /// <summary>
    /// Differences around d with deviation 0.001: t = d sqrt(3) / 0.001. d = -0.021 is worse; 0.004 alone would be better (p = 0.0202), but after
    /// Holm's correction (of 4: 0.0202 x 3) not; 0.0005 within a margin of 0.02 is as good; -0.0005 with a deviation of 0.02 says nothing.
    /// </summary>
    [Fact]
    public void Verdicts_are_by_rule()
    {
        Make(PretrainMethod.DataParallel, 0.80, 0.80, 0.80);
        Make(PretrainMethod.Loft, 0.778, 0.779, 0.780);
        Make(PretrainMethod.LocalSgd, 0.803, 0.804, 0.805);
        Make(PretrainMethod.Gpipe, 0.7995, 0.8005, 0.8015);
        Make(PretrainMethod.FilterParallel, 0.7795, 0.7995, 0.8195);
        GroupComparison comparison = Compare(["retrained_accuracy"], "pretrain.method=data-parallel");
        Assert.Equal([Verdict.Worse, Verdict.Undecided, Verdict.Undecided, Verdict.Undecided], Verdicts(comparison));
        (double worse, double better) = (TwoSided(21 * Math.Sqrt(3)), TwoSided(4 * Math.Sqrt(3)));
        Assert.True(better < 0.05);
        Assert.Equal(4 * worse, Row(comparison, "loft").PHolm!.Value, 1e-9);
        Assert.Equal(3 * better, Row(comparison, "local-sgd").PHolm!.Value, 1e-9);

        // One-sided, halves: t = (d + 0.02) sqrt(3) / deviation. Of 4 as well: only loft lies beyond the margin.
        comparison = Compare(["retrained_accuracy"], "pretrain.method=data-parallel", "retrained_accuracy=0.02");
        double margin = TwoSided(24 * Math.Sqrt(3)) / 2, next = TwoSided(20.5 * Math.Sqrt(3)) / 2;
        Assert.Equal(4 * margin, Row(comparison, "local-sgd").PMarginHolm!.Value, 1e-9);
        Assert.Equal(3 * next, Row(comparison, "gpipe").PMarginHolm!.Value, 1e-9);
        Assert.Equal([Verdict.Worse, Verdict.AsGood, Verdict.AsGood, Verdict.Undecided], Verdicts(comparison));
        // A margin without METRIC is for all accuracies that are shown, and a smaller one is harder to meet.
        Assert.Equal([Verdict.Worse, Verdict.AsGood, Verdict.AsGood, Verdict.Undecided], Verdicts(Compare(["retrained_accuracy"], "pretrain.method=data-parallel", "0.02")));
        Assert.Equal([Verdict.Worse, Verdict.Undecided, Verdict.Undecided, Verdict.Undecided], Verdicts(Compare(["retrained_accuracy"], "pretrain.method=data-parallel", "0.001")));

        static IEnumerable<Verdict> Verdicts(GroupComparison of) => ((string[])["loft", "local-sgd", "gpipe", "filter-parallel"]).Select(method => Row(of, method).Verdict);
    }

    /// <summary>Seconds: lower is better; the correction is over all tests of the table.</summary>
    [Fact]
    public void Lower_is_better_where_it_is_and_all_metrics_are_corrected_together()
    {
        foreach (int seed in Enumerable.Range(1, 3))
        {
            _runs.Make($"dense-1-{seed}", ranks: 1, new PretrainSection { Method = PretrainMethod.Dense }, seed, accuracy: 0.8 + (0.01 * seed), seconds: 100 + seed);
            _runs.Make($"loft-1-{seed}", ranks: 1, new PretrainSection { Method = PretrainMethod.Loft }, seed, accuracy: 0.8 + (0.02 * seed), seconds: 60 + (2 * seed));
        }
        GroupComparison comparison = Compare(["seconds", "retrained_accuracy", "images_per_second"], "dense");
        StatisticsRow seconds = Row(comparison, "loft", "seconds"), accuracy = Row(comparison, "loft");
        // Differences -39, -38, -37 and 0.01, 0.02, 0.03.
        (double p, double q) = (TwoSided(38 * Math.Sqrt(3)), TwoSided(2 * Math.Sqrt(3)));
        Assert.Equal((BetterSide.Lower, Verdict.Better), (seconds.Better, seconds.Verdict));
        Assert.Equal(-38, seconds.Difference!.Value, 1e-9);
        Assert.Equal(p, seconds.P!.Value, 1e-9);
        Assert.Equal(q, accuracy.P!.Value, 1e-9);
        Assert.Equal([Math.Min(1, q)], [accuracy.PHolm!.Value], Close);
        Assert.Equal(Verdict.Better, Row(comparison, "loft", "images_per_second").Verdict);
        Assert.Equal(Verdict.Worse, Row(Compare(["seconds"], "pretrain.method=loft"), "dense", "seconds").Verdict);
        // Slower by 38 s is within 50 s, but worse all the same; with a limit of 39 s nothing is said of the mean alone.
        StatisticsRow within = Row(Compare(["seconds"], "loft", "seconds=50"), "dense", "seconds");
        Assert.Equal(TwoSided(12 * Math.Sqrt(3)) / 2, within.PMarginHolm!.Value, 1e-9);
        Assert.Equal((Verdict.Worse, 50), (within.Verdict, within.Margin));

        static bool Close(double one, double other) => Math.Abs(one - other) < 1e-9;
    }

    /// <summary>FLOPs and bytes are counted: what differs by the same in all pairs is no chance.</summary>
    [Fact]
    public void What_is_counted_and_always_the_same_needs_no_test()
    {
        foreach (int seed in Enumerable.Range(1, 2))
        {
            _runs.Make($"loft-2-{seed}", ranks: 2, new PretrainSection { Method = PretrainMethod.Loft }, seed);
            _runs.Make($"loft-3-{seed}", ranks: 3, new PretrainSection { Method = PretrainMethod.Loft }, seed);
        }
        StatisticsRow Of(string metric, string baseline, params string[] margins) =>
            Assert.Single(Compare(["bytes", "ticket_flops", "retrained_accuracy"], baseline, margins).Rows, row => row.Row.Metric == metric && !row.Row.Baseline).Row;
        StatisticsRow bytes = Of("bytes", "ranks=2"), accuracy = Of("retrained_accuracy", "ranks=2");
        Assert.Equal((7_500_000, 2_500_000, null, Verdict.Worse), (bytes.Mean, bytes.Difference, bytes.P, bytes.Verdict));
        Assert.Equal(Verdict.Better, Of("bytes", "ranks=3").Verdict);
        Assert.Equal(Verdict.AsGood, Of("ticket_flops", "ranks=2").Verdict);
        Assert.Equal(Verdict.Worse, Of("bytes", "ranks=2", "bytes=3000000").Verdict);
        // Measured, and the same by chance or not: two seeds of equal accuracy are no proof.
        Assert.Equal((0.0, (double?)null, Verdict.Undecided), (accuracy.Difference!.Value, accuracy.P, accuracy.Verdict));

        // Bytes that depend on the seed are tested: differences of 2 and 3 million, t = 5 with 1 degree of freedom.
        RunFolder run = RunFolder.At(_runs.File("loft-3-2"));
        run.Communication.Append(new CommunicationRow(0, "pretrain", CommunicationPurpose.Round, "allreduce", 1, 1, 500_000, 500_000, 1));
        RunFolder other = RunFolder.At(_runs.File("loft-2-1"));
        other.Communication.Append(new CommunicationRow(0, "pretrain", CommunicationPurpose.Round, "allreduce", 1, 1, 500_000, 500_000, 1));
        bytes = Of("bytes", "ranks=2");
        Assert.Equal(1 - (2 * Math.Atan(5) / Math.PI), bytes.P!.Value, 1e-9);
        Assert.Equal(Verdict.Undecided, bytes.Verdict);
        // One pair alone says nothing.
        Directory.Delete(run.Path, recursive: true);
        Assert.Equal(Verdict.Undecided, Of("ticket_flops", "ranks=2").Verdict);
    }

    /// <summary>Seeds 2 to 7 are shared by both; of six differences of one sign two of 64 choices reach the sum.</summary>
    [Fact]
    public void Pairs_are_by_seed_and_from_six_on_the_signs_are_tested()
    {
        foreach (int seed in Enumerable.Range(1, 7)) _runs.Make($"dense-1-{seed}", ranks: 1, new PretrainSection { Method = PretrainMethod.Dense }, seed, accuracy: 0.70 + (0.01 * seed));
        foreach (int seed in Enumerable.Range(2, 7)) _runs.Make($"loft-1-{seed}", ranks: 1, new PretrainSection { Method = PretrainMethod.Loft }, seed, accuracy: 0.70 + (0.012 * seed));
        StatisticsRow row = Row(Compare(["retrained_accuracy"], "dense"), "loft");
        Assert.Equal((7, 6), (row.Seeds, row.Pairs));
        Assert.Equal(0.002 * (2 + 7) / 2, row.Difference!.Value, 1e-12);
        Assert.Equal(2 / 64.0, row.PSigns);
        Directory.Delete(_runs.File("dense-1-7"), recursive: true);
        row = Row(Compare(["retrained_accuracy"], "dense"), "loft");
        Assert.Equal((5, (double?)null), (row.Pairs, row.PSigns));
    }

    [Fact]
    public void The_baseline_is_a_setting_a_run_or_a_folder()
    {
        foreach (int ranks in Enumerable.Range(1, 2))
        {
            Make(PretrainMethod.Loft, 0.8, 0.81);
            Make(PretrainMethod.LocalSgd, 0.8, 0.82);
            if (ranks == 1)
            {
                foreach (string name in Directory.EnumerateDirectories(_runs.Path).ToArray()) Directory.Move(name, name.Replace("-1-", "-0-", StringComparison.Ordinal));
                continue;
            }
            foreach (string name in Directory.EnumerateDirectories(_runs.Path).Where(name => name.Contains("-0-", StringComparison.Ordinal)))
            {
                string config = RunFolder.At(name).Config;
                File.WriteAllText(config, File.ReadAllText(config).Replace("width: 64", "width: 8", StringComparison.Ordinal));
            }
        }
        string Baseline(params string[] words) => GroupComparison.Of(RunComparison.Read([_runs.Path]), new ComparisonQuestions(words, [], [])).Baseline!.Label;
        const string expected = "network.width=8; pretrain.method=loft";
        Assert.Equal(expected, Baseline("network.width=8", "pretrain.method=loft"));
        Assert.Equal(expected, Baseline("loft-0-2"));
        Assert.Equal(expected, Baseline(_runs.File("loft-0-1/")));
        Assert.Equal(expected, Baseline(expected));
        Assert.Equal("network.width=64; pretrain.method=local-sgd", Baseline("local-sgd"));
        string error = Assert.Throws<UserError>(() => Baseline("network.width=8")).Message;
        Assert.StartsWith("--baseline network.width=8: 2 groups are meant by it; ", error, StringComparison.Ordinal);
        Assert.EndsWith(": network.width=8; pretrain.method=local-sgd | network.width=8; pretrain.method=loft", error, StringComparison.Ordinal);
        Assert.StartsWith("--baseline nothing: no group is meant by it; ", Assert.Throws<UserError>(() => Baseline("nothing")).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Questions_that_do_not_fit_are_refused_in_one_line()
    {
        Make(PretrainMethod.DataParallel, 0.8, 0.81);
        Make(PretrainMethod.Loft, 0.8, 0.82);
        foreach ((ComparisonQuestions asked, string expected) in new (ComparisonQuestions, string)[]
        {
            (new([], ["accuracy"], []), "--metric: there is no metric 'accuracy'; allowed are pretrained_accuracy, "),
            (new(["loft"], [], ["0"]), "--margin 0: expected METRIC=X"),
            (new(["loft"], [], ["seconds=fast"]), "--margin seconds=fast: expected METRIC=X"),
            (new(["loft"], ["seconds"], ["0.1"]), "--margin 0.1: it is for a metric that is not in the table"),
            (new(["loft"], ["seconds"], ["bytes=1"]), "--margin bytes=1: it is for a metric that is not in the table"),
            (new(["loft"], [], ["time=1"]), "--margin: there is no metric 'time'"),
            (new([], [], ["0.1"]), "--margin: --baseline must name"),
            (new([], [], [], "seconds", 1), "--fail-on-regression: --baseline must name"),
            (new(["loft"], [], [], "seconds"), "--fail-on-regression: --tolerance X must be given"),
            (new(["loft"], [], [], "seconds", -1), "--fail-on-regression: --tolerance X must be given"),
            (new(["loft"], [], [], "time", 1), "--fail-on-regression: there is no metric 'time'"),
            (new(["loft"], [], [], null, 1), "--tolerance: --fail-on-regression METRIC says of what"),
        })
        {
            UserError error = Assert.Throws<UserError>(() => GroupComparison.Of(RunComparison.Read([_runs.Path]), asked));
            Assert.StartsWith(expected, error.Message, StringComparison.Ordinal);
            Assert.Equal(ExitCodes.Configuration, error.ExitCode);
            Assert.DoesNotContain('\n', error.Message);
        }
        // What is left has nothing in common with the baseline.
        Directory.Delete(_runs.File("loft-1-1"), recursive: true);
        Directory.Delete(_runs.File("data-parallel-1-2"), recursive: true);
        UserError apart = Assert.Throws<UserError>(() => Compare([], "loft"));
        Assert.Equal("--baseline: no other group has a seed of pretrain.method=loft, so there is nothing to compare (2 groups of runs)", apart.Message);
    }

    /// <summary>Loft loses 0.02 and 0.04: 0.03 in the mean, whatever a test says of it.</summary>
    [Fact]
    public void A_group_that_is_worse_by_more_than_the_tolerance_is_a_failure()
    {
        Make(PretrainMethod.DataParallel, 0.80, 0.81);
        Make(PretrainMethod.Loft, 0.78, 0.77);
        Make(PretrainMethod.Gpipe, 0.80, 0.82);
        string statistics = _runs.Beside("statistics.csv");
        ConsoleReporter reporter = new(_output, _error, Verbosity.Normal, ProgressKind.Lines, unicode: false, colors: false, () => 80);
        void Judge(string metric, double tolerance) => CompareCommand.Compare(
            [_runs.Path], new ComparisonQuestions(["data-parallel"], [], [], metric, tolerance), new ComparisonFiles(Statistics: statistics), reporter);
        UserError error = Assert.Throws<UserError>(() => Judge("retrained_accuracy", 0.0299));
        Assert.Equal((ExitCodes.Failure, "--fail-on-regression: retrained_accuracy is worse than the baseline's by more than 0.0299: pretrain.method=loft (by 0.03)"), (error.ExitCode, error.Message));
        // All was written and shown before.
        Assert.Equal(Metric.Default.Count * 3, new CsvTable<StatisticsRow>(statistics).Read().Count);
        Assert.Contains("retrained_accuracy in %", _output.ToString(), StringComparison.Ordinal);
        Judge("retrained_accuracy", 0.03);
        Judge("flops", 0);
        // A group without a seed of the baseline cannot be judged.
        Directory.Move(_runs.File("gpipe-1-1"), _runs.Beside("moved"));
        Directory.Delete(_runs.File("gpipe-1-2"), recursive: true);
        RunFolder other = _runs.Make("gpipe-1-9", ranks: 1, new PretrainSection { Method = PretrainMethod.Gpipe }, seed: 9);
        error = Assert.Throws<UserError>(() => Judge("retrained_accuracy", 0.03));
        Assert.Equal((ExitCodes.Configuration, "--fail-on-regression: pretrain.method=gpipe has no seed of the baseline with retrained_accuracy, so it cannot be judged"), (error.ExitCode, error.Message));
    }

    [Fact]
    public void Tables_and_files_say_the_same()
    {
        Make(PretrainMethod.DataParallel, 0.80, 0.82, 0.85);
        Make(PretrainMethod.Loft, 0.82, 0.841, 0.872);
        string statistics = _runs.Beside("out/statistics.csv"), markdown = _runs.Beside("out/comparison.md");
        ConsoleReporter reporter = new(_output, _error, Verbosity.Normal, ProgressKind.Lines, unicode: false, colors: false, () => 80);
        CompareCommand.Compare(
            [_runs.Path], new ComparisonQuestions(["data-parallel"], ["retrained_accuracy", "bytes"], ["0.01"]), new ComparisonFiles(Statistics: statistics, Markdown: markdown), reporter);
        GroupComparison comparison = Compare(["retrained_accuracy", "bytes"], "data-parallel", "0.01");
        Assert.Equal(comparison.Rows.Select(row => row.Row), new CsvTable<StatisticsRow>(statistics).Read());
        string[] lines = File.ReadAllLines(statistics);
        Assert.EndsWith(",verdict,pretrain.method", lines[0], StringComparison.Ordinal);
        Assert.EndsWith(",better,loft", lines[2], StringComparison.Ordinal);
        string text = File.ReadAllText(markdown);
        // p = 1 - t / sqrt(2 + t^2) = 0.000755 for t = 21 sqrt(3); half an interval is 4.3027 x 0.1 / sqrt(3) = 0.25 points.
        Assert.Contains(
            """
            retrained_accuracy in %, higher is better; difference to the baseline, paired by seed, margin 1.00.

            | pretrain.method | seeds | mean | deviation | 95 % interval | pairs | difference | its 95 % interval | p | p (Holm) | verdict |
            | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |
            | data-parallel | 3 | 82.33 | 2.52 | 76.08 to 88.58 |  |  |  |  |  | baseline |
            | loft | 3 | 84.43 | 2.62 | 77.93 to 90.93 | 3 | 2.10 | 1.85 to 2.35 | 0.0008 | 0.0008 | better |
            """, text, StringComparison.Ordinal);
        Assert.Contains("| loft | 3 | 2.5 | 0.0 | 2.5 to 2.5 | 3 | 0.0 |  |  |  | as good |\n", text, StringComparison.Ordinal);
        Assert.Contains("| 2.10 | 1.85 to 2.35 | 0.0008 |", string.Join('|', _output.ToString().Split('|').Select(cell => cell == "\n" ? cell : $" {cell.Trim()} ")), StringComparison.Ordinal);
        Assert.EndsWith($"{statistics}\n{markdown}\n", _output.ToString(), StringComparison.Ordinal);
        Assert.Equal("", _error.ToString());
        // Without a baseline there are means alone.
        GroupComparison alone = Compare(["retrained_accuracy"]);
        Assert.All(alone.Rows, row => Assert.Equal((Verdict.None, 0, (double?)null), (row.Row.Verdict, row.Row.Pairs, row.Row.P)));
        Assert.Equal(["pretrain.method", "seeds", "mean", "deviation", "95 % interval"], Assert.Single(ResultTables.Statistics(alone)).Headers);
    }

    /// <summary>Of a t with 2 degrees of freedom.</summary>
    private static double TwoSided(double t) => 1 - (t / Math.Sqrt(2 + (t * t)));

    private static StatisticsRow Row(GroupComparison comparison, string method, string metric = "retrained_accuracy") =>
        Assert.Single(comparison.Rows, row => row.Row.Metric == metric && row.Row.Group == $"pretrain.method={method}").Row;

    private GroupComparison Compare(string[] metrics, string? baseline = null, params string[] margins) =>
        GroupComparison.Of(RunComparison.Read([_runs.Path]), new ComparisonQuestions(baseline is null ? [] : [baseline], metrics, margins));

    /// <summary>A run of a method for each accuracy, with seeds from 1 on.</summary>
    private void Make(PretrainMethod method, params double[] accuracies)
    {
        foreach ((int i, double accuracy) in accuracies.Index())
            _runs.Make($"{ConfigName.Of(method)}-1-{i + 1}", ranks: 1, new PretrainSection { Method = method }, seed: i + 1, accuracy: accuracy);
    }
}
