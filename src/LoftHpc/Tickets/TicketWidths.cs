using System.Globalization;
using LoftHpc.Configuration;
using LoftHpc.Networks;
using LoftHpc.Results;
using LoftHpc.Training;

namespace LoftHpc.Tickets;

/// <summary>The scores of one prunable layer.</summary>
/// <param name="Positions">From 1, the largest score of those that are left; behind them those that have gone.</param>
/// <param name="Gone">Filters that went in earlier iterations.</param>
public sealed record LayerScores(BlockSpec Block, double[] Scores, int[] Positions, int Gone = 0)
{
    /// <summary>Filters that have not gone.</summary>
    public int Left => Scores.Length - Gone;

    /// <summary>Whether a filter went in an earlier iteration.</summary>
    public bool HasGone(int filter) => Positions[filter] > Left;
}

/// <summary>How many filters stay in each prunable layer (config key extract.scope). docs/tickets.md says how each scope finds them.</summary>
public static class TicketWidths
{
    /// <summary>Of the whole, by which a budget may be missed where filters do not end too soon.</summary>
    private const double BudgetTolerance = 0.01;

    /// <summary>How many of n filters go: floor(ratio * n), and at least one stays.</summary>
    // As decimals: 0.29 * 100 is below 29 in binary.
    public static int RemovedCount(double ratio, int filters) => Math.Min(filters - 1, (int)decimal.Floor((decimal)ratio * filters));

    /// <summary>The multiple of <paramref name="multiple"/> that is next to a width, halves upwards: at least one, and at most all filters, which need be no multiple.</summary>
    public static int Round(int width, int filters, int multiple) =>
        Math.Min(filters, multiple * Math.Max(1, (int)Math.Round((double)width / multiple, MidpointRounding.AwayFromZero)));

    /// <summary>Channels left inside each pruned block, by name of the space; null where they depend on the weights (scope global).</summary>
    /// <param name="imageSide">In pixels: FLOPs depend on it.</param>
    /// <exception cref="UserError">A budget cannot be met.</exception>
    public static SortedDictionary<string, int>? Of(NetworkSpec dense, int imageSide, ExtractSection config)
    {
        BlockSpec[] blocks = [.. TicketSelector.PrunableBlocks(dense, config.FirstBlocks)];
        return config.Scope switch
        {
            ExtractScope.Layer => ByRatio(_ => config.Ratio),
            ExtractScope.LayerRatios => ByRatio(block => config.LayerRatios[block]),
            ExtractScope.Flops => ToBudget(dense, blocks, config, "FLOPs", network => network.Flops(imageSide)),
            ExtractScope.Parameters => ToBudget(dense, blocks, config, "parameters", network => network.ParameterCount),
            _ => null,
        };

        SortedDictionary<string, int> ByRatio(Func<int, double> ratio) => new(blocks.Select((block, i) => (block.Inner, Ratio: ratio(i))).ToDictionary(
            layer => layer.Inner.Name,
            layer => Round(layer.Inner.Count - RemovedCount(layer.Ratio, layer.Inner.Count), layer.Inner.Count, config.RoundTo)));
    }

    /// <summary>
    /// Scope global: of all filters of the prunable layers together the floor(ratio * n) of smallest score go, but of each layer the
    /// share extract.layer_floor stays, rounded up, and one filter at least.
    /// </summary>
    /// <param name="comparable">Whether scores are compared as they are; else each is divided by the mean absolute score of its layer.</param>
    public static SortedDictionary<string, int> Global(IReadOnlyList<LayerScores> layers, ExtractSection config, bool comparable)
    {
        int removed = (int)decimal.Floor((decimal)config.Ratio * layers.Sum(layer => layer.Scores.Length));
        // Of equal ones those of the first layer go first, and in a layer the last in position.
        Dictionary<int, int> gone = layers.SelectMany((layer, number) => Candidates(layer, number))
            .OrderBy(candidate => candidate.Score).ThenBy(candidate => candidate.Number).ThenByDescending(candidate => candidate.Position)
            .Take(removed).CountBy(candidate => candidate.Number).ToDictionary();
        return new(layers.Select((layer, number) => (layer.Block.Inner, Width: layer.Scores.Length - gone.GetValueOrDefault(number)))
            .ToDictionary(layer => layer.Inner.Name, layer => Round(layer.Width, layer.Inner.Count, config.RoundTo)));

        IEnumerable<(double Score, int Number, int Position)> Candidates(LayerScores layer, int number)
        {
            double[] left = [.. layer.Scores.Where((_, filter) => !layer.HasGone(filter))];
            double mean = comparable || left.Length == 0 ? 1 : left.Average(Math.Abs);
            int stay = Math.Max(1, (int)decimal.Ceiling((decimal)config.LayerFloor * layer.Scores.Length));
            return from filter in Enumerable.Range(0, layer.Scores.Length)
                   where layer.Positions[filter] > stay
                   // What has gone goes first.
                   select (layer.HasGone(filter) ? double.NegativeInfinity : mean == 0 ? 0 : layer.Scores[filter] / mean, number, layer.Positions[filter]);
        }
    }

    /// <summary>The widths of another ticket of the same network (extract.like).</summary>
    /// <param name="path">One of its weights files, or its run folder.</param>
    /// <exception cref="UserError">It is none, or of another network, or other blocks are pruned.</exception>
    public static SortedDictionary<string, int> Like(string path, WeightsIdentity dense, bool firstBlocks)
    {
        string weights = Directory.Exists(path) ? RunFolder.At(path).PrunedWeights : path;
        if (!File.Exists(weights)) throw new UserError($"extract.like: {weights}: there is no such file; allowed: weights of a ticket, or a run folder that has them");
        using SafetensorsFile file = SafetensorsFile.Open(weights);
        WeightsIdentity other = WeightsIdentity.Of(file, weights);
        if (other.InnerCounts is not SortedDictionary<string, int> widths)
            throw new UserError($"extract.like: {weights}: weights of a dense network, where those of a ticket are expected");
        string[] keys = [.. RunConfigRules.Differences("network", other.Network, dense.Network)];
        if (keys.Length > 0) throw new UserError($"extract.like: {weights}: a ticket of another network: {string.Join("; ", keys)}");
        string[] blocks = [.. TicketSelector.PrunableBlocks(dense.Describe(), firstBlocks).Select(block => block.Inner.Name).Order(StringComparer.Ordinal)];
        if (!widths.Keys.Order(StringComparer.Ordinal).SequenceEqual(blocks))
        {
            throw new UserError($"extract.like: {weights}: a ticket with {widths.Count} pruned blocks, where extract.first_blocks {(firstBlocks ? "true" : "false")} " +
                $"prunes {blocks.Length}; allowed: the extract.first_blocks that it was drawn with");
        }
        return widths;
    }

    /// <summary>
    /// The same ratio in every layer, to one step of a width: the layer of which the least has gone gives the next filters (of equal ones
    /// the first in the network), until the next step would lead further from the budget. A layer's cost is linear in its width.
    /// </summary>
    private static SortedDictionary<string, int> ToBudget(NetworkSpec dense, BlockSpec[] blocks, ExtractSection config, string what, Func<NetworkSpec, long> cost)
    {
        SortedDictionary<string, int> widths = new(blocks.ToDictionary(block => block.Inner.Name, block => block.Inner.Count));
        Dictionary<string, long> costOfFilter = blocks.Where(block => block.Inner.Count > 1).ToDictionary(
            block => block.Inner.Name,
            block => cost(dense) - cost(dense.WithInnerCounts(new Dictionary<string, int> { [block.Inner.Name] = block.Inner.Count - 1 })));
        long whole = cost(dense), left = whole;
        double budget = config.Budget * whole;
        var steps =
            from layer in blocks.Select((block, number) => (block.Inner.Name, Filters: block.Inner.Count, Number: number))
            from width in Enumerable.Range(1, layer.Filters - 1).Where(width => Round(width, layer.Filters, config.RoundTo) == width)
            orderby (double)(layer.Filters - width) / layer.Filters, layer.Number
            select (layer.Name, width);
        foreach ((string name, int width) in steps)
        {
            long after = left - (costOfFilter[name] * (widths[name] - width));
            if (after < budget && budget - after >= left - budget) return widths;
            (left, widths[name]) = (after, width);
            if (after < budget) return widths;
        }
        double least = (double)left / whole;
        if (least - config.Budget > BudgetTolerance)
        {
            throw new UserError(string.Create(CultureInfo.InvariantCulture,
                $"extract.budget: {config.Budget} of the {what} cannot be reached: with the narrowest blocks {least:0.0000} of them are left, since only filters inside a block are pruned; allowed: more than that{(config.FirstBlocks ? "" : ", or extract.first_blocks true")}"));
        }
        return widths;
    }
}
