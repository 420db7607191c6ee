using LoftHpc.Distances;
using LoftHpc.Networks;
using LoftHpc.Results;
using static TorchSharp.torch;

namespace LoftHpc.Tickets;

/// <summary>Reads a ticket back: whether ticket.csv and the pruned weights beside it say the same.</summary>
public static class TicketCheck
{
    /// <summary>What float64 sums of the same numbers may differ by where they are added in another order.</summary>
    private const double Tolerance = 1e-9;

    /// <summary>Compares the norms of all filters of a table with those of the dense weights that it was drawn from.</summary>
    /// <param name="weights">Name of the dense weights file, for errors.</param>
    /// <param name="read">The whole weight of this name; disposed here.</param>
    /// <exception cref="UserError">They differ.</exception>
    public static void MustBeDrawnFrom(CsvTable<TicketRow> table, string weights, NetworkSpec dense, Func<string, Tensor> read)
    {
        Dictionary<string, ConvSpec> layers = dense.Blocks.ToDictionary(block => block.Conv1.Name, block => block.Conv1);
        foreach (IGrouping<string, TicketRow> rows in table.Read().GroupBy(row => row.Layer))
        {
            if (!layers.TryGetValue(rows.Key, out ConvSpec? layer)) throw new UserError($"{table.Path}: layer {PlainText.Of(rows.Key)} is none that can be pruned");
            using Tensor weight = read($"{layer.Name}.weight");
            double[] norms = FilterNorms.OfRows(weight, columns: null);
            if (rows.FirstOrDefault(row => row.Filter < 0 || row.Filter >= norms.Length || !IsSame(norms[row.Filter], row.Norm)) is TicketRow other)
            {
                throw new UserError(FormattableString.Invariant(
                    $"{table.Path}: filter {other.Filter} of layer {layer.Name} has norm {other.Norm:R}, and in {weights} another one: the ticket was not drawn from this run"));
            }
        }
    }

    private static bool IsSame(double norm, double noted) => Math.Abs(norm - noted) <= Tolerance * noted;

    /// <summary>Compares layers, numbers of filters, and the norms of the filters that stayed.</summary>
    /// <param name="weights">Name of the weights file, for errors.</param>
    /// <param name="dense">The network that the ticket was drawn from.</param>
    /// <param name="innerCounts">Channels left inside each pruned block, by name of the space, as the weights file has them.</param>
    /// <param name="read">The whole weight of this name; disposed here.</param>
    /// <exception cref="UserError">They differ.</exception>
    public static void MustMatch(
        CsvTable<TicketRow> table, string weights, NetworkSpec dense, IReadOnlyDictionary<string, int>? innerCounts, Func<string, Tensor> read)
    {
        if (innerCounts is null) throw new UserError($"{weights}: weights of a dense network, where those of a ticket, which extract draws, are expected");
        ILookup<string, TicketRow> layers = table.Read().ToLookup(row => row.Layer);
        BlockSpec[] pruned = [.. dense.Blocks.Where(block => innerCounts.ContainsKey(block.Inner.Name))];
        string[] odd = [.. layers.Select(layer => layer.Key).Except(pruned.Select(block => block.Conv1.Name))];
        if (odd.Length > 0) throw new UserError($"{table.Path}: layer {PlainText.Of(odd[0])} is none that {weights} has pruned");
        foreach (BlockSpec block in pruned)
        {
            string name = block.Conv1.Name;
            TicketRow[] rows = [.. layers[name].OrderBy(row => row.Filter)], kept = [.. rows.Where(row => row.Kept)];
            if (!rows.Select(row => row.Filter).SequenceEqual(Enumerable.Range(0, block.Inner.Count)))
                throw new UserError($"{table.Path}: layer {name} has not one row for each of its {block.Inner.Count} filters");
            if (kept.Length != innerCounts[block.Inner.Name])
                throw new UserError($"{table.Path}: layer {name} keeps {kept.Length} filters, and {weights} has {innerCounts[block.Inner.Name]}");
            using Tensor weight = read($"{name}.weight");
            double[] norms = FilterNorms.OfRows(weight, columns: null);
            int other = Enumerable.Range(0, norms.Length).FirstOrDefault(i => !IsSame(norms[i], kept[i].Norm), -1);
            if (other >= 0)
            {
                throw new UserError(FormattableString.Invariant(
                    $"{table.Path}: filter {kept[other].Filter} of layer {name} has norm {kept[other].Norm:R}, and in {weights} it has {norms[other]:R}: the two are not of one ticket"));
            }
        }
    }
}
