using System.Globalization;
using System.Text.RegularExpressions;
using LoftHpc.Mpi;
using LoftHpc.Results;
using LoftHpc.Tests.Commands;
using LoftHpc.Tests.Mpi;
using Xunit;

namespace LoftHpc.Tests.Training;

/// <summary>A loss that is not finite, under a real mpiexec: what is to blame, and who says so.</summary>
public sealed class NonFiniteTests : ProgramTests
{
    [SkippableTheory]
    [InlineData("dense", 1)]
    [InlineData("filter-parallel", 3)]
    [InlineData("data-parallel", 2)]
    [InlineData("local-sgd", 2)]
    [InlineData("loft", 3)]
    [InlineData("gpipe", 3)]
    public void Weights_that_grew_are_the_learning_rates_fault(string method, int ranks)
    {
        LaunchResult result = Start(
            MpiLauncher.AnyFamily(), ranks, "pretrain", "run.name=a", $"pretrain.method={method}", "pretrain.optimizer.learning_rate=1e30");
        Assert.Equal(ExitCodes.NonFiniteLoss, result.ExitCode);
        string line = Line(result);
        // The first update makes the weights that large.
        Assert.Matches($"^lofthpc: error: pretrain: the loss is not finite in step 2 of 3 of epoch 1 on rank [0-{ranks - 1}]: the output of [a-z0-9.]+ \\[[0-9, ]+\\] is not finite, ", line);
        Assert.Contains("which leave the range of the type: lower the learning rate; ", line, StringComparison.Ordinal);
        Assert.DoesNotContain("not to blame", line, StringComparison.Ordinal);
        // What preceded it: what grew, by how much and from where.
        Match grown = Regex.Match(line, "the (weights|gradient) of [a-z0-9.]+ grew ([0-9.e+]+)-fold, from ([0-9.e+-]+) in step 1 to ([0-9.e+-]+) in step 2");
        Assert.True(grown.Success, line);
        double Number(int group) => double.Parse(grown.Groups[group].ValueSpan, CultureInfo.InvariantCulture);
        Assert.InRange(Number(2) / (Number(4) / Number(3)), 0.9, 1.1);
        Assert.InRange(Number(4), 1e25, 1e35);
    }

    [SkippableTheory]
    [InlineData("dense", 1)]
    [InlineData("filter-parallel", 3)]
    [InlineData("data-parallel", 2)]
    [InlineData("local-sgd", 2)]
    [InlineData("loft", 3)]
    [InlineData("gpipe", 3)]
    public void What_small_numbers_do_not_explain_is_arithmetics_fault_on_the_rank_that_has_it(string method, int ranks)
    {
        int broken = ranks - 1;
        LaunchResult result = Start(
            MpiLauncher.AnyFamily(), ranks, BrokenMachine.With("late-convolution", broken), "pretrain", "run.name=a", $"pretrain.method={method}", "pretrain.epochs=30");
        Assert.Equal(ExitCodes.NonFiniteLoss, result.ExitCode);
        string line = Line(result);
        Assert.Matches($"^lofthpc: error: pretrain: the loss is not finite (in step [1-3] of 3 of|on the test images after) epoch [0-9]+ on rank {broken}: the output of [a-z0-9.]+ \\[", line);
        Assert.Contains("too small for that in right arithmetic: the learning rate is not to blame, but arithmetic or data; ", line, StringComparison.Ordinal);
        Assert.Contains("the check of this layer, done again, finds it wrong: output off by NaN where rounding allows ", line, StringComparison.Ordinal);
        Assert.Contains("nothing had grown tenfold", line, StringComparison.Ordinal);
    }

    /// <summary>Running statistics carry the fault of a training on to the evaluation.</summary>
    [SkippableFact]
    public void What_stays_in_running_statistics_is_named()
    {
        LaunchResult result = Start(
            MpiLauncher.AnyFamily(), 3, BrokenMachine.With("late-convolution"), "pretrain", "run.name=a", "pretrain.method=loft", "pretrain.epochs=30");
        Assert.Equal(ExitCodes.NonFiniteLoss, result.ExitCode);
        Assert.Matches("on rank [0-2]: ([a-z0-9.]+\\.running_mean|the output of [a-z0-9.]+ \\[[0-9, ]+\\]) is not finite, .* the learning rate is not to blame, but arithmetic or data", Line(result));
    }

    [SkippableFact]
    public void The_manifest_has_the_code_that_the_job_ends_with()
    {
        Start(MpiLauncher.AnyFamily(), 2, "pretrain", "run.name=a", "pretrain.optimizer.learning_rate=1e30");
        Assert.Equal(ExitCodes.NonFiniteLoss, RunManifest.Read(Folder("a").Manifest).Launches[0].ExitCode);
    }

    private static string Line(LaunchResult result) =>
        Assert.Single(result.Error.Split('\n'), line => line.StartsWith("lofthpc: ", StringComparison.Ordinal));
}
