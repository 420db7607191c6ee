using LoftHpc.Communication;
using LoftHpc.Mpi;
using LoftHpc.Output;
using LoftHpc.Results;
using LoftHpc.Stages;
using LoftHpc.Tickets;
using LoftHpc.Training;

namespace LoftHpc.Commands;

/// <summary>The command that draws and retrains a grid of tickets from one pre-training, each in a folder of its own in the run folder.</summary>
public static class TicketsCommand
{
    public static void Run(Session session)
    {
        if (session.Config.Extract.From is not null)
            throw new UserError("extract.from: 'tickets' draws from the pre-training of its own run folder; allowed: none, for this command");
        IReadOnlyList<GridTicket> grid = TicketGrid.Of(session.Config);
        RunFolder folder = RunCommands.Own(session);
        WeightsIdentity? dense = null;
        GridTicket[] rest = [];
        session.OnRoot(() =>
        {
            dense = RunCommands.MustBePretrained(session, folder);
            rest = [.. grid.Where(ticket => !session.Resumes || !folder.TicketFolder(ticket.Name).Holds(NetworkState.Ticket))];
            folder.TicketsTable.MustGiveRows();
            Check(session, folder, grid, rest);
        });
        WeightsIdentity whole = RunCommands.OnAllRanks(session, dense);
        HashSet<string> names = [.. session.World.Broadcast(string.Join('\n', rest.Select(ticket => ticket.Name)), 0).Split('\n')];
        rest = [.. grid.Where(ticket => names.Contains(ticket.Name))];

        List<WeightsIdentity?> networks = [];
        foreach (GridTicket ticket in rest.Where(ticket => ticket.Like is null))
        {
            using Session own = session.Under(ticket.ConfigIn(folder, session.Config));
            networks.Add(RunCommands.TicketOf(own, folder.TicketFolder(ticket.Name), whole));
            networks.Add(RunCommands.ForScores(own, whole));
        }
        if (rest.Length > 0) networks.Add(RunCommands.ForLatency(session, whole));
        session.CheckArithmetic(pretraining: false, [.. networks.DistinctBy(network => network?.ToJson())]);

        IReadOnlyList<TicketsRow> rows = [];
        RunCommands.Record(session, folder, () =>
        {
            session.OnRoot(Finish);
            foreach ((int number, GridTicket ticket) in rest.Index())
            {
                // Not before the first one: each launch is to get further.
                if (number > 0) session.StopIfAsked();
                session.Reporter.Info($"ticket {number + 1} of {rest.Length}: {ticket.Name}");
                Make(session, folder, ticket, whole);
                session.OnRoot(Finish);
            }
        });
        session.OnRoot(() =>
        {
            session.Reporter.Table(ResultTables.Tickets(rows), isResult: true);
            session.Reporter.Result(folder.TicketsTable.Path);
        });

        // What is left to do when a ticket is finished; a launch may have been killed before that.
        void Finish()
        {
            rows = TicketsSummary.Write(folder, grid);
            if (!session.Config.Tickets.KeepWeights) RemoveWeights(folder, grid);
        }
    }

    /// <summary>On rank 0: refuses what would fail after other tickets are made.</summary>
    private static void Check(Session session, RunFolder folder, IReadOnlyList<GridTicket> grid, IReadOnlyList<GridTicket> rest)
    {
        foreach (GridTicket ticket in grid)
        {
            RunFolder target = folder.TicketFolder(ticket.Name);
            if (!session.Resumes && !session.Config.Run.Overwrite && Directory.Exists(target.Path) && !RunFolder.IsEmpty(target.Path))
                throw new UserError($"{target.Path} exists already and is not overwritten; --resume auto keeps finished tickets and goes on with others");
            using Session own = session.Under(ticket.ConfigIn(folder, session.Config));
            RunCommands.MustBeOfThisRun(own, target);
        }
        foreach (GridTicket ticket in rest.Where(ticket => ticket.Like is not null && rest.All(other => other.Name != ticket.Like)))
        {
            string weights = folder.TicketFolder(ticket.Like!).PrunedWeights;
            if (!File.Exists(weights)) throw new UserError($"tickets.controls: {weights} is not there any more, whose widths {ticket.Name} takes; it was removed by tickets.keep_weights false");
        }
        // Each start and each criterion reads the same for all tickets.
        foreach (GridTicket ticket in rest.DistinctBy(ticket => ticket.Start).Concat(rest.DistinctBy(ticket => ticket.Extract.Criterion)))
        {
            using Session own = session.Under(ticket.ConfigIn(folder, session.Config));
            ExtractStage.MustHaveScores(own, folder);
            TicketStart.CheckWeights(own, folder);
        }
    }

    /// <summary>Draws and retrains one ticket, or goes on with it. Collective.</summary>
    private static void Make(Session session, RunFolder folder, GridTicket ticket, WeightsIdentity whole)
    {
        // Each ticket's tables tell of that ticket alone.
        session.Context.Ledger.Clear();
        using Session own = session.Under(ticket.ConfigIn(folder, session.Config));
        RunFolder target = RunCommands.CreateOrGoOn(own);
        WeightsIdentity? shape = RunCommands.TicketOf(own, target, whole);
        // The widths of others are known since the start.
        if (ticket.Like is not null) own.CheckArithmetic(pretraining: false, shape);
        RunCommands.Record(own, target, () =>
        {
            if (RunCommands.Unless(own, target, NetworkState.Pruned, "extract", () => ExtractStage.Run(own, folder, target, shape))) own.StopIfAsked();
            RunCommands.Unless(own, target, NetworkState.Ticket, "retrain", () => RetrainStage.Run(own, target));
        });
    }

    /// <summary>On rank 0: removes the weights of finished tickets, but for those whose widths others are still to take.</summary>
    private static void RemoveWeights(RunFolder folder, IReadOnlyList<GridTicket> grid)
    {
        bool IsFinished(GridTicket ticket) => folder.TicketFolder(ticket.Name).Holds(NetworkState.Ticket);
        HashSet<string?> needed = [.. grid.Where(ticket => ticket.Like is not null && !IsFinished(ticket)).Select(ticket => ticket.Like)];
        foreach (GridTicket ticket in grid.Where(ticket => !needed.Contains(ticket.Name) && IsFinished(ticket)))
        {
            RunFolder target = folder.TicketFolder(ticket.Name);
            File.Delete(target.PrunedWeights);
            File.Delete(target.TicketWeights);
        }
    }
}
