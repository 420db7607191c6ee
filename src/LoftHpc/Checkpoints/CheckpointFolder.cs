using System.Globalization;
using LoftHpc.Results;

namespace LoftHpc.Checkpoints;

/// <summary>The folder of one checkpoint, in that of the run: a file a rank, and the record that makes it one.</summary>
/// <param name="Step">Steps that the furthest rank had done.</param>
/// <param name="Again">How many there were of that step before it: within a round the other ranks may have got further, and the furthest not.</param>
public sealed record CheckpointFolder(string Path, string Stage, long Step, int Again)
{
    private const int MostOfAStep = 1000;

    /// <summary>Of two of a stage the newer one has the higher number.</summary>
    public long Number => (Step * MostOfAStep) + Again;

    /// <summary>The folder of a stage's checkpoint, by its <see cref="Number"/>.</summary>
    public static CheckpointFolder At(RunFolder run, string stage, long number)
    {
        (long step, int again) = (number / MostOfAStep, (int)(number % MostOfAStep));
        string name = string.Create(CultureInfo.InvariantCulture, $"{stage}-{step:D9}{(again == 0 ? "" : $".{again}")}");
        return new(System.IO.Path.Combine(run.Checkpoints, name), stage, step, again);
    }

    /// <summary>A new one after so many steps: no other that is whole has its folder.</summary>
    public static CheckpointFolder After(RunFolder run, string stage, long step)
    {
        CheckpointFolder? same = Of(run, stage).FirstOrDefault(other => other.Step == step && other.IsCommitted);
        return At(run, stage, same is null ? step * MostOfAStep : same.Number + 1);
    }

    /// <summary>All of a stage, the newest first; those too that were never finished.</summary>
    public static IReadOnlyList<CheckpointFolder> Of(RunFolder run, string stage)
    {
        if (!Directory.Exists(run.Checkpoints)) return [];
        return
        [
            .. from path in Directory.EnumerateDirectories(run.Checkpoints, $"{stage}-*")
               let parts = System.IO.Path.GetFileName(path)[(stage.Length + 1)..].Split('.')
               let numbers = parts.Select(part => long.TryParse(part, NumberStyles.None, CultureInfo.InvariantCulture, out long number) ? number : -1).ToArray()
               where numbers.Length <= 2 && numbers[0] is >= 0 and < long.MaxValue / MostOfAStep && numbers[^1] >= 0 && (numbers.Length == 1 || numbers[1] is > 0 and < MostOfAStep)
               let found = new CheckpointFolder(path, stage, numbers[0], numbers.Length == 1 ? 0 : (int)numbers[1])
               orderby found.Number descending
               select found,
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
