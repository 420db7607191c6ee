using LoftHpc.Comparing;
using LoftHpc.Mpi;
using LoftHpc.Output;
using LoftHpc.Results;

namespace LoftHpc.Commands;

/// <summary>Where compare writes, besides what it prints; null: not.</summary>
/// <param name="Runs">comparison.csv: one row a run.</param>
/// <param name="Statistics">statistics.csv: one row for each group and metric.</param>
/// <param name="Markdown">The printed tables.</param>
public sealed record ComparisonFiles(string? Runs = null, string? Statistics = null, string? Markdown = null);

/// <summary>Puts finished runs side by side. Needs no libtorch.</summary>
public static class CompareCommand
{
    /// <param name="arguments">What <see cref="RunComparison.Read"/> takes.</param>
    /// <param name="files">Each is written anew.</param>
    /// <exception cref="UserError">There is nothing to compare, a question does not fit, or a group is worse than it may be (then all is written).</exception>
    public static void Compare(IReadOnlyList<string> arguments, ComparisonQuestions asked, ComparisonFiles files, IReporter reporter)
    {
        string[] written = [.. new[] { files.Runs, files.Statistics, files.Markdown }.OfType<string>()];
        if (written.GroupBy(file => Path.GetFullPath(DurableFile.Target(file))).FirstOrDefault(same => same.Count() > 1) is { } twice)
            throw new UserError($"{PlainText.Of(twice.First())}: two of --output, --statistics and --summary name the same file");
        foreach (string file in written) DurableFile.MakeFolderOf(file);
        (RunComparison comparison, GroupComparison groups) = Read(arguments, asked, reporter);
        TextTable[] tables = [ResultTables.Comparison(comparison), .. ResultTables.Statistics(groups)];
        if (files.Runs is not null) new CsvTable<ComparisonRow>(files.Runs).Write(comparison.Rows);
        if (files.Statistics is not null) groups.Write(files.Statistics);
        if (files.Markdown is not null)
        {
            // What made it, and what is not in it, stands in the file, so that a table that was copied elsewhere keeps its origin.
            IEnumerable<string> lines = [.. comparison.Environment, .. comparison.Differences, .. comparison.LeftOut.Select(run => $"left out: {run}")];
            DurableFile.WriteText(files.Markdown, $"{string.Join('\n', tables.Select(table => $"{table.Title}.\n\n{table.ToMarkdown()}"))}\n{string.Concat(lines.Select(line => $"- {line}\n"))}");
        }
        foreach (TextTable table in tables) reporter.Table(table, isResult: true);
        foreach (string file in written) reporter.Result(file);
        if (groups.Regression is not null) throw new UserError($"--fail-on-regression: {groups.Regression}", ExitCodes.Failure);
    }

    /// <summary>Reads runs and compares them; says what is left out and what should be alike and is not.</summary>
    /// <exception cref="UserError">There is nothing to compare, or a question does not fit.</exception>
    internal static (RunComparison Runs, GroupComparison Groups) Read(IReadOnlyList<string> arguments, ComparisonQuestions asked, IReporter reporter)
    {
        RunComparison comparison = RunComparison.Read(arguments);
        GroupComparison groups = GroupComparison.Of(comparison, asked);
        foreach (string run in comparison.LeftOut) reporter.Warning($"left out: {run}");
        foreach (string difference in comparison.Differences) reporter.Warning(difference);
        if (comparison.Unfinished.Count > 0) reporter.Info($"left out, since not finished: {string.Join(", ", comparison.Unfinished)}");
        return (comparison, groups);
    }
}
