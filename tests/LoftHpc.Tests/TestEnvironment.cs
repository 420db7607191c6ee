using System.Runtime.CompilerServices;

namespace LoftHpc.Tests;

/// <summary>What comes before the first test, so that none depends on where the tests are started.</summary>
internal static class TestEnvironment
{
    /// <summary>1: the tests that take much memory or time are run.</summary>
    public const string Large = "LOFTHPC_TEST_LARGE";

    /// <summary>Beginnings of variables of launchers around the tests, and of this program.</summary>
    private static readonly string[] Foreign = ["OMPI_", "PMI_", "PMIX_", "SLURM_", "MPI_LOCAL", "LOFTHPC_", "OMP_NUM_THREADS"];

    /// <summary>In this process and those that the tests start.</summary>
    [ModuleInitializer]
    internal static void Prepare()
    {
        IEnumerable<string> names = Environment.GetEnvironmentVariables().Keys.Cast<string>();
        foreach (string name in names.Where(n => n != Large && Foreign.Any(f => n.StartsWith(f, StringComparison.Ordinal))).ToList())
            Environment.SetEnvironmentVariable(name, null);
        // Ranks that wait give way to those that work: there are more of them than cores. Open MPI does so by itself only where one launch has more.
        Environment.SetEnvironmentVariable("OMPI_MCA_mpi_yield_when_idle", "1");
        // Programs say the same in every language, and bash does not warn of one that is not installed.
        Environment.SetEnvironmentVariable("LC_ALL", "C");
        // As the program does: left to itself TorchSharp takes a libtorch of LD_LIBRARY_PATH.
        try
        {
            TorchLibrary.Load();
        }
        catch (UserError)
        {
            // Told by the tests that need it.
        }
    }
}
