using LoftHpc.Tests.Mpi;
using LoftHpc.Tests.Results;
using Xunit;

namespace LoftHpc.Tests.Checkpoints;

/// <summary>A checkpoint of some ranks is gone on with by another number of ranks: from 1, 2, 3 and 4 to 1, 2, 3 and 4.</summary>
public sealed class MoveTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [SkippableTheory]
    [InlineData("", "method=filter-parallel")]
    [InlineData("", "method=filter-parallel", "assignment=random")]
    [InlineData("", "method=data-parallel")]
    [InlineData("", "method=gpipe")]
    public void Where_steps_do_not_depend_on_the_ranks_the_next_one_is_the_same(string lost, params string[] method) =>
        MpiLauncher.RunScenario(MpiLauncher.AnyFamily(), 4, ["MoveScenarios.Move", _folder.Path, lost, .. method]).MustSucceed();

    /// <summary>
    /// The network has 20 convolutions, 17 norms of two parameters and two statistics, and a head of two: 56 parameters and 34 statistics.
    /// By default LoFT cuts a block in each of 3 stages: of each two convolutions and a norm, 4 parameters and 2 statistics.
    /// </summary>
    [SkippableTheory]
    [InlineData("the momentum of 56 tensors, which each rank had its own of, begins at zero, and 34 running statistics at their mean", "method=local-sgd")]
    [InlineData("the momentum of 44 tensors, which each rank had its own of, begins at zero", "method=loft", "loft.momentum=travel", "loft.running_statistics=average", "loft.deal=norm")]
    [InlineData("28 running statistics, which each rank had its own of, begin at their mean", "method=loft", "loft.momentum=restart", "samples=shard")]
    public void A_round_that_has_ended_goes_on_as_one_network(string lost, params string[] method) =>
        MpiLauncher.RunScenario(MpiLauncher.AnyFamily(), 4, ["MoveScenarios.Move", _folder.Path, lost, .. method]).MustSucceed();

    [SkippableTheory]
    [InlineData("method=local-sgd")]
    [InlineData("method=loft")]
    public void A_round_that_has_not_is_refused(string method) =>
        MpiLauncher.RunScenario(MpiLauncher.AnyFamily(), 3, ["MoveScenarios.WithinRound", _folder.Path, method]).MustSucceed();
}
