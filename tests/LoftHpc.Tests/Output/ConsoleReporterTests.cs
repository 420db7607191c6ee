using LoftHpc.Configuration;
using LoftHpc.Output;
using LoftHpc.Results;
using Xunit;

namespace LoftHpc.Tests.Output;

public sealed class ConsoleReporterTests : IDisposable
{
    private readonly StringWriter _output = new() { NewLine = "\n" };
    private readonly StringWriter _error = new() { NewLine = "\n" };

    public void Dispose()
    {
        _output.Dispose();
        _error.Dispose();
    }

    [Fact]
    public void ALogHasOnePlainLineAnEpoch()
    {
        Train(Reporter(Verbosity.Normal, ProgressKind.Lines));
        string[] lines = _output.ToString().TrimEnd('\n').Split('\n');
        Assert.Equal(2, lines.Length);
        Assert.StartsWith(
            "pretrain epoch 1/2  train loss 0.5000 acc 81.25 %  test loss 0.2500 acc 90.00 %  lr 0.1  1000 images/s  3.0 s  ", lines[0], StringComparison.Ordinal);
        Assert.Matches(@"  \d+:\d\d left$", lines[0]);
        Assert.Equal("pretrain epoch 2/2  train loss 0.5000 acc 81.25 %  lr 0.1  1000 images/s  2.0 s", lines[1]);
        Assert.All(_output.ToString(), c => Assert.InRange(c, '\n', '~'));
    }

    [Fact]
    public void QuietLeavesResultsWarningsAndErrors()
    {
        ConsoleReporter reporter = Reporter(Verbosity.Quiet, ProgressKind.Bar);
        reporter.Info("info");
        reporter.Verbose("verbose");
        reporter.Table(new TextTable("ranks", ["rank"], [["0"]], new HashSet<int>()));
        Train(reporter);
        Assert.Equal("", _output.ToString());
        reporter.Result("results/quick/summary.csv");
        reporter.Warning("uneven");
        reporter.Error("broken");
        Assert.Equal("results/quick/summary.csv\n", _output.ToString());
        Assert.Equal("warning: uneven\nbroken\n", _error.ToString());
        reporter.Table(new TextTable("summary", ["network"], [["dense"]], new HashSet<int>()), isResult: true);
        Assert.Contains("dense", _output.ToString(), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(Verbosity.Normal, "info\n")]
    [InlineData(Verbosity.Verbose, "info\nverbose\n")]
    public void VerboseAddsLines(Verbosity verbosity, string expected)
    {
        ConsoleReporter reporter = Reporter(verbosity, ProgressKind.Lines);
        reporter.Info("info");
        reporter.Verbose("verbose");
        Assert.Equal(expected, _output.ToString());
    }

    [Fact]
    public void OtherRanksPrintTheirErrorsOnly()
    {
        SilentReporter reporter = new(_error);
        reporter.Info("info");
        reporter.Result("result");
        reporter.Warning("warning");
        Train(reporter);
        Assert.Equal("", _error.ToString());
        reporter.Error("broken");
        Assert.Equal("broken\n", _error.ToString());
    }

    [Fact]
    public void ABarIsErasedAndLeavesTheLines()
    {
        ConsoleReporter reporter = Reporter(Verbosity.Normal, ProgressKind.Bar);
        using (IEpochProgress progress = reporter.BeginEpochs(TrainingPhase.Retrain, 1, 2))
        {
            Thread.Sleep(550); // it is drawn twice a second
            progress.Step(() => new(0.5, 0.8, 1000));
            Assert.Contains("retrain 1/1", _output.ToString(), StringComparison.Ordinal);
            Assert.Contains("loss 0.5000  acc 80.00 %  1000 images/s", _output.ToString(), StringComparison.Ordinal);
            progress.Step(() => new(0.5, 0.8, 1000));
            progress.EpochDone(Row(TrainingPhase.Retrain, 1, DataSplit.Train, 0.5, 0.8125, 2), null);
            Assert.Contains("\u001b[0Jretrain epoch 1/1  train loss 0.5000", _output.ToString(), StringComparison.Ordinal);
            reporter.Warning("uneven");
            Assert.Contains("\u001b[0Jwarning: uneven\n", _output.ToString(), StringComparison.Ordinal);
            Assert.Equal("", _error.ToString());
            reporter.Error("broken");
            Assert.EndsWith("broken\n", _error.ToString(), StringComparison.Ordinal);
            progress.Step(() => new(0.5, 0.8, 1000));
        }
        int end = _output.ToString().Length;
        reporter.Info("plain");
        Assert.Equal("plain\n", _output.ToString()[end..]);
        // The cursor is never hidden, since an interrupted launch could not show it again.
        Assert.DoesNotContain("\u001b[?25l", _output.ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public void ABarLeavesOutALossThatThisRankDoesNotKnow()
    {
        using IEpochProgress progress = Reporter(Verbosity.Normal, ProgressKind.Bar).BeginEpochs(TrainingPhase.Pretrain, 1, 2);
        Thread.Sleep(550); // it is drawn twice a second
        progress.Step(() => new(double.NaN, 0, 1000));
        Assert.Contains("1000 images/s", _output.ToString(), StringComparison.Ordinal);
        Assert.DoesNotContain("loss", _output.ToString(), StringComparison.Ordinal);
        Assert.DoesNotContain("acc", _output.ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public void TablesDoNotDependOnTheTerminal()
    {
        Reporter(Verbosity.Normal, ProgressKind.Lines).Table(ResultTables.Summary(
        [
            new SummaryRow(NetworkState.Dense, 0.8991, 0.28771, 11_172_170, 1_110_000_000),
            new SummaryRow(NetworkState.Ticket, 0.8971, 0.29, 5_586_085, 555_000_000),
        ]));
        Assert.Contains("| network | accuracy |   loss |         parameters |        FLOPs an image |", _output.ToString(), StringComparison.Ordinal);
        Assert.Contains("| dense   |  89.91 % | 0.2877 | 11,172,170 (100 %) | 1,110,000,000 (100 %) |", _output.ToString(), StringComparison.Ordinal);
        Assert.Contains("| ticket  |  89.71 % | 0.2900 |  5,586,085 ( 50 %) |   555,000,000 ( 50 %) |", _output.ToString(), StringComparison.Ordinal);
        Assert.DoesNotContain('\u001b', _output.ToString());
    }

    [Fact]
    public void MarkupInTextIsText()
    {
        ConsoleReporter reporter = Reporter(Verbosity.Normal, ProgressKind.Bar);
        reporter.Table(new TextTable("[x]", ["[red]a[/]"], [["[0, 1]"]], new HashSet<int>()));
        Assert.Contains("[0, 1]", _output.ToString(), StringComparison.Ordinal);
        Assert.Contains("[red]a[/]", _output.ToString(), StringComparison.Ordinal);
    }

    private ConsoleReporter Reporter(Verbosity verbosity, ProgressKind progress) =>
        new(_output, _error, verbosity, progress, unicode: true, colors: false, columns: () => 100);

    private static void Train(IReporter reporter)
    {
        using IEpochProgress progress = reporter.BeginEpochs(TrainingPhase.Pretrain, 2, 2);
        progress.Step(() => new(1, 0.5, 1000));
        progress.Step(() => new(1, 0.5, 1000));
        progress.EpochDone(Row(TrainingPhase.Pretrain, 1, DataSplit.Train, 0.5, 0.8125, 2), Row(TrainingPhase.Pretrain, 1, DataSplit.Test, 0.25, 0.9, 1));
        progress.Step(() => new(1, 0.5, 1000));
        progress.Step(() => new(1, 0.5, 1000));
        progress.EpochDone(Row(TrainingPhase.Pretrain, 2, DataSplit.Train, 0.5, 0.8125, 2), null);
    }

    private static MetricsRow Row(TrainingPhase phase, int epoch, DataSplit split, double loss, double accuracy, double seconds) =>
        new(phase, epoch, split, loss, accuracy, 0.1, 1000, seconds, (long)(1000 * seconds));
}
