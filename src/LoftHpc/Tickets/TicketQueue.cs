using System.Diagnostics;
using LoftHpc.Results;

namespace LoftHpc.Tickets;

/// <summary>
/// Which tickets of a launch are taken, for groups of ranks that take the next one whenever they are done with one. A ticket is taken by
/// making a folder of its name in the folder of the queue, which on every file system one alone can do.
/// </summary>
public sealed class TicketQueue(string path)
{
    /// <summary>For which another host may not see the folder of the queue yet.</summary>
    private static readonly TimeSpan SightTime = TimeSpan.FromSeconds(60);

    /// <summary>There, when a group was stopped: the others are to stop too.</summary>
    public string StopFile => Path.Combine(path, ".stop");

    /// <summary>Makes it, with nothing taken; on one rank, before others take any.</summary>
    public void Begin()
    {
        // What a launch has left that was killed.
        End();
        Directory.CreateDirectory(path);
    }

    /// <summary>Removes it; on one rank, when all are done.</summary>
    public void End()
    {
        if (Directory.Exists(path)) Directory.Delete(path, recursive: true);
    }

    /// <summary>Waits until it is seen on this host.</summary>
    /// <exception cref="UserError">It is not.</exception>
    public void Await()
    {
        Stopwatch waited = Stopwatch.StartNew();
        while (!Directory.Exists(path))
        {
            if (waited.Elapsed > SightTime) throw new UserError($"{path}: this host does not see the folder, which all ranks are to share", ExitCodes.Environment);
            Thread.Sleep(100);
        }
    }

    /// <summary>Takes a ticket, which nobody gives back.</summary>
    /// <returns>False: it is taken already.</returns>
    public bool TryTake(string name) => DurableFile.TryMakeFolder(Path.Combine(path, name));

    /// <summary>Whether somebody has taken it.</summary>
    public bool IsTaken(string name) => Directory.Exists(Path.Combine(path, name));

    /// <summary>Says that a ticket cannot be made.</summary>
    public void Fail(string name) => File.WriteAllText(FailureOf(name), "");

    /// <summary>Whether that was said of it.</summary>
    public bool HasFailed(string name) => File.Exists(FailureOf(name));

    /// <summary>Says that a ticket is drawn: its widths are known.</summary>
    public void Draw(string name) => File.WriteAllText(DrawingOf(name), "");

    /// <summary>Whether that was said of it.</summary>
    public bool IsDrawn(string name) => File.Exists(DrawingOf(name));

    /// <summary>How many cannot be made.</summary>
    public int FailureCount => Directory.EnumerateFiles(path, "*.failed").Count();

    private string DrawingOf(string name) => Path.Combine(path, $"{name}.drawn");

    private string FailureOf(string name) => Path.Combine(path, $"{name}.failed");
}
