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

    /// <summary>The same as a part of another ticket's network, of which it is one.</summary>
    public Ticket Within(Ticket before) => this with
    {
        Dense = before.Pruned,
        Kept = Kept.ToDictionary(space => space.Key, space => (int[])[.. space.Value.Select(filter => Array.BinarySearch(before.Kept[space.Key], filter))]),
    };

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
    /// <param name="before">The ticket whose weights they are; null: those of the dense network. What has gone stays gone, in its place and with its score.</param>
    public static Ticket Select(
        NetworkSpec dense, ExtractSection config, IReadOnlyDictionary<string, int>? widths, IFilterCriterion criterion, Func<string, Tensor> read, Ticket? before = null)
    {
        NetworkSpec network = before?.Pruned ?? dense;
        ILookup<string, TicketRow>? rowsBefore = before?.Rows.ToLookup(row => row.Layer);
        List<LayerScores> layers = [];
        List<double[]> norms = [];
        foreach ((BlockSpec whole, BlockSpec block) in PrunableBlocks(dense, config.FirstBlocks).Zip(PrunableBlocks(network, config.FirstBlocks)))
        {
            double[] ownNorms;
            using (Tensor weight = read($"{block.Conv1.Name}.weight")) ownNorms = FilterNorms.OfRows(weight, columns: null);
            double[] ownScores = criterion.Scores(network, block, read);
            int[] ownPositions = FilterDistance.Positions(ownScores);
            if (before is null)
            {
                layers.Add(new LayerScores(whole, ownScores, ownPositions));
                norms.Add(ownNorms);
                continue;
            }
            TicketRow[] rows = [.. rowsBefore![whole.Conv1.Name].OrderBy(row => row.Filter)];
            (double[] layerNorms, double[] scores, int[] positions) = (
                [.. rows.Select(row => row.Norm)], [.. rows.Select(row => row.Score ?? row.Norm)], [.. rows.Select(row => row.Position)]);
            foreach ((int own, int filter) in before.Kept[whole.Inner.Name].Index()) (layerNorms[filter], scores[filter], positions[filter]) = (ownNorms[own], ownScores[own], ownPositions[own]);
            layers.Add(new LayerScores(whole, scores, positions, rows.Count(row => !row.Kept)));
            norms.Add(layerNorms);
        }
        widths ??= TicketWidths.Global(layers, config, criterion.ComparesLayers);
        return Ticket.Of(dense, [.. layers.Zip(norms).SelectMany(layer => Rows(layer.First, layer.Second, widths[layer.First.Block.Inner.Name]))]);
    }

    private static IEnumerable<TicketRow> Rows(LayerScores layer, double[] norms, int width) => norms.Select((norm, filter) =>
        new TicketRow(layer.Block.Conv1.Name, filter, norm, layer.Positions[filter], layer.Positions[filter] <= Math.Min(width, layer.Left), layer.Scores[filter]));
}
