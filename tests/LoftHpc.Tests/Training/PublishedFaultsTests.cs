using LoftHpc.Configuration;
using LoftHpc.Mpi;
using LoftHpc.Networks;
using LoftHpc.Results;
using LoftHpc.Tests.Mpi;
using LoftHpc.Tests.Results;
using LoftHpc.Tickets;
using Xunit;
using static TorchSharp.torch;

namespace LoftHpc.Tests.Training;

/// <summary>
/// The released scripts of LoFT (Wang et al. 2023) have seven faults. Each test fails for a program that has the fault.
/// </summary>
public sealed class PublishedFaultsTests : IDisposable
{
    private static readonly NetworkSpec Network = NetworkCatalog.Create(new NetworkSection { Depth = 34, Width = 4 }, 1, 10);

    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    /// <summary>1. Pruning keeps the filters of smallest norm.</summary>
    [Fact]
    public void Fault_1_the_filters_of_largest_norm_stay()
    {
        Ticket ticket = Select((_, filter) => filter);
        foreach ((string space, int[] kept) in ticket.Kept)
        {
            int filters = Network.Spaces.Single(s => s.Name == space).Count;
            Assert.Equal(Enumerable.Range(filters / 2, filters / 2), kept);
        }
    }

    /// <summary>2. Stages 3 and 4 are pruned by the mask of stage 2.</summary>
    [Fact]
    public void Fault_2_every_block_is_pruned_by_its_own_norms()
    {
        // In every block other filters are the large ones: those whose number has the block's remainder by 2.
        Ticket ticket = Select((block, filter) => filter % 2 == block % 2 ? 2 : 1);
        BlockSpec[] blocks = [.. TicketSelector.PrunableBlocks(Network, firstBlocks: false)];
        Assert.Contains(blocks, block => block.Stage == 4);
        for (int i = 0; i < blocks.Length; i++)
            Assert.All(ticket.Kept[blocks[i].Inner.Name], filter => Assert.Equal(i % 2, filter % 2));
    }

    /// <summary>3. Pruned filters of stage 4 grow back in retraining: here they are gone from the file, in every stage.</summary>
    [SkippableFact]
    public void Fault_3_what_is_pruned_stays_pruned_in_retraining()
    {
        string config = Path.Combine(_folder.Path, "test.yaml");
        File.WriteAllText(config, """
            run: {device: cpu, threads: 1}
            network: {depth: 18, width: 4}
            data: {set: synthetic, train_images: 40, test_images: 10, synthetic: {channels: 1, size: 28, classes: 3}}
            pretrain: {method: loft, local_steps: 2, epochs: 1, batch: 8, loft: {statistics_images: 16}}
            retrain: {epochs: 2, batch: 8}
            """);
        MpiLauncher.Run(MpiLauncher.AnyFamily(), 2, [MpiLauncher.LoftHpc, "run", "--config", config, $"run.folder={_folder.Path}", "run.name=a"]).MustSucceed();
        RunFolder folder = RunFolder.Open(Path.Combine(_folder.Path, "a"));
        using SafetensorsFile pruned = SafetensorsFile.Open(folder.PrunedWeights), ticket = SafetensorsFile.Open(folder.TicketWeights);
        foreach (int stage in new[] { 1, 2, 3, 4 })
        {
            int kept = 4 << (stage - 1) >> 1;
            string conv1 = $"layer{stage}.1.conv1.weight", conv2 = $"layer{stage}.1.conv2.weight";
            using Tensor before = pruned.Read(conv1), after = ticket.Read(conv1), second = ticket.Read(conv2);
            Assert.Equal((kept, kept, kept), (before.shape[0], after.shape[0], second.shape[1]));
            // It was trained.
            Assert.False(before.equal(after).all().item<bool>());
        }
    }

    /// <summary>4. The loss is divided by 4 and the optimizer steps in every batch: the replay steps by the whole gradient.</summary>
    [SkippableFact]
    public void Fault_4_a_step_takes_the_gradient_of_the_mean_loss() => MpiLauncher.RunScenarios(
        MpiFamily.OpenMpi, 1, [["LoftScenarios.OneRank", $"{MomentumKind.Restart}", "Average"], ["LoftScenarios.OneRank", $"{MomentumKind.Travel}", "Average"]]).MustSucceed();

    /// <summary>5. Only rank 0's updates of partitioned filters are kept: the replay has those of every rank.</summary>
    [SkippableFact]
    public void Fault_5_the_updates_of_every_rank_are_kept() =>
        LoftTests.Run(MpiFamily.OpenMpi, 4, "Replay", "PreactResnet", "18", "4", "Cifar", "method=loft", "local_steps=4");

    /// <summary>6. In stages of more than two blocks the first norm of the wrong block is averaged: depth 34 has such stages.</summary>
    [SkippableFact]
    public void Fault_6_the_norms_of_every_block_are_averaged() =>
        LoftTests.Run(MpiFamily.OpenMpi, 3, "Replay", "PreactResnet", "34", "3", "Cifar", "method=loft", "local_steps=4", "loft.running_statistics=average");

    /// <summary>7. It does not run as published, and the number of workers is fixed at 2.</summary>
    [SkippableTheory]
    [InlineData(1)]
    [InlineData(3)]
    [InlineData(5)]
    public void Fault_7_it_runs_on_any_number_of_ranks(int ranks) =>
        LoftTests.Run(MpiFamily.OpenMpi, ranks, "Replay", "PreactResnet", "18", "3", "Cifar", "method=loft", "local_steps=6");

    /// <summary>A ticket of half of the filters, drawn from filters with these norms by prunable block (from 0) and filter.</summary>
    private static Ticket Select(Func<int, int, double> norm)
    {
        string[] blocks = [.. TicketSelector.PrunableBlocks(Network, firstBlocks: false).Select(block => block.Conv1.Name)];
        ExtractSection config = new();
        return TicketSelector.Select(Network, config, TicketWidths.Of(Network, 28, config), new L2Criterion(), name =>
        {
            long[] shape = [.. Network.Tensors.Single(tensor => tensor.Name == name).Shape];
            using var scope = NewDisposeScope();
            Tensor weight = zeros(shape);
            int block = Array.IndexOf(blocks, name[..^".weight".Length]);
            for (int filter = 0; filter < shape[0]; filter++) weight[filter, 0, 0, 0] = norm(block, filter);
            return weight.MoveToOuterDisposeScope();
        });
    }
}
