using LoftHpc.Communication;
using LoftHpc.Configuration;
using LoftHpc.Results;
using LoftHpc.Training;

namespace LoftHpc.Stages;

/// <summary>Trains the ticket, data-parallel over all ranks, from the pruned pre-trained weights (no rewind) or another start (<see cref="TicketStart"/>).</summary>
public static class RetrainStage
{
    /// <summary>Reads the ticket of a run and writes the ticket's into the same folder. Collective.</summary>
    public static void Run(Session session, RunFolder folder)
    {
        RetrainSection config = session.Config.Retrain;
        session.Context.Ledger.Phase = "retrain";
        session.Context.Channels.ReleaseBuffers();
        using LoadedNetwork start = TicketStart.Load(session, folder);
        using var method = new DataParallelTraining(
            session.Context, start.Network, start.State, config.Batch, config.BatchNorm, config.Optimizer, session.TrainImages);
        var loop = new TrainingLoop(
            session.Context, TrainingPhase.Retrain, method, config.Epochs, config.Optimizer, session.TestImages, session.Config.Evaluate.Batch)
        {
            Validation = session.ValidationImages,
            OnMetrics = rows => session.OnRoot(() =>
            {
                folder.Metrics.Append(rows);
                if (session.Config.Run.Tensorboard) EventFiles.WriteEpochs(folder);
            }),
        };
        var checkpoints = new StageCheckpoints(session, folder, "retrain", loop, method);
        checkpoints.Attach();
        if (!session.Resumes || !checkpoints.TryResume())
        {
            session.OnRoot(() =>
            {
                // What a retraining that was interrupted has left.
                File.Delete(folder.Latency.Path);
                folder.Metrics.Remove(row => row.Phase == TrainingPhase.Retrain);
                folder.Resources.Remove(row => row.Phase == TrainingPhase.Retrain);
                folder.Communication.Remove(row => row.Phase == session.Context.Ledger.Phase);
                folder.Metrics.Begin();
                folder.Resources.Begin();
                folder.Communication.Begin();
                folder.Summary.Begin();
            });
        }
        if (session.Config.Run.Tensorboard) session.OnRoot(() => EventFiles.Begin(folder, TrainingPhase.Retrain));
        StepTotals tested = loop.Run(session.Reporter);
        session.OnAllRanks(() => method.Save(folder.TicketWeights, start.Identity, start.Step + ((long)config.Epochs * method.StepsPerEpoch)));
        session.SaveResources(folder, TrainingPhase.Retrain, method, loop.TrainSeconds);
        session.SaveCommunication(folder);
        session.OnRoot(() =>
        {
            if (session.Config.Run.Tensorboard) EventFiles.WriteTotals(folder, session.Config.Plot);
            folder.Summary.Append(start.Identity.Summarize(NetworkState.Ticket, tested).WithEpochs(folder.Metrics.Read(), TrainingPhase.Retrain));
        });
        StageCheckpoints.Remove(session, folder, "retrain");
    }

    /// <summary>Measures what a finished ticket gains, unless that is done: a launch may have been killed meanwhile. Collective.</summary>
    public static void MeasureLatency(Session session, RunFolder folder)
    {
        RunConfig config = session.Config;
        if (config.Latency.Batches.Count == 0) return;
        using IDisposable phase = session.Context.Ledger.In("latency");
        Agree.OnRootAlone(session.World, () =>
        {
            if (folder.Latency.Exists) return;
            WeightsIdentity ticket;
            using (SafetensorsFile weights = SafetensorsFile.Open(folder.TicketWeights)) ticket = WeightsIdentity.Of(weights, folder.TicketWeights);
            folder.Latency.Write(LatencyMeasurement.Measure(
                session.Context, ticket.Unpruned(), ticket, config.Retrain.Optimizer, config.Latency, config.Run.Seed, session.Reporter.Warning));
        });
    }
}
