using LoftHpc.Communication;
using LoftHpc.Mpi;
using Xunit;

namespace LoftHpc.Tests.Mpi;

public class LaunchEnvironmentTests
{
    [Theory]
    [InlineData("", Launcher.None, 0, null, null, null, false)]
    [InlineData("OMPI_COMM_WORLD_SIZE=4 OMPI_COMM_WORLD_RANK=3 OMPI_COMM_WORLD_LOCAL_RANK=1 OMPI_COMM_WORLD_LOCAL_SIZE=2 PMIX_RANK=3",
        Launcher.OpenMpi, 3, 4, 1, 2, false)]
    [InlineData("PMI_RANK=2 PMI_SIZE=3 PMI_FD=9 MPI_LOCALRANKID=0 MPI_LOCALNRANKS=1", Launcher.Pmi, 2, 3, 0, 1, false)]
    // mpiexec inside a Slurm job: the step is that of the launcher's daemons, one a node.
    [InlineData("OMPI_COMM_WORLD_SIZE=4 OMPI_COMM_WORLD_RANK=2 SLURM_JOB_ID=7 SLURM_STEP_NUM_TASKS=1 SLURM_PROCID=0 PMIX_RANK=2",
        Launcher.OpenMpi, 2, 4, null, null, true)]
    [InlineData("PMI_RANK=1 PMI_SIZE=4 PMI_FD=9 SLURM_JOB_ID=7 SLURM_STEP_NUM_TASKS=2 SLURM_PROCID=0", Launcher.Pmi, 1, 4, null, null, true)]
    [InlineData("SLURM_JOB_ID=7 SLURM_STEP_NUM_TASKS=4 SLURM_PROCID=3 SLURM_LOCALID=1 PMIX_RANK=3", Launcher.Pmix, 3, 4, 1, null, true)]
    [InlineData("SLURM_JOB_ID=7 SLURM_STEP_NUM_TASKS=4 SLURM_PROCID=3 SLURM_LOCALID=1", Launcher.Slurm, 3, 4, 1, null, true)]
    // A batch script is no task of a step.
    [InlineData("SLURM_JOB_ID=7 SLURM_NTASKS=4 SLURM_PROCID=0 SLURM_LOCALID=0", Launcher.None, 0, null, null, null, true)]
    public void Launchers_are_told_apart(
        string variables, Launcher launcher, int rank, int? size, int? localRank, int? localSize, bool slurm)
    {
        Dictionary<string, string> environment = variables.Split(' ', StringSplitOptions.RemoveEmptyEntries)
            .Select(v => v.Split('=')).ToDictionary(v => v[0], v => v[1]);
        LaunchEnvironment read = LaunchEnvironment.Read(name => environment.GetValueOrDefault(name));
        Assert.Equal(new LaunchEnvironment(launcher, rank, size, localRank, localSize, slurm), read);
    }

    [Fact]
    public void Native_buffers_are_aligned_and_reused()
    {
        using NativeBuffer buffer = new();
        nint first = buffer.View(100, LoftHpc.Mpi.MpiDataType.Float64).Address;
        Assert.Equal(0, first % 64);
        Assert.Equal(800, buffer.CapacityBytes);
        Assert.Equal(first, buffer.View(200, LoftHpc.Mpi.MpiDataType.Float32).Address);
        Assert.Equal(0, buffer.View(1000, LoftHpc.Mpi.MpiDataType.Byte).Address % 64);
        Assert.Equal(1000, buffer.CapacityBytes);
        buffer.Dispose();
        Assert.Throws<ObjectDisposedException>(() => buffer.View(1, LoftHpc.Mpi.MpiDataType.Byte));
    }
}
