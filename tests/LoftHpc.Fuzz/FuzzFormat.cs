namespace LoftHpc.Fuzz;

/// <summary>What the program makes of an input.</summary>
/// <param name="Accepted">False: it was refused by a clear line.</param>
/// <param name="Problem">What is wrong with how it was taken; null: nothing.</param>
public sealed record Verdict(bool Accepted, string? Problem);

/// <summary>One kind of input: how to make mutated ones, and how the program reads them.</summary>
public abstract class FuzzFormat
{
    /// <summary>Most characters of a line that is still clear.</summary>
    private const int LongestLine = 4000;

    /// <summary>All formats, in the order in which they are tried.</summary>
    public static IReadOnlyList<FuzzFormat> All { get; } =
    [
        new YamlFormat(), new SweepFormat(), new OverrideFormat(), new ArgumentsFormat(), new IdxFormat(), new CifarFormat(), new ImageFolderFormat(), new OwnBinaryFormat(),
        new SafetensorsFormat(), new StateDictFormat(), new CsvFormat(), new JsonFormat(), new CheckpointFormat(), new RunFolderFormat(),
    ];

    public abstract string Name { get; }

    /// <summary>Whether an error may take several lines: a config's problems take one each.</summary>
    protected virtual bool SeveralLines => false;

    /// <summary>Writes an input into an empty folder.</summary>
    public abstract void Make(Mutator mutator, string folder);

    /// <summary>Has the program read what <see cref="Make"/> wrote, by the calls that its commands use.</summary>
    /// <returns>False where it was refused and the error is clear; its faults are thrown.</returns>
    protected abstract bool Read(string folder);

    /// <summary>What the program makes of an input.</summary>
    public Verdict Judge(string folder)
    {
        try
        {
            return new Verdict(Read(folder), null);
        }
        catch (UserError error)
        {
            return new Verdict(false, ProblemOf(error.Message, error.ExitCode, folder));
        }
        catch (UnclearException unclear)
        {
            return new Verdict(false, unclear.Message);
        }
#pragma warning disable CA1031 // Any exception is what is looked for.
        catch (Exception fault)
#pragma warning restore CA1031
        {
            return new Verdict(false, fault.ToString());
        }
    }

    /// <summary>What is wrong with an error; null where it is clear.</summary>
    protected virtual string? ProblemOf(string message, int exitCode, string folder)
    {
        if (exitCode is not (ExitCodes.Configuration or ExitCodes.Environment)) return $"exit code {exitCode}: {message}";
        string[] lines = message.Split('\n');
        if (lines.Length > 1 && !SeveralLines) return $"{lines.Length} lines: {message}";
        foreach (string line in lines)
        {
            if (string.IsNullOrWhiteSpace(line)) return $"an empty line: {message}";
            if (line.Length > LongestLine) return $"a line of {line.Length} characters: {line[..LongestLine]}";
            if (line.Any(c => char.IsControl(c) || c is '\u2028' or '\u2029')) return $"a control character: {string.Concat(line.Select(c => char.IsControl(c) ? $"\\u{(int)c:x4}" : $"{c}"))}";
            if (!NamesInput(line, folder)) return $"it does not name the input: {line}";
        }
        return null;
    }

    /// <summary>Whether a line says which file, or argument, is meant.</summary>
    protected virtual bool NamesInput(string line, string folder) => line.Contains(folder, StringComparison.Ordinal);

    /// <summary>An error that is not as it should be.</summary>
    protected sealed class UnclearException(string problem) : Exception(problem);
}
