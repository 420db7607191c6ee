using LoftHpc.Communication;
using LoftHpc.Configuration;
using LoftHpc.Distances;
using LoftHpc.Networks;
using LoftHpc.Results;
using LoftHpc.Training;

namespace LoftHpc.Stages;

/// <summary>Pre-trains the dense network and follows the rankings of its filters.</summary>
public static class PretrainStage
{
    /// <summary>Writes the dense weights and the tables of a run into its folder. Collective.</summary>
    public static void Run(Session session, RunFolder folder)
    {
        RunConfig config = session.Config;
        WeightsIdentity identity = session.Dense;
        session.Context.Ledger.Phase = "pretrain";
        session.Context.Channels.ReleaseBuffers();
        using ITrainingMethod method = TrainingMethods.Create(
            session.Context, identity.Describe(), config.Pretrain, session.TrainImages, config.Run.Seed);
        using var rankings = new RankingRecorder(session, folder, method);

        long every = config.Distance.Every.ToSteps(method.StepsPerEpoch), last = (long)config.Pretrain.Epochs * method.StepsPerEpoch;
        var loop = new TrainingLoop(
            session.Context, TrainingPhase.Pretrain, method, config.Pretrain.Epochs, config.Pretrain.Optimizer, session.TestImages, config.Evaluate.Batch)
        {
            AfterStep = (step, epoch) =>
            {
                bool measures = step % every == 0 || step == last, saves = step <= int.MaxValue && config.Pretrain.SnapshotSteps.Contains((int)step);
                return !measures && !saves ? null : () =>
                {
                    if (measures) rankings.Measure(step, epoch);
                    if (saves) Save(folder.StepSnapshotWeights((int)step), step);
                };
            },
            AfterEpoch = (epoch, step) =>
            {
                if (config.Pretrain.Snapshots.Contains(epoch)) Save(folder.SnapshotWeights(epoch), step);
            },
            Validation = session.ValidationImages,
            OnMetrics = rows => session.OnRoot(() => folder.Metrics.Append(rows)),
        };
        var checkpoints = new StageCheckpoints(session, folder, "pretrain", loop, method, rankings.Archive);
        checkpoints.Attach();
        if (!session.Resumes || !checkpoints.TryResume())
        {
            session.OnRoot(() =>
            {
                // What a launch has left that was stopped before its first checkpoint.
                folder.Metrics.Write([]);
                folder.FilterNorms.Write([]);
                folder.FilterDistance.Write([]);
                folder.Resources.Write([]);
                folder.Communication.Write([]);
                folder.Summary.Write([]);
            });
            Save(folder.InitialWeights, 0);
            rankings.Measure(0, 0);
        }
        StepTotals tested = loop.Run(session.Reporter);
        rankings.Finish(config.Distance.PairsMax);
        Save(folder.DenseWeights, last);

        session.SaveResources(folder, TrainingPhase.Pretrain, method, loop.TrainSeconds);
        session.SaveCommunication(folder);
        session.OnRoot(() => folder.Summary.Append(identity.Summarize(NetworkState.Dense, tested).WithEpochs(folder.Metrics.Read(), TrainingPhase.Pretrain)));
        StageCheckpoints.Remove(session, folder, "pretrain");

        // Rank 0 may fail to write, and all ranks are to know.
        void Save(string path, long step) => session.OnAllRanks(() => method.Save(path, identity, step));
    }

    /// <summary>Measures rankings and writes them on rank 0.</summary>
    private sealed class RankingRecorder(Session session, RunFolder folder, ITrainingMethod method) : IDisposable
    {
        private readonly RankingTracker _tracker = new(session.Context.Communicator);

        public void Measure(long step, double epoch)
        {
            using IDisposable purpose = session.Context.Ledger.For(CommunicationPurpose.Distance);
            RankingMeasurement measured = _tracker.Measure(step, method.MeasureNorms());
            session.OnRoot(() =>
            {
                folder.FilterNorms.Append(
                    from layer in measured.Norms
                    from filter in Enumerable.Range(0, layer.Norms.Length)
                    select new FilterNormRow(step, epoch, layer.Layer, filter, layer.Norms[filter]));
                Append(measured.Distances);
            });
        }

        public void Finish(int measurementsMax)
        {
            using IDisposable purpose = session.Context.Ledger.For(CommunicationPurpose.Distance);
            int measured = _tracker.Steps.Count();
            if (measured > measurementsMax)
                session.Reporter.Info($"filter_distance.csv: pairs of {measurementsMax} evenly spaced measurements of {measured} (distance.pairs_max)");
            IReadOnlyList<LayerDistance> pairs = _tracker.RemainingPairs(measurementsMax);
            session.OnRoot(() => Append(pairs));
        }

        public void Archive(StateArchive archive) => _tracker.Archive(archive);

        public void Dispose() => _tracker.Dispose();

        private void Append(IReadOnlyList<LayerDistance> distances) => folder.FilterDistance.Append(distances.Select(d =>
            new FilterDistanceRow(d.Step, d.ReferenceStep, d.Layer, d.Filters, d.Distance, d.Normalized)));
    }
}
