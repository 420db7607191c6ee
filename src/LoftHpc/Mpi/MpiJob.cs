using System.Diagnostics;

namespace LoftHpc.Mpi;

/// <summary>Runs the program under MPI, and sees to it that the whole job ends when one rank fails.</summary>
public static class MpiJob
{
    private static readonly TimeSpan AgreementTime = TimeSpan.FromSeconds(2);
    private static readonly TimeSpan ReadTime = TimeSpan.FromMilliseconds(200);
    private static readonly TimeSpan AbortTime = TimeSpan.FromSeconds(4);

    /// <summary>
    /// Starts MPI, runs <paramref name="body"/> and finishes MPI. A <see cref="UserError"/> thrown on all ranks is
    /// printed once, as one line, and MPI is finished. Any other exception, and a UserError on some ranks only, is
    /// printed with rank and host, and ends the job on all ranks (MPI_Abort), also where they wait in a collective.
    /// </summary>
    /// <param name="body">Gets MPI and returns the exit code of this rank.</param>
    /// <returns>The exit code of this process.</returns>
    public static int Run(Func<MpiRuntime, int> body, MpiThreadLevel required = MpiThreadLevel.Serialized)
    {
        LaunchEnvironment launch = LaunchEnvironment.Current;
        MpiRuntime runtime;
        try
        {
            runtime = MpiRuntime.Start(launch, required);
        }
        catch (UserError error)
        {
            // Launchers kill the job when the first task leaves with an error: rank 0's line has to come out before.
            if (launch.Rank == 0) Print(error.Message);
            else Thread.Sleep(AgreementTime);
            return error.ExitCode;
        }
        AppDomain.CurrentDomain.UnhandledException += (_, e) => Fail(runtime, e.ExceptionObject.ToString() ?? "", ExitCodes.Failure);

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
        catch (Exception error) when (Fail(runtime, error.ToString(), ExitCodes.Failure))
        {
            exitCode = ExitCodes.Failure;
        }
        runtime.Finish();
        return exitCode;
    }

    /// <summary>
    /// Whether all ranks come here within a short time. If not, this rank is alone with its error, and ends the job.
    /// </summary>
    private static bool AllRanksFailed(MpiRuntime runtime, UserError error)
    {
        IMpiRequest barrier = runtime.FailureGroup.StartBarrier();
        Stopwatch waited = Stopwatch.StartNew();
        while (!barrier.Test())
        {
            if (waited.Elapsed > AgreementTime)
            {
                Print($"{error.Message} ({Where(runtime)})");
                Abort(runtime, error.ExitCode);
            }
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

    private static bool Fail(MpiRuntime runtime, string trace, int exitCode)
    {
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

    private static void Print(string message)
    {
        Console.Error.WriteLine($"lofthpc: error: {message}");
        Console.Error.Flush();
    }
}
