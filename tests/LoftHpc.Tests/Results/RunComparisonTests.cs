using LoftHpc.Arithmetic;
using LoftHpc.Commands;
using LoftHpc.Communication;
using LoftHpc.Configuration;
using LoftHpc.Output;
using LoftHpc.Results;
using Xunit;

namespace LoftHpc.Tests.Results;

/// <summary>The command compare on run folders that are made up here, against rows worked out by hand.</summary>
public sealed class RunComparisonTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();
    private readonly StringWriter _output = new() { NewLine = "\n" };
    private readonly StringWriter _error = new() { NewLine = "\n" };

    public void Dispose()
    {
        _folder.Dispose();
        _output.Dispose();
        _error.Dispose();
    }

    [Fact]
    public void Every_column_is_what_the_tables_of_the_run_say()
    {
        // Two epochs of 100 and 110 images; 2 ranks.
        RunFolder run = Make("fp-2-7", ranks: 2, new PretrainSection { Method = PretrainMethod.FilterParallel }, seed: 7, ratio: 0.8);
        run.Metrics.Write(
        [
            new(TrainingPhase.Pretrain, 1, DataSplit.Train, 1, 0.3, 0.1, 1, 1, 100),
            new(TrainingPhase.Pretrain, 1, DataSplit.Test, 1, 0.3, 0.1, 1, 1, 5000),
            new(TrainingPhase.Pretrain, 2, DataSplit.Train, 1, 0.3, 0.1, 1, 1, 110),
            new(TrainingPhase.Retrain, 1, DataSplit.Train, 1, 0.3, 0.1, 1, 1, 7000),
        ]);
        run.Resources.Write(
        [
            new(0, TrainingPhase.Pretrain, 105, 1000, 3.5, 1, 2, 3, 4, 500, ArithmeticRepair.None, 0),
            new(1, TrainingPhase.Pretrain, 105, 2000, 4.0, 1, 2, 3, 4, 400, ArithmeticRepair.None, 0),
            new(0, TrainingPhase.Retrain, 1, 64, 99, 1, 2, 3, 4, 900, ArithmeticRepair.None, 0),
        ]);
        run.Communication.Write(
        [
            new(0, "pretrain", CommunicationPurpose.Step, "allgatherv", 1, 1, 1, 0, 0),
            new(1, "pretrain", CommunicationPurpose.Step, "allgatherv", 1, 1, 2, 0, 0),
            new(0, "pretrain", CommunicationPurpose.Round, "alltoallv", 1, 1, 4, 0, 0),
            new(0, "pretrain", CommunicationPurpose.RunningStatistics, "allreduce", 1, 1, 8, 0, 0),
            new(1, "pretrain", CommunicationPurpose.Control, "allreduce", 1, 1, 16, 0, 0),
            new(0, "pretrain", CommunicationPurpose.Evaluation, "allreduce", 1, 1, 32, 0, 0),
            new(1, "pretrain", CommunicationPurpose.Distance, "allreduce", 1, 1, 64, 0, 0),
            new(0, "pretrain", CommunicationPurpose.Save, "send", 1, 1, 128, 999, 0),
            new(0, "extract", CommunicationPurpose.Evaluation, "allreduce", 1, 1, 256, 0, 0),
            new(0, "retrain", CommunicationPurpose.Step, "allreduce", 1, 1, 512, 0, 0),
        ]);
        Assert.Equal(
            new ComparisonRow(ComparedMethod.FilterParallel, SampleSchedule.EqualSamples, 2, 7, 0.8, 0.875, 0.25, 0.75, 210, 3000, 31, 224, 4.0, 52.5, 500, "fp"),
            Assert.Single(RunComparison.Read(_folder.File("runs")).Rows));
    }

    [Fact]
    public void Methods_and_schedules_are_told_apart_and_sorted()
    {
        PretrainSection loft = new() { Method = PretrainMethod.Loft, Samples = SampleScope.Whole };
        Make("a", ranks: 2, loft);
        Make("b", ranks: 4, loft with { Samples = SampleScope.Shard });
        Make("c", ranks: 2, loft with { Samples = SampleScope.Shard }, seed: 2);
        Make("d", ranks: 2, loft with { Samples = SampleScope.Shard }, seed: 1);
        // On one rank the whole set is walked once.
        Make("e", ranks: 1, loft);
        Make("f", ranks: 3, loft with { Method = PretrainMethod.LocalSgd });
        // Whole is the default; these two do not look at it.
        Make("g", ranks: 2, loft with { Method = PretrainMethod.Gpipe });
        Make("h", ranks: 2, loft with { Method = PretrainMethod.DataParallel });
        Make("i", ranks: 2, new PretrainSection { Method = PretrainMethod.FilterParallel, Backward = BackwardKind.Local });
        Make("j", ranks: 2, new PretrainSection { Method = PretrainMethod.FilterParallel });
        Make("k", ranks: 1, new PretrainSection { Method = PretrainMethod.Dense });

        string table = Compare();
        Assert.Equal(
            [
                "dense,equal-samples,1,1,k", "data-parallel,equal-samples,2,1,h", "filter-parallel,equal-samples,2,1,j",
                "filter-parallel-local,equal-samples,2,1,i", "local-sgd,published,3,1,f", "gpipe,equal-samples,2,1,g", "loft,equal-samples,1,1,e",
                "loft,equal-samples,2,1,d", "loft,equal-samples,2,2,c", "loft,equal-samples,4,1,b", "loft,published,2,1,a",
            ],
            File.ReadAllLines(table).Skip(1).Select(line => string.Join(',', (string[])[.. line.Split(',')[..4], line.Split(',')[^1]])));
        Assert.Equal(11, new CsvTable<ComparisonRow>(table).Read().Count);
    }

    [Fact]
    public void The_summary_holds_means_and_spreads_over_seeds()
    {
        Make("loft-2-1", ranks: 2, new PretrainSection { Method = PretrainMethod.Loft, Samples = SampleScope.Shard }, seed: 1, accuracy: 0.5);
        Make("loft-2-2", ranks: 2, new PretrainSection { Method = PretrainMethod.Loft, Samples = SampleScope.Shard }, seed: 2, accuracy: 0.6);
        Make("loft-travel-2-1", ranks: 2, new PretrainSection
        {
            Method = PretrainMethod.Loft,
            Samples = SampleScope.Shard,
            Loft = new LoftSection { Momentum = MomentumKind.Travel },
        });
        Compare();
        string[] lines = File.ReadAllLines(_folder.File("out/comparison.md"));
        Assert.Equal("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |", lines[3]);
        // 2 ranks: 50 images and 2 GFLOP each, 2.5 MB each, 4 s; 100 images in 4 s.
        Assert.Equal("| loft | equal-samples | 2 | 0.5 | 2 | 87.50 % (87.50 to 87.50) | 25.00 % (25.00 to 25.00) | 55.00 % (50.00 to 60.00) | 100 | 4 | 5.0 | 4.0 | 25 | 400 |", lines[4]);
        Assert.Equal("| loft (loft-travel) | equal-samples | 2 | 0.5 | 1 | 87.50 % | 25.00 % | 75.00 % | 100 | 4 | 5.0 | 4.0 | 25 | 400 |", lines[5]);
        Assert.Contains("- processor: Test CPU", lines);
        Assert.Contains("55.00 % (50.00 to 60.00)", _output.ToString(), StringComparison.Ordinal);
        Assert.Equal("", _error.ToString());
    }

    [Fact]
    public void Unfinished_runs_are_named_and_left_out()
    {
        Make("dense-1-1", ranks: 1, new PretrainSection { Method = PretrainMethod.Dense });
        RunFolder stopped = Make("dense-1-2", ranks: 1, new PretrainSection { Method = PretrainMethod.Dense }, seed: 2);
        stopped.Summary.Remove(row => row.Network == NetworkState.Ticket);
        File.AppendAllText(stopped.Summary.Path, "ticket,0.5,1,1"); // Cut short.
        Directory.CreateDirectory(_folder.File("runs/dense-1-3"));
        RunFolder drawn = Make("drawn", ranks: 1, new PretrainSection { Method = PretrainMethod.Dense });
        File.WriteAllText(drawn.Config, RunConfigLoader.ToYaml(RunConfigLoader.Load(drawn.Config) with { Extract = new ExtractSection { From = "runs/dense-1-1" } }));
        File.Delete(drawn.Resources.Path);
        Directory.CreateDirectory(_folder.File("runs/.dense-1-4.replaced"));
        File.WriteAllText(_folder.File("runs/dense-1-1.log"), "");
        string table = Compare();
        Assert.Equal(1, Assert.Single(new CsvTable<ComparisonRow>(table).Read()).Seed);
        Assert.StartsWith("left out, since not finished or drawn from another run: dense-1-2, dense-1-3, drawn\n", _output.ToString(), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("resources.csv")]
    [InlineData("metrics.csv")]
    [InlineData("communication.csv")]
    [InlineData("config.yaml")]
    public void A_missing_file_is_one_line_that_names_it(string file)
    {
        RunFolder run = Make("dense-1-1", ranks: 1, new PretrainSection { Method = PretrainMethod.Dense });
        File.WriteAllText(run.Manifest, """{"launches": []}""");
        File.Delete(Path.Combine(run.Path, file));
        UserError error = Assert.Throws<UserError>(Compare);
        Assert.Contains(run.Path, error.Message, StringComparison.Ordinal);
        Assert.Contains(file, error.Message, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', error.Message);
        Assert.False(File.Exists(_folder.File("out/comparison.csv")));
    }

    [Fact]
    public void Nothing_to_compare_is_an_error()
    {
        Assert.Contains("no such folder", Assert.Throws<UserError>(Compare).Message, StringComparison.Ordinal);
        Directory.CreateDirectory(_folder.File("runs/empty"));
        Assert.Contains("no finished run", Assert.Throws<UserError>(Compare).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Runs_that_differ_in_more_than_their_method_are_told()
    {
        Make("dense-1-1", ranks: 1, new PretrainSection { Method = PretrainMethod.Dense });
        Make("loft-2-1", ranks: 2, new PretrainSection { Method = PretrainMethod.Loft, LocalSteps = 3 });
        Make("loft-2-2", ranks: 2, new PretrainSection { Method = PretrainMethod.Loft, Batch = 32 }, seed: 2);
        Compare();
        Assert.Equal("warning: dense-1-1 and loft-2-2 differ in more than the method: batch: 128 and batch: 32\n", _error.ToString());
    }

    /// <summary>On how many ranks, and for how many convolutions, does not matter: ranks hold different ones.</summary>
    [Fact]
    public void Runs_that_differ_in_what_was_repaired_are_told()
    {
        PretrainSection loft = new() { Method = PretrainMethod.Loft };
        Make("loft-2-1", ranks: 2, loft, seed: 1, arithmetic: [new(0, "channels-padded", 3, 19), new(1, "channels-padded", 5, 19)]);
        Make("loft-2-2", ranks: 2, loft, seed: 2, arithmetic: [new(0, "channels-padded", 4, 19), new(1, "none", 0, 19)]);
        Make("loft-2-3", ranks: 2, loft, seed: 3);
        RunFolder old = Make("loft-2-4", ranks: 2, loft, seed: 4);
        File.WriteAllText(old.Manifest, System.Text.RegularExpressions.Regex.Replace(File.ReadAllText(old.Manifest), @",\s*""arithmetic"": \[[^\]]*\]", ""));
        Compare();
        Assert.Equal(
            "warning: loft-2-1 and loft-2-3 differ in their arithmetic: repaired (channels-padded) and as libtorch has it\n"
            + "warning: loft-2-1 and loft-2-4 differ in their arithmetic: repaired (channels-padded) and not checked\n",
            _error.ToString());
        string summary = File.ReadAllText(_folder.File("out/comparison.md"));
        Assert.Contains("- arithmetic: repaired (channels-padded)\n", summary, StringComparison.Ordinal);
        Assert.Contains("- arithmetic: as libtorch has it\n", summary, StringComparison.Ordinal);
    }

    [Fact]
    public void Runs_in_another_precision_are_told()
    {
        PretrainSection loft = new() { Method = PretrainMethod.Loft };
        Make("loft-2-1", ranks: 2, loft, seed: 1);
        Make("loft-2-2", ranks: 2, loft, seed: 2, precision: "bfloat16");
        Compare();
        Assert.Equal("warning: loft-2-1 and loft-2-2 differ in their precision: float32 and bfloat16\n", _error.ToString());
        string summary = File.ReadAllText(_folder.File("out/comparison.md"));
        Assert.Contains("- precision: bfloat16\n- precision: float32\n", summary, StringComparison.Ordinal);
    }

    [Fact]
    public void Runs_in_another_memory_format_are_told()
    {
        PretrainSection loft = new() { Method = PretrainMethod.Loft };
        Make("loft-2-1", ranks: 2, loft, seed: 1, memoryFormat: "channels-last");
        Make("loft-2-2", ranks: 2, loft, seed: 2);
        Compare();
        Assert.Equal("warning: loft-2-1 and loft-2-2 differ in their memory format: channels-last and contiguous\n", _error.ToString());
        Assert.Contains("- memory format: channels-last\n- memory format: contiguous\n", File.ReadAllText(_folder.File("out/comparison.md")), StringComparison.Ordinal);
    }

    [Fact]
    public void A_repair_is_one_line_for_the_job()
    {
        Assert.Null(ResultTables.Repairs([new(0, "none", 0, 19), new(1, "none", 0, 19)]));
        Assert.EndsWith(
            ": 14 of 19 on ranks 0, 2 (channels-padded); 1 of 18 on rank 3 (onednn-off)",
            ResultTables.Repairs([new(0, "channels-padded", 14, 19), new(1, "none", 0, 19), new(2, "channels-padded", 14, 19), new(3, "onednn-off", 1, 18)]), StringComparison.Ordinal);
    }

    /// <summary>Stages that were launches of their own have configs of their own.</summary>
    [Fact]
    public void Seeds_of_one_line_that_differ_in_more_are_told()
    {
        PretrainSection loft = new() { Method = PretrainMethod.Loft, LocalSteps = 3 };
        Make("loft-2-1", ranks: 2, loft);
        RunFolder retrained = Make("loft-2-2", ranks: 2, loft, seed: 2);
        Make("loft-2-3", ranks: 2, loft with { LocalSteps = 5 }, seed: 3);
        Make("loft-norm-2-1", ranks: 2, loft with { Loft = new LoftSection { Deal = DealKind.Norm } });
        File.WriteAllText(retrained.ConfigOf("retrain"), RunConfigLoader.ToYaml(RunConfigLoader.Load(retrained.Config) with { Retrain = new RetrainSection { Epochs = 7 } }));
        Compare();
        Assert.Equal(
            "warning: loft-2-1 and loft-2-2 differ in more than the method: epochs: 90 and epochs: 7\n"
            + "warning: loft-2-1 and loft-2-3 are seeds of one line and differ in more than that: local_steps: 3 and local_steps: 5\n",
            _error.ToString());
    }

    [Fact]
    public void The_command_needs_no_launcher_and_prints_errors_as_one_line()
    {
        Make("dense-1-1", ranks: 1, new PretrainSection { Method = PretrainMethod.Dense });
        string program = Path.Combine(AppContext.BaseDirectory, "lofthpc");
        string table = _folder.File("table.csv");
        (int exitCode, string output, string error) = Repository.Run(program, ["compare", "--runs", _folder.File("runs"), "--output", table]);
        Assert.Equal((0, ""), (exitCode, error));
        Assert.EndsWith($"{table}\n", output, StringComparison.Ordinal);
        Assert.Single(new CsvTable<ComparisonRow>(table).Read());
        (exitCode, output, error) = Repository.Run(program, ["compare", "--runs", _folder.File("absent"), "--output", table]);
        Assert.Equal((ExitCodes.Configuration, "", $"lofthpc: error: {_folder.File("absent")}: there is no such folder of runs\n"), (exitCode, output, error));
    }

    /// <summary>A finished run.</summary>
    private RunFolder Make(string name, int ranks, PretrainSection pretrain, long seed = 1, double ratio = 0.5, double accuracy = 0.75, IReadOnlyList<ArithmeticRecord>? arithmetic = null, string precision = "float32", string memoryFormat = "contiguous")
    {
        RunFolder run = RunFolder.Create(_folder.File("runs"), name, overwrite: false);
        RunConfig config = new() { Run = new RunSection { Name = name, Seed = seed }, Pretrain = pretrain, Extract = new ExtractSection { Ratio = ratio } };
        File.WriteAllText(run.Config, RunConfigLoader.ToYaml(config));
        RunManifest.Begin(run.Manifest, new LaunchRecord(
            "run", [], seed, DateTimeOffset.UnixEpoch, null, null, BuildRecord.Current, "2.10", new MpiRecord("none", "", ""), null,
            [new RankRecord(0, "host", 0, "cpu", 1, "Test CPU")], arithmetic ?? [new ArithmeticRecord(0, "none", 0, 19)], precision, memoryFormat));
        run.Metrics.Write([new MetricsRow(TrainingPhase.Pretrain, 1, DataSplit.Train, 1, 0.5, 0.1, 1, 1, 50 * ranks)]);
        run.Resources.Write(Enumerable.Range(0, ranks).Select(rank => new ResourcesRow(rank, TrainingPhase.Pretrain, 50, 2_000_000_000, 4, 1, 2, 3, 4, 400_000_000, ArithmeticRepair.None, 0)));
        run.Communication.Write(Enumerable.Range(0, ranks).Select(rank =>
            new CommunicationRow(rank, "pretrain", CommunicationPurpose.Step, "allreduce", 1, 1, 2_500_000, 2_500_000, 1)));
        run.Summary.Write([new(NetworkState.Dense, 0.875, 1, 1, 1), new(NetworkState.Pruned, 0.25, 1, 1, 1), new(NetworkState.Ticket, accuracy, 1, 1, 1)]);
        return run;
    }

    private string Compare()
    {
        ConsoleReporter reporter = new(_output, _error, Verbosity.Normal, ProgressKind.Lines, unicode: false, colors: false, () => 80);
        string table = _folder.File("out/comparison.csv");
        CompareCommand.Compare(_folder.File("runs"), table, _folder.File("out/comparison.md"), reporter);
        return table;
    }
}
