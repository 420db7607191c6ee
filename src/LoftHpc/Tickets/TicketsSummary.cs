using LoftHpc.Configuration;
using LoftHpc.Results;

namespace LoftHpc.Tickets;

/// <summary>The table of all finished tickets of a run's grids, from the folders of the tickets.</summary>
public static class TicketsSummary
{
    /// <summary>Writes the table anew, whatever it held: first the tickets of this grid in its order, then those of others by name.</summary>
    /// <exception cref="UserError">A ticket's folder is not as it was left.</exception>
    public static IReadOnlyList<TicketsRow> Write(RunFolder run, IReadOnlyList<GridTicket> grid)
    {
        // Which tickets of another grid one is a control of, nothing but the table says.
        Dictionary<string, string> controlOf = run.TicketsTable.Exists
            ? run.TicketsTable.Read().DistinctBy(row => row.Ticket).ToDictionary(row => row.Ticket, row => row.ControlOf) : [];
        Dictionary<string, int> order = [];
        foreach (GridTicket ticket in grid)
        {
            order.Add(ticket.Name, order.Count);
            // Of earlier grids too.
            controlOf[ticket.Name] = string.Join(' ', controlOf.GetValueOrDefault(ticket.Name, "").Split(' ', StringSplitOptions.RemoveEmptyEntries).Union(ticket.ControlOf));
        }
        TicketsRow[] rows =
        [
            .. from folder in run.FindTickets()
               where folder.Holds(NetworkState.Ticket)
               orderby order.GetValueOrDefault(folder.Name, int.MaxValue)
               select RowOf(run, folder, controlOf.GetValueOrDefault(folder.Name, "")),
        ];
        run.TicketsTable.Write(rows);
        return rows;
    }

    private static TicketsRow RowOf(RunFolder run, RunFolder folder, string controlOf)
    {
        RunConfig config = RunConfigLoader.Load(folder.Config);
        IReadOnlyList<SummaryRow> networks = folder.Summary.Read();
        SummaryRow pruned = networks.LastOrDefault(row => row.Network == NetworkState.Pruned)
            ?? throw new UserError($"{folder.Summary.Path}: there is no row of network {ConfigName.Of(NetworkState.Pruned)}");
        SummaryRow ticket = networks.Last(row => row.Network == NetworkState.Ticket);
        ExtractSection extract = config.Extract;
        // A ticket of a grid that is like another one of it has the other's ratio.
        bool hasRatio = extract.Like is null
            ? extract.Scope is ExtractScope.Layer or ExtractScope.Global
            : Directory.Exists(run.TicketFolder(Path.GetFileName(extract.Like)).Path);
        return new TicketsRow(
            folder.Name, extract.Criterion, hasRatio ? extract.Ratio : null, config.Retrain.Start, config.Run.Seed, controlOf,
            folder.Ticket.Read().Count(row => row.Kept), ticket.Parameters, ticket.Flops, pruned.TestAccuracy, ticket.TestAccuracy, ticket.TestLoss, ticket.ChosenTestAccuracy, ticket.BestTestAccuracy);
    }
}
