namespace LoftHpc.Mpi;

/// <summary>
/// One function of the loaded MPI library. Every argument passes as a full 64-bit word: int, handle, pointer and
/// MPI_Count alike, so that one call site serves both families, and both the int and the large-count form of a call.
/// A code other than MPI_SUCCESS becomes an <see cref="MpiException"/>.
/// </summary>
internal readonly unsafe struct MpiFunction(MpiLibrary library, string name, nint entry)
{
    public bool Exists => entry != 0;

    public void Call() =>
        Check(((delegate* unmanaged[Cdecl]<int>)Entry)());

    public void Call(nint a) =>
        Check(((delegate* unmanaged[Cdecl]<nint, int>)Entry)(a));

    public void Call(nint a, nint b) =>
        Check(((delegate* unmanaged[Cdecl]<nint, nint, int>)Entry)(a, b));

    public void Call(nint a, nint b, nint c) =>
        Check(((delegate* unmanaged[Cdecl]<nint, nint, nint, int>)Entry)(a, b, c));

    public void Call(nint a, nint b, nint c, nint d) =>
        Check(((delegate* unmanaged[Cdecl]<nint, nint, nint, nint, int>)Entry)(a, b, c, d));

    public void Call(nint a, nint b, nint c, nint d, nint e) =>
        Check(((delegate* unmanaged[Cdecl]<nint, nint, nint, nint, nint, int>)Entry)(a, b, c, d, e));

    public void Call(nint a, nint b, nint c, nint d, nint e, nint f) =>
        Check(((delegate* unmanaged[Cdecl]<nint, nint, nint, nint, nint, nint, int>)Entry)(a, b, c, d, e, f));

    public void Call(nint a, nint b, nint c, nint d, nint e, nint f, nint g) =>
        Check(((delegate* unmanaged[Cdecl]<nint, nint, nint, nint, nint, nint, nint, int>)Entry)(a, b, c, d, e, f, g));

    public void Call(nint a, nint b, nint c, nint d, nint e, nint f, nint g, nint h) =>
        Check(((delegate* unmanaged[Cdecl]<nint, nint, nint, nint, nint, nint, nint, nint, int>)Entry)(a, b, c, d, e, f, g, h));

    public void Call(nint a, nint b, nint c, nint d, nint e, nint f, nint g, nint h, nint i) =>
        Check(((delegate* unmanaged[Cdecl]<nint, nint, nint, nint, nint, nint, nint, nint, nint, int>)Entry)(a, b, c, d, e, f, g, h, i));

    public void Call(nint a, nint b, nint c, nint d, nint e, nint f, nint g, nint h, nint i, nint j) =>
        Check(((delegate* unmanaged[Cdecl]<nint, nint, nint, nint, nint, nint, nint, nint, nint, nint, int>)Entry)(a, b, c, d, e, f, g, h, i, j));

    /// <summary>The address to call next.</summary>
    private nint Entry
    {
        get
        {
            if (entry == 0) throw new MpiException(name, 0, $"{library.Path} has no such function");
            MpiCalls.Enter(name);
            return entry;
        }
    }

    private void Check(int code)
    {
        MpiCalls.Leave();
        if (code != 0) throw new MpiException(name, code, library.ErrorText(code));
    }
}
