using System.Collections;
using LoftHpc.Communication;
using LoftHpc.Mpi;
using LoftHpc.Output;

namespace LoftHpc.Commands;

/// <summary>The variables of the environment that are this program's and its scripts': one that is mistyped would do nothing, without a word.</summary>
public static class EnvironmentVariables
{
    private const string Prefix = "LOFTHPC_";

    /// <summary>Of slurm/run.sbatch: which MPI the job takes.</summary>
    private const string ScriptMpi = "LOFTHPC_MPI";

    private static readonly string[] Own = [TorchLibrary.FolderVariable, MpiLibrary.PathVariable, ConsoleReporter.ProgressVariable, ScriptMpi];

    /// <summary>Of build/*.sh and of the tests, which start this program.</summary>
    private static readonly string[] Scripts =
    [
        "LOFTHPC_PROGRAM", "LOFTHPC_PROFILE", "LOFTHPC_SRUN_OPTIONS", "LOFTHPC_MAX_REQUEUES", "LOFTHPC_NO_INSTALL", "LOFTHPC_SKIP_SETUP",
        "LOFTHPC_BUILD_LOCKED", "LOFTHPC_SETUP_LOCKED", "LOFTHPC_TEST_LARGE", ExchangeCut.TestVariable,
    ];

    /// <exception cref="UserError">A variable with the program's prefix is none of its own, or has a value that means nothing.</exception>
    public static void Check()
    {
        string[] unknown =
        [
            .. Environment.GetEnvironmentVariables().Cast<DictionaryEntry>().Select(variable => (string)variable.Key)
                .Where(name => name.StartsWith(Prefix, StringComparison.Ordinal)).Except(Own).Except(Scripts).Order(StringComparer.Ordinal),
        ];
        if (unknown.Length > 0)
            throw new UserError($"the environment variable {PlainText.Of(unknown[0])} is none that lofthpc knows; allowed are {string.Join(", ", Own)}");
        _ = ConsoleReporter.AskedProgress();
        _ = ExchangeCut.AskedPieceBytes();
        if (Environment.GetEnvironmentVariable(ScriptMpi) is string mpi and not ("" or "openmpi" or "mpich"))
            throw new UserError($"{ScriptMpi}={PlainText.Of(mpi)}: allowed are openmpi and mpich (slurm/run.sbatch reads it; here the launcher decides)");
    }
}
