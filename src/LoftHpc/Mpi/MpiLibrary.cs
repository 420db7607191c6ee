using System.Runtime.InteropServices;
using System.Text;

namespace LoftHpc.Mpi;

/// <summary>The system's MPI library, loaded when the program runs: the same program works with both families.</summary>
internal sealed unsafe partial class MpiLibrary
{
    /// <summary>Environment variable with the path of the library to load.</summary>
    public const string PathVariable = "LOFTHPC_MPI_LIBRARY";

    // libmpi.so.12 is Intel MPI, Cray MPICH, and MPICH itself where it was not renamed; libmpi.so may be either family.
    private static readonly string[] OpenMpiNames = ["libmpi.so.40", "libmpi.so"];
    private static readonly string[] MpichNames = ["libmpich.so.12", "libmpi.so.12", "libmpich.so", "libmpi.so"];

    private static readonly string[] MpichVersionNames = ["MPICH", "MVAPICH", "Intel", "ParaStation"];

    private readonly delegate* unmanaged[Cdecl]<nint, byte*, int*, int> _errorString;

    private MpiLibrary(nint handle, string choice)
    {
        Handle = handle;
        Choice = choice;
        Abi = MpiAbi.Of(handle);
        Path = PathOf(NativeLibrary.GetExport(handle, "MPI_Init_thread"));
        _errorString = (delegate* unmanaged[Cdecl]<nint, byte*, int*, int>)NativeLibrary.GetExport(handle, "MPI_Error_string");
        InitThread = Function("MPI_Init_thread");
        Finish = Function("MPI_Finalize");
        Abort = Function("MPI_Abort");
        CommSize = Function("MPI_Comm_size");
        CommRank = Function("MPI_Comm_rank");
        CommDuplicate = Function("MPI_Comm_dup");
        CommSplit = Function("MPI_Comm_split");
        CommSplitType = Function("MPI_Comm_split_type");
        CommFree = Function("MPI_Comm_free");
        CommSetErrorHandler = Function("MPI_Comm_set_errhandler");
        Wait = Function("MPI_Wait");
        Test = Function("MPI_Test");
        Probe = Function("MPI_Iprobe");
        Barrier = Forms("Barrier");
        Broadcast = Forms("Bcast");
        Allgather = Forms("Allgather");
        Allgatherv = Forms("Allgatherv");
        Reduce = Forms("Reduce");
        Allreduce = Forms("Allreduce");
        ReduceScatter = Forms("Reduce_scatter");
        Alltoallv = Forms("Alltoallv");
        Send = Forms("Send");
        Receive = Forms("Recv");
        HasLargeCounts = Allgatherv.Of(true, false).Exists && Send.Of(true, true).Exists;
    }

    /// <summary>The loaded library, as the dynamic loader knows it.</summary>
    public nint Handle { get; }

    /// <summary>Path of the file that was loaded.</summary>
    public string Path { get; }

    /// <summary>Why this library was chosen.</summary>
    public string Choice { get; }

    public MpiAbi Abi { get; }

    /// <summary>Whether the calls of MPI 4 with 64-bit counts (MPI_Allgatherv_c, ...) are there.</summary>
    public bool HasLargeCounts { get; }

    public MpiFunction InitThread { get; }
    public MpiFunction Finish { get; }
    public MpiFunction Abort { get; }
    public MpiFunction CommSize { get; }
    public MpiFunction CommRank { get; }
    public MpiFunction CommDuplicate { get; }
    public MpiFunction CommSplit { get; }
    public MpiFunction CommSplitType { get; }
    public MpiFunction CommFree { get; }
    public MpiFunction CommSetErrorHandler { get; }
    public MpiFunction Wait { get; }
    public MpiFunction Test { get; }
    public MpiFunction Probe { get; }
    public MpiForms Barrier { get; }
    public MpiForms Broadcast { get; }
    public MpiForms Allgather { get; }
    public MpiForms Allgatherv { get; }
    public MpiForms Reduce { get; }
    public MpiForms Allreduce { get; }
    public MpiForms ReduceScatter { get; }
    public MpiForms Alltoallv { get; }
    public MpiForms Send { get; }
    public MpiForms Receive { get; }

    /// <summary>
    /// Loads the library named by <see cref="PathVariable"/>, else one of the family that the launcher belongs to, else
    /// the first that is found.
    /// </summary>
    /// <exception cref="UserError">There is none, or it is not an MPI library of a known family.</exception>
    public static MpiLibrary Load(LaunchEnvironment launch)
    {
        // UCX under MPICH would take over SIGSEGV, and with it .NET's null checks.
        NativeEnvironment.SetDefault("UCX_ERROR_SIGNALS", "");

        string? path = Environment.GetEnvironmentVariable(PathVariable);
        if (!string.IsNullOrEmpty(path))
        {
            try
            {
                return Accept(NativeLibrary.Load(path), $"{PathVariable} names it");
            }
            catch (Exception e) when (e is DllNotFoundException or BadImageFormatException)
            {
                throw new UserError($"{PathVariable}={path}: cannot be loaded: {NativeEnvironment.LoaderText(e)}", e, ExitCodes.Environment);
            }
        }
        (string reason, (MpiFamily Family, string[] Names)[] families) = launch.Launcher switch
        {
            Launcher.OpenMpi => ("started by Open MPI's mpiexec (OMPI_COMM_WORLD_SIZE is set)", [(MpiFamily.OpenMpi, OpenMpiNames)]),
            Launcher.Pmi => ("started by a PMI launcher, as MPICH's (PMI_RANK is set)", [(MpiFamily.Mpich, MpichNames)]),
            Launcher.Pmix => ("started by a PMIx launcher (PMIX_RANK is set), Open MPI's first choice",
                [(MpiFamily.OpenMpi, OpenMpiNames), (MpiFamily.Mpich, MpichNames)]),
            _ => ("no MPI launcher; the first that was found", new[] { (MpiFamily.OpenMpi, OpenMpiNames), (MpiFamily.Mpich, MpichNames) }),
        };
        foreach ((MpiFamily family, string[] names) in families)
        {
            foreach (string name in names)
            {
                if (!NativeLibrary.TryLoad(name, out nint handle)) continue;
                bool isOpenMpi = NativeLibrary.TryGetExport(handle, "ompi_mpi_comm_world", out _);
                if (isOpenMpi == (family == MpiFamily.OpenMpi)) return Accept(handle, reason);
                NativeLibrary.Free(handle);
            }
        }
        string tried = string.Join(", ", families.SelectMany(f => f.Names).Distinct());
        throw new UserError(
            $"no MPI library found ({reason}; tried {tried}): install the MPI that the launcher belongs to, or set {PathVariable}",
            ExitCodes.Environment);
    }

    /// <summary>The function of the given name; calling it throws where the library lacks it.</summary>
    public MpiFunction Function(string name) =>
        new(this, name, NativeLibrary.TryGetExport(Handle, name, out nint entry) ? entry : 0);

    /// <summary>MPI's own text of an error code.</summary>
    public string ErrorText(int code)
    {
        byte* text = stackalloc byte[8192];
        int length = 0;
        if (_errorString(code, text, &length) != 0) return "unknown error";
        return Encoding.UTF8.GetString(text, length).TrimEnd('\0', '\n').ReplaceLineEndings("; ");
    }

    /// <summary>MPI_Get_library_version.</summary>
    public string Version()
    {
        byte* text = stackalloc byte[16384];
        int length = 0;
        Function("MPI_Get_library_version").Call((nint)text, (nint)(&length));
        return Encoding.UTF8.GetString(text, length).TrimEnd('\0', '\n');
    }

    /// <summary>Whether the library says that it takes addresses in GPU memory.</summary>
    public bool IsCudaAware() =>
        NativeLibrary.TryGetExport(Handle, "MPIX_Query_cuda_support", out nint query) && ((delegate* unmanaged[Cdecl]<int>)query)() == 1;

    private static MpiLibrary Accept(nint handle, string choice)
    {
        if (!NativeLibrary.TryGetExport(handle, "MPI_Init_thread", out nint init))
            throw new UserError($"{PathVariable}={Environment.GetEnvironmentVariable(PathVariable)}: not an MPI library (no MPI_Init_thread)", ExitCodes.Environment);
        MpiLibrary library = new(handle, choice);
        string version = library.Version();
        bool known = library.Abi.Family == MpiFamily.OpenMpi
            || MpichVersionNames.Any(name => version.Contains(name, StringComparison.OrdinalIgnoreCase));
        return known
            ? library
            : throw new UserError(
                $"{PathOf(init)}: neither Open MPI nor of the MPICH family, but '{version.Split('\n')[0]}'", ExitCodes.Environment);
    }

    private MpiForms Forms(string name) => new(
        Function("MPI_" + name), Function($"MPI_{name}_c"),
        Function("MPI_I" + name.ToLowerInvariant()), Function($"MPI_I{name.ToLowerInvariant()}_c"));

    private static string PathOf(nint address) =>
        AddressInfo(address, out SymbolInfo info) != 0 ? Marshal.PtrToStringUTF8(info.File) ?? "" : "";

    [StructLayout(LayoutKind.Sequential)]
    private struct SymbolInfo
    {
        public nint File;
        public nint Base;
        public nint SymbolName;
        public nint SymbolAddress;
    }

    [LibraryImport("libc.so.6", EntryPoint = "dladdr")]
    private static partial int AddressInfo(nint address, out SymbolInfo info);
}

/// <summary>The forms of one call: blocking or not, with int counts or with MPI 4's large ones.</summary>
internal readonly record struct MpiForms(MpiFunction Int, MpiFunction Large, MpiFunction StartInt, MpiFunction StartLarge)
{
    public MpiFunction Of(bool large, bool start) => (large, start) switch
    {
        (false, false) => Int,
        (true, false) => Large,
        (false, true) => StartInt,
        (true, true) => StartLarge,
    };
}
