using LoftHpc.Tests.Mpi;
using Xunit;

namespace LoftHpc.Tests.Build;

/// <summary>How the programs that compute are built to run.</summary>
public sealed class RuntimeSettingsTests
{
    /// <summary>A collection beside a running call frees scalars that the call is given (Directory.Build.props).</summary>
    [Fact]
    public void No_collection_runs_beside_a_call_of_libtorch()
    {
        foreach (string program in new[] { MpiLauncher.LoftHpc, MpiLauncher.RankProgram, typeof(RuntimeSettingsTests).Assembly.Location })
        {
            string settings = File.ReadAllText(Path.ChangeExtension(program, null) + ".runtimeconfig.json");
            Assert.Contains("\"System.GC.Concurrent\": false", settings, StringComparison.Ordinal);
            Assert.Contains("\"System.Runtime.TieredPGO\": false", settings, StringComparison.Ordinal);
            Assert.DoesNotContain("\"System.GC.Server\": true", settings, StringComparison.Ordinal);
        }
    }
}
