using System.Diagnostics;
using System.Globalization;
using System.Net.Sockets;
using System.Runtime.InteropServices;
using System.Text;

namespace LoftHpc.Mpi;

/// <summary>Runs the program under MPI, and sees to it that the whole job ends when one rank fails.</summary>
public static partial class MpiJob
{
    private static readonly TimeSpan AgreementTime = TimeSpan.FromSeconds(2);
    /// <summary>In which rank 0 says what is wrong, also where the machine is busy: some launchers end it when another rank has left.</summary>
    private static readonly TimeSpan FirstRankTime = TimeSpan.FromSeconds(5);
    private static readonly TimeSpan ReadTime = TimeSpan.FromMilliseconds(200);
    private static readonly TimeSpan AbortTime = TimeSpan.FromSeconds(4);

    private static volatile FileStream? _mark;
    private static Socket? _first;
    private static volatile int _ownEnd = -1;

    /// <summary>
    /// Starts MPI, runs <paramref name="body"/> and finishes MPI. A <see cref="UserError"/> thrown on all ranks is
    /// printed once, as one line, and MPI is finished. Any other exception, and a UserError on some ranks only, is
    /// printed with rank and host, and ends the job on all ranks (MPI_Abort), also where they wait in a collective.
    /// </summary>
    /// <param name="body">Gets MPI and returns the exit code of this rank.</param>
    /// <param name="alone">
    /// What a rank does where MPI cannot be started, and returns its exit code; by default it prints the error. Not called on ranks
    /// that others speak for.
    /// </param>
    /// <returns>The exit code of this process.</returns>
    public static int Run(Func<MpiRuntime, int> body, Func<UserError, int>? alone = null)
    {
        LaunchEnvironment launch = LaunchEnvironment.Current;
        MpiRuntime runtime;
        try
        {
            runtime = MpiRuntime.Start(launch);
        }
        catch (UserError error)
        {
            if (!SpeaksForItsHost(launch)) return error.ExitCode;
            if (alone is not null) return alone(error);
            Print(error.Message);
            return error.ExitCode;
        }
        _mark = OpenMark();
        AppDomain.CurrentDomain.UnhandledException += (_, e) => FailOnThread(runtime, e.ExceptionObject);

        // The handlers below act in exception filters, that is before the stack unwinds: Dispose calls on the way up
        // may be collective (MPI_Comm_free) and would wait for ranks that never come.
        int exitCode;
        try
        {
            exitCode = body(runtime);
        }
        catch (UserError error) when (AllRanksFailed(runtime, error))
        {
            (string message, exitCode) = First(runtime, error);
            if (runtime.World.Rank == 0) Print(message);
        }
        catch (Exception error) when (MemoryProblem(error) is string line && EndJob(runtime, line, ExitCodes.Environment))
        {
            exitCode = ExitCodes.Environment;
        }
        catch (Exception error) when (Fail(runtime, error.ToString(), ExitCodes.Failure))
        {
            exitCode = ExitCodes.Failure;
        }
        // The first to leave with another code than 0 makes the launcher end those that are not as far, by SIGTERM.
        _ownEnd = exitCode;
        runtime.Finish();
        return exitCode;
    }

    /// <summary>
    /// Whether this rank is the one to say what is wrong where ranks cannot talk to each other. Mostly all have the same to say, and
    /// mostly the end of rank 0 ends the job. Where it does not, the first rank of each other host speaks for its host.
    /// </summary>
    public static bool SpeaksForItsHost(LaunchEnvironment launch)
    {
        if (launch.Rank != 0) Thread.Sleep(FirstRankTime);
        return launch.Rank == 0 || launch.LocalRank is 0 or null;
    }

    /// <summary>
    /// Says that a signal ends this process. A signal mostly comes to all ranks, and one line tells it: rank 0's, which is given
    /// time to come out before a launcher sees the first rank leave.
    /// </summary>
    public static void EndBySignal(string signal)
    {
        if (LaunchEnvironment.Current.Rank == 0) Console.Error.WriteLine($"lofthpc: ended by {signal}; what it has written stays");
        else Thread.Sleep(TimeSpan.FromSeconds(1));
    }

    /// <summary>
    /// The exit code with which this rank or another of this host has ended the job, null where none has. Open MPI ends the other
    /// ranks by SIGTERM, and they are not to say that it was a signal.
    /// </summary>
    public static int? EndOfJob()
    {
        if (_ownEnd >= 0) return _ownEnd;
        if (_mark?.SafeFileHandle is not { } mark) return null;
        Span<byte> text = stackalloc byte[16];
        try
        {
            return int.TryParse(text[..RandomAccess.Read(mark, text, 0)], CultureInfo.InvariantCulture, out int exitCode) ? exitCode : null;
        }
        catch (IOException)
        {
            return null;
        }
    }

    /// <summary>
    /// Opens a file for the exit code of the rank that ends the job, in the launcher's own folder of the job, which the launcher
    /// deletes while it ends the ranks: so each has it open from the start. Null where there is no such folder.
    /// </summary>
    private static FileStream? OpenMark()
    {
        if (Environment.GetEnvironmentVariable("PMIX_SERVER_TMPDIR") is not { Length: > 0 } folder) return null;
        if (Environment.GetEnvironmentVariable("PMIX_NAMESPACE") is not { Length: > 0 } job) return null;
        try
        {
            return new FileStream(Path.Combine(folder, $"lofthpc-{job}"), FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.ReadWrite | FileShare.Delete, bufferSize: 0);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException or ArgumentException)
        {
            // Then rank 0 says that a signal ended it, and it did.
            return null;
        }
    }

    /// <summary>Whether this rank is the first of its host to end the job, as far as can be known; only the first has a mistake to tell.</summary>
    private static bool LeaveMark(int exitCode)
    {
        if (_mark?.Length > 0 || !IsFirst()) return false;
        try
        {
            _mark?.Write(Encoding.ASCII.GetBytes(exitCode.ToString(CultureInfo.InvariantCulture)));
        }
        catch (IOException)
        {
            // As where there is no mark.
        }
        return true;
    }

    /// <summary>Whether no other rank that this launcher started on this host has asked this, and lives. Several may ask in the same moment.</summary>
    private static bool IsFirst()
    {
        Socket socket = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        try
        {
            // A name in no folder, which one process can have, and which ends with it.
            socket.Bind(new UnixDomainSocketEndPoint($"\0lofthpc-ends-{ParentProcess()}"));
        }
        catch (SocketException error)
        {
            return error.SocketErrorCode is not SocketError.AddressAlreadyInUse;
        }
        _first = socket;
        return true;
    }

    [LibraryImport("libc", EntryPoint = "getppid")]
    private static partial int ParentProcess();

    /// <summary>
    /// Whether all ranks come here within a short time. If not, this rank is alone with its error, and ends the job.
    /// </summary>
    private static bool AllRanksFailed(MpiRuntime runtime, UserError error)
    {
        if (!AllCome(runtime.FailureGroup)) EndJob(runtime, error.Message, error.ExitCode);
        return true;
    }

    /// <summary>Whether all ranks of a group come here within a short time. If not, the group is of no more use.</summary>
    /// <param name="group">For nothing else, so that ranks which do not come may be in other calls.</param>
    public static bool AllCome(ICommunicator group)
    {
        IMpiRequest barrier = group.StartBarrier();
        Stopwatch waited = Stopwatch.StartNew();
        while (!barrier.Test())
        {
            if (waited.Elapsed > AgreementTime) return false;
            Thread.Sleep(1);
        }
        return true;
    }

    /// <summary>The message and exit code of the rank whose error is first in order. Collective.</summary>
    private static (string Message, int ExitCode) First(MpiRuntime runtime, UserError error)
    {
        ICommunicator all = runtime.FailureGroup;
        int order = all.Allreduce(error.Order, MpiOperation.Min), exitCode = error.ExitCode;
        int rank = all.Allreduce(error.Order == order ? all.Rank : all.Size, MpiOperation.Min);
        all.Broadcast(new Span<int>(ref exitCode), rank);
        return (all.Broadcast(error.Message, rank), exitCode);
    }

    /// <summary>.NET's and libtorch's ways to say that memory has run out, in one line; null where it is something else.</summary>
    public static string? MemoryProblem(Exception error)
    {
        string line = error.Message.Split('\n')[0];
        bool torch = error is ExternalException && (line.Contains("not enough memory", StringComparison.Ordinal)
            || line.Contains("out of memory", StringComparison.Ordinal) || line.Contains("bad_alloc", StringComparison.Ordinal));
        return torch || error is OutOfMemoryException ? $"the memory does not suffice: {line}" : null;
    }

    /// <summary>This rank's error in one line, and the end of the job on all ranks, whatever they do. From any thread.</summary>
    public static bool EndJob(MpiRuntime runtime, string message, int exitCode)
    {
        if (LeaveMark(exitCode)) Print($"{message} ({Where(runtime)})");
        if (runtime.World.Size > 1 || runtime.Family is not null) Abort(runtime, exitCode);
        return true;
    }

    /// <summary>An error on a thread of its own, which nobody catches; without MPI too the process ends here.</summary>
    private static void FailOnThread(MpiRuntime runtime, object error)
    {
        if (error is not UserError known)
        {
            Fail(runtime, error.ToString() ?? "", ExitCodes.Failure);
            return;
        }
        int exitCode = known.ExitCode;
        EndJob(runtime, known.Message, exitCode);
        Environment.Exit(exitCode);
    }

    private static bool Fail(MpiRuntime runtime, string trace, int exitCode)
    {
        LeaveMark(exitCode);
        Console.Error.WriteLine($"lofthpc: {Where(runtime)} failed:{Environment.NewLine}{trace}");
        Console.Error.Flush();
        if (runtime.World.Size > 1 || runtime.Family is not null) Abort(runtime, exitCode);
        return true;
    }

    private static void Abort(MpiRuntime runtime, int exitCode)
    {
        // Should MPI_Abort itself hang, the death of this process makes the launcher end the job.
        new Thread(() =>
        {
            Thread.Sleep(AbortTime);
            Process.GetCurrentProcess().Kill();
        })
        { IsBackground = true }.Start();
        // Launchers drop what they have not read from a rank's standard error when the job is aborted.
        Thread.Sleep(ReadTime);
        runtime.World.Abort(exitCode);
    }

    private static string Where(MpiRuntime runtime) => $"rank {runtime.World.Rank} of {runtime.World.Size} on {Environment.MachineName}";

    /// <summary>An error on the standard error; one line, but for a config with several problems.</summary>
    public static void Print(string message)
    {
        Console.Error.WriteLine($"lofthpc: error: {message}");
        Console.Error.Flush();
    }
}
