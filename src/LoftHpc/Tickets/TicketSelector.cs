using LoftHpc.Configuration;
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

    /// <summary>The ticket that a table describes, which fits its network (<see cref="TicketCheck"/>).</summary>
    public static Ticket Of(NetworkSpec dense, IReadOnlyList<TicketRow> rows)
    {
        ILookup<string, TicketRow> layers = rows.ToLookup(row => row.Layer);
        return new Ticket(dense, rows, dense.Blocks.Where(block => layers.Contains(block.Conv1.Name)).ToDictionary(
            block => block.Inner.Name, block => (int[])[.. layers[block.Conv1.Name].Where(row => row.Kept).Select(row => row.Filter).Order()]));
    }

    private int[]? KeptOf(ChannelSpace? space) => space is null ? null : Kept.GetValueOrDefault(space.Name);
}

/// <summary>
/// Draws a ticket (Wang et al. 2023): of the first convolution of each prunable block the filters of smallest score go, and with
/// them the entries of the batch norm that follows and the input channels of the second convolution.
/// </summary>
public static class TicketSelector
{
    /// <summary>The blocks that are pruned: all but each stage's first, or all.</summary>
    public static IEnumerable<BlockSpec> PrunableBlocks(NetworkSpec network, bool firstBlocks) =>
        network.Blocks.Where(block => firstBlocks || block.Index > 0);

    /// <param name="widths">How many filters stay, by name of the space (<see cref="TicketWidths.Of"/>); null: scope global finds them from the scores.</param>
    /// <param name="read">The whole weight of this name; disposed here.</param>
    public static Ticket Select(
        NetworkSpec dense, ExtractSection config, IReadOnlyDictionary<string, int>? widths, IFilterCriterion criterion, Func<string, Tensor> read)
    {
        List<LayerScores> layers = [];
        List<double[]> norms = [];
        foreach (BlockSpec block in PrunableBlocks(dense, config.FirstBlocks))
        {
            using (Tensor weight = read($"{block.Conv1.Name}.weight")) norms.Add(FilterNorms.OfRows(weight, columns: null));
            double[] scores = criterion.Scores(dense, block, read);
            layers.Add(new LayerScores(block, scores, FilterDistance.Positions(scores)));
        }
        widths ??= TicketWidths.Global(layers, config, criterion.ComparesLayers);
        return Ticket.Of(dense, [.. layers.Zip(norms).SelectMany(layer => Rows(layer.First, layer.Second, widths[layer.First.Block.Inner.Name]))]);
    }

    private static IEnumerable<TicketRow> Rows(LayerScores layer, double[] norms, int width) => norms.Select((norm, filter) =>
        new TicketRow(layer.Block.Conv1.Name, filter, norm, layer.Positions[filter], layer.Positions[filter] <= width, layer.Scores[filter]));
}
