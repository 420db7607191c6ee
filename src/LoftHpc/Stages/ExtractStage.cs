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
    /// <param name="before">The folder of the ticket after the iteration before, whose weights are read instead; null: this is the first.</param>
    /// <param name="shape">The ticket, but for its filters; null where its widths depend on the weights (scope global).</param>
    public static void Run(Session session, RunFolder source, RunFolder? before, RunFolder target, WeightsIdentity? shape)
    {
        string weights = before?.TicketWeights ?? source.DenseWeights;
        ExtractSection config = session.Config.Extract;
        session.Context.Ledger.Phase = "extract";
        TaylorCriterion? taylor = config.Criterion is FilterCriterion.Taylor ? MeasureTaylor(session, weights) : null;
        session.OnRoot(() =>
        {
            using SafetensorsFile drawnFrom = SafetensorsFile.Open(weights);
            WeightsIdentity identity = WeightsIdentity.Of(drawnFrom, weights);
            NetworkSpec dense = identity.Unpruned().Describe();
            IFilterCriterion criterion = taylor ?? CriterionOf(session, source);
            Ticket? last = before is null ? null : Ticket.Of(dense, before.Ticket.Read());
            Ticket ticket = TicketSelector.Select(dense, config, shape?.InnerCounts, criterion, drawnFrom.Read, last);
            WeightsIdentity pruned = identity with { InnerCounts = ticket.InnerCounts };
            Ticket held = last is null ? ticket : ticket.Within(last);
            using ModelState state = ModelState.Load(held.Slices, tensor => drawnFrom.Read(tensor.Name), ScalarType.Float32, CPU, trained: false);
            target.Communication.Remove(row => row.Phase == session.Context.Ledger.Phase);
            target.Communication.Begin();
            target.Summary.Begin();
            target.Ticket.Write(ticket.Rows);
            WeightsFile.Save(target.PrunedWeights, pruned, WeightsIdentity.StepOf(drawnFrom, weights), ticket.Pruned, state);
            // A launch may have been killed after that.
            if (target.Path != source.Path && !target.Holds(NetworkState.Dense))
                target.Summary.Append(source.Summary.Read().Where(row => row.Network == NetworkState.Dense));
        });
        using LoadedNetwork loaded = LoadedNetwork.Read(session, target.PrunedWeights);
        // No earlier check has seen these layers.
        if (shape is null) session.CheckArithmetic(pretraining: false, loaded.Identity);
        StepTotals tested = loaded.Evaluate(session, session.TestImages);
        tested.MustBeFinite("extract", "on the test images", session.World.Rank, found => found with { Text = $"{found.Text}; these are the pruned weights" });
        session.SaveCommunication(target);
        session.OnRoot(() => target.Summary.Append(loaded.Identity.Summarize(NetworkState.Pruned, tested)));
    }

    /// <summary>On rank 0: refuses a run folder that lacks what the criterion reads besides the weights.</summary>
    /// <exception cref="UserError">Names it.</exception>
    public static void MustHaveScores(Session session, RunFolder source)
    {
        if (session.Config.Extract.Criterion is FilterCriterion.RankStability) _ = CriterionOf(session, source);
    }

    private static IFilterCriterion CriterionOf(Session session, RunFolder source)
    {
        ExtractSection config = session.Config.Extract;
        return config.Criterion switch
        {
            FilterCriterion.L2 => new L2Criterion(),
            FilterCriterion.L1 => new L1Criterion(),
            FilterCriterion.BatchNormScale => new BatchNormScaleCriterion(),
            FilterCriterion.GeometricMedian => new GeometricMedianCriterion(),
            FilterCriterion.Lamp => new LampCriterion(),
            FilterCriterion.RankStability => RankStabilityCriterion.Of(
                source.FilterNorms, TicketSelector.PrunableBlocks(session.Dense.Describe(), config.FirstBlocks), config.StabilityMeasurements),
            FilterCriterion.Random => new RandomCriterion(session.Config.Run.Seed, config.Seed, config.Iterations),
            FilterCriterion.Smallest => new SmallestCriterion(),
            _ => throw new InvalidOperationException($"no criterion {config.Criterion} here"),
        };
    }

    private static TaylorCriterion MeasureTaylor(Session session, string weights)
    {
        ExtractSection config = session.Config.Extract;
        using LoadedNetwork read = LoadedNetwork.Read(session, weights, trained: true);
        return TaylorCriterion.Measure(
            session.Context, read.Network, read.State, TicketSelector.PrunableBlocks(read.Network, config.FirstBlocks), session.TrainImages,
            config.TaylorImages, config.TaylorBatch, session.Config.Run.Seed);
    }
}
