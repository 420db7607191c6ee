using System.Diagnostics;
using System.Text.Json;
using LoftHpc.Checkpoints;
using LoftHpc.Configuration;
using LoftHpc.Mpi;
using LoftHpc.Results;
using LoftHpc.Training;

namespace LoftHpc.Stages;

/// <summary>The checkpoints of one stage of a run: when there are any, what they hold, and from which a launch goes on.</summary>
/// <param name="stage">pretrain or retrain.</param>
/// <param name="other">Names what a rank has to know besides its training; the same for writing and reading.</param>
public sealed class StageCheckpoints(
    Session session, RunFolder folder, string stage, TrainingLoop loop, ITrainingMethod method, Action<StateArchive>? other = null)
{
    /// <summary>The time for which NFS may remember what a folder held.</summary>
    private static readonly TimeSpan SightTime = TimeSpan.FromSeconds(60);

    private readonly Stopwatch _sinceLast = Stopwatch.StartNew();
    private string? _last;

    private CheckpointSection Config => session.Config.Checkpoint;

    /// <summary>Makes the loop ask when to pause, and write checkpoints where the config has any.</summary>
    public void Attach()
    {
        loop.Stop = session.Stop;
        loop.IsCheckpointDueByClock = () => IsDueByClock;
        loop.IsCheckpointDue = IsDueAfter;
        if (Config.Every is not null) loop.Checkpoint = Save;
        loop.WhatIsKept = () => _last is null ? "" : $"; {PlainText.Of(_last)} is the checkpoint from before";
    }

    /// <summary>By the clock of rank 0, which the others follow.</summary>
    private bool IsDueByClock => session.IsRoot && Config.Every?.ToTime() is TimeSpan time && _sinceLast.Elapsed >= time;

    /// <summary>The same on all ranks.</summary>
    private bool IsDueAfter(long step) => Config.Every?.ToSteps(method.StepsPerEpoch) is long every && step % every == 0;

    /// <summary>Writes a checkpoint: each rank its own part at once, then rank 0 the record. Older ones go after that. Collective.</summary>
    /// <exception cref="UserError">A part cannot be written; the checkpoints before are as they were. On all ranks.</exception>
    /// <param name="done">Steps that this rank has done; in a round others may have done more.</param>
    private void Save(long done)
    {
        Stopwatch clock = Stopwatch.StartNew();
        long step = session.World.Allreduce(done, MpiOperation.Max);
        long number = 0;
        session.OnRoot(() => number = CheckpointFolder.After(folder, stage, step).Number);
        session.World.Broadcast(new Span<long>(ref number), 0);
        CheckpointFolder checkpoint = CheckpointFolder.At(folder, stage, number);
        // What is left of one that was never finished.
        session.OnRoot(checkpoint.Delete);
        FileStamp? own = null;
        try
        {
            session.OnAllRanks(() =>
            {
                checkpoint.Make();
                StateFile.Write(checkpoint.Part(session.World.Rank), Archive);
                own = FileStamp.Of(checkpoint.Part(session.World.Rank));
            });
        }
        catch (UserError)
        {
            // The other ranks' parts would take the last free bytes of a full disk. What has failed is what is told.
            if (session.IsRoot) checkpoint.DeleteAnyhow();
            throw;
        }
        FileStamp[] parts = [.. session.World.Allgather(JsonSerializer.Serialize(own)).Select(stamp => JsonSerializer.Deserialize<FileStamp>(stamp)!)];
        session.OnRoot(() =>
        {
            new CheckpointRecord(
                CheckpointRecord.CurrentFormat, stage, step, RunConfigLoader.ToYaml(session.Config), session.Data.Fingerprint, parts,
                [.. folder.Tables.Where(File.Exists).Select(FileStamp.Of)]).Write(checkpoint.Record);
            CheckpointFolder[] before = [.. CheckpointFolder.Of(folder, stage).Where(other => other.Number < number)];
            foreach (CheckpointFolder old in before.Except(before.Where(other => other.IsCommitted).Take(Config.Keep - 1))) old.Delete();
        });
        _last = checkpoint.Path;
        session.Limits.CheckpointTime = clock.Elapsed;
        _sinceLast.Restart();
    }

    /// <summary>Names all that a rank has to know; the same for writing and reading.</summary>
    private void Archive(StateArchive archive)
    {
        session.Context.Ledger.Archive(archive);
        session.Context.Channels.Archive(archive);
        loop.Archive(archive);
        method.Archive(archive);
        other?.Invoke(archive);
    }

    /// <summary>
    /// Reads the newest checkpoint that is whole, and cuts the tables back to it. One that is damaged is named and passed over.
    /// Collective.
    /// </summary>
    /// <returns>Whether there is any.</returns>
    /// <exception cref="UserError">There are some and none is whole, or one is of another run, or tables are not as they were; on all ranks.</exception>
    public bool TryResume()
    {
        CheckpointFolder[] found = [];
        session.OnAllRanks(Find);
        long newest = session.World.Allreduce(found.Length > 0 ? found[0].Number : -1, MpiOperation.Max);
        if (newest < 0)
        {
            session.OnRoot(() =>
            {
                foreach (CheckpointFolder unfinished in CheckpointFolder.Of(folder, stage)) unfinished.Delete();
            });
            return false;
        }
        AwaitSight(CheckpointFolder.At(folder, stage, newest).Record, () =>
        {
            Find();
            return !session.IsRoot || (found.Length > 0 && found[0].Number >= newest);
        });
        int count = found.Length;
        session.World.Broadcast(new Span<int>(ref count), 0);
        for (int i = 0; i < count; i++)
        {
            (CheckpointRecord? record, string trouble, long number) = (null, "", 0);
            (int otherParts, int writers, bool moves) = (0, 0, false);
            session.OnRoot(() =>
            {
                number = found[i].Number;
                (record, trouble, bool others) = Look(found[i]);
                otherParts = others ? 1 : 0;
            });
            session.World.Broadcast(new Span<int>(ref otherParts), 0);
            session.World.Broadcast(new Span<long>(ref number), 0);
            trouble = session.World.Broadcast(trouble, 0);
            CheckpointFolder checkpoint = CheckpointFolder.At(folder, stage, number);
            if (trouble == "")
            {
                FileStamp[] parts = JsonSerializer.Deserialize<FileStamp[]>(session.World.Broadcast(JsonSerializer.Serialize(record?.Parts), 0))!;
                writers = parts.Length;
                moves = writers != session.World.Size || otherParts != 0;
                int[] read = moves ? [.. Enumerable.Range(0, writers)] : [session.World.Rank];
                AwaitSight(checkpoint.Path, () => read.All(writer => parts[writer].DiffersInLength(checkpoint.Part(writer)) is null));
                trouble = TroubleOfParts(checkpoint, parts);
            }
            if (trouble != "")
            {
                session.Reporter.Warning($"{trouble}: this checkpoint is passed over");
                continue;
            }
            string? lost = null;
            try
            {
                session.OnAllRanks(() =>
                {
                    if (moves) lost = StateFile.Move([.. Enumerable.Range(0, writers).Select(checkpoint.Part)], session.World.Rank, session.World.Size, Archive);
                    else StateFile.Read(checkpoint.Part(session.World.Rank), Archive);
                });
            }
            catch (UserError error) when (moves && i + 1 < count)
            {
                // Within a round of the ranks that wrote it: the one before may stand at the end of one.
                session.Reporter.Warning($"{error.Message}: this checkpoint is passed over");
                continue;
            }
            if (moves) session.Reporter.Info($"{stage}: a checkpoint of {writers} ranks goes on with {(writers == session.World.Size ? "other cuts" : session.World.Size)}{(lost is null ? "" : $": {lost}")}");
            session.OnRoot(() =>
            {
                // In this order: a newer one without its rows would be gone on with, were it to be seen again.
                foreach (CheckpointFolder newer in CheckpointFolder.Of(folder, stage).Where(other => other.Number > number)) newer.Delete();
                foreach (FileStamp table in record!.Tables) DurableFile.Cut(folder.Table(table.File), table.Bytes);
            });
            _last = checkpoint.Path;
            session.Reporter.Info($"{stage}: goes on after step {checkpoint.Step}, from {checkpoint.Path}");
            return true;
        }
        throw new UserError(
            $"{PlainText.Of(folder.Checkpoints)}: none of the {count} checkpoints of {stage} is whole; delete this folder to start the stage anew", ExitCodes.Environment);

        void Find() => found = [.. CheckpointFolder.Of(folder, stage).Where(checkpoint => checkpoint.IsCommitted)];
    }

    /// <summary>
    /// Lets ranks that do not see what another one sees look again for a while: on another node a folder may be listed as it was some
    /// time ago. Collective.
    /// </summary>
    private void AwaitSight(string path, Func<bool> isSeen)
    {
        bool seen = false;
        session.OnAllRanks(() => seen = isSeen());
        string[] blind = [.. session.World.Allgather(seen ? "" : $"rank {session.World.Rank} on {Environment.MachineName}").Where(rank => rank != "")];
        if (blind.Length == 0) return;
        session.Reporter.Info($"{path}: not seen as a whole yet by {blind[0]}{(blind.Length > 1 ? $" and {blind.Length - 1} more" : "")}; waiting up to {SightTime.TotalSeconds:F0} s");
        Stopwatch waited = Stopwatch.StartNew();
        session.OnAllRanks(() =>
        {
            while (!seen && waited.Elapsed < SightTime)
            {
                Thread.Sleep(200);
                // NFS looks whether what it remembers of a folder still holds when the folder is listed.
                _ = CheckpointFolder.Of(folder, stage);
                seen = isSeen();
            }
        });
    }

    /// <summary>Removes the checkpoints of a stage that is finished. Collective.</summary>
    public static void Remove(Session session, RunFolder folder, string stage) => session.OnRoot(() =>
    {
        foreach (CheckpointFolder checkpoint in CheckpointFolder.Of(folder, stage)) checkpoint.Delete();
        if (Directory.Exists(folder.Checkpoints) && !Directory.EnumerateFileSystemEntries(folder.Checkpoints).Any()) Directory.Delete(folder.Checkpoints);
    });

    /// <summary>On rank 0: the record, or what is damaged.</summary>
    /// <exception cref="UserError">It is whole, and of another run.</exception>
    private (CheckpointRecord? Record, string Trouble, bool OtherParts) Look(CheckpointFolder checkpoint)
    {
        CheckpointRecord record;
        RunConfig before;
        try
        {
            record = CheckpointRecord.Read(checkpoint.Record);
            before = RunConfigLoader.Parse(record.Config, checkpoint.Record);
        }
        catch (UserError error)
        {
            return (null, error.Message.Split('\n')[0], false);
        }
        if (record.Stage != stage || record.Step != checkpoint.Step || record.Parts.Count == 0)
            return (null, $"{PlainText.Of(checkpoint.Record)}: it is the record of another checkpoint", false);
        Refuse([.. session.IsPart ? RunConfigRules.DifferencesOfTickets(before, session.Config) : RunConfigRules.DifferencesOfRuns(before, session.Config)]);
        if (record.Data != session.Data.Fingerprint) Refuse(["the images are others"]);
        for (int rank = 0; rank < record.Parts.Count; rank++)
        {
            (FileStamp stamp, string part) = (record.Parts[rank], checkpoint.Part(rank));
            if (stamp.File != Path.GetFileName(part)) return (null, $"{PlainText.Of(checkpoint.Record)}: it is the record of another checkpoint", false);
            // What this rank does not see either is not waited for by its own.
            if (stamp.DiffersInLength(part) is string change) return (null, $"{PlainText.Of(part)}: {change}", false);
        }
        foreach (FileStamp table in record.Tables)
        {
            if (!folder.Tables.Contains(folder.Table(table.File))) return (null, $"{PlainText.Of(checkpoint.Record)}: there is no table {PlainText.Of(table.File)}", false);
            if (table.Differs(folder.Table(table.File), exactly: false) is string change)
                throw new UserError($"{PlainText.Of(folder.Table(table.File))}: {change} when {checkpoint.Path} was written; a table must not be changed by others", ExitCodes.Environment);
        }
        // Stages may be cut elsewhere, which gives ranks other parts of the network.
        PretrainSection now = session.Config.Pretrain;
        return (record, "", now.Method is PretrainMethod.Gpipe && !before.Pretrain.Gpipe.Cuts.SequenceEqual(now.Gpipe.Cuts));

        void Refuse(string[] differences)
        {
            if (differences.Length > 0)
                throw new UserError($"{PlainText.Of(checkpoint.Path)}: this checkpoint is of another run than this launch: {string.Join("; ", differences)}");
        }
    }

    /// <summary>What is damaged of the parts, of which each rank looks at some; empty: nothing. Collective, the same on all ranks.</summary>
    private string TroubleOfParts(CheckpointFolder checkpoint, FileStamp[] parts)
    {
        string trouble = "";
        for (int writer = session.World.Rank; writer < parts.Length && trouble == ""; writer += session.World.Size)
        {
            string part = checkpoint.Part(writer);
            trouble = parts[writer].Differs(part, exactly: true) is string change ? $"{part}: {change}" : "";
        }
        return session.World.Allgather(trouble).FirstOrDefault(text => text != "") ?? "";
    }
}
