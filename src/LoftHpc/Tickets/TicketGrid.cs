using System.Globalization;
using LoftHpc.Configuration;
using LoftHpc.Results;

namespace LoftHpc.Tickets;

/// <summary>One ticket of a grid: how it is drawn, and what it is trained from.</summary>
/// <param name="Name">Of its folder, from what it is: no two tickets of a grid have the same.</param>
/// <param name="Seed">run.seed of all that is drawn for it.</param>
/// <param name="Like">Name of the ticket whose widths it takes, where these depend on scores; null: its config says its widths.</param>
/// <param name="ControlOf">Names of the tickets that it is a control of; empty: none.</param>
public sealed record GridTicket(string Name, ExtractSection Extract, RetrainStart Start, long Seed, string? Like, IReadOnlyList<string> ControlOf)
{
    /// <summary>The config of the extraction and retraining of this ticket alone.</summary>
    /// <param name="run">The folder of the pre-training.</param>
    /// <param name="config">Of the launch.</param>
    public RunConfig ConfigIn(RunFolder run, RunConfig config) => config with
    {
        Run = config.Run with { Folder = run.Tickets, Name = Name, Seed = Seed },
        Extract = Extract with { From = run.Path, Like = Like is null ? Extract.Like : run.TicketFolder(Like).Path },
        Retrain = config.Retrain with { Start = Start },
        Tickets = new(),
    };
}

/// <summary>Which tickets the lists of config section tickets make (docs/tickets.md).</summary>
public static class TicketGrid
{
    /// <summary>Each once, in the order of the lists, ratios first; a ticket stands before what is made like it.</summary>
    public static IReadOnlyList<GridTicket> Of(RunConfig config)
    {
        TicketsSection grid = config.Tickets;
        List<GridTicket> tickets = [];
        Dictionary<string, int> numbers = [];
        foreach (double ratio in OrOne(grid.Ratios, config.Extract.Ratio))
        {
            foreach (FilterCriterion criterion in OrOne(grid.Criteria, config.Extract.Criterion))
            {
                foreach (RetrainStart start in OrOne(grid.Starts, config.Retrain.Start))
                {
                    foreach (long seed in OrOne(grid.Seeds, config.Run.Seed))
                    {
                        GridTicket ticket = Named(config.Extract with { Ratio = ratio, Criterion = criterion }, start, seed, config.Retrain.Rewind);
                        Add(ticket);
                        foreach (TicketControl control in grid.Controls)
                        {
                            if (ControlOf(ticket, control, config.Retrain.Rewind) is GridTicket made) Add(made);
                        }
                    }
                }
            }
        }
        return tickets;

        void Add(GridTicket ticket)
        {
            if (numbers.TryGetValue(ticket.Name, out int number)) tickets[number] = tickets[number] with { ControlOf = [.. tickets[number].ControlOf.Union(ticket.ControlOf)] };
            else
            {
                numbers.Add(ticket.Name, tickets.Count);
                tickets.Add(ticket);
            }
        }
    }

    /// <summary>A control of a ticket; null where it would be the ticket itself.</summary>
    private static GridTicket? ControlOf(GridTicket ticket, TicketControl control, TrainingTime rewind)
    {
        GridTicket made = control switch
        {
            TicketControl.Random => WithWidthsOf(FilterCriterion.Random),
            TicketControl.Inverted => WithWidthsOf(FilterCriterion.Smallest),
            TicketControl.Reinitialised => Named(ticket.Extract, RetrainStart.Reinitialised, ticket.Seed, rewind),
            TicketControl.Shuffled => Named(ticket.Extract, RetrainStart.Shuffled, ticket.Seed, rewind),
            _ => Unpruned(),
        };
        return made.Name == ticket.Name || (made.Like == ticket.Name && made.Extract.Criterion == ticket.Extract.Criterion) ? null : made with { ControlOf = [ticket.Name] };

        // The widths of scope global come from the scores, which are others.
        GridTicket WithWidthsOf(FilterCriterion criterion) => ticket.Extract.Scope is not ExtractScope.Global
            ? Named(ticket.Extract with { Criterion = criterion, Iterations = 1 }, ticket.Start, ticket.Seed, rewind)
            : new GridTicket(
                $"{ConfigName.Of(criterion)}-like-{ticket.Name}",
                ticket.Extract with { Criterion = criterion, Scope = ExtractScope.Layer, RoundTo = 1, Iterations = 1 }, ticket.Start, ticket.Seed, ticket.Name, []);

        // Of all filters none goes.
        GridTicket Unpruned() => new(
            NameOf("unpruned", ticket.Start, ticket.Seed, rewind),
            new ExtractSection { Ratio = 0 }, ticket.Start, ticket.Seed, null, []);
    }

    private static GridTicket Named(ExtractSection extract, RetrainStart start, long seed, TrainingTime rewind)
    {
        string widths = extract.Like is not null ? "like" : extract.Scope switch
        {
            ExtractScope.Layer => Number(extract.Ratio),
            ExtractScope.Global => $"global-{Number(extract.Ratio)}",
            ExtractScope.LayerRatios => "layer-ratios",
            _ => $"{ConfigName.Of(extract.Scope)}-{Number(extract.Budget)}",
        };
        if (extract.Iterations > 1) widths += string.Create(CultureInfo.InvariantCulture, $"-in-{extract.Iterations}");
        return new GridTicket(NameOf($"{ConfigName.Of(extract.Criterion)}-{widths}", start, seed, rewind), extract, start, seed, null, []);
    }

    private static string NameOf(string drawn, RetrainStart start, long seed, TrainingTime rewind)
    {
        string from = start is RetrainStart.Rewind ? $"rewind-{rewind.ToString().Replace(' ', '-')}" : ConfigName.Of(start);
        return string.Create(CultureInfo.InvariantCulture, $"{drawn}-{from}-{seed}");
    }

    private static string Number(double number) => number.ToString("R", CultureInfo.InvariantCulture);

    private static IReadOnlyList<T> OrOne<T>(IReadOnlyList<T> list, T one) => list.Count > 0 ? list : [one];
}
