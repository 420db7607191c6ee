using LoftHpc.Mpi;
using Xunit;

namespace LoftHpc.Tests.Mpi;

/// <summary>Jobs start, end, and fail as they should, under the real launchers.</summary>
public class LaunchTests
{
    public static TheoryData<MpiFamily, int> FamiliesAndRanks => MpiLauncher.FamiliesAndRanks;

    [SkippableTheory]
    [MemberData(nameof(FamiliesAndRanks))]
    public void World_has_the_launchers_size(MpiFamily family, int ranks)
    {
        LaunchResult result = MpiLauncher.RunScenario(family, ranks, "Launch.World").MustSucceed();
        Assert.Equal($"world {ranks} {family} {ranks * (ranks - 1) / 2}", result.Output.Trim());
    }
}
