namespace LoftHpc.Mpi;

/// <summary>In which call of MPI this process is, for another thread that watches whether it gets on.</summary>
public static class MpiCalls
{
    private static volatile string? _name;
    private static long _changes;

    /// <summary>The call, or null between two calls, and how often that has changed so far.</summary>
    public static (string? Call, long Changes) Now => (_name, Volatile.Read(ref _changes));

    private static bool _isOne;

    /// <summary>Counts all calls until the result is disposed as one: a rank that asks again and again gets no further.</summary>
    public static Scope One(string name)
    {
        Enter(name);
        _isOne = true;
        return default;
    }

    /// <summary>Ends <see cref="One"/>.</summary>
    public readonly struct Scope : IDisposable
    {
        public void Dispose()
        {
            _isOne = false;
            Leave();
        }
    }

    /// <summary>On one thread at a time, as MPI is called.</summary>
    internal static void Enter(string name)
    {
        if (_isOne) return;
        _name = name;
        Volatile.Write(ref _changes, _changes + 1);
    }

    internal static void Leave()
    {
        if (_isOne) return;
        _name = null;
        Volatile.Write(ref _changes, _changes + 1);
    }
}
