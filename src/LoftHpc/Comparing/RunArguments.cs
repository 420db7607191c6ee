using System.IO.Enumeration;
using LoftHpc.Results;

namespace LoftHpc.Comparing;

/// <summary>What the arguments of compare and report stand for: run folders, and tables that hold runs.</summary>
/// <param name="Folders">Each once.</param>
/// <param name="Tables">Files like comparison.csv.</param>
/// <param name="Others">Names of files that are neither, such as logs beside run folders.</param>
internal sealed record RunArguments(IReadOnlyList<RunFolder> Folders, IReadOnlyList<CsvTable<ComparisonRow>> Tables, IReadOnlyList<string> Others)
{
    private static readonly EnumerationOptions Listed = new() { AttributesToSkip = 0, MatchType = MatchType.Simple };

    /// <exception cref="UserError">An argument stands for nothing.</exception>
    public static RunArguments Resolve(IReadOnlyList<string> arguments)
    {
        List<RunFolder> folders = [];
        List<CsvTable<ComparisonRow>> tables = [];
        List<string> others = [];
        HashSet<string> seen = [];
        void AddFolder(string path)
        {
            if (seen.Add(Path.TrimEndingDirectorySeparator(Path.GetFullPath(path)))) folders.Add(RunFolder.At(Path.TrimEndingDirectorySeparator(path)));
        }
        foreach (string argument in arguments)
        {
            if (argument.Length == 0 || argument.Contains('\0', StringComparison.Ordinal)) throw new UserError($"'{PlainText.Of(argument)}': it names no folder and no file");
            foreach (string path in Path.Exists(argument) ? [argument] : Matches(argument))
            {
                if (Directory.Exists(path))
                {
                    if (RunFolder.IsRunFolder(path)) AddFolder(path);
                    else foreach (string inner in Inside(path, "*").Where(Directory.Exists)) AddFolder(inner);
                }
                else if (TableOf(path) is CsvTable<ComparisonRow> table)
                {
                    if (seen.Add(Path.GetFullPath(path))) tables.Add(table);
                }
                else if (GridOf(path) is string tickets)
                {
                    foreach (string inner in Inside(tickets, "*").Where(Directory.Exists)) AddFolder(inner);
                }
                else if (IsTableOfRun(path))
                {
                    AddFolder(Path.GetDirectoryName(Path.GetFullPath(path))!);
                }
                else
                {
                    others.Add(path);
                }
            }
        }
        return new RunArguments(folders, tables, others);
    }

    /// <summary>What a pattern matches, whose parts may have * and ? in them; names with a dot in front are those of folders that are being replaced.</summary>
    private static List<string> Matches(string pattern)
    {
        IEnumerable<string> found = [Path.IsPathRooted(pattern) ? "/" : ""];
        foreach (string part in pattern.Split('/', StringSplitOptions.RemoveEmptyEntries))
            found = part.AsSpan().ContainsAny('*', '?') ? [.. found.SelectMany(folder => Inside(folder, part))] : [.. found.Select(folder => Path.Combine(folder, part)).Where(Path.Exists)];
        List<string> all = [.. found];
        if (all.Count == 0)
            throw new UserError(pattern.AsSpan().ContainsAny('*', '?') ? $"{PlainText.Of(pattern)}: nothing matches it" : $"{PlainText.Of(pattern)}: there is no such folder of runs, run folder or table");
        return all;
    }

    private static IEnumerable<string> Inside(string folder, string pattern)
    {
        try
        {
            return !Directory.Exists(folder.Length == 0 ? "." : folder) ? [] : [.. new DirectoryInfo(folder.Length == 0 ? "." : folder).EnumerateFileSystemInfos("*", Listed)
                .Select(entry => entry.Name).Where(name => !name.StartsWith('.') && FileSystemName.MatchesSimpleExpression(pattern, name, ignoreCase: false))
                .Order(StringComparer.Ordinal).Select(name => Path.Combine(folder, name))];
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            throw new UserError($"{PlainText.Of(folder)}: cannot be read: {PlainText.Of(error.Message)}", error);
        }
    }

    /// <summary>The table of a file whose first line begins as comparison.csv's; null where it begins otherwise.</summary>
    private static CsvTable<ComparisonRow>? TableOf(string path)
    {
        CsvTable<ComparisonRow> table = new(path);
        if (!path.EndsWith(".csv", StringComparison.Ordinal) || RegularFile.WhatElse(path) is not null) return null;
        string begin = string.Join(',', table.Columns.Take(4));
        try
        {
            using StreamReader reader = new(RegularFile.OpenRead(path));
            char[] first = new char[begin.Length];
            return reader.ReadBlock(first) == first.Length && first.AsSpan().SequenceEqual(begin) ? table : null;
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            throw new UserError($"{PlainText.Of(path)}: cannot be read: {PlainText.Of(error.Message)}", error);
        }
    }

    private static bool IsTableOfRun(string path)
    {
        string folder = Path.GetDirectoryName(Path.GetFullPath(path))!;
        RunFolder run = RunFolder.At(folder);
        return RunFolder.IsRunFolder(folder) && run.Tables.Append(run.Ticket.Path).Any(table => Path.GetFileName(table) == Path.GetFileName(path));
    }

    /// <summary>The folder of a grid whose table of tickets a file is; null where it is none.</summary>
    private static string? GridOf(string path)
    {
        string folder = Path.GetDirectoryName(Path.GetFullPath(path))!;
        RunFolder run = RunFolder.At(folder);
        return RunFolder.IsRunFolder(folder) && Path.GetFileName(path) == Path.GetFileName(run.TicketsTable.Path) ? run.Tickets : null;
    }
}
