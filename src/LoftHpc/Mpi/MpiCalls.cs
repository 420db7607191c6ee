namespace LoftHpc.Mpi;

/// <summary>In which call of MPI this process is, for another thread that watches whether it gets on.</summary>
public static class MpiCalls
{
    private static volatile string? _name;
    private static long _changes;

    /// <summary>The call, or null between two calls, and how often that has changed so far.</summary>
    public static (string? Call, long Changes) Now => (_name, Volatile.Read(ref _changes));

    /// <summary>On one thread at a time, as MPI is called.</summary>
    internal static void Enter(string name)
    {
        _name = name;
        Volatile.Write(ref _changes, _changes + 1);
    }

    internal static void Leave()
    {
        _name = null;
        Volatile.Write(ref _changes, _changes + 1);
    }
}
