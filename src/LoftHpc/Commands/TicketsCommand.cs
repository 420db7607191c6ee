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
        if (session.Config.Tickets.RanksPerTicket is int ranks && session.World.Size % ranks != 0)
            throw new UserError($"tickets.ranks_per_ticket: {ranks} ranks do not divide the {session.World.Size} ranks of this launch; allowed: a number that does, or all");
        if (session.Config.Run.Tensorboard) RunCommands.CheckPlots(session);
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
            networks.AddRange(new TicketDrawing(own, folder, folder.TicketFolder(ticket.Name), whole).Networks);
        }
        if (rest.Length > 0) networks.Add(RunCommands.ForLatency(session, whole));
        session.CheckArithmetic(pretraining: false, [.. networks.DistinctBy(network => network?.ToJson())]);

        IReadOnlyList<TicketsRow> rows = [];
        RunCommands.Record(session, folder, () =>
        {
            session.OnRoot(Finish);
            MakeAll(session, folder, rest, whole, Finish);
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

    /// <summary>Makes the tickets: one after the other, or side by side in groups of ranks. Collective.</summary>
    /// <param name="finish">On rank 0: called after tickets that it has made, and in the end.</param>
    /// <exception cref="UserError">The ranks were asked to stop, or some ticket could not be made; on all ranks.</exception>
    private static void MakeAll(Session session, RunFolder folder, GridTicket[] rest, WeightsIdentity whole, Action finish)
    {
        TicketQueue queue = new(folder.Queue);
        session.OnRoot(queue.Begin);
        Session group = session.WorksInGroups ? session.Group(session.Config.Tickets.RanksPerTicket!.Value) : session;
        session.Limits.OtherStopFile = queue.StopFile;
        // One group may train while another does not.
        Signals.StopsLater = session.WorksInGroups;
        UserError? failure = null;
        void StopOthers() => File.WriteAllText(queue.StopFile, "");
        try
        {
            // Other groups may be replacing tickets of before.
            bool reads = session.IsRoot && !(session.WorksInGroups && session.Config.Run.Overwrite);
            failure = MakeOwn(group, queue, folder, rest, whole, reads ? finish : () => { });
        }
        catch (UserError error) when (group.AllFailed())
        {
            failure = error;
            if (group.IsRoot) StopOthers();
        }
        group.Reporter.Prefix = "";
        session.Meet(() =>
        {
            if (StopAgreement.IsStop(group.Context.EarlyStop.Wanted()) && !File.Exists(queue.StopFile)) StopOthers();
        });
        Signals.StopsLater = false;
        // Nobody writes into the queue any more.
        session.World.Barrier();
        // What others were stopped by is what is to be told.
        int own = failure is null ? 0 : failure.ExitCode == ExitCodes.Stopped ? 1 : 2;
        int worst = session.World.Allreduce(own, MpiOperation.Max);
        if (own < worst) failure = null;
        int failed = 0;
        session.OnRoot(() =>
        {
            failed = queue.FailureCount;
            try
            {
                finish();
            }
            catch (UserError) when (worst > 0)
            {
                // What failed first is told.
            }
            queue.End();
        });
        session.World.Broadcast(new Span<int>(ref failed), 0);
        session.OnAllRanks(() =>
        {
            if (failure is null) return;
            throw failure.ExitCode == ExitCodes.NonFiniteLoss
                ? new UserError($"{failed} of {rest.Length} tickets could not be made; {failure.Message}", failure, failure.ExitCode)
                : failure;
        });
        if (session.WorksInGroups) group.Dispose();
    }

    /// <summary>Makes tickets until none is left that nobody has taken; one whose numbers leave their range is told, and the others are made. Collective in the group.</summary>
    /// <returns>What the first ticket that could not be made failed by; null: all could.</returns>
    private static UserError? MakeOwn(Session group, TicketQueue queue, RunFolder folder, GridTicket[] rest, WeightsIdentity whole, Action finish)
    {
        group.OnRoot(queue.Await);
        UserError? failure = null;
        bool isFirst = true;
        while (Take(group, queue, folder, rest) is int number)
        {
            // Not before the first one: each launch is to get further.
            if (!isFirst) group.StopIfAsked();
            isFirst = false;
            if (number < 0)
            {
                // The widths that a ticket takes are not known yet.
                Thread.Sleep(200);
                continue;
            }
            GridTicket ticket = rest[number];
            try
            {
                group.Reporter.Prefix = "";
                string ranks = group.WorksInGroups ? $", on rank{(group.World.Size > 1 ? $"s {group.FirstRank} to {group.FirstRank + group.World.Size - 1}" : $" {group.FirstRank}")}" : "";
                group.Reporter.Info($"ticket {number + 1} of {rest.Length}: {ticket.Name}{ranks}");
                if (group.WorksInGroups) group.Reporter.Prefix = $"{ticket.Name}: ";
                Make(group, queue, folder, ticket, whole);
            }
            catch (UserError error) when (error.ExitCode == ExitCodes.NonFiniteLoss && group.AllFailed())
            {
                UserError told = new($"{ticket.Name}: {error.Message}", error, error.ExitCode);
                failure ??= told;
                group.OnRoot(() => queue.Fail(ticket.Name));
                group.Reporter.Prefix = "";
                group.Reporter.Warning($"{told.Message}; the other tickets are made");
            }
            group.OnRoot(finish);
        }
        return failure;
    }

    /// <summary>Takes the next ticket; one that takes the widths of another waits until that is drawn. Collective in the group.</summary>
    /// <returns>Its number; null: none is left; -1: those that are left wait.</returns>
    private static int? Take(Session group, TicketQueue queue, RunFolder folder, GridTicket[] rest)
    {
        const int none = -2, wait = -1;
        int taken = none;
        // What is drawn anew is not drawn yet, whatever an earlier launch has left.
        bool IsDrawn(string name) => queue.IsDrawn(name) || ((group.Resumes || rest.All(ticket => ticket.Name != name)) && folder.TicketFolder(name).Holds(NetworkState.Pruned));
        group.OnRoot(() =>
        {
            foreach ((int number, GridTicket ticket) in rest.Index())
            {
                if (queue.IsTaken(ticket.Name)) continue;
                if (ticket.Like is string like && !IsDrawn(like))
                {
                    if (!queue.HasFailed(like))
                    {
                        taken = wait;
                        continue;
                    }
                    if (!queue.TryTake(ticket.Name)) continue;
                    queue.Fail(ticket.Name);
                    group.Reporter.Warning($"{ticket.Name}: is not made, as {like}, whose widths it takes, could not be drawn");
                }
                else if (queue.TryTake(ticket.Name))
                {
                    taken = number;
                    return;
                }
            }
        });
        group.World.Broadcast(new Span<int>(ref taken), 0);
        return taken == none ? null : taken;
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
            TicketDrawing.CheckStarts(own, folder, folder.TicketFolder(ticket.Name));
        }
    }

    /// <summary>Draws and retrains one ticket, or goes on with it. Collective.</summary>
    private static void Make(Session session, TicketQueue queue, RunFolder folder, GridTicket ticket, WeightsIdentity whole)
    {
        // Each ticket's tables tell of that ticket alone.
        session.Context.Ledger.Clear();
        using Session own = session.Under(ticket.ConfigIn(folder, session.Config));
        RunFolder target = RunCommands.CreateOrGoOn(own);
        TicketDrawing drawing = new(own, folder, target, whole);
        // The widths of others are known since the start.
        if (ticket.Like is not null) own.CheckArithmetic(pretraining: false, drawing.Networks);
        RunCommands.Record(own, target, () =>
        {
            bool draws = RunCommands.Unless(own, target, NetworkState.Pruned, "extract", drawing.Draw);
            own.OnRoot(() => queue.Draw(ticket.Name));
            if (draws) own.StopIfAsked();
            RunCommands.RetrainTicket(own, target);
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
            foreach (RunFolder drawn in Enumerable.Range(1, ticket.Extract.Iterations - 1).Select(target.Iteration).Prepend(target))
            {
                File.Delete(drawn.PrunedWeights);
                File.Delete(drawn.TicketWeights);
            }
        }
    }
}
