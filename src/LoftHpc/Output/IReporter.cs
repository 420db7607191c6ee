using LoftHpc.Results;

namespace LoftHpc.Output;

/// <summary>How much is printed.</summary>
public enum Verbosity
{
    /// <summary>Errors, warnings and final results only.</summary>
    Quiet,
    Normal,
    Verbose,
}

/// <summary>What people see. Rank 0 prints; every other rank has one that stays silent, but for its errors.</summary>
public interface IReporter
{
    /// <summary>Stands before each line: where several groups of ranks print, whose it is.</summary>
    string Prefix { get; set; }

    /// <summary>A line on the standard output, unless quiet.</summary>
    void Info(string line);

    /// <summary>A line for --verbose.</summary>
    void Verbose(string line);

    /// <summary>A line of the final result, for example a path that was written; printed with --quiet too.</summary>
    void Result(string line);

    /// <summary>A line on the standard error, with --quiet too.</summary>
    void Warning(string line);

    /// <summary>A line on the standard error, on every rank.</summary>
    void Error(string line);

    /// <summary>A table, unless quiet (or with --quiet too, if it is the final result).</summary>
    void Table(TextTable table, bool isResult = false);

    /// <summary>Begins to report a training.</summary>
    /// <param name="epochs">Number of its last epoch.</param>
    /// <param name="stepsDone">Steps done in an earlier launch.</param>
    IEpochProgress BeginEpochs(TrainingPhase phase, int epochs, int stepsPerEpoch, long stepsDone = 0);
}

/// <summary>The course of one training; disposed when it ends, however it ends.</summary>
public interface IEpochProgress : IDisposable
{
    /// <summary>After each step.</summary>
    /// <param name="numbers">Asked twice a second at most, since it may have to wait for a GPU.</param>
    void Step(Func<StepNumbers> numbers);

    /// <summary>After each epoch: the rows that go to metrics.csv. <paramref name="test"/> is null where there was no evaluation.</summary>
    void EpochDone(MetricsRow train, MetricsRow? test, MetricsRow? validation = null);
}

/// <summary>Means over the epoch so far. A loss that is no number (it may be known on another rank only) is not shown, nor its accuracy.</summary>
public readonly record struct StepNumbers(double Loss, double Accuracy, double ImagesPerSecond);

/// <summary>Text in columns.</summary>
/// <param name="Title">Stands over it; may be empty.</param>
/// <param name="Rows">As many cells each as there are <paramref name="Headers"/>.</param>
/// <param name="RightAligned">Numbers of the columns (from 0) that hold numbers.</param>
public sealed record TextTable(
    string Title, IReadOnlyList<string> Headers, IReadOnlyList<IReadOnlyList<string>> Rows, IReadOnlySet<int> RightAligned)
{
    /// <summary>The table without its title, in Markdown.</summary>
    public string ToMarkdown()
    {
        IEnumerable<IReadOnlyList<string>> lines = Rows.Prepend([.. Headers.Select((_, i) => RightAligned.Contains(i) ? "---:" : "---")]).Prepend(Headers);
        return string.Concat(lines.Select(cells => $"| {string.Join(" | ", cells)} |\n"));
    }
}
