namespace LoftHpc;

/// <summary>
/// A mistake that the user can mend: its message is one clear line (what, where, what is allowed), shown without a
/// trace, once for the whole job, and the job ends with <see cref="ExitCode"/>.
/// </summary>
public sealed class UserError : Exception
{
    public UserError(string message, int exitCode = ExitCodes.Configuration) : base(message) => ExitCode = exitCode;

    public UserError(string message, Exception inner, int exitCode = ExitCodes.Configuration) : base(message, inner) => ExitCode = exitCode;

    public int ExitCode { get; }

    /// <summary>Where ranks end with different reasons for one thing, the lowest is the one that is shown.</summary>
    public int Order { get; init; }
}

/// <summary>Exit codes of the program; there are no others.</summary>
public static class ExitCodes
{
    public const int Done = 0;

    /// <summary>A failure with a trace, or a self-test that failed.</summary>
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
