using LoftHpc.Configuration;
using LoftHpc.Distances;
using LoftHpc.Networks;
using LoftHpc.Results;
using LoftHpc.Tests.Results;
using LoftHpc.Tickets;
using TorchSharp;
using Xunit;
using static TorchSharp.torch;

namespace LoftHpc.Tests.Tickets;

/// <summary>Every criterion on a layer of three filters, whose scores are worked out by hand.</summary>
public sealed class CriterionTests : IDisposable
{
    private static readonly NetworkSpec Network = NetworkCatalog.Create(new NetworkSection { Depth = 18, Width = 3 }, 1, 10);

    private static readonly BlockSpec Block = Network.Blocks.Single(block => block.Name == "layer1.1");

    /// <summary>The two weights of each filter that are not zero.</summary>
    private static readonly (float, float)[] Filters = [(3, 4), (0, -6), (1, 0)];

    /// <summary>Of the norm behind it.</summary>
    private static readonly float[] Scales = [0.5f, -2, 1];

    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    /// <summary>Norms: sqrt(9 + 16) = 5, 6, 1.</summary>
    [Fact]
    public void L2_is_the_norm() => AssertScores(new L2Criterion(), [5, 6, 1], kept: 1);

    /// <summary>Sums: 3 + 4 = 7, 6, 1: here the first filter is the largest.</summary>
    [Fact]
    public void L1_is_the_sum_of_absolute_values() => AssertScores(new L1Criterion(), [7, 6, 1], kept: 0);

    [Fact]
    public void Smallest_is_the_inverse_of_l2() => AssertScores(new SmallestCriterion(), [-5, -6, -1], kept: 2);

    /// <summary>|0.5|, |-2|, |1|.</summary>
    [Fact]
    public void Batch_norm_scale_is_the_absolute_value_of_gamma() => AssertScores(new BatchNormScaleCriterion(), [0.5, 2, 1], kept: 1);

    /// <summary>In a network whose blocks end in relu the norm between the convolutions is the first one.</summary>
    [Fact]
    public void Batch_norm_scale_takes_the_norm_between_the_convolutions()
    {
        NetworkSpec plain = NetworkCatalog.Create(new NetworkSection { Family = NetworkFamily.Resnet, Depth = 18, Width = 3 }, 1, 10);
        string? asked = null;
        new BatchNormScaleCriterion().Scores(plain, plain.Blocks[1], name =>
        {
            asked = name;
            return ones(3);
        });
        Assert.Equal("layer1.1.bn1.weight", asked);
    }

    /// <summary>
    /// Distances: of 0 and 1 sqrt((3-0)^2 + (4+6)^2) = sqrt(109); of 0 and 2 sqrt(2^2 + 4^2) = sqrt(20); of 1 and 2
    /// sqrt(1^2 + 6^2) = sqrt(37). Sums: 14.91, 16.52, 10.55. The last filter, nearest to the others, goes first.
    /// </summary>
    [Fact]
    public void Geometric_median_is_the_sum_of_distances_to_the_others() =>
        AssertScores(new GeometricMedianCriterion(), [Math.Sqrt(109) + Math.Sqrt(20), Math.Sqrt(109) + Math.Sqrt(37), Math.Sqrt(20) + Math.Sqrt(37)], kept: 1);

    /// <summary>Squares 25, 36, 1. Largest: 36 / 36; then 25 / (36 + 25); then 1 / (36 + 25 + 1).</summary>
    [Fact]
    public void Lamp_is_the_share_of_what_is_not_smaller() => AssertScores(new LampCriterion(), [25.0 / 61, 1, 1.0 / 62], kept: 1);

    [Fact]
    public void Lamp_of_a_layer_of_zeros_is_zero() =>
        Assert.Equal([0, 0, 0], new LampCriterion().Scores(Network, Block, name => zeros([.. Network.Tensors.Single(tensor => tensor.Name == name).Shape])));

    [Fact]
    public void Random_reads_no_weights_and_is_a_function_of_the_seeds_and_the_layer()
    {
        double[] Scores(long run, long seed, string block = "layer4.1") => new RandomCriterion(run, seed).Scores(
            Network, Network.Blocks.Single(b => b.Name == block), _ => throw new InvalidOperationException("it reads weights"));
        double[] scores = Scores(1, 1);
        Assert.Equal(scores, Scores(1, 1));
        Assert.Equal(24, scores.Distinct().Count());
        Assert.All(scores, score => Assert.InRange(score, 0, 1));
        foreach (double[] other in new[] { Scores(1, 2), Scores(2, 1), Scores(1, 1, "layer4.0") }) Assert.Empty(scores.Intersect(other));
        // Each of three filters is first in about a third of the draws: within five standard deviations, sqrt(900 / 3 * 2 / 3) = 14.
        int[] first = new int[3];
        for (long seed = 0; seed < 900; seed++) first[Array.IndexOf(FilterDistance.Positions(Scores(1, seed, "layer1.1")), 1)]++;
        Assert.All(first, count => Assert.InRange(count, 230, 370));
    }

    /// <summary>
    /// Positions at step 2: norms 1, 3, 2 give 3, 1, 2; at step 4: norms 9, 8, 7 give 1, 2, 3; at step 6: norms 4, 5, 4 give 2, 1, 3
    /// (of equal norms the lower number is first). The last two: means 1.5, 1.5, 3. All three: 2, 4/3, 8/3. Step 0 does not count.
    /// </summary>
    [Theory]
    [InlineData(1, -2, -1, -3)]
    [InlineData(2, -1.5, -1.5, -3)]
    [InlineData(3, -2, -4.0 / 3, -8.0 / 3)]
    [InlineData(50, -2, -4.0 / 3, -8.0 / 3)]
    public void Rank_stability_is_minus_the_mean_position_of_the_last_measurements(int measurements, double first, double second, double third)
    {
        CsvTable<FilterNormRow> table = Norms((0, [1, 2, 3]), (2, [1, 3, 2]), (4, [9, 8, 7]), (6, [4, 5, 4]));
        double[] scores = RankStabilityCriterion.Of(table, [Block], measurements).Scores(Network, Block, _ => throw new InvalidOperationException("it reads weights"));
        Assert.Equal([first, second, third], scores);
    }

    [Fact]
    public void Rank_stability_says_what_the_run_lacks()
    {
        string Message(CsvTable<FilterNormRow> table) => Assert.Throws<UserError>(() => RankStabilityCriterion.Of(table, [Block], 5)).Message;
        CsvTable<FilterNormRow> none = new(_folder.File("none.csv"));
        Assert.Equal($"{none.Path}: there is no such file, which extract.criterion rank-stability needs", Message(none));
        CsvTable<FilterNormRow> start = Norms((0, [1, 2, 3]));
        Assert.StartsWith($"{start.Path}: there is no measurement after the first step, which extract.criterion rank-stability needs", Message(start));
        CsvTable<FilterNormRow> cut = Norms((0, [1, 2, 3]), (2, [1, 2, 3]), (4, [1, 2]));
        Assert.Equal($"{cut.Path}: layer layer1.1.conv1 has not one finite norm for each of its 3 filters at step 4", Message(cut));
        Assert.EndsWith("at step 2", Message(Norms((2, [1, double.NaN, 3]))));
    }

    [Fact]
    public void No_criterion_leaves_tensors()
    {
        static Tensor Read(string name) => ones([.. Network.Tensors.Single(tensor => tensor.Name == name).Shape]);
        long before = DisposeScopeManager.Statistics.ThreadTotalLiveCount;
        foreach (IFilterCriterion criterion in new IFilterCriterion[] { new L2Criterion(), new L1Criterion(), new SmallestCriterion(), new BatchNormScaleCriterion(), new GeometricMedianCriterion(), new LampCriterion() })
            TicketSelector.Select(Network, new ExtractSection(), TicketWidths.Of(Network, 28, new ExtractSection()), criterion, Read);
        Assert.Equal(before, DisposeScopeManager.Statistics.ThreadTotalLiveCount);
        // They are counted.
        using Tensor one = Read("conv1.weight");
        Assert.Equal(before + 1, DisposeScopeManager.Statistics.ThreadTotalLiveCount);
    }

    [Fact]
    public void The_criterion_of_a_ticket_ranks_its_filters_and_its_scores_stand_in_the_table()
    {
        Ticket ticket = TicketSelector.Select(
            Network, new ExtractSection(), new Dictionary<string, int> { ["layer1.1.conv1"] = 2, ["layer2.1.conv1"] = 1, ["layer3.1.conv1"] = 12, ["layer4.1.conv1"] = 3 }, new L1Criterion(), Weights);
        TicketRow[] rows = [.. ticket.Rows.Where(row => row.Layer == "layer1.1.conv1")];
        Assert.Equal([new TicketRow("layer1.1.conv1", 0, 5, 1, true, 7), new TicketRow("layer1.1.conv1", 1, 6, 2, true, 6), new TicketRow("layer1.1.conv1", 2, 1, 3, false, 1)], rows);
        Assert.Equal([2, 1, 12, 3], ticket.InnerCounts.Values);
        Assert.Equal(ticket.Kept.OrderBy(pair => pair.Key).SelectMany(pair => pair.Value), Ticket.Of(Network, ticket.Rows).Kept.OrderBy(pair => pair.Key).SelectMany(pair => pair.Value));
    }

    private static void AssertScores(IFilterCriterion criterion, double[] expected, int kept)
    {
        double[] scores = criterion.Scores(Network, Block, Weights);
        Assert.Equal(expected.Length, scores.Length);
        for (int filter = 0; filter < expected.Length; filter++) Assert.Equal(expected[filter], scores[filter], 1e-12);
        Assert.Equal(kept, Array.IndexOf(scores, scores.Max()));
    }

    private static Tensor Weights(string name)
    {
        if (name == "layer1.1.bn2.weight") return tensor(Scales);
        Tensor weight = zeros([.. Network.Tensors.Single(tensor => tensor.Name == name).Shape]);
        for (int filter = 0; filter < Filters.Length; filter++)
        {
            weight[filter, 0, 0, 0] = Filters[filter].Item1;
            weight[filter, 2, 1, 2] = Filters[filter].Item2;
        }
        return weight;
    }

    private CsvTable<FilterNormRow> Norms(params (long Step, double[] Norms)[] measured)
    {
        CsvTable<FilterNormRow> table = new(_folder.File("filter_norms.csv"));
        table.Write(measured.SelectMany(at => at.Norms.SelectMany((norm, filter) => new FilterNormRow[]
        {
            new(at.Step, at.Step / 2.0, "conv1", filter, 10 - norm), new(at.Step, at.Step / 2.0, "layer1.1.conv1", filter, norm),
        })));
        return table;
    }
}
