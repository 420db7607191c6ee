using LoftHpc.Configuration;
using LoftHpc.Distances;
using LoftHpc.Networks;
using LoftHpc.Tests.Results;
using LoftHpc.Tickets;
using LoftHpc.Training;
using Xunit;
using static TorchSharp.torch;

namespace LoftHpc.Tests.Tickets;

/// <summary>A PreActResNet-18 of width 8, with prunable layers of 8, 16, 32 and 64 filters and 176,034 parameters.</summary>
public sealed class TicketWidthsTests : IDisposable
{
    private static readonly WeightsIdentity Dense = new(new NetworkSection { Depth = 18, Width = 8 }, 1, 28, 10);

    private static readonly NetworkSpec Network = Dense.Describe();

    /// <summary>One filter of a layer of C filters: a row of 9 C weights, the norm's two, and a column of 9 C.</summary>
    private static readonly int[] Filters = [8, 16, 32, 64], ParametersOfFilter = [(18 * 8) + 2, (18 * 16) + 2, (18 * 32) + 2, (18 * 64) + 2];

    private const long Whole = 176_034;

    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData(0.5, 8, 4)]
    [InlineData(0.5, 7, 3)]
    [InlineData(0.29, 100, 29)] // 0.29 * 100 is 28.999999999999996 in binary
    [InlineData(0.8, 64, 51)]
    [InlineData(0.99, 8, 7)]
    [InlineData(0.999, 1000, 999)]
    [InlineData(0.9, 1, 0)]
    [InlineData(0, 8, 0)]
    public void Floor_of_ratio_times_n_goes_and_one_stays(double ratio, int filters, int removed) =>
        Assert.Equal(removed, TicketWidths.RemovedCount(ratio, filters));

    [Theory]
    [InlineData(11, 12, 8, 8)]
    [InlineData(12, 12, 8, 12)] // 12 / 8 is a half: 16, and there are 12
    [InlineData(20, 64, 8, 24)]
    [InlineData(19, 64, 8, 16)]
    [InlineData(1, 64, 8, 8)]
    [InlineData(3, 6, 8, 6)]
    [InlineData(5, 9, 1, 5)]
    public void Widths_are_rounded_to_the_nearest_multiple_or_all_filters(int width, int filters, int multiple, int rounded) =>
        Assert.Equal(rounded, TicketWidths.Round(width, filters, multiple));

    /// <summary>Of 0.8 floor(6.4), floor(12.8), floor(25.6) and floor(51.2) go: 2, 4, 7 and 13 stay, which are 0.25, 0.5, 0.9 and 1.6 times 8.</summary>
    [Theory]
    [InlineData(0.5, 1, 4, 8, 16, 32)]
    [InlineData(0.8, 1, 2, 4, 7, 13)]
    [InlineData(0.8, 8, 8, 8, 8, 16)]
    public void Scope_layer_takes_the_same_ratio_everywhere(double ratio, int multiple, params int[] widths) =>
        Assert.Equal(widths, Widths(new ExtractSection { Ratio = ratio, RoundTo = multiple }));

    [Fact]
    public void Scope_layer_ratios_takes_one_for_each_block() =>
        Assert.Equal([8, 12, 16, 16], Widths(new ExtractSection { Scope = ExtractScope.LayerRatios, LayerRatios = [0, 0.25, 0.5, 0.75] }));

    /// <summary>
    /// The first to go is 1 of 64 (1154 parameters); the next are 1 of 32 (578) and 2 of 64 alike, and the earlier layer comes first. A
    /// budget 250 below the first step is nearer to it than to the next (328 further); one 300 below it is nearer to the next (278).
    /// </summary>
    [Theory]
    [InlineData(0, 8, 16, 32, 64)]
    [InlineData(576, 8, 16, 32, 64)]
    [InlineData(578, 8, 16, 32, 63)]
    [InlineData(1154, 8, 16, 32, 63)]
    [InlineData(1154 + 250, 8, 16, 32, 63)]
    [InlineData(1154 + 300, 8, 16, 31, 63)]
    [InlineData(1154 + 578, 8, 16, 31, 63)]
    [InlineData(1154 + 578 + 1154, 8, 16, 31, 62)]
    public void A_budget_is_met_by_the_nearest_width(int removed, params int[] widths) =>
        Assert.Equal(widths, Widths(new ExtractSection { Scope = ExtractScope.Parameters, Budget = (double)(Whole - removed) / Whole }));

    [Theory]
    [InlineData(ExtractScope.Parameters, 0.5, 1)]
    [InlineData(ExtractScope.Parameters, 0.8, 1)]
    [InlineData(ExtractScope.Flops, 0.6, 1)]
    [InlineData(ExtractScope.Flops, 0.83, 1)]
    [InlineData(ExtractScope.Flops, 0.8, 4)]
    public void A_budget_takes_the_same_ratio_everywhere_to_one_step_of_a_width(ExtractScope scope, double budget, int multiple)
    {
        int[] widths = Widths(new ExtractSection { Scope = scope, Budget = budget, RoundTo = multiple });
        NetworkSpec pruned = Network.WithInnerCounts(Filters.Select((_, i) => i).ToDictionary(i => $"layer{i + 1}.1.conv1", i => widths[i]));
        Assert.Equal(Whole, Network.ParameterCount);
        (double reached, double step) = scope is ExtractScope.Parameters
            ? ((double)pruned.ParameterCount / Whole, 1154.0 / Whole)
            // Two operations for each of 18 C weights, on 28 x 28 pixels: no other layer's filter costs more.
            : ((double)pruned.Flops(28) / Network.Flops(28), 2.0 * 18 * 8 * 28 * 28 / Network.Flops(28));
        Assert.InRange(reached, budget - (step * multiple / 2), budget + (step * multiple / 2));
        Assert.True(multiple > 1 || Math.Abs(reached - budget) <= 0.01);
        Assert.All(widths, width => Assert.Equal(0, width % multiple));
        // There is one ratio between what has gone of every layer and what would go next.
        Assert.True(Filters.Zip(widths).Max(layer => (double)(layer.First - layer.Second) / layer.First)
            <= Filters.Zip(widths).Min(layer => (double)(layer.First - layer.Second + multiple) / layer.First));
    }

    /// <summary>At most 7, 15, 31 and 63 filters go, with 95,992 parameters: 0.4547 of them are left.</summary>
    [Fact]
    public void A_budget_that_filters_inside_blocks_cannot_meet_is_refused()
    {
        Assert.Equal(95_992, Filters.Zip(ParametersOfFilter).Sum(layer => (layer.First - 1) * layer.Second));
        UserError error = Assert.Throws<UserError>(() => Widths(new ExtractSection { Scope = ExtractScope.Parameters, Budget = 0.3 }));
        Assert.Equal(
            "extract.budget: 0.3 of the parameters cannot be reached: with the narrowest blocks 0.4547 of them are left, since only filters inside a block are pruned; allowed: more than that, or extract.first_blocks true",
            error.Message);
        Assert.Equal([1, 1, 1, 1], Widths(new ExtractSection { Scope = ExtractScope.Parameters, Budget = 0.45 }));
    }

    /// <summary>
    /// Layers A = 8, 4, 2, 2 and B = 0.1, 0.3, 0.6, 0.7, 1, 1.2, 1.6, 2.5, whose means are 4 and 1; of 12 filters 6 go. Divided by the
    /// means A is 2, 1, 0.5, 0.5: 0.1, 0.3, 0.5, 0.5, 0.6 and 0.7 go, 2 of A and 4 of B. As they are the 6 smallest are B's. With a floor of
    /// 0.5, 4 of B stay and so the next two, A's, go; with one of 0.75, 3 and 6 stay, and no more can go than 1 and 2.
    /// </summary>
    [Theory]
    [InlineData(false, 0, 2, 4)]
    [InlineData(true, 0, 4, 2)]
    [InlineData(true, 0.5, 2, 4)]
    [InlineData(true, 0.75, 3, 6)]
    public void Scope_global_removes_the_smallest_scores_of_all_layers(bool comparable, double floor, int first, int second)
    {
        ExtractSection config = new() { Scope = ExtractScope.Global, LayerFloor = floor };
        Assert.Null(TicketWidths.Of(Network, 28, config));
        Assert.Equal([first, second], Global(config, comparable, [8, 4, 2, 2], [0.1, 0.3, 0.6, 0.7, 1, 1.2, 1.6, 2.5]));
    }

    /// <summary>
    /// B is 0.1 seven times and 7.3, with a mean of 1: of 0.1 six go, before any of A. Of minus these scores, as criterion smallest has
    /// them, -7.3, -2, -1 and one -0.5 go (the other one stays, as the last of A), and then -0.1 twice.
    /// </summary>
    [Fact]
    public void Scope_global_takes_negative_scores_the_other_way_round()
    {
        ExtractSection config = new() { Scope = ExtractScope.Global, LayerFloor = 0 };
        double[] first = [8, 4, 2, 2], second = [0.1, 0.1, 0.1, 7.3, 0.1, 0.1, 0.1, 0.1];
        Assert.Equal([4, 2], Global(config, false, first, second));
        Assert.Equal([1, 5], Global(config, false, [.. first.Select(score => -score)], [.. second.Select(score => -score)]));
    }

    /// <summary>Of 12 filters floor(0.9 * 12) = 10 go; 7 of B, since one stays, and so 3 of A. Without scores all are equal.</summary>
    [Fact]
    public void Of_every_layer_one_filter_stays()
    {
        ExtractSection config = new() { Scope = ExtractScope.Global, LayerFloor = 0, Ratio = 0.9 };
        Assert.Equal([1, 1], Global(config, true, [8, 8, 8, 8], new double[8]));
        Assert.Equal([1, 1], Global(config, false, new double[4], new double[8]));
        Assert.Equal([4, 8], Global(config with { RoundTo = 8 }, true, [8, 8, 8, 8], new double[8]));
    }

    [Fact]
    public void Another_ticket_gives_its_widths()
    {
        WeightsIdentity ticket = Dense with { InnerCounts = new() { ["layer1.1.conv1"] = 3, ["layer2.1.conv1"] = 1, ["layer3.1.conv1"] = 32, ["layer4.1.conv1"] = 7 } };
        string path = Save("pruned.safetensors", ticket);
        Assert.Equal(ticket.InnerCounts, TicketWidths.Like(path, Dense, firstBlocks: false));
        // Its run folder.
        Assert.Equal(ticket.InnerCounts, TicketWidths.Like(_folder.Path, Dense, firstBlocks: false));

        string Message(string file, WeightsIdentity? dense = null, bool firstBlocks = false) =>
            Assert.Throws<UserError>(() => TicketWidths.Like(file, dense ?? Dense, firstBlocks)).Message;
        Assert.StartsWith("extract.like: /nowhere/x: there is no such file; allowed: ", Message("/nowhere/x"));
        Assert.StartsWith($"extract.like: {path}: a ticket with 4 pruned blocks, where extract.first_blocks true prunes 8; allowed: ", Message(path, firstBlocks: true));
        Assert.Equal($"extract.like: {path}: a ticket of another network: network.width is 8 and 9", Message(path, Dense with { Network = Dense.Network with { Width = 9 } }));
        string whole = Save("dense.safetensors", Dense);
        Assert.Equal($"extract.like: {whole}: weights of a dense network, where those of a ticket are expected", Message(whole));
    }

    private string Save(string file, WeightsIdentity identity)
    {
        NetworkSpec network = identity.Describe();
        using ModelState state = ModelState.Frozen(network, ScalarType.Float32, CPU);
        WeightsFile.Save(_folder.File(file), identity, 4, network, state);
        return _folder.File(file);
    }

    private static int[] Widths(ExtractSection config) => [.. TicketWidths.Of(Network, 28, config)!.Values];

    private static int[] Global(ExtractSection config, bool comparable, params double[][] scores)
    {
        // Of width 4, whose first two prunable layers have 4 and 8 filters.
        NetworkSpec network = NetworkCatalog.Create(new NetworkSection { Depth = 18, Width = 4 }, 1, 10);
        LayerScores[] layers =
        [
            .. TicketSelector.PrunableBlocks(network, firstBlocks: false).Zip(scores)
                .Select(layer => new LayerScores(layer.First, layer.Second, FilterDistance.Positions(layer.Second))),
        ];
        return [.. TicketWidths.Global(layers, config, comparable).Values];
    }
}
