using LoftHpc.Mpi;
using Xunit;

namespace LoftHpc.Tests.Mpi;

/// <summary>Jobs start, end, and fail as they should, under the real launchers.</summary>
public class LaunchTests
{
    /// <summary>A job has to end within this time of a rank's failure; then it is killed, and the test fails.</summary>
    private static readonly TimeSpan FailureTime = TimeSpan.FromSeconds(10);

    public static TheoryData<MpiFamily, int> FamiliesAndRanks => MpiLauncher.FamiliesAndRanks;

    [SkippableTheory]
    [MemberData(nameof(FamiliesAndRanks))]
    public void World_has_the_launchers_size(MpiFamily family, int ranks)
    {
        LaunchResult result = MpiLauncher.RunScenario(family, ranks, "Launch.World").MustSucceed();
        Assert.Equal($"world {ranks} {family} {ranks * (ranks - 1) / 2}", result.Output.Trim());
    }

    [Fact]
    public void A_process_without_a_launcher_is_a_world_of_one_without_MPI()
    {
        LaunchResult result = MpiLauncher.RunAlone([MpiLauncher.RankProgram, "Launch.World"]).MustSucceed();
        Assert.Equal("world 1  0", result.Output.Trim());
    }

    [SkippableTheory]
    [InlineData(MpiFamily.OpenMpi, "Open MPI v", "Open MPI's mpiexec")]
    [InlineData(MpiFamily.Mpich, "MPICH", "PMI launcher")]
    public void The_library_follows_the_launcher(MpiFamily family, string version, string reason)
    {
        string[] lines = MpiLauncher.RunScenario(family, 2, "Launch.Describe").MustSucceed().Output.Trim().Split('\n');
        Assert.True(File.Exists(lines[0]), lines[0]);
        Assert.Contains(reason, lines[1]);
        Assert.Contains(version, lines[2]);
        Assert.Contains(lines[3], Enum.GetNames<MpiThreadLevel>());
    }

    [SkippableTheory]
    [InlineData(MpiFamily.OpenMpi)]
    [InlineData(MpiFamily.Mpich)]
    public void A_null_reference_can_be_caught_after_MPI_has_started(MpiFamily family) =>
        Assert.Equal("caught", MpiLauncher.RunScenario(family, 2, "Launch.NullCheck").MustSucceed().Output.Trim());

    [SkippableTheory]
    [MemberData(nameof(FamiliesAndRanks))]
    public void A_failing_rank_ends_the_job_with_its_trace(MpiFamily family, int ranks)
    {
        LaunchResult result = RunFailing(family, ranks, "Launch.LastRankThrows");
        MustFail(result);
        Assert.Contains($"rank {ranks - 1} of {ranks} on ", result.Error);
        Assert.Contains("marker of the failure", result.Error);
        Assert.Contains("Launch.LastRankThrows(", result.Error);
    }

    /// <summary>Scenarios that are run in the same ranks: the one that fails is named, and none that follows is begun.</summary>
    [SkippableTheory]
    [InlineData(MpiFamily.OpenMpi)]
    [InlineData(MpiFamily.Mpich)]
    public void Of_several_scenarios_the_one_that_fails_is_named(MpiFamily family)
    {
        LaunchResult result = MpiLauncher.RunScenarios(family, 2, [["Launch.World"], ["Launch.World", "again"], ["Launch.LastRankThrows", "third"], ["Launch.World"]]);
        MustFail(result);
        Assert.Equal(2, result.Output.Split($"world 2 {family} 1\n").Length - 1);
        Assert.Contains("in scenario Launch.LastRankThrows third:", result.Error, StringComparison.Ordinal);
        Assert.Contains("marker of the failure", result.Error, StringComparison.Ordinal);
    }

    [SkippableTheory]
    [InlineData(MpiFamily.OpenMpi, "signal 9 (Killed)")]
    [InlineData(MpiFamily.Mpich, "Killed (signal 9)")]
    public void A_rank_that_is_killed_in_a_collective_ends_the_job(MpiFamily family, string launcher)
    {
        LaunchResult result = RunFailing(family, 3, "Launch.LastRankIsKilled");
        MustFail(result);
        Assert.Contains(launcher, result.Output + result.Error, StringComparison.Ordinal);
        Assert.Empty(ErrorLines(result));
    }

    [SkippableTheory]
    [InlineData(MpiFamily.OpenMpi)]
    [InlineData(MpiFamily.Mpich)]
    public void A_failure_on_another_thread_ends_the_job(MpiFamily family)
    {
        LaunchResult result = RunFailing(family, 2, "Launch.LastRankThrowsOnAThread");
        MustFail(result);
        Assert.Contains("rank 1 of 2 on ", result.Error);
        Assert.Contains("marker of the failure", result.Error);
    }

    [SkippableTheory]
    [InlineData(MpiFamily.OpenMpi)]
    [InlineData(MpiFamily.Mpich)]
    public void A_users_mistake_on_one_rank_ends_the_job_in_one_line(MpiFamily family)
    {
        LaunchResult result = RunFailing(family, 3, "Launch.UserErrorOnLastRank");
        MustFail(result);
        Assert.StartsWith("lofthpc: error: file.bin: cut (rank 2 of 3 on ", Assert.Single(ErrorLines(result)));
    }

    [SkippableTheory]
    [InlineData(MpiFamily.OpenMpi)]
    [InlineData(MpiFamily.Mpich)]
    public void Mistakes_of_several_ranks_in_the_same_moment_are_one_line(MpiFamily family)
    {
        LaunchResult result = RunFailing(family, 4, "Launch.UserErrorOnAllRanksButOne");
        MustFail(result);
        Assert.Matches("^lofthpc: error: file.bin: cut \\(rank [0-2] of 4 on ", Assert.Single(ErrorLines(result)));
    }

    [SkippableTheory]
    [MemberData(nameof(FamiliesAndRanks))]
    public void A_users_mistake_on_all_ranks_is_printed_once(MpiFamily family, int ranks)
    {
        LaunchResult result = RunFailing(family, ranks, "Launch.UserErrorOnAllRanks");
        MustFail(result);
        Assert.Equal(ExitCodes.Configuration, result.ExitCode);
        Assert.Equal("lofthpc: error: config.yaml, line 3: no such key", Assert.Single(ErrorLines(result)));
    }

    [SkippableTheory]
    [InlineData(MpiFamily.OpenMpi)]
    [InlineData(MpiFamily.Mpich)]
    public void Ranks_agree_on_the_first_mistake(MpiFamily family)
    {
        LaunchResult result = RunFailing(family, 4, "Launch.AgreedUserError");
        MustFail(result);
        Assert.Equal(ExitCodes.Environment, result.ExitCode);
        Assert.StartsWith("lofthpc: error: mistake of rank 2 (rank 2 on ", Assert.Single(ErrorLines(result)));
    }

    [SkippableTheory]
    [InlineData(MpiFamily.OpenMpi, "libmpich.so.12", "Open MPI's mpiexec started 3 tasks, but MPI sees 1", "start it by MPICH's mpiexec")]
    [InlineData(MpiFamily.Mpich, "libmpi.so.40", "MPICH's mpiexec started 3 tasks, but MPI sees 1", "start it by Open MPI's mpiexec")]
    public void A_library_that_is_not_the_launchers_is_refused(MpiFamily family, string library, string cause, string mend)
    {
        MpiLauncher.SkipIfAbsent(MpiFamily.OpenMpi);
        MpiLauncher.SkipIfAbsent(MpiFamily.Mpich);
        LaunchResult result = MpiLauncher.Run(
            family, 3, [MpiLauncher.RankProgram, "Launch.World"], TimeSpan.FromSeconds(30),
            new Dictionary<string, string> { ["LOFTHPC_MPI_LIBRARY"] = library });
        MustFail(result);
        string line = Assert.Single(ErrorLines(result));
        Assert.Contains(cause, line);
        Assert.Contains(mend, line);
        Assert.Contains("LOFTHPC_MPI_LIBRARY", line);
    }

    [SkippableTheory]
    [InlineData("libmpi.so.40", MpiFamily.OpenMpi)]
    [InlineData("libmpich.so.12", MpiFamily.Mpich)]
    public void A_library_can_be_named(string library, MpiFamily family)
    {
        MpiLauncher.SkipIfAbsent(family);
        Dictionary<string, string> environment = new() { ["LOFTHPC_MPI_LIBRARY"] = library, ["OMPI_ALLOW_RUN_AS_ROOT"] = "1" };
        LaunchResult result = MpiLauncher.RunAlone([MpiLauncher.RankProgram, "Launch.World"], environment: environment).MustSucceed();
        Assert.Equal($"world 1 {family} 0", result.Output.Trim());
    }

    [Theory]
    [InlineData("/no/such/libmpi.so", "LOFTHPC_MPI_LIBRARY=/no/such/libmpi.so: cannot be loaded: ")]
    [InlineData("libc.so.6", "not an MPI library")]
    public void A_library_that_cannot_be_used_is_one_line(string library, string message)
    {
        LaunchResult result = MpiLauncher.RunAlone(
            [MpiLauncher.RankProgram, "Launch.World"], environment: new Dictionary<string, string> { ["LOFTHPC_MPI_LIBRARY"] = library });
        Assert.Equal(ExitCodes.Environment, result.ExitCode);
        Assert.Contains(message, Assert.Single(result.Error.Trim().Split('\n')));
    }

    private static LaunchResult RunFailing(MpiFamily family, int ranks, string scenario) =>
        MpiLauncher.Run(family, ranks, [MpiLauncher.RankProgram, scenario], FailureTime, timeoutFrom: "about to fail");

    private static void MustFail(LaunchResult result)
    {
        Assert.False(result.TimedOut, $"killed after the time that it may take\n{result.Output}\n{result.Error}");
        Assert.NotEqual(0, result.ExitCode);
    }

    private static IEnumerable<string> ErrorLines(LaunchResult result) =>
        result.Error.Split('\n').Where(line => line.StartsWith("lofthpc: ", StringComparison.Ordinal));
}
