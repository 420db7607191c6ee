using System.Globalization;
using LoftHpc.Communication;
using LoftHpc.Configuration;
using LoftHpc.Mpi;
using LoftHpc.Networks;
using LoftHpc.Output;
using LoftHpc.PyTorch;
using LoftHpc.Results;
using LoftHpc.Stages;
using LoftHpc.Tickets;
using LoftHpc.Training;

namespace LoftHpc.Commands;

/// <summary>The commands that work on run folders: which folder, which stages, what is shown.</summary>
public static class RunCommands
{
    /// <summary>A launch that goes on may come right after the one before was killed, whose ranks take a moment to end.</summary>
    private static readonly TimeSpan EndOfOther = TimeSpan.FromSeconds(10);

    public static void Pretrain(Session session)
    {
        CheckMethod(session);
        if (session.Config.Run.Tensorboard) CheckPlots(session);
        session.CheckArithmetic(pretraining: true);
        RunFolder folder = CreateOrGoOn(session);
        Record(session, folder, () => Unless(session, folder, NetworkState.Dense, "pretrain", () => PretrainStage.Run(session, folder)));
        ShowSummary(session, folder);
    }

    /// <summary>Makes a run folder of weights from PyTorch, as a pre-training of no epochs would.</summary>
    /// <param name="weights">A state_dict of the dense network.</param>
    /// <param name="initial">One of before its training; null: there is none.</param>
    public static void Import(Session session, string weights, string? initial)
    {
        if (session.Resumes) throw new UserError("import: it is done at once, and goes on with nothing; allowed: run.resume=never (--resume never)");
        session.OnRoot(() =>
        {
            foreach (string file in new[] { weights, initial }.OfType<string>()) PyTorchWeights.Open(file, session.Dense).Dispose();
        });
        session.CheckArithmetic(pretraining: false, session.Dense);
        RunFolder folder = CreateOrGoOn(session);
        Record(session, folder, () => ImportStage.Run(session, folder, weights, initial));
        ShowSummary(session, folder);
    }

    /// <summary>In its own run folder; from another run's (extract.from) into a new one.</summary>
    public static void Extract(Session session)
    {
        RunFolder own = Own(session);
        string? from = session.Config.Extract.From;
        RunFolder source = from is null ? own : RunFolder.At(from);
        WeightsIdentity? dense = null;
        session.OnRoot(() =>
        {
            dense = MustBePretrained(session, source);
            if (from is null && !session.Resumes && own.Holds(NetworkState.Pruned)) own.RefuseExisting("extract", own.Ticket.Path, own.PrunedWeights);
            if (from is null)
            {
                own.Communication.MustGiveRows();
                own.Summary.MustTakeRows();
            }
            if (from is null && !session.Resumes && Directory.Exists(own.Iterations))
                throw new UserError($"{own.Iterations} exists already and is not overwritten; --resume auto goes on with what is finished of it");
            if (!(session.Resumes && own.Holds(NetworkState.Pruned)))
            {
                ExtractStage.MustHaveScores(session, source);
                TicketDrawing.CheckStarts(session, source, own);
            }
            if (from is not null && own.Contains(source))
                throw new UserError($"extract.from: {from} is this run's own folder, or lies in it; leave it out, or give the new run another run.name");
        });
        WeightsIdentity whole = OnAllRanks(session, dense);
        TicketDrawing drawing = new(session, source, own, whole);
        session.CheckArithmetic(pretraining: false, drawing.Networks);
        RunFolder target = from is null ? own : CreateOrGoOn(session);
        Record(session, target, () => Unless(session, target, NetworkState.Pruned, "extract", drawing.Draw));
        ShowSummary(session, target);
    }

    /// <summary>On rank 0: refuses a folder whose pre-training is not finished, or is of another network or of other data.</summary>
    /// <returns>The dense network.</returns>
    /// <exception cref="UserError">It is.</exception>
    internal static WeightsIdentity MustBePretrained(Session session, RunFolder source)
    {
        RunFolder.Open(source.Path).RequireExisting("pretrain", source.DenseWeights);
        source.MustHold(NetworkState.Dense, "pretrain");
        WeightsIdentity dense = MustFit(session, source, source.DenseWeights);
        return dense.InnerCounts is null ? dense
            : throw new UserError($"{source.DenseWeights}: weights of a pruned network, where the dense ones of pretrain are expected");
    }

    public static void Retrain(Session session)
    {
        RunFolder folder = Own(session);
        if (session.Config.Run.Tensorboard) CheckPlots(session);
        WeightsIdentity? pruned = null;
        session.OnRoot(() =>
        {
            RunFolder.Open(folder.Path).RequireExisting("extract", folder.PrunedWeights, folder.Ticket.Path);
            folder.MustHold(NetworkState.Pruned, "extract");
            pruned = MustFit(session, folder, folder.PrunedWeights);
            using (SafetensorsFile weights = SafetensorsFile.Open(folder.PrunedWeights))
                TicketCheck.MustMatch(folder.Ticket, folder.PrunedWeights, pruned.Unpruned().Describe(), pruned.InnerCounts, weights.Read);
            if (!session.Resumes && folder.Holds(NetworkState.Ticket)) folder.RefuseExisting("retrain", folder.TicketWeights);
            if (!(session.Resumes && folder.Holds(NetworkState.Ticket))) TicketStart.Check(session, folder);
            folder.Metrics.MustGiveRows();
            folder.Resources.MustGiveRows();
            folder.Communication.MustGiveRows();
            folder.Summary.MustTakeRows();
        });
        session.CheckArithmetic(pretraining: false, OnAllRanks(session, pruned), ForLatency(session, session.Dense));
        Record(session, folder, () => RetrainTicket(session, folder));
        ShowSummary(session, folder);
    }

    public static void Run(Session session)
    {
        CheckRun(session.Config, session.Dense.Describe(), session.Data.Train.Height, session.Data.Train.Count, session.World.Size);
        CheckPlots(session);
        TicketDrawing drawing = new(session, Own(session), Own(session), session.Dense);
        session.CheckArithmetic(pretraining: true, [.. drawing.Networks, ForLatency(session, session.Dense)]);
        RunFolder folder = CreateOrGoOn(session);
        Record(session, folder, () =>
        {
            if (Unless(session, folder, NetworkState.Dense, "pretrain", () => PretrainStage.Run(session, folder))) session.StopIfAsked();
            if (Unless(session, folder, NetworkState.Pruned, "extract", drawing.Draw)) session.StopIfAsked();
            RetrainTicket(session, folder);
            session.OnRoot(() => Plots.Draw(folder, session.Config.Plot));
        });
        ShowSummary(session, folder);
    }

    /// <summary>Refuses a run that cannot work: a function of its config and of the number of ranks alone.</summary>
    /// <exception cref="UserError">It cannot.</exception>
    internal static void CheckRun(RunConfig config, NetworkSpec network, int imageSide, int trainImages, int ranks)
    {
        if (config.Extract.From is not null)
            throw new UserError("extract.from: 'run' draws its ticket from its own pre-training; allowed with 'extract' only");
        int stepsPerEpoch = Batches.Count(trainImages, config.Pretrain.Batch);
        TrainingMethods.Check(network, imageSide, config.Pretrain, ranks);
        TrainingMethods.CheckSnapshots(config.Pretrain, stepsPerEpoch);
        TicketStart.CheckTime(config, stepsPerEpoch);
        Plots.Check(config.Plot, network.Convolutions.Select(conv => conv.Name));
    }

    /// <summary>Trains a ticket, unless that is done, and measures what it gains, unless that is. Collective.</summary>
    internal static void RetrainTicket(Session session, RunFolder folder)
    {
        Unless(session, folder, NetworkState.Ticket, "retrain", () => RetrainStage.Run(session, folder));
        RetrainStage.MeasureLatency(session, folder);
    }

    /// <summary>Does a stage, unless the launch goes on with a run in which it is finished. Collective.</summary>
    /// <returns>Whether it was done.</returns>
    internal static bool Unless(Session session, RunFolder folder, NetworkState made, string stage, Action run)
    {
        int finished = 0;
        session.OnRoot(() => finished = session.Resumes && folder.Holds(made) ? 1 : 0);
        session.World.Broadcast(new Span<int>(ref finished), 0);
        if (finished == 0)
        {
            run();
            return true;
        }
        session.Reporter.Info($"{stage}: is finished in {folder.Path}");
        // A launch may have been killed between the last line and this.
        StageCheckpoints.Remove(session, folder, stage);
        return false;
    }

    public static void Evaluate(Session session)
    {
        EvaluateSection config = session.Config.Evaluate;
        RunFolder own = Own(session);
        // Rank 0 decides for all: another host may see other files.
        string path = session.World.Broadcast(config.Weights ?? (File.Exists(own.TicketWeights) ? own.TicketWeights : own.DenseWeights), 0);
        using LoadedNetwork loaded = LoadedNetwork.Read(session, path);
        session.CheckArithmetic(pretraining: false, loaded.Identity);
        session.Context.Ledger.Phase = "evaluate";
        StepTotals totals = loaded.Evaluate(session, session.ImagesOf(config.Split));
        totals.MustBeFinite("evaluate", $"on the {config.Split.ToString().ToLowerInvariant()} images", session.World.Rank, found => found with { Text = $"{found.Text}; these are the weights of {path}" });
        session.Reporter.Result(string.Create(CultureInfo.InvariantCulture,
            $"{path}: accuracy {totals.Accuracy:R}, loss {totals.Loss:R} on {totals.Images} {config.Split.ToString().ToLowerInvariant()} images of {session.Data.Test.Name}"));
    }

    /// <summary>Every rank finds the same.</summary>
    private static void CheckMethod(Session session)
    {
        TrainingMethods.Check(session.Dense.Describe(), session.Data.Train.Height, session.Config.Pretrain, session.World.Size);
        TrainingMethods.CheckSnapshots(session.Config.Pretrain, Batches.Count(session.Data.Train.Count, session.Config.Pretrain.Batch));
    }

    /// <summary>What is drawn at the end.</summary>
    internal static void CheckPlots(Session session)
    {
        Plots.Check(session.Config.Plot, session.Dense.Describe().Convolutions.Select(conv => conv.Name));
        session.OnRoot(Plots.CheckLibrary);
    }

    internal static RunFolder Own(Session session) => RunFolder.At(Path.Combine(session.Config.Run.Folder, session.Config.Run.Name));

    /// <summary>Makes the run folder of the config; where the launch resumes and there is one, it is gone on with.</summary>
    /// <exception cref="UserError">There is one and the launch does not resume, or it is of another run; on all ranks.</exception>
    internal static RunFolder CreateOrGoOn(Session session)
    {
        RunSection run = session.Config.Run;
        RunFolder folder = Own(session);
        session.OnRoot(() =>
        {
            // A launch that was killed at once has left nothing but the folder.
            if (session.Resumes && !folder.IsBegun && RunFolder.IsEmpty(folder.Path)) return;
            if (!session.Resumes || !folder.IsBegun)
            {
                RunFolder.Create(run.Folder, run.Name, run.Overwrite);
                return;
            }
            MustBeOfThisRun(session, folder);
        });
        return folder;
    }

    /// <summary>
    /// What a launch that goes on asks for must be what the folder holds: of the whole run, or, for extract and retrain in the folder of
    /// another command, of that stage where it is finished. On rank 0.
    /// </summary>
    /// <exception cref="UserError">It is not.</exception>
    internal static void MustBeOfThisRun(Session session, RunFolder folder)
    {
        // What grids add to a run's folder is held against the folders of their tickets.
        if (!session.Resumes || !folder.IsBegun || (session.Options.Command is "tickets" && !session.IsPart)) return;
        (RunConfig begun, RunConfig now, string command) = (RunConfigLoader.Load(folder.Config), session.Config, session.Options.Command);
        (bool extracted, bool retrained) = (folder.Holds(NetworkState.Pruned), folder.Holds(NetworkState.Ticket));
        string FileOf(string stage) => File.Exists(folder.ConfigOf(stage)) ? folder.ConfigOf(stage) : folder.Config;
        RunConfig made = begun with
        {
            Extract = extracted ? RunConfigLoader.Load(FileOf("extract")).Extract : begun.Extract,
            Retrain = retrained ? RunConfigLoader.Load(FileOf("retrain")).Retrain : begun.Retrain,
        };
        if (command is "extract" && now.Extract.From is null && !session.IsPart) Refuse(FileOf(command), extracted ? [.. RunConfigRules.Differences(command, made.Extract, now.Extract), .. OfComputing()] : []);
        else if (command is "retrain") Refuse(FileOf(command), retrained ? [.. RunConfigRules.Differences(command, made.Retrain, now.Retrain), .. OfComputing()] : []);
        else
        {
            MustNotBeFinished(folder, NetworkState.Dense, "pretrain", made.Pretrain.Epochs, now.Pretrain.Epochs);
            MustNotBeFinished(folder, NetworkState.Ticket, "retrain", made.Retrain.Epochs, now.Retrain.Epochs);
            Refuse(folder.Config, session.IsPart ? RunConfigRules.DifferencesOfTickets(made, now) : RunConfigRules.DifferencesOfRuns(made, now));
        }

        // What else a stage's bits depend on.
        IEnumerable<string> OfComputing()
        {
            static RunSection Of(RunSection run) => new() { Seed = run.Seed, Precision = run.Precision, MemoryFormat = run.MemoryFormat };
            return RunConfigRules.Differences("run", Of(RunConfigLoader.Load(FileOf(command)).Run), Of(now.Run));
        }

        static void Refuse(string file, IEnumerable<string> differences)
        {
            string[] keys = [.. differences];
            if (keys.Length > 0) throw new UserError($"{file}: the run was begun with another config than this launch's: {string.Join("; ", keys)}");
        }
    }

    /// <exception cref="UserError">There are to be other epochs of a stage that is finished.</exception>
    private static void MustNotBeFinished(RunFolder folder, NetworkState made, string stage, int epochs, int now)
    {
        if (now != epochs && folder.Holds(made)) throw new UserError($"{stage}.epochs: {stage} is finished in {folder.Path}, after {epochs} epochs; allowed: {epochs}");
    }

    /// <summary>
    /// The ticket that the config's extraction draws from a network, but for its filters; null where its widths depend on the weights.
    /// Collective.
    /// </summary>
    internal static WeightsIdentity? TicketOf(Session session, RunFolder target, WeightsIdentity dense)
    {
        ExtractSection config = session.Config.Extract;
        if (config.Like is null && TicketWidths.Of(dense.Describe(), dense.ImageSide, config) is { } widths) return dense with { InnerCounts = widths };
        WeightsIdentity? ticket = null;
        session.OnRoot(() =>
        {
            // What a finished one was drawn like need not be there any more.
            if (session.Resumes && target.Holds(NetworkState.Pruned))
            {
                using SafetensorsFile file = SafetensorsFile.Open(target.PrunedWeights);
                ticket = WeightsIdentity.Of(file, target.PrunedWeights);
            }
            else if (config.Like is not null)
            {
                ticket = dense with { InnerCounts = TicketWidths.Like(config.Like, dense, config.FirstBlocks) };
            }
        });
        string text = session.World.Broadcast(ticket?.ToJson() ?? "", 0);
        return text == "" ? null : WeightsIdentity.Parse(text);
    }

    /// <summary>The dense network, where a ticket's latency is compared with its; else null.</summary>
    internal static WeightsIdentity? ForLatency(Session session, WeightsIdentity dense) => session.Config.Latency.Batches.Count > 0 ? dense : null;

    /// <summary>What rank 0 has read, on every rank. Collective.</summary>
    internal static WeightsIdentity OnAllRanks(Session session, WeightsIdentity? read) =>
        WeightsIdentity.Parse(session.World.Broadcast(read?.ToJson() ?? "", 0));

    /// <summary>Refuses to go on with weights of another network, or with other data, than the folder's run had.</summary>
    /// <returns>Which network the weights are of.</returns>
    private static WeightsIdentity MustFit(Session session, RunFolder folder, string weights)
    {
        using SafetensorsFile file = SafetensorsFile.Open(weights);
        WeightsIdentity identity = WeightsIdentity.Of(file, weights);
        identity.MustFit(session.Config, session.Data, weights);
        WeightsIdentity.MustBeFinite(file, weights);
        _ = WeightsIdentity.StepOf(file, weights);
        if (!File.Exists(folder.Config)) return identity;
        RunConfig made = RunConfigLoader.Load(folder.Config);
        // The files may lie elsewhere by now.
        DataSection before = made.Data with { Folder = null }, now = session.Config.Data with { Folder = null };
        string[] keys = [.. RunConfigRules.Differences("data", before, now)];
        if (keys.Length > 0) throw new UserError($"{folder.Config}: the run was made with other data than the config's: {string.Join("; ", keys)}");
        keys = [.. RunConfigRules.Differences("network", made.Network, identity.Network)];
        if (keys.Length > 0) throw new UserError($"{folder.Config}: {weights} holds another network than this file says; {string.Join("; ", keys)}");
        return identity;
    }

    /// <summary>Does work on a run folder that then holds its config and a record of this launch, however it ends.</summary>
    internal static void Record(Session session, RunFolder folder, Action work)
    {
        FolderLaunch? launch = null;
        session.OnRoot(() =>
        {
            // A copy of this file must not overwrite runs, or go on with them, unasked.
            RunConfig config = session.Config with { Run = session.Config.Run with { Overwrite = false, Resume = ResumeChoice.Never } };
            launch = new FolderLaunch(folder, RunConfigLoader.ToYaml(config), session.Record, session.Resumes ? EndOfOther : TimeSpan.Zero, session.Reporter.Info,
                // Again: another launch may have begun the run since.
                () => MustBeOfThisRun(session, folder));
            if (session.Options.Command is not ("run" or "pretrain") && !session.IsPart) return;
            RunConfig made = RunConfigLoader.Load(folder.Config);
            // The run is now one of more epochs.
            if (made.Pretrain.Epochs != config.Pretrain.Epochs || made.Retrain.Epochs != config.Retrain.Epochs) DurableFile.WriteText(folder.Config, RunConfigLoader.ToYaml(config));
        });
        // A filter: it runs before the job is ended on all ranks.
        bool Ended(Exception error)
        {
            launch?.EndAnyhow((error as UserError)?.ExitCode ?? ExitCodes.Failure);
            return false;
        }
        using StallWatch? watch = !session.IsWatched ? null : new(session, folder, message =>
        {
            FolderLaunch.EndAllAnyhow(ExitCodes.Environment);
            session.EndJob(message, ExitCodes.Environment);
        });
        try
        {
            work();
        }
        catch (Exception error) when (Ended(error))
        {
            throw;
        }
        session.OnRoot(() => launch!.End());
    }

    /// <summary>The table of networks, and the paths of all that stands in the run folder.</summary>
    private static void ShowSummary(Session session, RunFolder folder)
    {
        session.OnRoot(() =>
        {
            session.Reporter.Table(ResultTables.Summary(folder.Summary.Read()), isResult: true);
            if (folder.Latency.Exists) session.Reporter.Table(ResultTables.Latency(folder.Latency.Read()), isResult: true);
            foreach (string file in Directory.EnumerateFiles(folder.Path).Order(StringComparer.Ordinal)) session.Reporter.Result(file);
        });
    }
}
