using System.Globalization;
using System.Text.RegularExpressions;
using LoftHpc.Mpi;
using LoftHpc.Tests.Commands;
using LoftHpc.Tests.Mpi;
using Xunit;

namespace LoftHpc.Tests.SelfTest;

/// <summary>lofthpc selftest under real launchers: it passes where all is well, or made well, and fails where something is broken.</summary>
public sealed class SelfTestTests : ProgramTests
{
    private static readonly string[] Parts =
        ["convolutions", "batch norm, head, loss, optimizer", "collectives", "images", "training methods", "rounds of loft and local-sgd", "live tensors over 100 steps"];

    /// <summary>Every count of ranks under one family: what a family does differently, the tests of collectives see at every count under both.</summary>
    [SkippableTheory]
    [InlineData(MpiFamily.OpenMpi, 1)]
    [InlineData(MpiFamily.Mpich, 2)]
    [InlineData(MpiFamily.OpenMpi, 3)]
    [InlineData(MpiFamily.OpenMpi, 4)]
    public void It_passes_and_shows_what_it_did(MpiFamily family, int ranks)
    {
        LaunchResult result = MpiLauncher.Run(family, ranks, [MpiLauncher.LoftHpc, "selftest", "--config", ConfigFile]).MustSucceed();
        MustPass(result, ranks);
        foreach (string call in new[] { "allgatherv", "reduce-scatter", "allreduce", "alltoallv" })
            Assert.Equal(ranks > 1, result.Output.Contains($"host {call}", StringComparison.Ordinal) && result.Output.Contains($"tensor {call}", StringComparison.Ordinal));
        Assert.Matches("(?m)^preact-resnet 18 of width 3, batch 32: [0-9]+ to [0-9]+ images/s a rank", result.Output);
    }

    [SkippableFact]
    public void It_passes_with_repairs_on_a_machine_whose_convolutions_are_wrong()
    {
        BrokenMachine.SkipUnlessCachesMatter();
        LaunchResult result = MpiLauncher.Run(
            MpiLauncher.AnyFamily(), 2, [MpiLauncher.LoftHpc, "selftest", "--config", ConfigFile], environment: BrokenMachine.With("caches")).MustSucceed();
        MustPass(result, ranks: 2);
        Assert.Matches("(?m)^repaired on rank.*: channels-padded, [0-9]+ convolutions$", result.Output);
    }

    /// <summary>
    /// With the fault made, every method has the gradients that one process has in float64 by convolutions that are written out. This is
    /// also the scenario of the broken exchanges and slices below with nothing broken: it does not fail by itself. Where the fault cannot
    /// be made the scenario is run without it.
    /// </summary>
    [SkippableFact]
    public void Every_method_is_right_on_a_machine_whose_convolutions_are_wrong()
    {
        const int ranks = 3;
        string? sound = BrokenMachine.WhyCachesDoNotMatter();
        foreach (string part in new[] { "training methods", "rounds of loft and local-sgd" })
        {
            LaunchResult result = MpiLauncher.Run(
                MpiLauncher.AnyFamily(), ranks, [MpiLauncher.RankProgram, "SelfTestScenarios.Broken", "None", "none", part],
                environment: sound is null ? BrokenMachine.With("caches") : null).MustSucceed();
            Assert.EndsWith("self-test passed: True", result.Output.TrimEnd(), StringComparison.Ordinal);
            (long checks, long failed) = Numbers(result.Output, part);
            Assert.True(checks > 1000 && failed == 0, result.Output);
            if (sound is null) Assert.Matches("(?m)^repaired on rank.*: channels-padded, [0-9]+ convolutions$", result.Output);
        }
        Skip.If(sound is not null, sound);
    }

    /// <summary>In bfloat16, in which oneDNN gets more convolutions wrong: what is there is seen, repaired, and then right.</summary>
    [SkippableFact]
    public void It_covers_bfloat16()
    {
        const string part = "training methods";
        BrokenMachine.SkipUnlessCachesMatter();
        LaunchResult result = MpiLauncher.Run(
            MpiLauncher.AnyFamily(), 2, [MpiLauncher.RankProgram, "SelfTestScenarios.Broken", "None", "none", part, "bfloat16"], environment: BrokenMachine.With("caches")).MustSucceed();
        Assert.EndsWith("self-test passed: True", result.Output.TrimEnd(), StringComparison.Ordinal);
        Assert.Equal(0, Numbers(result.Output, part).Failed);
    }

    /// <summary>Without a config, on memory that holds NaN before it is written.</summary>
    [SkippableFact]
    public void It_reads_nothing_that_was_never_written() => MustPass(MpiLauncher.Run(
        MpiLauncher.AnyFamily(), 2, [MpiLauncher.LoftHpc, "selftest", "network.width=3"], environment: BrokenMachine.With("memory")).MustSucceed(), ranks: 2);

    [SkippableFact]
    public void It_passes_through_MPI_NET() => MustPass(MpiLauncher.Run(
        MpiFamily.Mpich, 2, [MpiLauncher.LoftHpc, "selftest", "--config", ConfigFile, "run.mpi=mpi.net"]).MustSucceed(), ranks: 2);

    [SkippableFact]
    public void It_fails_where_convolutions_are_wrong()
    {
        LaunchResult result = MpiLauncher.Run(
            MpiLauncher.AnyFamily(), 2, [MpiLauncher.LoftHpc, "selftest", "--config", ConfigFile], environment: BrokenMachine.With("convolution", rank: 1));
        Assert.Equal(ExitCodes.Failure, result.ExitCode);
        Assert.Matches("(?m)^failed: rank 1: convolution 3 x 3 from 1 to [1-5] channels, stride 1, images of [0-9]+ x [0-9]+: output off by [0-9.e-]+ where rounding allows [0-9.e-]+; no repair helps$", result.Output);
        Assert.DoesNotContain("failed: rank 0", result.Output, StringComparison.Ordinal);
        // All that the others rest on is wrong: they are not done.
        Assert.Matches("(?m)^[0-9]+ of [0-9]+ checks FAILED; what depends on them was not done$", result.Output);
        Assert.DoesNotContain("training methods", result.Output, StringComparison.Ordinal);
    }

    [SkippableTheory]
    // The backward pass of a gather that forgets the other ranks' gradients.
    [InlineData("OwnGradientOnly", "none", "all", "collectives", "reduce-scatter of \\[[0-9,]+\\] by Sum, in place False, start False \\(Single\\): element 0 of [0-9]+ is -?[0-9]+ instead of -?[0-9]+")]
    [InlineData("OwnGradientOnly", "none", "training methods", "training methods", "filter-parallel of preact-resnet Float64: gradient of conv1.weight is off by |filter-parallel of preact-resnet Float32: gradient of conv1.weight is off by ")]
    // Filters in another rank's place.
    [InlineData("GatheredElsewhere", "none", "training methods", "training methods", "filter-parallel of preact-resnet Float32: loss is off by ")]
    [InlineData("ReceivedElsewhere", "none", "rounds of loft and local-sgd", "rounds of loft and local-sgd", "loft of preact-resnet Float64 in step 3: [a-z0-9.]+ is off by ")]
    // A rank whose norms have their values one channel off.
    [InlineData("None", "norm", "training methods", "training methods", "filter-parallel of preact-resnet Float32: loss is off by ")]
    [InlineData("None", "norm", "rounds of loft and local-sgd", "rounds of loft and local-sgd", "loft of preact-resnet Float32: gradient of layer1.0.bn1.weight is off by ")]
    public void It_fails_where_an_exchange_or_a_slice_is_broken(string fault, string tamper, string parts, string failing, string message)
    {
        LaunchResult result = MpiLauncher.RunScenario(MpiLauncher.AnyFamily(), 3, "SelfTestScenarios.Broken", fault, tamper, parts).MustSucceed();
        Assert.EndsWith("self-test passed: False", result.Output.TrimEnd(), StringComparison.Ordinal);
        Assert.Matches($"(?m)^failed: rank [0-2]: ({message})", result.Output);
        Assert.True(Numbers(result.Output, failing).Failed > 0, result.Output);
        Assert.Matches("(?m)^[0-9]+ of [0-9]+ checks FAILED", result.Output);
    }

    [Fact]
    public void Mistakes_in_its_settings_are_told()
    {
        LaunchResult result = MpiLauncher.RunAlone([MpiLauncher.LoftHpc, "selftest", "network.depht=18"]);
        Assert.Equal(ExitCodes.Configuration, result.ExitCode);
        Assert.Contains("unknown key network.depht", Assert.Single(result.Error.Trim().Split('\n')), StringComparison.Ordinal);
    }

    private static void MustPass(LaunchResult result, int ranks)
    {
        long checks = 0;
        foreach (string part in Parts.Concat(ranks > 1 ? ["large messages"] : Array.Empty<string>()))
        {
            (long done, long failed) = Numbers(result.Output, part);
            Assert.True(done > 0 && failed == 0, $"{part}: {result.Output}");
            checks += done;
        }
        Assert.Matches($"(?m)^{checks} checks passed$", result.Output);
        Assert.DoesNotContain("failed:", result.Output, StringComparison.Ordinal);
    }

    [Fact]
    public void Parts_are_done_alone_and_others_than_there_are_refused()
    {
        LaunchResult result = MpiLauncher.RunAlone([MpiLauncher.LoftHpc, "selftest", "--part", "collectives", "network.width=3"]).MustSucceed();
        (long checks, long failed) = Numbers(result.Output, "collectives");
        Assert.True(checks > 100 && failed == 0, result.Output);
        Assert.Matches($"(?m)^{checks} checks passed$", result.Output);
        Assert.DoesNotContain("convolutions", result.Output, StringComparison.Ordinal);
        MustBeOneLine(
            MpiLauncher.RunAlone([MpiLauncher.LoftHpc, "selftest", "--part", "all"]), ExitCodes.Configuration,
            "selftest --part: no part 'all'; allowed are convolutions; batch norm, head, loss, optimizer; collectives; ");
    }

    /// <summary>Of a row of the table.</summary>
    private static (long Checks, long Failed) Numbers(string output, string part)
    {
        Match row = Regex.Match(output, $@"(?m)^\| {Regex.Escape(part)} +\| +([0-9,]+) +\| +([0-9,]+) \|");
        Assert.True(row.Success, output);
        long Number(int group) => long.Parse(row.Groups[group].ValueSpan, NumberStyles.AllowThousands, CultureInfo.InvariantCulture);
        return (Number(1), Number(2));
    }
}
