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
    /// <param name="shape">The ticket, but for its filters; null where its widths depend on the weights (scope global).</param>
    public static void Run(Session session, RunFolder source, RunFolder target, WeightsIdentity? shape)
    {
        ExtractSection config = session.Config.Extract;
        session.Context.Ledger.Phase = "extract";
        TaylorCriterion? taylor = config.Criterion is FilterCriterion.Taylor ? MeasureTaylor(session, source) : null;
        session.OnRoot(() =>
        {
            using SafetensorsFile dense = SafetensorsFile.Open(source.DenseWeights);
            WeightsIdentity identity = WeightsIdentity.Of(dense, source.DenseWeights);
            IFilterCriterion criterion = taylor ?? CriterionOf(session, source);
            Ticket ticket = TicketSelector.Select(identity.Describe(), config, shape?.InnerCounts, criterion, dense.Read);
            WeightsIdentity pruned = identity with { InnerCounts = ticket.InnerCounts };
            using ModelState state = ModelState.Load(ticket.Slices, tensor => dense.Read(tensor.Name), ScalarType.Float32, CPU, trained: false);
            target.Communication.Remove(row => row.Phase == session.Context.Ledger.Phase);
            target.Communication.Begin();
            target.Summary.Begin();
            target.Ticket.Write(ticket.Rows);
            WeightsFile.Save(target.PrunedWeights, pruned, WeightsIdentity.StepOf(dense, source.DenseWeights), ticket.Pruned, state);
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
            FilterCriterion.Random => new RandomCriterion(session.Config.Run.Seed, config.Seed),
            FilterCriterion.Smallest => new SmallestCriterion(),
            _ => throw new InvalidOperationException($"no criterion {config.Criterion} here"),
        };
    }

    private static TaylorCriterion MeasureTaylor(Session session, RunFolder source)
    {
        ExtractSection config = session.Config.Extract;
        using LoadedNetwork dense = LoadedNetwork.Read(session, source.DenseWeights, trained: true);
        return TaylorCriterion.Measure(
            session.Context, dense.Network, dense.State, TicketSelector.PrunableBlocks(dense.Network, config.FirstBlocks), session.TrainImages,
            config.TaylorImages, config.TaylorBatch, session.Config.Run.Seed);
    }
}
