using LoftHpc.Mpi;
using LoftHpc.Output;
using LoftHpc.Results;

namespace LoftHpc.Commands;

/// <summary>Puts finished runs side by side. Needs no libtorch.</summary>
public static class CompareCommand
{
    /// <param name="runs">Folder of run folders.</param>
    /// <param name="output">comparison.csv, written anew.</param>
    /// <param name="summary">Where the table of means goes in Markdown; null: it is only printed.</param>
    /// <exception cref="UserError">There is nothing to compare, or a finished run lacks a file.</exception>
    public static void Compare(string runs, string output, string? summary, IReporter reporter)
    {
        string[] files = summary is null ? [output] : [output, summary];
        if (files.Select(file => Path.GetFullPath(DurableFile.Target(file))).Distinct().Count() < files.Length)
            throw new UserError($"{PlainText.Of(output)}: --output and --summary name the same file");
        foreach (string file in files) DurableFile.MakeFolderOf(file);
        RunComparison comparison = RunComparison.Read(runs);
        foreach (string difference in comparison.Differences) reporter.Warning(difference);
        if (comparison.LeftOut.Count > 0)
            reporter.Info($"left out, since not finished or drawn from another run: {string.Join(", ", comparison.LeftOut)}");
        new CsvTable<ComparisonRow>(output).Write(comparison.Rows);
        TextTable table = ResultTables.Comparison(comparison.Rows);
        if (summary is not null)
        {
            // What made it stands in the file, so that a table that was copied elsewhere keeps its origin.
            DurableFile.WriteText(summary, $"{table.Title}.\n\n{table.ToMarkdown()}\n{string.Concat(comparison.Environment.Select(line => $"- {line}\n"))}");
        }
        reporter.Table(table, isResult: true);
        reporter.Result(output);
        if (summary is not null) reporter.Result(summary);
    }
}
