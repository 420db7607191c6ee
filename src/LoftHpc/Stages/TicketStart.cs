using LoftHpc.Configuration;
using LoftHpc.Networks;
using LoftHpc.Results;
using LoftHpc.Tickets;
using LoftHpc.Training;
using TorchSharp;
using static TorchSharp.torch;

namespace LoftHpc.Stages;

/// <summary>
/// The weights that retraining starts from (config key retrain.start), in the shape of the ticket; docs/tickets.md says what each is
/// for. The momentum is zero in each.
/// </summary>
public static class TicketStart
{
    /// <summary>On rank 0, before any work: refuses a start whose weights are not there, or are not of the run that the ticket was drawn from.</summary>
    /// <exception cref="UserError">Says which, and what is there.</exception>
    public static void Check(Session session, RunFolder folder)
    {
        if (!IsEarlier(session.Config.Retrain.Start)) return;
        RunFolder source = SourceOf(session, folder);
        WeightsIdentity identity = CheckWeights(session, source)!;
        if (!File.Exists(source.DenseWeights))
            throw new UserError($"retrain.start: {source.DenseWeights} is not there, by which {source.Path} is known to be the run that the ticket was drawn from");
        using SafetensorsFile dense = SafetensorsFile.Open(source.DenseWeights);
        if (WeightsIdentity.Of(dense, source.DenseWeights).InnerCounts is not null)
            throw new UserError($"{source.DenseWeights}: weights of a pruned network, where dense ones are expected");
        RunFolder first = folder.FirstIteration(ExtractionOf(folder)?.Iterations ?? 1);
        if (!first.Ticket.Exists) throw new UserError($"retrain.start: {first.Ticket.Path} is not there, by which {source.Path} is known to be the run that the ticket was drawn from");
        TicketCheck.MustBeDrawnFrom(first.Ticket, source.DenseWeights, identity.Describe(), dense.Read);
    }

    /// <summary>On rank 0, before there is a ticket: refuses a start whose weights are not in the folder of the pre-training.</summary>
    /// <returns>Which network they are of; null: the start is no earlier state.</returns>
    /// <exception cref="UserError">Says which, and what is there.</exception>
    public static WeightsIdentity? CheckWeights(Session session, RunFolder source)
    {
        if (!IsEarlier(session.Config.Retrain.Start)) return null;
        string path = FileIn(source, session.Config.Retrain);
        using SafetensorsFile file = SafetensorsFile.Open(path);
        WeightsIdentity identity = WeightsIdentity.Of(file, path);
        identity.MustFit(session.Config, session.Data, path);
        if (identity.InnerCounts is not null) throw new UserError($"{path}: weights of a pruned network, where dense ones are expected");
        WeightsIdentity.MustBeFinite(file, path);
        return identity;
    }

    /// <summary>Before a run, in which the snapshots are still to be made: refuses a time after which none will be.</summary>
    /// <exception cref="UserError">Names the times at which there will be one.</exception>
    public static void CheckTime(RunConfig config, int stepsPerEpoch)
    {
        IReadOnlyList<int> epochs = config.Pretrain.Snapshots;
        bool rewinds = config.Retrain.Start is RetrainStart.Rewind || (config.Extract.Iterations > 1 && config.Extract.IterationStart is RetrainStart.Rewind);
        if (!rewinds || epochs.Any(epoch => (long)epoch * stepsPerEpoch == config.Retrain.Rewind.ToSteps(stepsPerEpoch))) return;
        if (!config.Retrain.Rewind.InEpochs && config.Pretrain.SnapshotSteps.Contains(config.Retrain.Rewind.Count)) return;
        throw new UserError(
            $"retrain.rewind: {config.Retrain.Rewind}, after which no weights are kept; allowed: an epoch of pretrain.snapshots ([{string.Join(", ", epochs)}]), " +
            $"its steps ({stepsPerEpoch} an epoch), or steps of pretrain.snapshot_steps ([{string.Join(", ", config.Pretrain.SnapshotSteps)}])");
    }

    /// <summary>Reads or makes the weights of the ticket in a folder. Collective.</summary>
    /// <exception cref="UserError">They are not there; on all ranks.</exception>
    public static LoadedNetwork Load(Session session, RunFolder folder)
    {
        RetrainSection config = session.Config.Retrain;
        if (IsEarlier(config.Start))
        {
            (string path, Ticket? ticket) = ("", null);
            session.OnRoot(() =>
            {
                Check(session, folder);
                path = FileIn(SourceOf(session, folder), config);
                ticket = Ticket.Of(session.Dense.Describe(), folder.Ticket.Read());
            });
            return LoadedNetwork.Read(session, path, trained: true, ticket);
        }
        LoadedNetwork pruned = LoadedNetwork.Read(session, folder.PrunedWeights, trained: true);
        switch (config.Start)
        {
            case RetrainStart.Reinitialised:
                Reinitialise(pruned.State, pruned.Network, session.Config.Run.Seed, config.StartSeed);
                return pruned with { Step = 0 };
            case RetrainStart.Shuffled:
                Shuffle(pruned.State, session.Config.Run.Seed, config.StartSeed);
                return pruned;
            default:
                return pruned;
        }
    }

    /// <summary>Replaces all weights and running statistics by initial ones of this network, which are not those of a run's own start.</summary>
    public static void Reinitialise(ModelState state, NetworkSpec network, long runSeed, long startSeed)
    {
        long seed = (long)RandomStream.For(runSeed, "retrain/reinitialised", startSeed).NextBits();
        using DisposeScope scope = NewDisposeScope();
        using IDisposable frozen = no_grad();
        using ModelState drawn = ModelState.InitializeWhole(network, seed, state.Type, state.Weights.device);
        foreach (TensorSlice slice in state.Slices) state[slice.Name].copy_(drawn[slice.Name]);
    }

    /// <summary>Permutes the weights of each convolution, and those of the head, among themselves; norms, their statistics and the head's bias stay.</summary>
    public static void Shuffle(ModelState state, long runSeed, long startSeed)
    {
        using IDisposable frozen = no_grad();
        foreach (TensorSlice slice in state.Slices.Where(slice => slice.Spec.Role is TensorRole.ConvWeight or TensorRole.LinearWeight))
        {
            using DisposeScope scope = NewDisposeScope();
            Tensor weight = state[slice.Name];
            int[] order = RandomStream.For(runSeed, $"retrain/shuffled/{slice.Name}", startSeed).Permutation(checked((int)slice.Count));
            weight.copy_(weight.flatten().index_select(0, tensor(order, int64, weight.device)).view(slice.Shape));
        }
    }

    /// <summary>Whether the start is an earlier state of the run's dense network.</summary>
    private static bool IsEarlier(RetrainStart start) => start is RetrainStart.Rewind or RetrainStart.Initial;

    /// <summary>The folder of the pre-training: as this launch says, else as the launch did that drew the ticket.</summary>
    private static RunFolder SourceOf(Session session, RunFolder folder)
    {
        if (session.Config.Extract.From is string now) return RunFolder.At(now);
        return ExtractionOf(folder)?.From is string from ? RunFolder.At(from) : folder;
    }

    /// <summary>How the ticket in a folder was drawn; null: no launch has recorded it.</summary>
    private static ExtractSection? ExtractionOf(RunFolder folder)
    {
        string recorded = File.Exists(folder.ConfigOf("extract")) ? folder.ConfigOf("extract") : folder.Config;
        return File.Exists(recorded) ? RunConfigLoader.Load(recorded).Extract : null;
    }

    private static string FileIn(RunFolder source, RetrainSection config)
    {
        if (!Directory.Exists(source.Path)) throw new UserError($"retrain.start: {source.Path} is not there, in which start {ConfigName.Of(config.Start)} looks for its weights{Where}");
        if (config.Start is RetrainStart.Initial)
        {
            return File.Exists(source.InitialWeights) ? source.InitialWeights
                : throw new UserError($"retrain.start: {source.InitialWeights} is not there, from which start initial begins{Where}");
        }
        if (config.Rewind.InEpochs && File.Exists(source.SnapshotWeights(config.Rewind.Count))) return source.SnapshotWeights(config.Rewind.Count);
        (string File, long Step)[] there = [.. source.Snapshots().Select(file => (file, StepOf(file)))];
        foreach ((string file, long step) in there)
        {
            if (!config.Rewind.InEpochs && step == config.Rewind.Count) return file;
        }
        string which = there.Length == 0 ? "none" : string.Join(", ", there.Select(snapshot => $"{Path.GetFileName(snapshot.File)} ({snapshot.Step} steps)"));
        throw new UserError($"retrain.rewind: {source.Path} has no weights after {config.Rewind}, as pretrain.snapshots and pretrain.snapshot_steps would keep them; there are: {which}{Where}");

        static long StepOf(string path)
        {
            using SafetensorsFile file = SafetensorsFile.Open(path);
            return WeightsIdentity.StepOf(file, path);
        }
    }

    private const string Where = " (extract.from names the folder of the pre-training, where it lies elsewhere by now)";
}
