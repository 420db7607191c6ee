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
    /// <summary>By ranks. Rounds of 2 steps end in the middle of an epoch, and the last one is short.</summary>
    private static readonly ILookup<int, string> Replays = new (int, string)[]
    {
        (1, "PreactResnet 18 5 Cifar method=loft local_steps=2"),
        (2, "PreactResnet 18 5 Cifar method=loft local_steps=2"),
        (3, "PreactResnet 18 5 Cifar method=loft local_steps=2"),
        (4, "PreactResnet 18 5 Cifar method=loft local_steps=2"),
        // An epoch is shorter than a round, or as long; or there is one round that is never whole.
        (2, "PreactResnet 18 5 Cifar method=loft local_steps=5"),
        (3, "PreactResnet 18 5 Cifar method=loft local_steps=3"),
        (4, "PreactResnet 18 5 Cifar method=loft local_steps=20"),
        // Stages of more than two blocks.
        (2, "PreactResnet 34 3 Cifar method=loft local_steps=4 loft.momentum=travel"),
        (3, "Resnet 34 2 Cifar method=loft local_steps=4 samples=shard"),
        // A stem that pools.
        (2, "PreactResnet 18 3 Imagenet method=loft local_steps=4 samples=shard"),
        // More ranks than filters.
        (4, "WideResnet 16 1 Cifar method=loft local_steps=4 loft.stages=[1,2,3]"),
        (3, "PreactResnet 18 4 Cifar method=loft local_steps=4 loft.first_blocks=true"),
        (1, "PreactResnet 18 4 Cifar method=local-sgd samples=whole local_steps=2"),
        (2, "PreactResnet 18 4 Cifar method=local-sgd samples=whole local_steps=4"),
        (3, "PreactResnet 18 4 Cifar method=local-sgd samples=shard local_steps=2"),
        (4, "PreactResnet 18 4 Cifar method=local-sgd samples=whole local_steps=5"),
    }
    .ToLookup(replay => replay.Item1, replay => replay.Item2);

    [SkippableTheory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(4)]
    public void Ranks_do_as_the_replay(int ranks) =>
        MpiLauncher.RunScenarios(MpiFamily.OpenMpi, ranks, Replays[ranks].Select(replay => (string[])["LoftScenarios.Replay", .. replay.Split(' ')])).MustSucceed();

    /// <summary>Of 6 images for statistics there are a batch of 4 and one of 2.</summary>
    [SkippableTheory]
    [InlineData(
        2, "loft.momentum=travel loft.running_statistics=average", "loft.warmup_rounds=2 loft.momentum=travel loft.running_statistics=per-batch",
        "loft.running_statistics=average loft.deal=norm samples=shard", "loft.statistics_images=6")]
    [InlineData(3, "loft.momentum=travel loft.running_statistics=average loft.deal=norm samples=shard")]
    [InlineData(4, "loft.deal=norm samples=shard loft.warmup_rounds=1")]
    public void Options_do_as_in_the_replay(int ranks, params string[] options) => MpiLauncher.RunScenarios(
        MpiFamily.Mpich, ranks,
        options.Select(option => (string[])["LoftScenarios.Replay", "Resnet", "18", "5", "Cifar", "method=loft", "local_steps=2", .. option.Split(' ')])).MustSucceed();

    [SkippableTheory]
    [InlineData(2, "PreactResnet", 18, 5)]
    [InlineData(3, "Resnet", 18, 5)]
    [InlineData(4, "WideResnet", 16, 4)]
    public void A_local_step_has_the_gradient_of_the_narrow_network(int ranks, string family, int depth, int width) =>
        Run(MpiFamily.OpenMpi, ranks, "NarrowStep", family, $"{depth}", $"{width}");

    [SkippableFact]
    public void One_rank_is_momentum_SGD_to_the_last_bit() => MpiLauncher.RunScenarios(
        MpiFamily.OpenMpi, 1,
        from momentum in (MomentumKind[])[MomentumKind.Restart, MomentumKind.Travel]
        from statistics in (RunningStatisticsKind[])[RunningStatisticsKind.Recompute, RunningStatisticsKind.Average]
        select (string[])["LoftScenarios.OneRank", $"{momentum}", $"{statistics}"]).MustSucceed();

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
