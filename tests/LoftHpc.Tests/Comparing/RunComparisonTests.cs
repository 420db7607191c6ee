using LoftHpc.Arithmetic;
using LoftHpc.Commands;
using LoftHpc.Communication;
using LoftHpc.Comparing;
using LoftHpc.Configuration;
using LoftHpc.Output;
using LoftHpc.Results;
using Xunit;

namespace LoftHpc.Tests.Comparing;

/// <summary>The command compare on run folders that are made up here, against rows worked out by hand.</summary>
public sealed class RunComparisonTests : IDisposable
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

    [Fact]
    public void Every_column_is_what_the_tables_of_the_run_say()
    {
        // Two epochs of 100 and 110 images; 2 ranks.
        RunFolder run = _runs.Make("fp-2-7", ranks: 2, new PretrainSection { Method = PretrainMethod.FilterParallel, Epochs = 2 }, seed: 7, ratio: 0.8);
        run.Metrics.Write(
        [
            new(TrainingPhase.Pretrain, 1, DataSplit.Train, 1, 0.3, 0.1, 1, 1, 100),
            new(TrainingPhase.Pretrain, 1, DataSplit.Test, 1, 0.3, 0.1, 1, 1, 5000),
            new(TrainingPhase.Pretrain, 2, DataSplit.Train, 1, 0.3, 0.1, 1, 1, 110),
            new(TrainingPhase.Pretrain, 2, DataSplit.Test, 1, 0.3, 0.1, 1, 1, 5000),
            new(TrainingPhase.Retrain, 1, DataSplit.Train, 1, 0.3, 0.1, 1, 1, 7000),
            new(TrainingPhase.Retrain, 1, DataSplit.Test, 1, 0.3, 0.1, 1, 1, 5000),
        ]);
        run.Resources.Write(
        [
            new(0, TrainingPhase.Pretrain, 105, 1000, 3.5, 1, 2, 3, 4, 500, ArithmeticRepair.None, 0),
            new(1, TrainingPhase.Pretrain, 105, 2000, 4.0, 1, 2, 3, 4, 400, ArithmeticRepair.None, 0),
            new(0, TrainingPhase.Retrain, 1, 64, 99, 1, 2, 3, 4, 900, ArithmeticRepair.None, 0),
            new(1, TrainingPhase.Retrain, 1, 64, 99, 1, 2, 3, 4, 900, ArithmeticRepair.None, 0),
        ]);
        // The other rank receives what one sends: 1 + 4 + 8 + 32 + 128 and 2 + 16 + 64.
        run.Communication.Write(
        [
            new(0, "pretrain", CommunicationPurpose.Step, "allgatherv", 1, 1, 1, 2, 0),
            new(1, "pretrain", CommunicationPurpose.Step, "allgatherv", 1, 1, 2, 1, 0),
            new(0, "pretrain", CommunicationPurpose.Round, "alltoallv", 1, 1, 4, 0, 0),
            new(0, "pretrain", CommunicationPurpose.RunningStatistics, "allreduce", 1, 1, 8, 0, 0),
            new(1, "pretrain", CommunicationPurpose.Control, "allreduce", 1, 1, 16, 0, 0),
            new(0, "pretrain", CommunicationPurpose.Evaluation, "allreduce", 1, 1, 32, 80, 0),
            new(1, "pretrain", CommunicationPurpose.Distance, "allreduce", 1, 1, 64, 44, 0),
            new(0, "pretrain", CommunicationPurpose.Save, "send", 1, 1, 128, 0, 0),
            new(1, "pretrain", CommunicationPurpose.Save, "receive", 1, 0, 0, 128, 0),
            new(0, "extract", CommunicationPurpose.Evaluation, "allreduce", 1, 1, 256, 0, 0),
            new(0, "retrain", CommunicationPurpose.Step, "allreduce", 1, 1, 512, 512, 0),
            new(1, "retrain", CommunicationPurpose.Step, "allreduce", 1, 1, 512, 512, 0),
        ]);
        ComparedRun read = Assert.Single(RunComparison.Read([_runs.Path]).Runs);
        Assert.Equal(
            new ComparisonRow(ComparedMethod.FilterParallel, SampleSchedule.EqualSamples, 2, 7, 0.8, 0.875, 0.25, 0.75, 210, 3000, 31, 224, 4.0, 52.5, 500, "fp"), read.Row);
        Assert.Equal([("ticket_parameters", 60.0), ("ticket_flops", 600)], Metric.All.Where(metric => metric.Name.StartsWith("ticket", StringComparison.Ordinal)).Select(metric => (metric.Name, metric.Of(read))));
    }

    /// <summary>Of the ticket's forward pass at the largest batch, where there is one.</summary>
    [Fact]
    public void Latency_is_that_of_the_largest_batch()
    {
        LatencyRow row = new(NetworkState.Ticket, MeasuredPass.Forward, 128, 0.25, 0.2, 0.3, 11, null, 600, 60);
        RunFolder run = _runs.Make("a", ranks: 1, new PretrainSection());
        run.Latency.Write([row with { Batch = 32, MedianSeconds = 0.5 }, row, row with { Network = NetworkState.Dense, MedianSeconds = 9 }, row with { Pass = MeasuredPass.Step, MedianSeconds = 8 }]);
        _runs.Make("b", ranks: 2, new PretrainSection { Method = PretrainMethod.DataParallel });
        Metric latency = Metric.Named("latency_seconds", "--metric");
        Assert.Equal([("a", 0.25), ("b", double.NaN)], RunComparison.Read([_runs.Path]).Runs.Select(read => (read.Name, latency.Of(read))).Order());
        Assert.DoesNotContain(latency, Metric.Default);
    }

    [Fact]
    public void Methods_and_schedules_are_told_apart_and_sorted()
    {
        PretrainSection loft = new() { Method = PretrainMethod.Loft, Samples = SampleScope.Whole };
        _runs.Make("a", ranks: 2, loft);
        _runs.Make("b", ranks: 4, loft with { Samples = SampleScope.Shard });
        _runs.Make("c", ranks: 2, loft with { Samples = SampleScope.Shard }, seed: 2);
        _runs.Make("d", ranks: 2, loft with { Samples = SampleScope.Shard }, seed: 1);
        // On one rank the whole set is walked once.
        _runs.Make("e", ranks: 1, loft);
        _runs.Make("f", ranks: 3, loft with { Method = PretrainMethod.LocalSgd });
        // Whole is the default; these two do not look at it.
        _runs.Make("g", ranks: 2, loft with { Method = PretrainMethod.Gpipe });
        _runs.Make("h", ranks: 2, loft with { Method = PretrainMethod.DataParallel });
        _runs.Make("i", ranks: 2, new PretrainSection { Method = PretrainMethod.FilterParallel, Backward = BackwardKind.Local });
        _runs.Make("j", ranks: 2, new PretrainSection { Method = PretrainMethod.FilterParallel });
        _runs.Make("k", ranks: 1, Dense);

        string table = Compare();
        Assert.Equal(
            [
                "dense,equal-samples,1,1,k", "data-parallel,equal-samples,2,1,h", "filter-parallel,equal-samples,2,1,j",
                "filter-parallel-local,equal-samples,2,1,i", "local-sgd,published,3,1,f", "gpipe,equal-samples,2,1,g", "loft,equal-samples,1,1,e",
                "loft,equal-samples,2,1,d", "loft,equal-samples,2,2,c", "loft,equal-samples,4,1,b", "loft,published,2,1,a",
            ],
            File.ReadAllLines(table).Skip(1).Select(line => string.Join(',', (string[])[.. line.Split(',')[..4], line.Split(',')[^1]])));
        Assert.Equal(10, RunComparison.Read([_runs.Path]).Groups.Count);
        Assert.Equal(11, new CsvTable<ComparisonRow>(table).Read().Count);
    }

    [Fact]
    public void The_summary_holds_means_and_spreads_over_seeds()
    {
        _runs.Make("loft-2-1", ranks: 2, new PretrainSection { Method = PretrainMethod.Loft, Samples = SampleScope.Shard }, seed: 1, accuracy: 0.5);
        _runs.Make("loft-2-2", ranks: 2, new PretrainSection { Method = PretrainMethod.Loft, Samples = SampleScope.Shard }, seed: 2, accuracy: 0.6);
        _runs.Make("loft-travel-2-1", ranks: 2, new PretrainSection
        {
            Method = PretrainMethod.Loft,
            Samples = SampleScope.Shard,
            Loft = new LoftSection { Momentum = MomentumKind.Travel },
        });
        Compare();
        string[] lines = File.ReadAllLines(_runs.Beside("out/comparison.md"));
        Assert.Equal("| pretrain.loft.momentum | seeds | pre-trained | pruned | retrained | images | GFLOP | sent MB | seconds | images/s | peak MB |", lines[2]);
        Assert.Equal("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |", lines[3]);
        // 2 ranks: 50 images and 2 GFLOP each, 2.5 MB each, 4 s; 100 images in 4 s.
        Assert.Equal("| restart | 2 | 87.50 % (87.50 to 87.50) | 25.00 % (25.00 to 25.00) | 55.00 % (50.00 to 60.00) | 100 | 4 | 5.0 | 4.0 | 25 | 400 |", lines[4]);
        Assert.Equal("| travel | 1 | 87.50 % | 25.00 % | 75.00 % | 100 | 4 | 5.0 | 4.0 | 25 | 400 |", lines[5]);
        Assert.Contains("- processor: Test CPU", lines);
        Assert.Contains("55.00 % (50.00 to 60.00)", _output.ToString(), StringComparison.Ordinal);
        Assert.Equal("", _error.ToString());
    }

    [Fact]
    public void Unfinished_runs_are_named_and_left_out()
    {
        _runs.Make("dense-1-1", ranks: 1, Dense);
        RunFolder stopped = _runs.Make("dense-1-2", ranks: 1, Dense, seed: 2);
        stopped.Summary.Remove(row => row.Network == NetworkState.Ticket);
        File.AppendAllText(stopped.Summary.Path, "ticket,0.5,1,1"); // Cut short.
        Directory.CreateDirectory(_runs.File("dense-1-3"));
        Directory.CreateDirectory(_runs.File(".dense-1-4.replaced"));
        File.WriteAllText(_runs.File("dense-1-1.log"), "");
        string table = Compare();
        Assert.Equal(1, Assert.Single(new CsvTable<ComparisonRow>(table).Read()).Seed);
        Assert.StartsWith("left out, since not finished: dense-1-2, dense-1-3\n", _output.ToString(), StringComparison.Ordinal);
        Assert.Equal("", _error.ToString());
    }

    /// <summary>What the pre-training has cost stands in the other run's folder.</summary>
    [Fact]
    public void A_ticket_of_another_run_has_the_costs_of_that_run()
    {
        RunFolder source = _runs.Make("dense-1-1", ranks: 1, Dense with { Batch = 32 });
        RunFolder drawn = _runs.Make("drawn", ranks: 2, Dense, accuracy: 0.5, ratio: 0.8, command: "retrain");
        // Where the launch was, its folder's name led there.
        File.WriteAllText(drawn.Config, RunConfigLoader.ToYaml(RunConfigLoader.Load(drawn.Config) with { Extract = new ExtractSection { Ratio = 0.8, From = "elsewhere/dense-1-1" } }));
        drawn.Metrics.Remove(row => row.Phase == TrainingPhase.Pretrain);
        drawn.Resources.Remove(row => row.Phase == TrainingPhase.Pretrain);
        drawn.Communication.Remove(row => row.Phase == "pretrain");
        RunComparison comparison = RunComparison.Read([_runs.Path]);
        Assert.Empty(comparison.LeftOut);
        ComparisonRow first = comparison.Runs[0].Row, second = comparison.Runs[1].Row;
        Assert.Equal(first with { Ratio = 0.8, RetrainedAccuracy = 0.5, Name = "drawn" }, second);
        Assert.Equal(["extract.ratio", "retrain_ranks"], comparison.Columns);
        Directory.Delete(source.Path, recursive: true);
        Assert.EndsWith($"{drawn.Path}: it was drawn from elsewhere/dense-1-1, which is not there", Assert.Throws<UserError>(() => RunComparison.Read([_runs.Path])).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("resources.csv")]
    [InlineData("metrics.csv")]
    [InlineData("communication.csv")]
    [InlineData("config.yaml")]
    [InlineData("manifest.json")]
    public void A_run_that_lacks_a_file_is_left_out_in_one_line_that_names_it(string file)
    {
        RunFolder run = _runs.Make("dense-1-1", ranks: 1, Dense);
        File.Delete(Path.Combine(run.Path, file));
        UserError error = Assert.Throws<UserError>(Compare);
        Assert.Contains("no finished run in it", error.Message, StringComparison.Ordinal);
        Assert.Contains(run.Path, error.Message, StringComparison.Ordinal);
        Assert.Contains(file, error.Message, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', error.Message);
        Assert.False(File.Exists(_runs.Beside("out/comparison.csv")));

        _runs.Make("dense-1-2", ranks: 1, Dense, seed: 2);
        Assert.Equal(2, Assert.Single(new CsvTable<ComparisonRow>(Compare()).Read()).Seed);
        Assert.Matches($"^warning: left out: {run.Path}: .*{file}.*\n$", _error.ToString());
    }

    /// <summary>A copy that broke off, or of which a part came along: whole lines, so nothing is wrong with any of them.</summary>
    [Fact]
    public void Tables_that_are_a_part_of_what_the_manifest_says_are_left_out()
    {
        Dictionary<string, Action<RunFolder>> parts = new()
        {
            ["resources.csv: phase pretrain has rows of rank 0 only; by manifest.json there were 2 ranks"] = run => run.Resources.Remove(row => row.Rank == 1),
            ["resources.csv: phase pretrain has no rows; by manifest.json there were 2 ranks"] = run => run.Resources.Write([]),
            ["resources.csv: phase retrain has no rows"] = run => run.Resources.Remove(row => row.Phase == TrainingPhase.Retrain),
            ["communication.csv: phase pretrain has no rows; by manifest.json there were 2 ranks"] = run => run.Communication.Write([]),
            ["communication.csv: phase pretrain has rows of rank 0 only"] = run => run.Communication.Remove(row => row.Rank == 1),
            ["communication.csv: phase retrain has no rows"] = run => run.Communication.Remove(row => row.Phase == "retrain"),
            ["communication.csv: phase pretrain has 5000003 bytes that were sent and 5000005 that were received; rows are missing"] = run => run.Communication.Append(
                [new CommunicationRow(0, "pretrain", CommunicationPurpose.Round, "send", 1, 1, 3, 0, 0), new CommunicationRow(1, "pretrain", CommunicationPurpose.Round, "receive", 1, 1, 0, 5, 0)]),
            ["metrics.csv: phase pretrain has 0 rows of epoch 2, split train; by config.yaml it had 3 epochs"] = run => run.Metrics.Remove(row => row.Epoch == 2 && row.Split == DataSplit.Train),
            ["metrics.csv: phase pretrain has 2 rows of epoch 1, split test"] = run => run.Metrics.Append(run.Metrics.Read().Where(row => row is { Phase: TrainingPhase.Pretrain, Epoch: 1, Split: DataSplit.Test })),
            ["metrics.csv: phase pretrain has a row of epoch 4; by config.yaml it had 3 epochs"] = run => run.Metrics.Append(run.Metrics.Read()[0] with { Epoch = 4 }),
            ["metrics.csv: phase retrain has 0 rows of epoch 1, split train"] = run => run.Metrics.Remove(row => row.Phase == TrainingPhase.Retrain),
            ["manifest.json: there is no launch of pretrain, import or run in it"] = run => File.WriteAllText(run.Manifest, """{"launches": []}"""),
            ["summary.csv: there is no row of network dense"] = run => run.Summary.Remove(row => row.Network == NetworkState.Dense),
        };
        PretrainSection loft = new() { Method = PretrainMethod.Loft, Epochs = 3 };
        int seed = 0;
        foreach (Action<RunFolder> cut in parts.Values) cut(_runs.Make($"loft-2-{++seed}", ranks: 2, loft, seed));
        _runs.Make("loft-2-99", ranks: 2, loft, seed: 99);
        RunComparison comparison = RunComparison.Read([_runs.Path]);
        Assert.Equal("loft-2-99", Assert.Single(comparison.Runs).Name);
        Assert.Equal(parts.Count, comparison.LeftOut.Count);
        foreach ((int i, string expected) in parts.Keys.Index())
            Assert.Contains(comparison.LeftOut, line => line.StartsWith(_runs.File($"loft-2-{i + 1}/") + expected, StringComparison.Ordinal));
    }

    /// <summary>Stages may be launches on other ranks, and a training may have been gone on with on others.</summary>
    [Fact]
    public void A_run_of_several_launches_is_whole()
    {
        RunFolder run = _runs.Make("loft-2-1", ranks: 2, new PretrainSection { Method = PretrainMethod.Loft });
        RunManifest.Begin(run.Manifest, RunManifest.Read(run.Manifest).Launches[0] with { Command = "retrain", Ranks = [new RankRecord(0, "host", 0, "cpu", 1, "Test CPU")] });
        run.Resources.Remove(row => row is { Phase: TrainingPhase.Retrain, Rank: 1 });
        run.Communication.Remove(row => row is { Phase: "retrain", Rank: 1 });
        Assert.Empty(RunComparison.Read([_runs.Path]).LeftOut);
    }

    [Fact]
    public void Nothing_to_compare_is_an_error()
    {
        Assert.Contains("no such folder", Assert.Throws<UserError>(Compare).Message, StringComparison.Ordinal);
        Directory.CreateDirectory(_runs.File("empty"));
        Assert.Contains("no finished run", Assert.Throws<UserError>(Compare).Message, StringComparison.Ordinal);
        Assert.Contains("nothing matches", Assert.Throws<UserError>(() => RunComparison.Read([_runs.File("nothing*")])).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Runs_are_named_by_folders_patterns_and_tables_and_taken_once()
    {
        foreach (int seed in Enumerable.Range(1, 3)) _runs.Make($"dense-1-{seed}", ranks: 1, Dense, seed);
        File.WriteAllText(_runs.File("dense-1-1.log"), "");
        string[] Names(params string[] arguments) => [.. RunComparison.Read(arguments).Runs.Select(run => run.Name)];
        Assert.Equal(["dense-1-2"], Names(_runs.File("dense-1-2")));
        Assert.Equal(["dense-1-2"], Names(_runs.File("dense-1-2/")));
        Assert.Equal(["dense-1-1", "dense-1-3"], Names(_runs.File("dense-1-3/summary.csv"), _runs.File("dense-1-1")));
        Assert.Equal(["dense-1-1", "dense-1-2", "dense-1-3"], Names(_runs.File("d*-?-?"), _runs.Path, _runs.File("dense-1-2/metrics.csv")));
        Assert.Equal(["dense-1-1", "dense-1-2", "dense-1-3"], Names(_runs.Beside("ru?s/*/summary.csv")));
        // As a shell writes out a pattern.
        RunComparison with = RunComparison.Read([_runs.File("dense-1-1"), _runs.File("dense-1-1.log")]);
        Assert.Single(with.Runs);
        Assert.Equal($"{_runs.File("dense-1-1.log")}: it is no run folder, and no table that holds runs", Assert.Single(with.LeftOut));
    }

    [Fact]
    public void A_table_of_runs_is_compared_as_the_runs_are()
    {
        foreach (int seed in Enumerable.Range(1, 2))
        {
            _runs.Make($"dense-1-{seed}", ranks: 1, Dense, seed);
            _runs.Make($"loft-2-{seed}", ranks: 2, new PretrainSection { Method = PretrainMethod.Loft }, seed, accuracy: 0.7);
            _runs.Make($"loft-travel-2-{seed}", ranks: 2, new PretrainSection { Method = PretrainMethod.Loft, Loft = new LoftSection { Momentum = MomentumKind.Travel } }, seed, accuracy: 0.7);
        }
        string table = Compare();
        RunComparison read = RunComparison.Read([table]), folders = RunComparison.Read([_runs.Path]);
        Assert.Equal(folders.Rows, read.Rows);
        Assert.Equal(["pretrain.method", "pretrain.loft.momentum", "ranks"], folders.Columns);
        Assert.Equal(["method", "schedule", "ranks", "name"], read.Columns);
        Assert.Equal(3, read.Groups.Count);
        // Where names say no more than the rest, they are no column.
        new CsvTable<ComparisonRow>(table).Remove(row => row.Name == "loft-travel");
        Assert.Equal(["method", "schedule", "ranks"], RunComparison.Read([table]).Columns);
        Assert.Contains("is not compared with run folders", Assert.Throws<UserError>(() => RunComparison.Read([table, _runs.Path])).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void What_differs_in_the_configs_is_a_column_and_no_more()
    {
        _runs.Make("dense-1-1", ranks: 1, Dense);
        _runs.Make("loft-2-1", ranks: 2, new PretrainSection { Method = PretrainMethod.Loft, LocalSteps = 3 });
        RunFolder retrained = _runs.Make("loft-2-2", ranks: 2, new PretrainSection { Method = PretrainMethod.Loft, LocalSteps = 3 }, seed: 2);
        _runs.Make("loft-2-3", ranks: 2, new PretrainSection { Method = PretrainMethod.Loft, LocalSteps = 5, Loft = new LoftSection { Stages = [3, 4] } }, seed: 3);
        // Stages that were launches of their own have configs of their own; where data lie, and what is kept, does not matter.
        RunConfig config = RunConfigLoader.Load(retrained.Config);
        File.WriteAllText(retrained.ConfigOf("retrain"), RunConfigLoader.ToYaml(config with { Retrain = config.Retrain with { Batch = 7 } }));
        File.WriteAllText(retrained.Config, RunConfigLoader.ToYaml(config with { Data = new DataSection { Folder = "/data" }, Checkpoint = new CheckpointSection { Keep = 5 } }));
        RunComparison comparison = RunComparison.Read([_runs.Path]);
        Assert.Equal(["pretrain.method", "pretrain.local_steps", "pretrain.loft.stages", "retrain.batch", "ranks"], comparison.Columns);
        Assert.Equal(["dense 15 [2, 3, 4] 128 1", "loft 3 [2, 3, 4] 128 2", "loft 3 [2, 3, 4] 7 2", "loft 5 [3, 4] 128 2"], comparison.Groups.Select(group => string.Join(' ', group.Values)));
        Assert.Equal("pretrain.method=dense; pretrain.local_steps=15; pretrain.loft.stages=[2, 3, 4]; retrain.batch=128; ranks=1", comparison.Groups[0].Label);
    }

    [Fact]
    public void A_seed_counts_once_in_a_group()
    {
        _runs.Make("a", ranks: 1, Dense);
        _runs.Make("b", ranks: 1, Dense);
        RunComparison comparison = RunComparison.Read([_runs.Path]);
        Assert.Equal("a", Assert.Single(comparison.Runs).Name);
        Assert.Equal($"{_runs.File("b")}: it has the settings and the seed of a", Assert.Single(comparison.LeftOut));
    }

    /// <summary>On how many ranks, and for how many convolutions, does not matter: ranks hold different ones.</summary>
    [Fact]
    public void Runs_that_differ_in_what_was_repaired_are_told()
    {
        PretrainSection loft = new() { Method = PretrainMethod.Loft };
        _runs.Make("loft-2-1", ranks: 2, loft, seed: 1, launch: launch => launch with { Arithmetic = [new(0, "channels-padded", 3, 19), new(1, "channels-padded", 5, 19)] });
        _runs.Make("loft-2-2", ranks: 2, loft, seed: 2, launch: launch => launch with { Arithmetic = [new(0, "channels-padded", 4, 19), new(1, "none", 0, 19)] });
        _runs.Make("loft-2-3", ranks: 2, loft, seed: 3);
        RunFolder old = _runs.Make("loft-2-4", ranks: 2, loft, seed: 4);
        File.WriteAllText(old.Manifest, System.Text.RegularExpressions.Regex.Replace(File.ReadAllText(old.Manifest), @",\s*""arithmetic"": \[[^\]]*\]", ""));
        Compare();
        Assert.Equal(
            "warning: runs differ in their arithmetic: repaired (channels-padded) (loft-2-1, loft-2-2); as libtorch has it (loft-2-3); not checked (loft-2-4)\n",
            _error.ToString());
        string summary = File.ReadAllText(_runs.Beside("out/comparison.md"));
        Assert.Contains("- arithmetic: repaired (channels-padded)\n", summary, StringComparison.Ordinal);
        Assert.Contains("- arithmetic: as libtorch has it\n", summary, StringComparison.Ordinal);
    }

    [Fact]
    public void Runs_whose_manifests_differ_in_what_should_be_equal_are_told()
    {
        PretrainSection loft = new() { Method = PretrainMethod.Loft };
        (string Expected, Func<LaunchRecord, LaunchRecord> Changed)[] cases =
        [
            ("version of the program: 9.8, commit abc (loft-2-1, loft-2-2, loft-2-3 and 1 more); 9.9, commit abc (loft-2-5)", launch => launch with { Build = launch.Build with { Version = "9.9" } }),
            ("version of the program: 9.8, commit abc (loft-2-1, loft-2-2, loft-2-3 and 1 more); 9.8, commit def (loft-2-5)", launch => launch with { Build = launch.Build with { GitCommit = "def" } }),
            ("sources: as in the commit (loft-2-1, loft-2-2, loft-2-3 and 1 more); changed since the commit (loft-2-5)", launch => launch with { Build = launch.Build with { GitDirty = true } }),
            ("data: train, 60000 images, hash 1 (loft-2-1, loft-2-2, loft-2-3 and 1 more); other (loft-2-5)", launch => launch with { DataHash = "other" }),
            ("precision: float32 (loft-2-1, loft-2-2, loft-2-3 and 1 more); bfloat16 (loft-2-5)", launch => launch with { Precision = "bfloat16" }),
            ("memory format: contiguous (loft-2-1, loft-2-2, loft-2-3 and 1 more); channels-last (loft-2-5)", launch => launch with { MemoryFormat = "channels-last" }),
            ("MPI: Open MPI 4 (loft-2-1, loft-2-2, loft-2-3 and 1 more); MPICH 4 (loft-2-5)", launch => launch with { Mpi = new MpiRecord("Mpich", "MPICH 4", "") }),
            ("libtorch: 2.10 (loft-2-1, loft-2-2, loft-2-3 and 1 more); 2.11 (loft-2-5)", launch => launch with { Libtorch = "2.11" }),
            ("processor: Test CPU (loft-2-1, loft-2-2, loft-2-3 and 1 more); Other CPU, Test CPU (loft-2-5)", launch => launch with { Ranks = [launch.Ranks[0], launch.Ranks[1] with { CpuModel = "Other CPU" }] }),
        ];
        foreach (int seed in Enumerable.Range(1, 5)) _runs.Make($"loft-2-{seed}", ranks: 2, loft, seed);
        RunFolder last = RunFolder.At(_runs.File("loft-2-5"));
        LaunchRecord launch = RunManifest.Read(last.Manifest).Launches[0];
        Assert.Empty(RunComparison.Read([_runs.Path]).Differences);
        foreach ((string expected, Func<LaunchRecord, LaunchRecord> changed) in cases)
        {
            File.Delete(last.Manifest);
            RunManifest.Begin(last.Manifest, changed(launch));
            Assert.Equal($"runs differ in their {expected}", Assert.Single(RunComparison.Read([_runs.Path]).Differences));
        }
        Compare();
        Assert.Equal($"warning: runs differ in their {cases[^1].Expected}\n", _error.ToString());
        string summary = File.ReadAllText(_runs.Beside("out/comparison.md"));
        Assert.Contains("- processor: Other CPU\n- processor: Test CPU\n", summary, StringComparison.Ordinal);
        Assert.Contains($"- runs differ in their {cases[^1].Expected}\n", summary, StringComparison.Ordinal);
    }

    /// <summary>A single process needs no MPI; a precision that the config asked for is a column.</summary>
    [Fact]
    public void What_is_meant_to_differ_is_not_told()
    {
        _runs.Make("loft-1-1", ranks: 1, Dense, launch: launch => launch with { Mpi = new MpiRecord("none", "", "") });
        _runs.Make("loft-1-2", ranks: 1, Dense, seed: 2);
        RunFolder other = _runs.Make("loft-1-3", ranks: 1, Dense, seed: 3, launch: launch => launch with { Precision = "bfloat16", DataHash = "other" });
        RunConfig config = RunConfigLoader.Load(other.Config);
        File.WriteAllText(other.Config, RunConfigLoader.ToYaml(config with { Run = config.Run with { Precision = Precision.Bfloat16 }, Data = config.Data with { TrainImages = 100 } }));
        RunComparison comparison = RunComparison.Read([_runs.Path]);
        Assert.Equal(["run.precision", "data.train_images"], comparison.Columns);
        Assert.Empty(comparison.Differences);
    }

    [Fact]
    public void A_repair_is_one_line_for_the_job()
    {
        Assert.Null(ResultTables.Repairs([new(0, "none", 0, 19), new(1, "none", 0, 19)]));
        Assert.EndsWith(
            ": 14 of 19 on ranks 0, 2 (channels-padded); 1 of 18 on rank 3 (onednn-off)",
            ResultTables.Repairs([new(0, "channels-padded", 14, 19), new(1, "none", 0, 19), new(2, "channels-padded", 14, 19), new(3, "onednn-off", 1, 18)]), StringComparison.Ordinal);
    }

    [Fact]
    public void The_command_needs_no_launcher_and_prints_errors_as_one_line()
    {
        _runs.Make("dense-1-1", ranks: 1, Dense);
        string program = Path.Combine(AppContext.BaseDirectory, "lofthpc");
        string table = _runs.Beside("table.csv");
        (int exitCode, string output, string error) = Repository.Run(program, ["compare", _runs.Path, "--output", table]);
        Assert.Equal((0, ""), (exitCode, error));
        Assert.EndsWith($"{table}\n", output, StringComparison.Ordinal);
        Assert.Single(new CsvTable<ComparisonRow>(table).Read());
        _runs.Make("loft-1-1", ranks: 1, new PretrainSection { Method = PretrainMethod.Loft }, accuracy: 0.7);
        (exitCode, output, error) = Repository.Run(
            program, ["compare", _runs.File("*"), "--baseline", "pretrain.method=dense", "--metric", "retrained_accuracy", "--margin", "0.1", "--fail-on-regression", "retrained_accuracy", "--tolerance", "0.04"]);
        Assert.Equal((ExitCodes.Failure, "lofthpc: error: --fail-on-regression: retrained_accuracy is worse than the baseline's by more than 0.04: pretrain.method=loft (by 0.05)\n"), (exitCode, error));
        Assert.Contains("undecided", output, StringComparison.Ordinal);
        (exitCode, output, error) = Repository.Run(program, ["compare", _runs.Beside("absent"), "--output", table]);
        Assert.Equal((ExitCodes.Configuration, "", $"lofthpc: error: {_runs.Beside("absent")}: there is no such folder of runs, run folder or table\n"), (exitCode, output, error));
    }

    private static PretrainSection Dense => new() { Method = PretrainMethod.Dense };

    private string Compare()
    {
        ConsoleReporter reporter = new(_output, _error, Verbosity.Normal, ProgressKind.Lines, unicode: false, colors: false, () => 80);
        string table = _runs.Beside("out/comparison.csv");
        CompareCommand.Compare([_runs.Path], new ComparisonQuestions([], [], []), new ComparisonFiles(table, Markdown: _runs.Beside("out/comparison.md")), reporter);
        return table;
    }
}
