namespace LoftHpc.Mpi;

/// <summary>MPI_THREAD_SINGLE to MPI_THREAD_MULTIPLE.</summary>
public enum MpiThreadLevel
{
    Single,
    Funneled,
    Serialized,
    Multiple,
}

/// <summary>
/// MPI of this process, from start to finish. It is not disposable on purpose: an exception would run Dispose while the
/// other ranks wait in a collective, MPI_Finalize would wait for them, and the job would hang. <see cref="MpiJob"/>
/// finishes it on success and aborts the job on failure.
/// </summary>
[System.Diagnostics.CodeAnalysis.SuppressMessage(
    "Design", "CA1001", Justification = "Communicators end with MPI_Finalize; disposing on an exception would hang the job.")]
public sealed class MpiRuntime
{
    private readonly MpiLibrary? _library;
    private readonly ICommunicator _failureGroup;
    private MpiNetCommunicator? _mpiNet;

    private MpiRuntime(LaunchEnvironment launch)
    {
        Launch = launch;
        World = _failureGroup = new SelfCommunicator();
        ThreadLevel = MpiThreadLevel.Multiple;
        LibraryChoice = "one process and no launcher: no MPI library needed";
    }

    private unsafe MpiRuntime(LaunchEnvironment launch, MpiLibrary library, MpiThreadLevel required)
    {
        Launch = launch;
        _library = library;
        Family = library.Abi.Family;
        LibraryPath = library.Path;
        LibraryChoice = library.Choice;
        LibraryVersion = library.Version();
        int provided = 0;
        library.InitThread.Call(0, 0, (nint)required, (nint)(&provided));
        ThreadLevel = (MpiThreadLevel)provided;
        MpiCommunicator world = new(library, library.Abi.World, owned: false);
        World = world;
        string? mismatch = Mismatch(launch, library, world.Size);
        if (mismatch is not null)
        {
            Finish();
            throw new UserError(mismatch, ExitCodes.Environment);
        }
        _failureGroup = world.Duplicate();
        IsCudaAware = library.IsCudaAware();
    }

    public LaunchEnvironment Launch { get; }

    /// <summary>All ranks of the job, through the program's own binding.</summary>
    public ICommunicator World { get; }

    /// <summary>Null where no MPI library is used.</summary>
    public MpiFamily? Family { get; }

    /// <summary>Null where no MPI library is used.</summary>
    public string? LibraryPath { get; }

    /// <summary>Why this library, in words.</summary>
    public string LibraryChoice { get; }

    /// <summary>MPI_Get_library_version; null where no MPI library is used.</summary>
    public string? LibraryVersion { get; }

    /// <summary>What MPI provides, which may be less or more than was asked for.</summary>
    public MpiThreadLevel ThreadLevel { get; }

    /// <summary>Whether the library says that it takes addresses in GPU memory.</summary>
    public bool IsCudaAware { get; }

    /// <summary>
    /// Starts MPI. One process without a launcher gets a group of its own without an MPI library, unless
    /// LOFTHPC_MPI_LIBRARY names one.
    /// </summary>
    /// <exception cref="UserError">No library, or a world of another size than the launcher started.</exception>
    public static MpiRuntime Start(LaunchEnvironment launch, MpiThreadLevel required = MpiThreadLevel.Serialized)
    {
        bool libraryNamed = !string.IsNullOrEmpty(Environment.GetEnvironmentVariable(MpiLibrary.PathVariable));
        if (launch.Launcher == Launcher.None && !libraryNamed) return new MpiRuntime(launch);
        if (launch is { Launcher: Launcher.Slurm, Size: 1 } && !libraryNamed) return new MpiRuntime(launch);
        MpiLibrary library = MpiLibrary.Load(launch);
        // Open MPI would end the process inside MPI_Init, with a text about how it was built.
        if (launch.Launcher == Launcher.Slurm && library.Abi.Family == MpiFamily.OpenMpi)
            throw new UserError($"srun started {launch.Size} tasks without an MPI interface: {Mend(launch, library)}", ExitCodes.Environment);
        return new MpiRuntime(launch, library, required);
    }

    /// <summary>
    /// The ranks of <see cref="World"/> through the MPI.NET package, which calls the library that is loaded already. One
    /// process alone has no library, and is refused: MPI.NET has nothing to stand on there.
    /// </summary>
    /// <exception cref="UserError">The library is not of the MPICH family, or there is none; on every rank.</exception>
    public ICommunicator WorldThroughMpiNet()
    {
        if (_library is null)
        {
            throw new UserError(
                "run.mpi: mpi.net needs an MPI library of the MPICH family, and one process without a launcher has loaded none: "
                + "start it by MPICH's mpiexec, or leave run.mpi at native", ExitCodes.Environment);
        }
        if (Family != MpiFamily.Mpich)
        {
            throw new UserError(
                $"run.mpi: mpi.net is bound to the interface of the MPICH family, but {LibraryPath} is Open MPI ({LibraryChoice}): "
                + "start it by MPICH's mpiexec, or leave run.mpi at native", ExitCodes.Environment);
        }
        if (_mpiNet is not null) return _mpiNet;
        MpiNetCommunicator.UseLibrary(_library);
        return _mpiNet = new MpiNetCommunicator((MpiCommunicator)World);
    }

    /// <summary>MPI_Finalize; collective. Nothing of MPI may be used afterwards.</summary>
    public void Finish()
    {
        if (_library is null) return;
        if (_mpiNet is not null) MpiNetCommunicator.FreeTypes(_library);
        _library.Finish.Call();
    }

    /// <summary>All ranks, for what ranks that failed have to tell each other, apart from all other communication.</summary>
    internal ICommunicator FailureGroup => _failureGroup;

    /// <summary>What is wrong where MPI's world is not what the launcher started; null where it is right.</summary>
    private static string? Mismatch(LaunchEnvironment launch, MpiLibrary library, int worldSize) =>
        launch.Size is not int tasks || tasks == worldSize
            ? null
            : $"{Starter(launch)} started {tasks} tasks, but MPI sees {worldSize}: {Mend(launch, library)}";

    private static string Starter(LaunchEnvironment launch) => launch switch
    {
        { Launcher: Launcher.OpenMpi } => "Open MPI's mpiexec",
        { UnderSlurm: true, Launcher: Launcher.Slurm or Launcher.Pmix } => "srun",
        { Launcher: Launcher.Pmi } => launch.UnderSlurm ? "srun or MPICH's mpiexec" : "MPICH's mpiexec",
        _ => "the launcher",
    };

    private static string Mend(LaunchEnvironment launch, MpiLibrary library)
    {
        bool openMpi = library.Abi.Family == MpiFamily.OpenMpi;
        string loaded = $"the library loaded is {(openMpi ? "Open MPI" : "of the MPICH family")} ({library.Path}; {library.Choice})";
        string launcher = openMpi ? "Open MPI's mpiexec" : "MPICH's mpiexec";
        return launch.UnderSlurm
            ? $"{loaded}; start it by 'srun --mpi={(openMpi ? "pmix" : "pmi2")}' or by {launcher}, or set {MpiLibrary.PathVariable}"
            : $"{loaded}; start it by {launcher}, or let {MpiLibrary.PathVariable} name the launcher's own library";
    }
}
