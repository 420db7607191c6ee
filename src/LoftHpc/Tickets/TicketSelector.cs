using LoftHpc.Distances;
using LoftHpc.Networks;
using LoftHpc.Results;
using static TorchSharp.torch;

namespace LoftHpc.Tickets;

/// <summary>Which filters of a network stay.</summary>
/// <param name="Rows">One for every filter of every prunable layer.</param>
/// <param name="Kept">By channel space, the channels that stay, ascending.</param>
public sealed record Ticket(NetworkSpec Dense, IReadOnlyList<TicketRow> Rows, IReadOnlyDictionary<string, int[]> Kept)
{
    /// <summary>Channels left inside each pruned block, by name of the space.</summary>
    public SortedDictionary<string, int> InnerCounts => new(Kept.ToDictionary(kept => kept.Key, kept => kept.Value.Length));

    /// <summary>The physically smaller network.</summary>
    public NetworkSpec Pruned => Dense.WithInnerCounts(InnerCounts);

    /// <summary>The tensors of the ticket as parts of the dense network's, for <see cref="ModelState.Load"/>.</summary>
    public IReadOnlyList<TensorSlice> Slices => [.. Dense.Tensors.Select(tensor => new TensorSlice(tensor, KeptOf(tensor.Axis0), KeptOf(tensor.Axis1)))];

    private int[]? KeptOf(ChannelSpace? space) => space is null ? null : Kept.GetValueOrDefault(space.Name);
}

/// <summary>
/// Draws a ticket by the norms of the filters (Wang et al. 2023): of the first convolution of each prunable block the
/// filters of smallest l2 norm go, and with them the entries of the batch norm that follows and the input channels of
/// the second convolution.
/// </summary>
public static class TicketSelector
{
    /// <summary>The blocks that are pruned: all but each stage's first, or all.</summary>
    public static IEnumerable<BlockSpec> PrunableBlocks(NetworkSpec network, bool firstBlocks) =>
        network.Blocks.Where(block => firstBlocks || block.Index > 0);

    /// <summary>How many of n filters go: floor(ratio * n), and at least one stays.</summary>
    // As decimals: 0.29 * 100 is below 29 in binary.
    public static int RemovedCount(double ratio, int filters) => Math.Min(filters - 1, (int)decimal.Floor((decimal)ratio * filters));

    /// <summary>Channels that are left inside each pruned block, by name of the space, whatever the norms are.</summary>
    public static SortedDictionary<string, int> InnerCounts(NetworkSpec dense, double ratio, bool firstBlocks) => new(
        PrunableBlocks(dense, firstBlocks).ToDictionary(block => block.Inner.Name, block => block.Inner.Count - RemovedCount(ratio, block.Inner.Count)));

    /// <param name="read">The whole weight of this name; disposed here.</param>
    public static Ticket Select(NetworkSpec dense, double ratio, bool firstBlocks, Func<string, Tensor> read)
    {
        List<TicketRow> rows = [];
        Dictionary<string, int[]> kept = [];
        SortedDictionary<string, int> counts = InnerCounts(dense, ratio, firstBlocks);
        foreach (BlockSpec block in PrunableBlocks(dense, firstBlocks))
        {
            using Tensor weight = read($"{block.Conv1.Name}.weight");
            double[] norms = FilterNorms.OfRows(weight, columns: null);
            int[] positions = FilterDistance.Positions(norms);
            int staying = counts[block.Inner.Name];
            kept[block.Inner.Name] = [.. Enumerable.Range(0, norms.Length).Where(filter => positions[filter] <= staying)];
            rows.AddRange(norms.Select((norm, filter) => new TicketRow(block.Conv1.Name, filter, norm, positions[filter], positions[filter] <= staying)));
        }
        return new Ticket(dense, rows, kept);
    }
}
