using System.Runtime.InteropServices;

namespace LoftHpc.Mpi;

/// <summary>One non-blocking call: MPI's request and the count arrays that MPI reads until the call has completed.</summary>
internal sealed unsafe class MpiRequest : IMpiRequest
{
    private readonly MpiLibrary _library;
    private nint* _memory;

    /// <param name="counts">Room for so many counts, at <see cref="Counts"/>.</param>
    public MpiRequest(MpiLibrary library, int counts = 0)
    {
        _library = library;
        // 8 bytes for the request in both families; MPICH uses the first 4.
        _memory = (nint*)NativeMemory.AllocZeroed((nuint)(sizeof(nint) + ((long)counts * sizeof(long))));
    }

    /// <summary>Where the MPI call stores its request.</summary>
    public nint Slot => (nint)_memory;

    public long* Counts => (long*)(_memory + 1);

    public void Wait()
    {
        if (_memory == null) return;
        try
        {
            _library.Wait.Call(Slot, _library.Abi.StatusIgnore);
        }
        finally
        {
            Free();
        }
    }

    public bool Test()
    {
        if (_memory == null) return true;
        int done = 0;
        _library.Test.Call(Slot, (nint)(&done), _library.Abi.StatusIgnore);
        if (done != 0) Free();
        return done != 0;
    }

    /// <summary>Releases the memory; for a call that could not be started, or has completed.</summary>
    public void Free()
    {
        NativeMemory.Free(_memory);
        _memory = null;
    }
}

/// <summary>A call that goes as several; <paramref name="finish"/> runs once when all have completed.</summary>
internal sealed class MpiRequestSet(IReadOnlyList<IMpiRequest> parts, Action? finish) : IMpiRequest
{
    private Action? _finish = finish;

    public void Wait()
    {
        foreach (IMpiRequest part in parts) part.Wait();
        Finish();
    }

    public bool Test()
    {
        // Every part is tested, so that all of them make progress.
        bool done = true;
        foreach (IMpiRequest part in parts) done &= part.Test();
        if (done) Finish();
        return done;
    }

    private void Finish()
    {
        _finish?.Invoke();
        _finish = null;
    }
}
