using System.Globalization;
using System.Runtime.InteropServices;

namespace LoftHpc;

/// <summary>
/// What this process does when it is sent a signal. SIGUSR1 and SIGUSR2 ask it to stop where it can go on later, and so does SIGTERM
/// while it trains with checkpoints, the first time. Otherwise SIGTERM, SIGINT and SIGHUP end it, after it has said so and written
/// that down.
/// </summary>
public static partial class Signals
{
    private static readonly List<PosixSignalRegistration> Registrations = [];
    private static volatile bool _stopIsAsked, _canGoOn, _stopsLater;
    private static int _ending;

    /// <summary>Whether it has been asked to stop, ever.</summary>
    public static bool StopIsAsked => _stopIsAsked;

    /// <summary>Whether what the process does now can be gone on with when it stops.</summary>
    public static bool CanGoOn { set => _canGoOn = value; }

    /// <summary>Whether all that the process does is part of work that it comes to stop: also what is no training takes a first SIGTERM as a question.</summary>
    public static bool StopsLater { set => _stopsLater = value; }

    /// <summary>Called before a signal ends the process, with the exit code that it will have; at most once.</summary>
    public static event Action<int>? Ending;

    /// <summary>Called where another signal comes while <see cref="Ending"/> is at work.</summary>
    public static event Action? EndingAgain;

    /// <summary>Takes over the signals. Called first in Main: until then a signal ends the process as it always does.</summary>
    /// <param name="endOfTheJob">
    /// The exit code with which this or another rank has ended the job, of which the signal is only the launcher's way; null where there is none.
    /// </param>
    /// <param name="ended">Gets the name of the signal that ends the process, when <see cref="Ending"/> is done.</param>
    public static void Handle(Func<int?> endOfTheJob, Action<string> ended)
    {
        // SIGUSR1 and SIGUSR2.
        foreach (int number in (int[])[10, 12]) Registrations.Add(PosixSignalRegistration.Create((PosixSignal)number, AskToStop));
        // One that is ignored, as by nohup, stays ignored.
        ulong ignored = Ignored();
        foreach ((PosixSignal signal, int number, string name) in ((PosixSignal, int, string)[])[
            (PosixSignal.SIGHUP, 1, "SIGHUP"), (PosixSignal.SIGINT, 2, "SIGINT"), (PosixSignal.SIGTERM, 15, "SIGTERM")])
        {
            if ((ignored >> (number - 1) & 1) == 0) Registrations.Add(PosixSignalRegistration.Create(signal, context =>
            {
                if (number == 15 && (_canGoOn || _stopsLater) && !_stopIsAsked && endOfTheJob() is null) AskToStop(context);
                else End(context, number, endOfTheJob, () => ended(name));
            }));
        }
    }

    private static void AskToStop(PosixSignalContext context)
    {
        context.Cancel = true;
        _stopIsAsked = true;
    }

    private static void End(PosixSignalContext context, int number, Func<int?> endOfTheJob, Action ended)
    {
        context.Cancel = true;
        if (Interlocked.Exchange(ref _ending, 1) != 0)
        {
            EndingAgain?.Invoke();
            return;
        }
        int? cause = endOfTheJob();
        int exitCode = cause ?? ExitCodes.BySignal + number;
        Ending?.Invoke(exitCode);
        if (cause is null) ended();
        // Without what runs at a usual exit: another thread may be in the middle of a collective or of a tensor.
        ExitNow(exitCode);
    }

    /// <summary>The signals that this process was started to ignore, one bit each, from signal 1 on.</summary>
    private static ulong Ignored()
    {
        string? line = File.ReadLines("/proc/self/status").FirstOrDefault(l => l.StartsWith("SigIgn:", StringComparison.Ordinal));
        return line is null ? 0 : ulong.Parse(line["SigIgn:".Length..].Trim(), NumberStyles.HexNumber, CultureInfo.InvariantCulture);
    }

    [LibraryImport("libc", EntryPoint = "_exit")]
    private static partial void ExitNow(int exitCode);
}
