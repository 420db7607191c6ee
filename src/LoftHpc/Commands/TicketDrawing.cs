using LoftHpc.Configuration;
using LoftHpc.Results;
using LoftHpc.Stages;
using LoftHpc.Tickets;
using LoftHpc.Training;

namespace LoftHpc.Commands;

/// <summary>Draws the ticket of a config: at once, or through those of earlier iterations, each of which is retrained.</summary>
internal sealed class TicketDrawing
{
    private readonly Session _session;
    private readonly RunFolder _source, _target;
    private readonly WeightsIdentity? _shape;
    private readonly (RunConfig Config, WeightsIdentity? Shape)[] _before;

    /// <summary>Finds the widths of all tickets that can be known. Collective.</summary>
    /// <param name="source">The folder of the pre-training.</param>
    /// <param name="target">The folder of the ticket.</param>
    public TicketDrawing(Session session, RunFolder source, RunFolder target, WeightsIdentity dense)
    {
        (_session, _source, _target) = (session, source, target);
        _shape = RunCommands.TicketOf(session, target, dense);
        _before = [.. IterativePruning.Before(session.Config, source, target).Select((config, number) =>
        {
            using Session own = session.Under(config);
            return (config, RunCommands.TicketOf(own, target.Iteration(number + 1), dense));
        })];
        // Taylor's scores are gradients of the network that is drawn from.
        Networks = [_shape, .. _before.Select(ticket => ticket.Shape), session.Config.Extract.Criterion is FilterCriterion.Taylor ? dense : null];
    }

    /// <summary>All networks that every rank is to compute whole; null where one is not known yet.</summary>
    public WeightsIdentity?[] Networks { get; }

    /// <summary>On rank 0, before any work: refuses a start of a retraining between iterations whose weights are not there.</summary>
    /// <exception cref="UserError">Says which.</exception>
    public static void CheckStarts(Session session, RunFolder source, RunFolder target)
    {
        // The same for all of them.
        foreach (RunConfig config in IterativePruning.Before(session.Config, source, target).Take(1))
        {
            using Session own = session.Under(config);
            TicketStart.CheckWeights(own, source);
        }
    }

    /// <summary>Writes the ticket into its folder, and those before into folders inside it. Collective.</summary>
    public void Draw()
    {
        RunFolder? last = null;
        foreach ((RunConfig config, WeightsIdentity? shape) in _before)
        {
            // Each ticket's tables tell of that ticket alone.
            _session.Context.Ledger.Clear();
            using Session own = _session.Under(config);
            _session.Reporter.Info($"iteration {config.Extract.Iterations} of {_session.Config.Extract.Iterations}");
            RunFolder folder = RunCommands.CreateOrGoOn(own), from = last ?? _source;
            bool trains = false;
            RunCommands.Record(own, folder, () =>
            {
                if (RunCommands.Unless(own, folder, NetworkState.Pruned, "extract", () => ExtractStage.Run(own, _source, last, folder, shape))) own.StopIfAsked();
                trains = RunCommands.Unless(own, folder, NetworkState.Ticket, "retrain", () => RetrainStage.Run(own, folder));
            });
            if (trains) own.StopIfAsked();
            last = folder;
        }
        if (last is not null) _session.Context.Ledger.Clear();
        ExtractStage.Run(_session, _source, last, _target, _shape);
    }
}
