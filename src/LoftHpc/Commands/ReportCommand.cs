using LoftHpc.Comparing;
using LoftHpc.Output;
using LoftHpc.Reporting;
using LoftHpc.Results;

namespace LoftHpc.Commands;

/// <summary>Writes a page of finished runs. Needs no libtorch.</summary>
public static class ReportCommand
{
    private const string Extension = ".html";

    /// <param name="arguments">What compare takes.</param>
    /// <param name="output">The page, written anew.</param>
    /// <exception cref="UserError">There is nothing to report, a question does not fit, or a file cannot be written.</exception>
    public static void Report(IReadOnlyList<string> arguments, ComparisonQuestions asked, string output, IReporter reporter)
    {
        if (!output.EndsWith(Extension, StringComparison.Ordinal) || Path.GetFileName(output) == Extension)
            throw new UserError($"--output {PlainText.Of(output)}: expected the name of a page, which ends with {Extension}");
        DurableFile.MakeFolderOf(output);
        Plots.CheckLibrary();
        (RunComparison runs, GroupComparison groups) = CompareCommand.Read(arguments, asked, reporter);
        foreach (string file in Reporting.Report.Write(output, runs, groups)) reporter.Result(file);
    }
}
