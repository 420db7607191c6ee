using System.Diagnostics;

namespace LoftHpc.Mpi;

/// <summary>In which call of MPI this process is, for another thread that watches whether it gets on.</summary>
public static class MpiCalls
{
    private static volatile string? _name;
    private static long _since = Stopwatch.GetTimestamp();

    /// <summary>The call, or null between two calls, and since when.</summary>
    public static (string? Call, TimeSpan Since) Now => (_name, Stopwatch.GetElapsedTime(Volatile.Read(ref _since)));

    internal static void Enter(string name)
    {
        Volatile.Write(ref _since, Stopwatch.GetTimestamp());
        _name = name;
    }

    internal static void Leave()
    {
        _name = null;
        Volatile.Write(ref _since, Stopwatch.GetTimestamp());
    }
}
