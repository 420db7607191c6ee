using System.Globalization;
using LoftHpc.Communication;
using LoftHpc.Configuration;
using LoftHpc.Output;
using LoftHpc.Results;
using LoftHpc.Stages;
using LoftHpc.Training;

namespace LoftHpc.Commands;

/// <summary>The commands that work on run folders: which folder, which stages, what is shown.</summary>
public static class RunCommands
{
    public static void Pretrain(Session session)
    {
        RunFolder folder = Create(session);
        Record(session, folder, () => PretrainStage.Run(session, folder));
        ShowSummary(session, folder);
    }

    /// <summary>In its own run folder; from another run's (extract.from) into a new one.</summary>
    public static void Extract(Session session)
    {
        RunFolder own = Own(session);
        RunFolder source = session.Config.Extract.From is { } from ? RunFolder.At(from) : own;
        session.OnRoot(() =>
        {
            RunFolder.Open(source.Path).RequireExisting("pretrain", source.DenseWeights);
            if (source.Path == own.Path) own.RefuseExisting("extract", own.Ticket.Path, own.PrunedWeights);
        });
        RunFolder target = source.Path == own.Path ? own : Create(session);
        Record(session, target, () => ExtractStage.Run(session, source, target));
        ShowSummary(session, target);
    }

    public static void Retrain(Session session)
    {
        RunFolder folder = Own(session);
        session.OnRoot(() =>
        {
            RunFolder.Open(folder.Path).RequireExisting("extract", folder.PrunedWeights);
            folder.RefuseExisting("retrain", folder.TicketWeights);
        });
        Record(session, folder, () => RetrainStage.Run(session, folder));
        ShowSummary(session, folder);
    }

    public static void Run(Session session)
    {
        if (session.Config.Extract.From is not null)
            throw new UserError("extract.from: 'run' draws its ticket from its own pre-training; allowed with 'extract' only");
        Plots.Check(session.Config.Plot, session.Dense.Describe().Convolutions.Select(conv => conv.Name));
        RunFolder folder = Create(session);
        Record(session, folder, () =>
        {
            PretrainStage.Run(session, folder);
            ExtractStage.Run(session, folder, folder);
            RetrainStage.Run(session, folder);
            session.OnRoot(() => Plots.Draw(folder, session.Config.Plot));
        });
        ShowSummary(session, folder);
    }

    public static void Evaluate(Session session)
    {
        EvaluateSection config = session.Config.Evaluate;
        RunFolder own = Own(session);
        string path = config.Weights ?? (File.Exists(own.TicketWeights) ? own.TicketWeights : own.DenseWeights);
        using LoadedNetwork loaded = LoadedNetwork.Read(session, path);
        loaded.Identity.MustFit(session.Config, session.Data, path);
        session.Context.Ledger.Phase = "evaluate";
        StepTotals totals = loaded.Evaluate(session, config.Split is DataSplit.Train ? session.TrainImages : session.TestImages);
        session.Reporter.Result(string.Create(CultureInfo.InvariantCulture,
            $"{path}: accuracy {totals.Accuracy:R}, loss {totals.Loss:R} on {totals.Images} {config.Split.ToString().ToLowerInvariant()} images of {session.Data.Test.Name}"));
    }

    private static RunFolder Own(Session session) => RunFolder.At(Path.Combine(session.Config.Run.Folder, session.Config.Run.Name));

    private static RunFolder Create(Session session)
    {
        session.OnRoot(() => RunFolder.Create(session.Config.Run.Folder, session.Config.Run.Name, session.Config.Run.Overwrite));
        return Own(session);
    }

    /// <summary>Does work on a run folder that then holds its config and a record of this launch, however it ends.</summary>
    private static void Record(Session session, RunFolder folder, Action work)
    {
        session.OnRoot(() =>
        {
            DurableFile.WriteText(folder.ConfigOf(session.Options.Command), RunConfigLoader.ToYaml(session.Config));
            RunManifest.Begin(folder.Manifest, session.Record);
        });
        // A filter: it runs before the job is ended on all ranks.
        bool Ended(int exitCode)
        {
            if (session.IsRoot) RunManifest.End(folder.Manifest, DateTimeOffset.UtcNow, exitCode);
            return false;
        }
        try
        {
            work();
        }
        catch (Exception error) when (Ended((error as UserError)?.ExitCode ?? ExitCodes.Failure))
        {
            throw;
        }
        Ended(ExitCodes.Done);
    }

    /// <summary>The table of networks, and the paths of all that stands in the run folder.</summary>
    private static void ShowSummary(Session session, RunFolder folder)
    {
        if (!session.IsRoot) return;
        session.Reporter.Table(ResultTables.Summary(folder.Summary.Read()), isResult: true);
        foreach (string file in Directory.EnumerateFiles(folder.Path).Order(StringComparer.Ordinal)) session.Reporter.Result(file);
    }
}
