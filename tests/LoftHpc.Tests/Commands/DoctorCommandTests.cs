using System.Text.RegularExpressions;
using LoftHpc.Mpi;
using LoftHpc.Tests.Mpi;
using Xunit;

namespace LoftHpc.Tests.Commands;

/// <summary>The program itself, under real launchers, where all is well and where something is wrong.</summary>
public class DoctorCommandTests
{
    private static readonly string Nowhere = "/nowhere/libmpi.so";

    [Fact]
    public void One_process_without_a_launcher_is_well()
    {
        LaunchResult result = MpiLauncher.RunAlone([MpiLauncher.LoftHpc, "doctor"]).MustSucceed();
        Assert.Matches("(?m)^launcher +none", result.Output);
        TorchLibraryInfo own = TorchLibrary.Load();
        Assert.Matches($"(?m)^libtorch +{Regex.Escape($"{own.Version} in {own.Folder} ({own.Reason})")}$", result.Output);
        Assert.Matches("(?m)^arithmetic +right: [0-9]+ convolutions of PreActResNet-18, widths 64 and 5, batch norm, loss and optimizer$|^arithmetic +right after a repair", result.Output);
        Assert.Matches("(?m)^libstdc\\+\\+ +/.*libstdc\\+\\+\\.so.*, up to GLIBCXX_3\\.4\\.[0-9]+: (has|lacks) the 3\\.4\\.32", result.Output);
        Assert.Matches($"(?m)^rank 0 +{Environment.MachineName}, local rank 0, (cpu|cuda:0), [0-9]+ threads?$", result.Output);
        Assert.EndsWith("All is well.", result.Output.TrimEnd(), StringComparison.Ordinal);
    }

    [SkippableTheory]
    [InlineData(MpiFamily.OpenMpi, 3)]
    [InlineData(MpiFamily.Mpich, 3)]
    public void Every_rank_is_shown_once_by_rank_0(MpiFamily family, int ranks)
    {
        LaunchResult result = MpiLauncher.Run(family, ranks, [MpiLauncher.LoftHpc, "doctor"]).MustSucceed();
        Assert.Matches($"(?m)^MPI +{(family == MpiFamily.OpenMpi ? "Open MPI, Open MPI v" : "MPICH family, MPICH Version: ")}", result.Output);
        Assert.Matches($"(?m)^MPI library +/.*libmpi.*\\.so.* \\(started by ", result.Output);
        Assert.Contains($"allreduce over {ranks} ranks: right", result.Output, StringComparison.Ordinal);
        for (int r = 0; r < ranks; r++) Assert.Single(result.Output.Split('\n'), line => line.StartsWith($"rank {r} ", StringComparison.Ordinal));
        Assert.Single(result.Output.Split('\n'), line => line == "All is well.");
    }

    [SkippableTheory]
    [InlineData(MpiFamily.OpenMpi)]
    [InlineData(MpiFamily.Mpich)]
    public void A_missing_MPI_is_one_line(MpiFamily family)
    {
        LaunchResult result = MpiLauncher.Run(
            family, 2, [MpiLauncher.LoftHpc, "doctor"], environment: new Dictionary<string, string> { ["LOFTHPC_MPI_LIBRARY"] = Nowhere });
        Assert.NotEqual(0, result.ExitCode);
        string line = Assert.Single(result.Output.Split('\n'), l => l.StartsWith("wrong: ", StringComparison.Ordinal));
        Assert.Contains($"{Nowhere}: cannot open shared object file", line, StringComparison.Ordinal);
        // The rest is shown all the same.
        Assert.Matches("(?m)^libtorch +[0-9]", result.Output);
        Assert.DoesNotContain("All is well", result.Output, StringComparison.Ordinal);
    }

    [SkippableTheory]
    [InlineData(MpiFamily.OpenMpi, "libmpich.so.12")]
    [InlineData(MpiFamily.Mpich, "libmpi.so.40")]
    public void A_library_of_the_other_family_is_one_line(MpiFamily family, string library)
    {
        MpiLauncher.SkipIfAbsent(family == MpiFamily.OpenMpi ? MpiFamily.Mpich : MpiFamily.OpenMpi);
        LaunchResult result = MpiLauncher.Run(
            family, 2, [MpiLauncher.LoftHpc, "doctor"], environment: new Dictionary<string, string> { ["LOFTHPC_MPI_LIBRARY"] = library });
        Assert.NotEqual(0, result.ExitCode);
        string line = Assert.Single(result.Output.Split('\n'), l => l.StartsWith("wrong: ", StringComparison.Ordinal));
        Assert.Contains("started 2 tasks, but MPI sees 1", line, StringComparison.Ordinal);
    }

    /// <summary>libtorch says that it is 2.11: it has all that TorchSharp needs, and is taken.</summary>
    [Fact]
    public void Another_version_of_libtorch_is_shown_with_the_one_that_is_wanted()
    {
        LaunchResult result = MpiLauncher.RunAlone([MpiLauncher.LoftHpc, "doctor"], environment: BrokenMachine.With("version")).MustSucceed();
        Assert.Matches("(?m)^libtorch +2\\.11 \\(TorchSharp is built for 2\\.10\\) in /", result.Output);
        Assert.EndsWith("All is well.", result.Output.TrimEnd(), StringComparison.Ordinal);
    }

    [SkippableFact]
    public void Arithmetic_that_is_repaired_is_shown_by_rank()
    {
        BrokenMachine.SkipUnlessCachesMatter();
        LaunchResult result = MpiLauncher.Run(
            MpiLauncher.AnyFamily(), 3, [MpiLauncher.LoftHpc, "doctor"], environment: BrokenMachine.With("caches", rank: 1)).MustSucceed();
        // A machine may have the fault by itself, on all ranks then.
        Assert.Matches("(?m)^arithmetic +(rank 1: )?right after a repair \\(channels-padded\\): [0-9]+ of [0-9]+ convolutions of PreActResNet-18, widths 64 and 5, were wrong", result.Output);
    }

    [SkippableFact]
    public void Arithmetic_that_cannot_be_repaired_is_one_line()
    {
        LaunchResult result = MpiLauncher.Run(
            MpiLauncher.AnyFamily(), 2, [MpiLauncher.LoftHpc, "doctor"], environment: BrokenMachine.With("convolution", rank: 1));
        Assert.Equal(ExitCodes.Environment, result.ExitCode);
        Assert.Matches("(?m)^arithmetic +rank 1: WRONG$", result.Output);
        string line = Assert.Single(result.Output.Split('\n'), l => l.StartsWith("wrong: ", StringComparison.Ordinal));
        Assert.StartsWith("wrong: rank 1: arithmetic: conv1, a convolution 3 x 3 from 3 to 64 channels", line, StringComparison.Ordinal);
    }
}
