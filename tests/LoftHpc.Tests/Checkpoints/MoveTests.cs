using LoftHpc.Tests.Mpi;
using LoftHpc.Tests.Results;
using Xunit;

namespace LoftHpc.Tests.Checkpoints;

/// <summary>A checkpoint of some ranks is gone on with by another number of ranks: from 1, 2, 3 and 4 to 1, 2, 3 and 4.</summary>
public sealed class MoveTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [SkippableFact]
    public void Where_steps_do_not_depend_on_the_ranks_the_next_one_is_the_same() => Run(
        4, ["Move", "", "method=filter-parallel"], ["Move", "", "method=filter-parallel", "assignment=random"], ["Move", "", "method=data-parallel"], ["Move", "", "method=gpipe"]);

    /// <summary>
    /// The network has 20 convolutions, 17 norms of two parameters and two statistics, and a head of two: 56 parameters and 34 statistics.
    /// By default LoFT cuts a block in each of 3 stages: of each two convolutions and a norm, 4 parameters and 2 statistics.
    /// </summary>
    [SkippableFact]
    public void A_round_that_has_ended_goes_on_as_one_network() => Run(
        4,
        ["Move", "the momentum of 56 tensors, which each rank had its own of, begins at zero, and 34 running statistics at their mean", "method=local-sgd"],
        [
            "Move", "the momentum of 44 tensors, which each rank had its own of, begins at zero",
            "method=loft", "loft.momentum=travel", "loft.running_statistics=average", "loft.deal=norm",
        ],
        ["Move", "28 running statistics, which each rank had its own of, begin at their mean", "method=loft", "loft.momentum=restart", "samples=shard"]);

    [SkippableFact]
    public void A_round_that_has_not_is_refused() => Run(3, ["WithinRound", "method=local-sgd"], ["WithinRound", "method=loft"]);

    /// <summary>Each scenario has a folder of its own, as the first argument.</summary>
    private void Run(int ranks, params string[][] scenarios) => MpiLauncher.RunScenarios(
        MpiLauncher.AnyFamily(), ranks,
        scenarios.Select((scenario, i) => (string[])[$"MoveScenarios.{scenario[0]}", Directory.CreateDirectory(_folder.File($"{i}")).FullName, .. scenario[1..]])).MustSucceed();
}
