using LoftHpc.Mpi;
using Xunit;

namespace LoftHpc.Tests.Mpi;

/// <summary>The binding under the real libraries; the values are checked in the scenarios, on every rank.</summary>
public class CollectivesTests
{
    public static TheoryData<MpiFamily, int> FamiliesAndRanks => MpiLauncher.FamiliesAndRanks;

    [SkippableTheory]
    [MemberData(nameof(FamiliesAndRanks))]
    public void Every_call_gives_the_values_of_its_definition(MpiFamily family, int ranks)
    {
        LaunchResult result = MpiLauncher.RunScenario(family, ranks, "Collectives.All").MustSucceed();
        Assert.Equal("all collectives right", result.Output.Trim());
    }

    [Fact]
    public void A_process_alone_needs_no_MPI()
    {
        LaunchResult result = MpiLauncher.RunAlone([MpiLauncher.RankProgram, "Collectives.All"]).MustSucceed();
        Assert.Equal("all collectives right", result.Output.Trim());
    }

    [SkippableTheory]
    [InlineData(MpiFamily.OpenMpi)]
    [InlineData(MpiFamily.Mpich)]
    public void More_than_2_to_the_31_elements_in_one_call(MpiFamily family)
    {
        Skip.If(Environment.GetEnvironmentVariable(TestEnvironment.Large) != "1", $"{TestEnvironment.Large}=1 runs it; takes 14 GB of memory");
        LaunchResult result = MpiLauncher.RunScenario(family, 2, "Collectives.PastInt").MustSucceed();
        Assert.Equal("2147495993 elements right", result.Output.Trim());
    }
}
