using LoftHpc.Configuration;
using LoftHpc.Results;
using LoftHpc.Tests.Results;
using LoftHpc.Tickets;
using Xunit;

namespace LoftHpc.Tests.Tickets;

/// <summary>Which tickets a config asks for, under which names, and the table of those that are finished.</summary>
public sealed class TicketGridTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    private static IReadOnlyList<GridTicket> Of(params string[] overrides) => TicketGrid.Of(RunConfigLoader.Parse("", "a.yaml", overrides));

    private static string[] Names(params string[] overrides) => [.. Of(overrides).Select(ticket => ticket.Name)];

    [Fact]
    public void Without_lists_there_is_the_one_ticket_of_extract_and_retrain()
    {
        Assert.Equal(["l2-0.5-pretrained-1"], Names());
        GridTicket ticket = Assert.Single(Of("extract.ratio=0.8", "extract.criterion=batch-norm-scale", "retrain.start=rewind", "retrain.rewind=500 steps", "run.seed=-3", "extract.seed=7"));
        Assert.Equal("batch-norm-scale-0.8-rewind-500-steps--3", ticket.Name);
        Assert.Equal((0.8, FilterCriterion.BatchNormScale, RetrainStart.Rewind, -3L, 7L), (ticket.Extract.Ratio, ticket.Extract.Criterion, ticket.Start, ticket.Seed, ticket.Extract.Seed));
        Assert.Empty(ticket.ControlOf);
    }

    [Fact]
    public void Every_combination_is_there_once_in_the_order_of_the_lists()
    {
        Assert.Equal(
            [
                "l1-0.9-initial-2", "l1-0.9-initial-1", "l1-0.9-pretrained-2", "l1-0.9-pretrained-1", "lamp-0.9-initial-2", "lamp-0.9-initial-1", "lamp-0.9-pretrained-2", "lamp-0.9-pretrained-1",
                "l1-0.25-initial-2", "l1-0.25-initial-1", "l1-0.25-pretrained-2", "l1-0.25-pretrained-1", "lamp-0.25-initial-2", "lamp-0.25-initial-1", "lamp-0.25-pretrained-2", "lamp-0.25-pretrained-1",
            ],
            Names("tickets.ratios=[0.9, 0.25, 0.90]", "tickets.criteria=[l1, lamp, l1]", "tickets.starts=[initial, pretrained]", "tickets.seeds=[2, 1, 2]"));
    }

    [Fact]
    public void Controls_stand_behind_their_ticket()
    {
        IReadOnlyList<GridTicket> tickets = Of("tickets.controls=[random, inverted, reinitialised, shuffled, unpruned]", "extract.round_to=8", "extract.first_blocks=true");
        Assert.Equal(
            ["l2-0.5-pretrained-1", "random-0.5-pretrained-1", "smallest-0.5-pretrained-1", "l2-0.5-reinitialised-1", "l2-0.5-shuffled-1", "unpruned-pretrained-1"],
            tickets.Select(ticket => ticket.Name));
        Assert.All(tickets.Skip(1), ticket => Assert.Equal(["l2-0.5-pretrained-1"], ticket.ControlOf));
        Assert.Equal(
            [
                (FilterCriterion.L2, 0.5, 8, RetrainStart.Pretrained), (FilterCriterion.Random, 0.5, 8, RetrainStart.Pretrained), (FilterCriterion.Smallest, 0.5, 8, RetrainStart.Pretrained),
                (FilterCriterion.L2, 0.5, 8, RetrainStart.Reinitialised), (FilterCriterion.L2, 0.5, 8, RetrainStart.Shuffled), (FilterCriterion.L2, 0, 1, RetrainStart.Pretrained),
            ],
            tickets.Select(ticket => (ticket.Extract.Criterion, ticket.Extract.Ratio, ticket.Extract.RoundTo, ticket.Start)));
        Assert.All(tickets, ticket => Assert.Null(ticket.Like));
        // Where nothing goes it says nothing.
        Assert.All(tickets.SkipLast(1), ticket => Assert.True(ticket.Extract.FirstBlocks));
    }

    /// <summary>The dense network is retrained once for all criteria, and a random ticket of a shape drawn once.</summary>
    [Fact]
    public void What_would_be_the_same_is_made_once()
    {
        IReadOnlyList<GridTicket> tickets = Of("tickets.criteria=[l2, random, l1]", "tickets.starts=[pretrained, reinitialised]", "tickets.controls=[random, reinitialised, unpruned]");
        Assert.Equal(
            [
                "l2-0.5-pretrained-1", "random-0.5-pretrained-1", "l2-0.5-reinitialised-1", "unpruned-pretrained-1", "random-0.5-reinitialised-1", "unpruned-reinitialised-1",
                "l1-0.5-pretrained-1", "l1-0.5-reinitialised-1",
            ],
            tickets.Select(ticket => ticket.Name));
        string[] ControlOf(string name) => [.. tickets.Single(ticket => ticket.Name == name).ControlOf];
        Assert.Equal(["l2-0.5-pretrained-1", "random-0.5-pretrained-1", "l1-0.5-pretrained-1"], ControlOf("unpruned-pretrained-1"));
        Assert.Equal(["l2-0.5-pretrained-1", "l1-0.5-pretrained-1"], ControlOf("random-0.5-pretrained-1"));
        Assert.Equal(["l2-0.5-pretrained-1"], ControlOf("l2-0.5-reinitialised-1"));
        Assert.Empty(ControlOf("l2-0.5-pretrained-1"));
    }

    /// <summary>Widths of scope global are known from the scores alone: what has the same widths takes them from the ticket.</summary>
    [Fact]
    public void Controls_of_a_global_ticket_take_its_widths()
    {
        IReadOnlyList<GridTicket> tickets = Of("extract.scope=global", "tickets.criteria=[l2, random]", "tickets.controls=[random, unpruned]");
        Assert.Equal(
            ["l2-global-0.5-pretrained-1", "random-like-l2-global-0.5-pretrained-1", "unpruned-pretrained-1", "random-global-0.5-pretrained-1"], tickets.Select(ticket => ticket.Name));
        Assert.Equal([null, "l2-global-0.5-pretrained-1", null, null], tickets.Select(ticket => ticket.Like));
        RunFolder run = RunFolder.At("results/a");
        RunConfig config = tickets[1].ConfigIn(run, RunConfigLoader.Parse("", "a.yaml", ["run.name=a", "extract.scope=global", "tickets.criteria=[l2, random]", "tickets.controls=[random, unpruned]"]));
        Assert.Equal(
            ("random-like-l2-global-0.5-pretrained-1", "results/a/tickets", "results/a", "results/a/tickets/l2-global-0.5-pretrained-1", ExtractScope.Layer, FilterCriterion.Random),
            (config.Run.Name, config.Run.Folder, config.Extract.From, config.Extract.Like, config.Extract.Scope, config.Extract.Criterion));
        // A config that a launch would take.
        Assert.Empty(RunConfigLoader.Parse(RunConfigLoader.ToYaml(config), "b.yaml").Tickets.Criteria);
    }

    [Theory]
    [InlineData("l2-flops-0.4-pretrained-1", "extract.scope=flops", "extract.budget=0.4")]
    [InlineData("l2-parameters-0.4-pretrained-1", "extract.scope=parameters", "extract.budget=0.4")]
    [InlineData("l2-layer-ratios-pretrained-1", "extract.scope=layer-ratios", "extract.layer_ratios=[0.1, 0.2, 0.3, 0.4]")]
    [InlineData("l2-like-pretrained-1", "extract.like=results/other")]
    public void A_name_says_where_the_widths_come_from(string name, params string[] overrides) => Assert.Equal([name], Names(overrides));

    [Theory]
    [InlineData("tickets: { ratios: [0.5, 1] }", "a.yaml:1: tickets.ratios: found 1; allowed: a list such as [a, b] of at most 1000 items that are each a number from 0 to below 1")]
    [InlineData("tickets: { criteria: [l3] }", "a.yaml:1: tickets.criteria: found l3; allowed: a list such as [a, b] of at most 1000 items that are each l2, l1, ")]
    [InlineData("tickets: { starts: rewind }", "a.yaml:1: tickets.starts: found rewind; allowed: a list")]
    [InlineData("tickets: { seeds: [1.5] }", "a.yaml:1: tickets.seeds: found 1.5; allowed: a list such as [a, b] of at most 1000 items that are each a whole number")]
    [InlineData("tickets: { controls: [smallest] }", "a.yaml:1: tickets.controls: found smallest; allowed: a list such as [a, b] of at most 1000 items that are each random, inverted, reinitialised, shuffled, unpruned")]
    [InlineData("tickets: { ratios: [0.5] }\nextract: { scope: flops }", "a.yaml:1: tickets.ratios: with extract.scope flops the widths come by no ratio; allowed: none ([]), or extract.scope layer or global")]
    [InlineData("extract: { like: results/a }\ntickets:\n  ratios: [0.5]", "a.yaml:3: tickets.ratios: with extract.like the widths come by no ratio")]
    public void Mistakes_are_one_line(string yaml, string start) =>
        Assert.StartsWith(start, Assert.Single(Assert.Throws<UserError>(() => RunConfigLoader.Parse(yaml, "a.yaml")).Message.Split('\n')));

    [Fact]
    public void A_grid_has_an_end()
    {
        string seeds = $"tickets.seeds=[{string.Join(", ", Enumerable.Range(1, 1000))}]";
        Assert.Equal(10_000, Of(seeds, "tickets.criteria=[l1, l2, lamp, taylor, random]", "tickets.starts=[initial, pretrained]").Count);
        UserError error = Assert.Throws<UserError>(() => Of(seeds, "tickets.criteria=[l1, l2, lamp, taylor, random]", "tickets.starts=[initial, pretrained]", "tickets.controls=[unpruned]"));
        Assert.EndsWith("tickets.seeds: all lists together make 20000 tickets with their controls; allowed: 10000 at most", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void The_table_is_that_of_the_finished_folders_whatever_it_held()
    {
        RunFolder run = RunFolder.Create(_folder.Path, "run", overwrite: false);
        RunConfig config = new() { Run = new() { Name = "run", Folder = _folder.Path }, Tickets = new() { Controls = [TicketControl.Unpruned] } };
        IReadOnlyList<GridTicket> grid = TicketGrid.Of(config);
        Finish(grid[1], 0.25);
        TicketsRow unpruned = new("unpruned-pretrained-1", FilterCriterion.L2, 0, RetrainStart.Pretrained, 1, "l2-0.5-pretrained-1", 1, 7, 9, 0.125, 0.25, 1.0 / 3);
        Assert.Equal([unpruned], TicketsSummary.Write(run, grid));
        Finish(grid[0], 1.0 / 3);
        TicketsRow ticket = unpruned with { Ticket = "l2-0.5-pretrained-1", Ratio = 0.5, ControlOf = "", RetrainedAccuracy = 1.0 / 3 };
        foreach (int time in new[] { 1, 2 })
        {
            Assert.Equal([ticket, unpruned], TicketsSummary.Write(run, grid));
            Assert.Equal([ticket, unpruned], run.TicketsTable.Read());
        }

        // Of another grid, the tickets stay, behind its own.
        IReadOnlyList<GridTicket> other = TicketGrid.Of(config with { Extract = new() { Criterion = FilterCriterion.L1 } });
        Finish(other[0], 0.5);
        TicketsRow l1 = ticket with { Ticket = "l1-0.5-pretrained-1", Criterion = FilterCriterion.L1, RetrainedAccuracy = 0.5 };
        Assert.Equal([l1, unpruned with { ControlOf = "l2-0.5-pretrained-1 l1-0.5-pretrained-1" }, ticket], TicketsSummary.Write(run, other));
        // One that is not finished, or not there any more, is not in it.
        run.TicketFolder(l1.Ticket).Summary.Remove(row => row.Network == NetworkState.Ticket);
        Directory.Delete(run.TicketFolder(unpruned.Ticket).Path, recursive: true);
        Assert.Equal([ticket], TicketsSummary.Write(run, grid));

        void Finish(GridTicket made, double accuracy)
        {
            RunFolder folder = RunFolder.Create(run.Tickets, made.Name, overwrite: false);
            File.WriteAllText(folder.Config, RunConfigLoader.ToYaml(made.ConfigIn(run, config)));
            TicketRow row = new("layer1.1.conv1", 0, 1, 1, true, 1);
            folder.Ticket.Write([row, row with { Filter = 1, Position = 2, Kept = false }]);
            folder.Summary.Write([new(NetworkState.Pruned, 0.125, 2, 7, 9), new(NetworkState.Ticket, accuracy, 1.0 / 3, 7, 9)]);
        }
    }
}
