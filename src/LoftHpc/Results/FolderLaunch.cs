namespace LoftHpc.Results;

/// <summary>
/// One launch's work in a run folder: it keeps other launches out, leaves its config, and stands in the manifest with its end,
/// however it ends, a signal and a full disk included.
/// </summary>
public sealed class FolderLaunch
{
    /// <summary>Kept aside, so that the end can be written on a disk that has become full.</summary>
    private const int ReserveBytes = 64 << 10;

    /// <summary>Called to end all that this process has begun.</summary>
    private static event Action<int>? EndingAll;

    private readonly Lock _gate = new();
    private readonly RunFolder _folder;
    private readonly FolderLock _lock;
    private bool _ended;

    /// <param name="config">The resolved config of the launch, in YAML.</param>
    /// <param name="record">The launch, for the manifest.</param>
    /// <param name="wait">How long another launch, which may be about to end, is waited for.</param>
    /// <param name="tell">Gets a line where that takes longer.</param>
    /// <param name="check">Throws where the folder is not what it must be; called before anything is written in it.</param>
    /// <exception cref="UserError">Another launch works in the folder, or it cannot be written.</exception>
    public FolderLaunch(RunFolder folder, string config, LaunchRecord record, TimeSpan wait = default, Action<string>? tell = null, Action? check = null)
    {
        _folder = folder;
        _lock = folder.Lock(wait, tell);
        try
        {
            check?.Invoke();
            _lock.Reserve(ReserveBytes);
            // What a launch was writing when it was killed.
            foreach (string part in Directory.EnumerateFiles(folder.Path, DurableFile.Aside("*"))) File.Delete(part);
            if (!GoesOn(record.Command)) DurableFile.WriteText(folder.ConfigOf(record.Command), config);
            RunManifest.Begin(folder.Manifest, record);
        }
        catch (Exception error)
        {
            _lock.Dispose();
            if (DurableFile.IsFailure(error)) throw DurableFile.Failure(folder.Path, error);
            throw;
        }
        EndingAll += EndAnyhow;
    }

    static FolderLaunch() => Signals.Ending += EndAllAnyhow;

    /// <summary>The process ends: so does its work in every folder, a ticket's in a run's included.</summary>
    public static void EndAllAnyhow(int exitCode) => EndingAll?.Invoke(exitCode);

    /// <summary>Whether the launch that made the folder was of the same command: then its config stands there already.</summary>
    private bool GoesOn(string command) =>
        _folder.IsBegun && (RunManifest.Read(_folder.Manifest).Launches is not [LaunchRecord first, ..] || first.Command == command);

    /// <summary>The launch has done its work.</summary>
    /// <exception cref="UserError">The manifest cannot be written.</exception>
    public void End() => End(ExitCodes.Done);

    /// <summary>The launch ends for another reason, which is what is to be told, whatever becomes of the manifest.</summary>
    public void EndAnyhow(int exitCode)
    {
        try
        {
            End(exitCode);
        }
        catch (Exception error) when (error is UserError or InvalidOperationException || DurableFile.IsFailure(error))
        {
            // The folder is gone, or the disk has no byte left.
        }
    }

    private void End(int exitCode)
    {
        // A signal comes on a thread of its own.
        lock (_gate)
        {
            if (_ended) return;
            _ended = true;
            EndingAll -= EndAnyhow;
            // Before the manifest is written: with the lock goes the reserve.
            _lock.Dispose();
            RunManifest.End(_folder.Manifest, DateTimeOffset.UtcNow, exitCode);
        }
    }
}
