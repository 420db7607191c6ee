using System.Globalization;

namespace LoftHpc.Mpi;

/// <summary>Who started this process.</summary>
public enum Launcher
{
    /// <summary>Nobody: one process, started by hand.</summary>
    None,

    /// <summary>Open MPI's mpiexec.</summary>
    OpenMpi,

    /// <summary>A launcher that speaks PMI: mpiexec of the MPICH family, or srun --mpi=pmi2.</summary>
    Pmi,

    /// <summary>srun --mpi=pmix, or another PMIx launcher.</summary>
    Pmix,

    /// <summary>srun with neither PMI nor PMIx.</summary>
    Slurm,
}

/// <summary>What the launcher says in the environment; known before any MPI library is loaded.</summary>
/// <param name="Rank">0 where the launcher does not say.</param>
/// <param name="Size">Tasks started; null where the launcher does not say.</param>
/// <param name="LocalRank">Rank among the tasks of this host; null where the launcher does not say.</param>
/// <param name="LocalSize">Tasks on this host; null where the launcher does not say.</param>
/// <param name="UnderSlurm">Whether the process belongs to a Slurm step or job.</param>
public sealed record LaunchEnvironment(Launcher Launcher, int Rank, int? Size, int? LocalRank, int? LocalSize, bool UnderSlurm)
{
    /// <summary>The environment of this process.</summary>
    public static LaunchEnvironment Current => Read(Environment.GetEnvironmentVariable);

    /// <summary>Whether more than one task may have been started.</summary>
    public bool IsParallel => Launcher != Launcher.None && Size != 1;

    /// <summary>
    /// Reads the variables of Open MPI, PMI, PMIx and Slurm. An inner launcher wins over an outer one: mpiexec inside a
    /// Slurm job starts its daemons by srun, and the ranks then inherit the daemons' SLURM variables.
    /// </summary>
    public static LaunchEnvironment Read(Func<string, string?> variable)
    {
        int? Number(string name) =>
            int.TryParse(variable(name), NumberStyles.None, CultureInfo.InvariantCulture, out int value) ? value : null;

        bool slurm = variable("SLURM_JOB_ID") is not null;
        if (Number("OMPI_COMM_WORLD_SIZE") is int openMpiSize)
        {
            return new LaunchEnvironment(
                Launcher.OpenMpi, Number("OMPI_COMM_WORLD_RANK") ?? 0, openMpiSize,
                Number("OMPI_COMM_WORLD_LOCAL_RANK"), Number("OMPI_COMM_WORLD_LOCAL_SIZE"), slurm);
        }
        // srun sets SLURM_STEP_NUM_TASKS for its tasks; a batch script has only SLURM_NTASKS and is no task of a step.
        int? stepSize = Number("SLURM_STEP_NUM_TASKS");
        if (Number("PMI_RANK") is int pmiRank && (variable("PMI_FD") ?? variable("PMI_PORT")) is not null)
        {
            return new LaunchEnvironment(
                Launcher.Pmi, pmiRank, Number("PMI_SIZE") ?? stepSize,
                Number("MPI_LOCALRANKID") ?? Number("SLURM_LOCALID"), Number("MPI_LOCALNRANKS"), slurm);
        }
        if (Number("PMIX_RANK") is int pmixRank)
            return new LaunchEnvironment(Launcher.Pmix, pmixRank, stepSize, Number("SLURM_LOCALID"), null, slurm);
        if (stepSize is int size)
            return new LaunchEnvironment(Launcher.Slurm, Number("SLURM_PROCID") ?? 0, size, Number("SLURM_LOCALID"), null, slurm);
        return new LaunchEnvironment(Launcher.None, 0, null, null, null, slurm);
    }
}
