using LoftHpc.Distances;
using LoftHpc.Networks;
using LoftHpc.Results;
using static TorchSharp.torch;

namespace LoftHpc.Tickets;

/// <summary>
/// Our own: minus the mean of a filter's positions over the last measurements of pre-training (filter_norms.csv), so that filters
/// stay that stood high for some time, and not at the end alone.
/// </summary>
public sealed class RankStabilityCriterion : IFilterCriterion
{
    private readonly Dictionary<string, double[]> _scores;

    private RankStabilityCriterion(Dictionary<string, double[]> scores) => _scores = scores;

    /// <summary>Reads the last so many measurements after the first step; where there are fewer, all of them.</summary>
    /// <exception cref="UserError">There is no such measurement, or one is not whole.</exception>
    public static RankStabilityCriterion Of(CsvTable<FilterNormRow> table, IEnumerable<BlockSpec> blocks, int measurements)
    {
        const string needs = "which extract.criterion rank-stability needs";
        if (!table.Exists) throw new UserError($"{table.Path}: there is no such file, {needs}");
        FilterNormRow[] rows = [.. table.Read().Where(row => row.Step > 0)];
        long[] steps = [.. rows.Select(row => row.Step).Distinct().OrderDescending().Take(measurements)];
        if (steps.Length == 0) throw new UserError($"{table.Path}: there is no measurement after the first step, {needs} (distance.every says when there is one)");
        ILookup<(string, long), FilterNormRow> measured = rows.Where(row => row.Step >= steps[^1]).ToLookup(row => (row.Layer, row.Step));
        Dictionary<string, double[]> scores = [];
        foreach (ConvSpec layer in blocks.Select(block => block.Conv1))
        {
            double[] sums = new double[layer.Out.Count];
            foreach (long step in steps)
            {
                FilterNormRow[] filters = [.. measured[(layer.Name, step)].OrderBy(row => row.Filter)];
                if (!filters.Select(row => row.Filter).SequenceEqual(Enumerable.Range(0, sums.Length)) || filters.Any(row => !double.IsFinite(row.Norm)))
                    throw new UserError($"{table.Path}: layer {layer.Name} has not one finite norm for each of its {sums.Length} filters at step {step}");
                int[] positions = FilterDistance.Positions([.. filters.Select(row => row.Norm)]);
                for (int filter = 0; filter < sums.Length; filter++) sums[filter] += positions[filter];
            }
            scores.Add(layer.Name, [.. sums.Select(sum => -sum / steps.Length)]);
        }
        return new RankStabilityCriterion(scores);
    }

    public double[] Scores(NetworkSpec network, BlockSpec block, Func<string, Tensor> read) => _scores[block.Conv1.Name];
}
