using LoftHpc.Communication;
using LoftHpc.Configuration;
using LoftHpc.Networks;
using LoftHpc.Results;
using LoftHpc.Tickets;
using LoftHpc.Training;
using static TorchSharp.torch;

namespace LoftHpc.Stages;

/// <summary>Draws the ticket from the dense weights of a run.</summary>
public static class ExtractStage
{
    /// <summary>
    /// Reads the dense weights of <paramref name="source"/> and writes ticket and pruned weights into
    /// <paramref name="target"/>, which may be the same folder. Collective.
    /// </summary>
    public static void Run(Session session, RunFolder source, RunFolder target)
    {
        ExtractSection config = session.Config.Extract;
        session.Context.Ledger.Phase = "extract";
        session.OnRoot(() =>
        {
            using SafetensorsFile dense = SafetensorsFile.Open(source.DenseWeights);
            WeightsIdentity identity = WeightsIdentity.Of(dense, source.DenseWeights);
            Ticket ticket = TicketSelector.Select(identity.Describe(), config.Ratio, config.FirstBlocks, dense.Read);
            WeightsIdentity pruned = identity with { InnerCounts = ticket.InnerCounts };
            using ModelState state = ModelState.Load(ticket.Slices, tensor => dense.Read(tensor.Name), ScalarType.Float32, CPU, trained: false);
            target.Communication.Remove(row => row.Phase == session.Context.Ledger.Phase);
            target.Communication.Begin();
            target.Summary.Begin();
            target.Ticket.Write(ticket.Rows);
            WeightsFile.Save(target.PrunedWeights, pruned, WeightsIdentity.StepOf(dense, source.DenseWeights), ticket.Pruned, state);
            if (target.Path != source.Path)
                target.Summary.Append(source.Summary.Read().Where(row => row.Network == NetworkState.Dense));
        });
        using LoadedNetwork loaded = LoadedNetwork.Read(session, target.PrunedWeights);
        StepTotals tested = loaded.Evaluate(session, session.TestImages);
        tested.MustBeFinite("extract", "on the test images", session.World.Rank, found => found with { Text = $"{found.Text}; these are the pruned weights" });
        session.SaveCommunication(target);
        session.OnRoot(() => target.Summary.Append(loaded.Identity.Summarize(NetworkState.Pruned, tested)));
    }
}
