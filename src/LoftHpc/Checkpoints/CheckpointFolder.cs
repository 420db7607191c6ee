using System.Globalization;
using LoftHpc.Results;

namespace LoftHpc.Checkpoints;

/// <summary>The folder of one checkpoint, in that of the run: a file a rank, and the record that makes it one.</summary>
public sealed record CheckpointFolder(string Path, string Stage, long Step)
{
    /// <summary>The place of a stage's checkpoint after so many steps.</summary>
    public static CheckpointFolder At(RunFolder run, string stage, long step) =>
        new(System.IO.Path.Combine(run.Checkpoints, string.Create(CultureInfo.InvariantCulture, $"{stage}-{step:D9}")), stage, step);

    /// <summary>All of a stage, the newest first; those too that were never finished.</summary>
    public static IReadOnlyList<CheckpointFolder> Of(RunFolder run, string stage)
    {
        if (!Directory.Exists(run.Checkpoints)) return [];
        return
        [
            .. from path in Directory.EnumerateDirectories(run.Checkpoints, $"{stage}-*")
               let number = System.IO.Path.GetFileName(path)[(stage.Length + 1)..]
               where long.TryParse(number, NumberStyles.None, CultureInfo.InvariantCulture, out _)
               let step = long.Parse(number, CultureInfo.InvariantCulture)
               orderby step descending
               select new CheckpointFolder(path, stage, step),
        ];
    }

    public string Record => System.IO.Path.Combine(Path, "commit.json");

    public bool IsCommitted => File.Exists(Record);

    public string Part(int rank) => System.IO.Path.Combine(Path, string.Create(CultureInfo.InvariantCulture, $"rank-{rank}.safetensors"));

    /// <summary>Makes the folder; each rank may, since on another host it may not be seen at once.</summary>
    /// <exception cref="UserError">It cannot be made.</exception>
    public void Make()
    {
        try
        {
            Directory.CreateDirectory(Path);
        }
        catch (Exception error) when (DurableFile.IsFailure(error))
        {
            throw DurableFile.Failure(Path, error);
        }
    }

    /// <summary>Removes the folder; the record first, so that what is left of it after a kill is no checkpoint.</summary>
    /// <exception cref="UserError">It cannot be removed.</exception>
    public void Delete()
    {
        try
        {
            File.Delete(Record);
            Directory.Delete(Path, recursive: true);
        }
        catch (DirectoryNotFoundException)
        {
            // It is gone.
        }
        catch (Exception error) when (DurableFile.IsFailure(error))
        {
            throw DurableFile.Failure(Path, error);
        }
    }

    /// <summary>Removes the folder if that can be done.</summary>
    public void DeleteAnyhow()
    {
        try
        {
            Delete();
        }
        catch (UserError)
        {
            // The next launch removes it.
        }
    }
}
