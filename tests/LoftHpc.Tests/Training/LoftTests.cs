using LoftHpc.Configuration;
using LoftHpc.Mpi;
using LoftHpc.Tests.Mpi;
using LoftHpc.Tests.Results;
using Xunit;

namespace LoftHpc.Tests.Training;

/// <summary>
/// LoFT and local SGD on real ranks against a replay of all ranks in one process, with measurements in the middle of
/// rounds: the same bits at up to 2 ranks; at 3 and 4 1e-10 in float64, and 1e-4 in float32 after one step (the scenarios
/// throw where a tensor is further off).
/// 10 images in batches of 4 are 3 steps an epoch, and 3 epochs 9 steps.
/// </summary>
public class LoftTests
{
    [SkippableTheory]
    [InlineData(1, 2)] // rounds end in the middle of an epoch, and the last one is short
    [InlineData(2, 2)]
    [InlineData(3, 2)]
    [InlineData(4, 2)]
    [InlineData(2, 5)] // an epoch is shorter than a round
    [InlineData(3, 3)] // as long
    [InlineData(4, 20)] // one round, never whole
    public void Ranks_do_as_the_replay(int ranks, int localSteps) =>
        Run(MpiFamily.OpenMpi, ranks, "Replay", "PreactResnet", "18", "5", "Cifar", "method=loft", $"local_steps={localSteps}");

    [SkippableTheory]
    [InlineData(2, "loft.momentum=travel", "loft.running_statistics=average")]
    [InlineData(3, "loft.momentum=travel", "loft.running_statistics=average", "loft.deal=norm", "samples=shard")]
    [InlineData(4, "loft.deal=norm", "samples=shard", "loft.warmup_rounds=1")]
    [InlineData(2, "loft.warmup_rounds=2", "loft.momentum=travel", "loft.running_statistics=per-batch")]
    [InlineData(2, "loft.running_statistics=average", "loft.deal=norm", "samples=shard")]
    [InlineData(2, "loft.statistics_images=6")] // a batch of 4 and one of 2
    public void Options_do_as_in_the_replay(int ranks, params string[] options) =>
        Run(MpiFamily.Mpich, ranks, "Replay", ["Resnet", "18", "5", "Cifar", "method=loft", "local_steps=2", .. options]);

    [SkippableTheory]
    [InlineData(2, "PreactResnet", 34, 3, NetworkForm.Cifar, "loft.momentum=travel")] // stages of more than two blocks
    [InlineData(3, "Resnet", 34, 2, NetworkForm.Cifar, "samples=shard")]
    [InlineData(2, "PreactResnet", 18, 3, NetworkForm.Imagenet, "samples=shard")] // a stem that pools
    [InlineData(4, "WideResnet", 16, 1, NetworkForm.Cifar, "loft.stages=[1,2,3]")] // more ranks than filters
    [InlineData(3, "PreactResnet", 18, 4, NetworkForm.Cifar, "loft.first_blocks=true")]
    public void Other_networks_and_blocks(int ranks, string family, int depth, int width, NetworkForm form, string option) =>
        Run(MpiFamily.OpenMpi, ranks, "Replay", family, $"{depth}", $"{width}", $"{form}", "method=loft", "local_steps=4", option);

    [SkippableTheory]
    [InlineData(1, "whole", 2)]
    [InlineData(2, "whole", 4)]
    [InlineData(3, "shard", 2)]
    [InlineData(4, "whole", 5)]
    public void Local_SGD_does_as_the_replay(int ranks, string samples, int localSteps) =>
        Run(MpiFamily.OpenMpi, ranks, "Replay", "PreactResnet", "18", "4", "Cifar", "method=local-sgd", $"samples={samples}", $"local_steps={localSteps}");

    [SkippableTheory]
    [InlineData(2, "PreactResnet", 18, 5)]
    [InlineData(3, "Resnet", 18, 5)]
    [InlineData(4, "WideResnet", 16, 4)]
    public void A_local_step_has_the_gradient_of_the_narrow_network(int ranks, string family, int depth, int width) =>
        Run(MpiFamily.OpenMpi, ranks, "NarrowStep", family, $"{depth}", $"{width}");

    [SkippableTheory]
    [InlineData(MomentumKind.Restart, RunningStatisticsKind.Recompute)]
    [InlineData(MomentumKind.Travel, RunningStatisticsKind.Recompute)]
    [InlineData(MomentumKind.Restart, RunningStatisticsKind.Average)]
    [InlineData(MomentumKind.Travel, RunningStatisticsKind.Average)]
    public void One_rank_is_momentum_SGD_to_the_last_bit(MomentumKind momentum, RunningStatisticsKind statistics) =>
        Run(MpiFamily.OpenMpi, 1, "OneRank", $"{momentum}", $"{statistics}");

    [SkippableTheory]
    [InlineData(MpiFamily.OpenMpi, 1, "PreactResnet", 18, 5)]
    [InlineData(MpiFamily.OpenMpi, 2, "PreactResnet", 34, 3)]
    [InlineData(MpiFamily.Mpich, 3, "Resnet", 18, 5)]
    [InlineData(MpiFamily.Mpich, 4, "WideResnet", 10, 2)]
    public void A_mark_in_any_filter_arrives_in_its_place(MpiFamily family, int ranks, string network, int depth, int width) =>
        Run(family, ranks, "Marks", network, $"{depth}", $"{width}");

    [SkippableTheory]
    [InlineData(PretrainMethod.Loft)]
    [InlineData(PretrainMethod.LocalSgd)]
    [InlineData(PretrainMethod.DataParallel)]
    public void A_stop_asked_of_one_rank_is_agreed_where_the_ranks_meet(PretrainMethod method) => Run(MpiFamily.OpenMpi, 2, "Stop", $"{method}");

    [SkippableTheory]
    [InlineData(MpiFamily.OpenMpi, 1)]
    [InlineData(MpiFamily.Mpich, 2)]
    [InlineData(MpiFamily.OpenMpi, 3)]
    [InlineData(MpiFamily.OpenMpi, 4)]
    public void A_stop_within_a_round_leaves_no_trace(MpiFamily family, int ranks) => Early(
        family, ranks, "InARound", "method=loft", "method=local-sgd/samples=shard", "method=loft/loft.momentum=travel/loft.running_statistics=average/loft.deal=norm");

    [SkippableTheory]
    [InlineData(MpiFamily.OpenMpi, 1)]
    [InlineData(MpiFamily.OpenMpi, 2)]
    [InlineData(MpiFamily.Mpich, 3)]
    [InlineData(MpiFamily.OpenMpi, 4)]
    public void A_stop_within_an_evaluation_leaves_no_trace(MpiFamily family, int ranks) =>
        Early(family, ranks, "InAnEvaluation", "method=loft", "method=local-sgd", "method=data-parallel", "method=filter-parallel", "method=gpipe");

    private static void Early(MpiFamily family, int ranks, string scenario, params string[] methods)
    {
        using TemporaryFolder folder = new();
        MpiLauncher.RunScenario(family, ranks, [$"EarlyStopScenarios.{scenario}", folder.Path, .. methods]).MustSucceed();
    }

    internal static void Run(MpiFamily family, int ranks, string scenario, params string[] arguments) =>
        MpiLauncher.RunScenario(family, ranks, [$"LoftScenarios.{scenario}", .. arguments]).MustSucceed();
}
