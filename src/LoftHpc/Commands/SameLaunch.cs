using System.Runtime.InteropServices;
using LoftHpc.Communication;
using LoftHpc.Mpi;
using LoftHpc.Results;

namespace LoftHpc.Commands;

/// <summary>
/// The first collectives of every launch: all ranks were started alike, in an environment that this program can work in.
/// </summary>
public static class SameLaunch
{
    /// <summary>Collective.</summary>
    /// <exception cref="UserError">They were not; on all ranks.</exception>
    public static void Check(MpiRuntime mpi, string[] arguments)
    {
        ICommunicator world = mpi.World;
        const string sameLine = "start all ranks by the same command line";
        Agree.OnSame(world, "the command line", string.Join('\n', arguments.Select(argument => PlainText.Visible(argument))), sameLine);
        BuildRecord build = BuildRecord.Current;
        // Two builds of one commit may differ: the compiler gives every different one an identity of its own.
        Agree.OnSame(
            world, "the program", $"lofthpc {build.Version}, commit {build.GitCommit}, build {typeof(SameLaunch).Module.ModuleVersionId:N}, {RuntimeInformation.FrameworkDescription}",
            "install the same program on all hosts");
        Agree.OnSame(world, "MPI", mpi.LibraryVersion?.Split('\n')[0].Trim() ?? "none", "use the same MPI library on all hosts");
        Agree.OnAllRanks(world, EnvironmentVariables.Check);
        Agree.OnAllRanks(world, CheckWorkingFolder);
    }

    /// <summary>Libraries look for their files from a working folder that is there.</summary>
    private static void CheckWorkingFolder()
    {
        try
        {
            _ = Directory.GetCurrentDirectory();
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            throw new UserError("the working folder has been deleted or cannot be entered; go to one that is there (cd), and start again", error, ExitCodes.Environment);
        }
    }
}
