namespace LoftHpc;

/// <summary>
/// A mistake that the user can mend: its message is one clear line (what, where, what is allowed), shown without a
/// trace, once for the whole job, and the job ends with <see cref="ExitCode"/>.
/// </summary>
public sealed class UserError : Exception
{
    /// <param name="message">One line: what of the input would break it, or a terminal would obey, is written out.</param>
    public UserError(string message, int exitCode = ExitCodes.Configuration) : this(exitCode, PlainText.Visible(message), null)
    {
    }

    /// <inheritdoc cref="UserError(string, int)"/>
    public UserError(string message, Exception inner, int exitCode = ExitCodes.Configuration) : this(exitCode, PlainText.Visible(message), inner)
    {
    }

    private UserError(int exitCode, string lines, Exception? inner) : base(lines, inner) => ExitCode = exitCode;

    /// <summary>Several mistakes of one kind, one line each.</summary>
    public static UserError OfLines(IEnumerable<string> lines, int exitCode = ExitCodes.Configuration, Exception? inner = null) =>
        new(exitCode, string.Join('\n', lines.Select(line => PlainText.Visible(line))), inner);

    public int ExitCode { get; }

    /// <summary>Where ranks end with different reasons for one thing, the lowest is the one that is shown.</summary>
    public int Order { get; init; }
}

/// <summary>Exit codes of the program; there are no others.</summary>
public static class ExitCodes
{
    public const int Done = 0;

    /// <summary>A failure with a trace, a self-test that failed, or a group of runs that compare found worse than it may be.</summary>
    public const int Failure = 1;

    /// <summary>A mistake in the command line, in the config, or in a file that was named.</summary>
    public const int Configuration = 2;

    /// <summary>Something of the environment is missing, computes wrongly, or cannot be written.</summary>
    public const int Environment = 3;

    public const int NonFiniteLoss = 4;

    /// <summary>Stopped on request: sysexits.h's temporary failure, to be tried again.</summary>
    public const int Stopped = 75;

    /// <summary>And the signal's number: ended by SIGHUP, SIGINT or SIGTERM.</summary>
    public const int BySignal = 128;
}
