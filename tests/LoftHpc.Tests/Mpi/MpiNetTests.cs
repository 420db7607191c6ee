using LoftHpc.Mpi;
using Xunit;

namespace LoftHpc.Tests.Mpi;

/// <summary>The MPI.NET package on the real MPICH; the values are checked in the scenarios, on every rank.</summary>
public class MpiNetTests
{
    private static readonly Dictionary<string, string> ThroughMpiNet = new() { ["RANKPROGRAM_MPI"] = "mpi.net" };

    [SkippableTheory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(4)]
    public void Every_call_gives_the_values_of_its_definition(int ranks)
    {
        LaunchResult result = MpiLauncher.Run(
            MpiFamily.Mpich, ranks, [MpiLauncher.RankProgram, "Collectives.All"], environment: ThroughMpiNet).MustSucceed();
        Assert.Equal("all collectives right through MPI.NET", result.Output.Trim());
        // MPICH would warn of MPI.NET's types, were they not freed.
        Assert.DoesNotContain("leaked", result.Error, StringComparison.Ordinal);
    }

    [SkippableTheory]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(4)]
    public void Results_have_the_bits_that_our_binding_gives(int ranks) =>
        Assert.Equal("same bits", MpiLauncher.RunScenario(MpiFamily.Mpich, ranks, "MpiNetScenarios.SameBits").MustSucceed().Output.Trim());

    [SkippableFact]
    public void A_communicator_does_not_go_with_the_object_that_adopted_it()
    {
        LaunchResult result = MpiLauncher.Run(
            MpiFamily.Mpich, 2, [MpiLauncher.RankProgram, "MpiNetScenarios.CollectedCommunicator"], environment: ThroughMpiNet).MustSucceed();
        Assert.Equal("still there", result.Output.Trim());
    }
}
