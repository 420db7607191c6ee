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
            MpiLauncher.AnyFamily(), ranks, "pretrain", "run.name=a", $"pretrain.method={method}", "pretrain.optimizer.learning_rate=1e28");
        Assert.Equal(ExitCodes.NonFiniteLoss, result.ExitCode);
        string line = Line(result);
        // The first update makes the weights that large.
        Assert.Matches($"^lofthpc: error: pretrain: the loss is not finite in step 2 of 3 of epoch 1 on rank [0-{ranks - 1}]: the output of [a-z0-9.]+ \\[[0-9, ]+\\] is not finite, ", line);
        Assert.Contains("which leave the range of the type: lower the learning rate; ", line, StringComparison.Ordinal);
        Assert.DoesNotContain("not to blame", line, StringComparison.Ordinal);
        // What preceded it: what grew, by how much and from where.
        Match grown = Regex.Match(line, "weights grew ([0-9.e+]+)-fold, from ([0-9.]+) 1 step ago to ([0-9.e+]+) in [a-z0-9.]+");
        Assert.True(grown.Success, line);
        double Number(int group) => double.Parse(grown.Groups[group].ValueSpan, CultureInfo.InvariantCulture);
        Assert.InRange(Number(1) / (Number(3) / Number(2)), 0.9, 1.1);
        Assert.InRange(Number(3), 1e23, 1e33);
        // The manifest has the code that the job ends with.
        Assert.Equal(ExitCodes.NonFiniteLoss, RunManifest.Read(Folder("a").Manifest).Launches[0].ExitCode);
    }

    /// <summary>On a GPU some steps are looked at together; here in the same way on the CPU.</summary>
    [SkippableTheory]
    [InlineData(1, "dense", "gpipe")]
    [InlineData(2, "data-parallel", "local-sgd")]
    [InlineData(3, "filter-parallel", "loft")]
    public void Looks_that_come_some_steps_late_find_the_same(int ranks, params string[] methods) =>
        MpiLauncher.RunScenarios(MpiLauncher.AnyFamily(), ranks, methods.Select(method => (string[])["NonFiniteScenarios.Late", method])).MustSucceed();

    /// <summary>Once gradients are summed, every rank has it.</summary>
    [SkippableTheory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_gradient_that_is_wrong_on_one_rank_is_found_there_before_the_sum(bool late)
    {
        LaunchResult result = MpiLauncher.RunScenario(MpiLauncher.AnyFamily(), 3, "NonFiniteScenarios.WrongGradient", $"{late}");
        Assert.Equal(ExitCodes.NonFiniteLoss, result.ExitCode);
        Assert.Contains("the loss is not finite in step 4 on rank 2: the loss and all weights are finite, and the gradient of layer2.0.conv1.weight ", result.Error, StringComparison.Ordinal);
    }

    [SkippableFact]
    public void An_evaluation_that_looks_late_finds_the_same()
    {
        MpiFamily family = MpiLauncher.AnyFamily();
        MpiLauncher.RunScenarios(family, 3, [["NonFiniteScenarios.LateEvaluation", "method=filter-parallel"], ["NonFiniteScenarios.LateEvaluation", "method=data-parallel"]]).MustSucceed();
        MpiLauncher.RunScenario(family, 2, "NonFiniteScenarios.LateEvaluation", "method=loft", "loft.running_statistics=per-batch").MustSucceed();
    }

    [SkippableFact]
    public void Statistics_that_are_not_finite_are_the_learning_rates_fault_only_where_weights_grew() =>
        MpiLauncher.RunScenario(MpiLauncher.AnyFamily(), 1, "NonFiniteScenarios.Evaluated").MustSucceed();

    [SkippableTheory]
    [InlineData("late-convolution", "the output of [a-z0-9.]+ \\[[0-9, ]+\\] is not finite, from an input up to [0-9.]+ and weights up to [0-9.]+, too small for that in right arithmetic", "output")]
    [InlineData("late-gradient", "the loss and all weights are finite, and the gradient of [a-z0-9.]+ \\[[0-9, ]+\\] is not, among weights up to [0-9.]+ and gradients up to [0-9.]+", "input gradient")]
    public void What_small_numbers_do_not_explain_is_arithmetics_fault_on_the_rank_that_has_it(string fault, string what, string wrong)
    {
        foreach ((string method, int ranks) in Methods)
        {
            int broken = ranks - 1;
            LaunchResult result = Start(
                MpiLauncher.AnyFamily(), ranks, BrokenMachine.With(fault, broken), "pretrain", $"run.name={method}", $"pretrain.method={method}", "pretrain.epochs=30");
            Assert.Equal(ExitCodes.NonFiniteLoss, result.ExitCode);
            Assert.Matches(
                $"^lofthpc: error: pretrain: the loss is not finite (in step [1-3] of 3 of|on the test images after) epoch [0-9]+ on rank {broken}: {what}: "
                + "the learning rate is not to blame, but arithmetic or data; the check of all layers, done again, finds [a-z0-9.]+, a convolution [^,]+, stride [12], images of [0-9x ]+, "
                + $"wrong: {wrong} off by NaN where rounding allows [0-9.e-]+; nothing had grown tenfold: the largest weight is [0-9.]+, and was [0-9.]+ [0-9]+ steps ago", Line(result));
        }
    }

    /// <summary>On all ranks: the one that is named has it too, and nobody blames the learning rate after an average.</summary>
    [SkippableTheory]
    [InlineData("late-convolution")]
    [InlineData("late-gradient")]
    public void A_fault_on_all_ranks_is_told_once(string fault)
    {
        foreach ((string method, int ranks) in Methods.Where(method => method.Ranks > 1))
        {
            LaunchResult result = Start(
                MpiLauncher.AnyFamily(), ranks, BrokenMachine.With(fault), "pretrain", $"run.name={method}", $"pretrain.method={method}", "pretrain.epochs=30");
            Assert.Equal(ExitCodes.NonFiniteLoss, result.ExitCode);
            Assert.Matches("on rank [0-2]: .* is not.*: the learning rate is not to blame, but arithmetic or data; the check of all layers, done again, finds ", Line(result));
        }
    }

    /// <summary>A network whose loss is no number is no result, whatever it was trained by.</summary>
    [SkippableFact]
    public void An_evaluation_without_a_finite_loss_gives_no_result()
    {
        MpiFamily family = MpiLauncher.AnyFamily();
        Start(family, 2, "run", "run.name=a").MustSucceed();
        LaunchResult result = Start(family, 2, BrokenMachine.With("late-convolution", 1), "evaluate", "run.name=a", "data.test_images=10000", "evaluate.batch=8", $"evaluate.weights={Folder("a").DenseWeights}");
        Assert.Equal(ExitCodes.NonFiniteLoss, result.ExitCode);
        Assert.Matches("^lofthpc: error: evaluate: the loss is not finite on the test images on rank 1: the output of conv1 ", Line(result));
        Assert.DoesNotContain("accuracy", result.Output, StringComparison.Ordinal);
    }

    private static readonly (string Name, int Ranks)[] Methods =
        [("dense", 1), ("filter-parallel", 3), ("data-parallel", 2), ("local-sgd", 2), ("loft", 3), ("gpipe", 3)];

    private static string Line(LaunchResult result) =>
        Assert.Single(result.Error.Split('\n'), line => line.StartsWith("lofthpc: ", StringComparison.Ordinal));
}
