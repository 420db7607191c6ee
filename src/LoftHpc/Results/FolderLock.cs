using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.Json;
using Microsoft.Win32.SafeHandles;

namespace LoftHpc.Results;

/// <summary>Who works in a run folder: the first line of the folder's .lock.</summary>
/// <param name="Key">Of this one lock.</param>
/// <param name="Boot">Of the kernel of the host: hosts may share a name, and begin to number their processes anew.</param>
/// <param name="ProcessStart">When the process began, in ticks of the host's kernel since it began.</param>
/// <param name="SlurmJob">Null outside Slurm.</param>
/// <param name="Since">UTC, to be shown only.</param>
/// <param name="Beats">Grows as long as the holder lives.</param>
public sealed record LockHolder(
    string Key, string Host, string Boot, int Process, long ProcessStart, string? SlurmJob, DateTimeOffset Since, long Beats)
{
    public override string ToString() => string.Create(
        CultureInfo.InvariantCulture,
        $"process {Process} on {PlainText.Of(Host)}{(SlurmJob is null ? "" : $", Slurm job {PlainText.Of(SlurmJob)}")}, since {Since:yyyy-MM-dd HH:mm:ss} UTC");
}

/// <summary>How long the holder of a lock, and who wants it, wait.</summary>
/// <param name="Beat">Between two signs of life of the holder.</param>
/// <param name="Watch">How long a holder on another host is looked at before it counts as dead: its clock may be another.</param>
public sealed record LockTimes(TimeSpan Beat, TimeSpan Watch)
{
    public static readonly LockTimes Usual = new(TimeSpan.FromSeconds(5), TimeSpan.FromSeconds(30));
}

/// <summary>
/// The lock of a run folder. The kernel keeps it (flock), and frees it however a process ends. Not every file system tells other
/// hosts of such locks, so the file has a record of the holder too, in which it gives a sign of life every few seconds.
/// </summary>
public sealed partial class FolderLock : IDisposable
{
    internal const string FileName = ".lock";

    /// <summary>A record is written at once, so that nobody reads half of it.</summary>
    private const int RecordBytes = 4096;

    private static readonly JsonSerializerOptions Format = new(RecordJson.Format) { WriteIndented = false };

    private readonly Lock _gate = new();
    private readonly string _file;
    private readonly FileStream _stream;
    private readonly Action<UserError> _lost;
    private readonly Timer _timer;
    private LockHolder _own;
    private bool _ended;

    private FolderLock(string file, FileStream stream, LockHolder own, LockTimes times, Action<UserError> lost)
    {
        (_file, _stream, _own, _lost) = (file, stream, own, lost);
        try
        {
            Write();
        }
        catch (IOException)
        {
            File.Delete(file);
            throw;
        }
        _timer = new Timer(_ => Beat(), null, times.Beat, times.Beat);
    }

    /// <summary>Takes the lock of a folder.</summary>
    /// <param name="wait">How long another launch, which may be about to end, is waited for.</param>
    /// <param name="tell">Gets a line where this takes longer.</param>
    /// <param name="times">The usual ones where not given.</param>
    /// <param name="lost">
    /// Called on a thread of its own when another launch has taken the folder, which it may where this process stood still for longer
    /// than others watch, on a file system that keeps no locks. By default the error is thrown there, which ends the process.
    /// </param>
    /// <exception cref="UserError">Another launch works in the folder, or it cannot be written.</exception>
    public static FolderLock Take(string folder, TimeSpan wait = default, Action<string>? tell = null, LockTimes? times = null, Action<UserError>? lost = null)
    {
        string file = DurableFile.Target(Path.Combine(folder, FileName));
        Stopwatch waited = Stopwatch.StartNew();
        for (bool told = false; ; told = true)
        {
            LockHolder? holder = null;
            try
            {
                if (TryTake(folder, file, tell, times ?? LockTimes.Usual, lost ?? (error => throw error), out holder) is FolderLock taken) return taken;
            }
            catch (Exception error) when (DurableFile.IsFailure(error))
            {
                throw DurableFile.Failure(folder, error);
            }
            string who = holder is null ? "" : $": {holder}{(IsHere(holder) && !LivesHere(holder) ? ", which has ended, but not all that it has started" : "")}";
            if (waited.Elapsed >= wait) throw new UserError($"{folder}: another launch works in this folder{who}; wait for its end, or end it");
            if (!told) tell?.Invoke($"{folder}: another launch works in this folder{who}; waiting up to {wait.TotalSeconds:F0} s for its end");
            Thread.Sleep(100);
        }
    }

    /// <summary>Takes the lock if it is free; else null, with the one who holds it as far as that can be read.</summary>
    private static FolderLock? TryTake(string folder, string file, Action<string>? tell, LockTimes times, Action<UserError> lost, out LockHolder? holder)
    {
        const int wouldBlock = 11;
        while (true)
        {
            FileStream stream;
            try
            {
                stream = new FileStream(file, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None, bufferSize: 0);
            }
            catch (IOException error) when (error.HResult == wouldBlock)
            {
                holder = Read(file);
                return null;
            }
            FolderLock? taken = null;
            try
            {
                holder = Read(file);
                if (holder is not null && Lives(folder, file, holder, tell, times)) return null;
                // The holder may have removed the file since it was opened: that would be the lock of a file that is no more.
                if (!File.Exists(file)) continue;
                LockHolder own = new(
                    Guid.NewGuid().ToString("N"), Environment.MachineName, BootOfKernel(), Environment.ProcessId, StartOf(Environment.ProcessId) ?? 0,
                    Environment.GetEnvironmentVariable("SLURM_JOB_ID"), DateTimeOffset.UtcNow, 0);
                FolderLock mine = new(file, stream, own, times, lost);
                holder = Read(file);
                if (holder?.Key == own.Key) return taken = mine;
                mine.Stop();
                return null;
            }
            finally
            {
                if (taken is null) stream.Dispose();
            }
        }
    }

    /// <summary>
    /// Whether the holder of a lock that the kernel gives away lives all the same. On this host that can be looked up. On another one
    /// its signs of life are waited for: no two clocks are compared.
    /// </summary>
    private static bool Lives(string folder, string file, LockHolder holder, Action<string>? tell, LockTimes times)
    {
        if (IsHere(holder)) return LivesHere(holder);
        tell?.Invoke($"{folder}: another launch may work in this folder: {holder}; waiting up to {times.Watch.TotalSeconds:F0} s for a sign of life");
        Stopwatch watched = Stopwatch.StartNew();
        while (watched.Elapsed < times.Watch)
        {
            Thread.Sleep(times.Beat / 10);
            // It may have ended in good order.
            if (!File.Exists(file)) return false;
            if (Read(file) is LockHolder now && now != holder) return true;
        }
        return false;
    }

    private static bool IsHere(LockHolder holder) => holder.Host == Environment.MachineName && holder.Boot == BootOfKernel();

    private static bool LivesHere(LockHolder holder) => StartOf(holder.Process) == holder.ProcessStart;

    /// <summary>Makes the file so long, so that what <see cref="Dispose"/> frees can be written on a disk that has become full.</summary>
    public void Reserve(int bytes)
    {
        lock (_gate)
        {
            _stream.Position = RecordBytes;
            _stream.Write(new byte[bytes]);
            _stream.Flush(flushToDisk: true);
        }
    }

    /// <summary>Hands the lock on to the processes that this one starts from now on: while one of them lives it is taken, also where this one was killed.</summary>
    public void HandOn()
    {
        const int setFlags = 2;
        _ = Control((int)_stream.SafeFileHandle.DangerousGetHandle(), setFlags, 0);
    }

    /// <summary>Gives the lock back; the file is gone then.</summary>
    public void Dispose()
    {
        Stop();
        try
        {
            if (Read(_file)?.Key == _own.Key) File.Delete(_file);
            _stream.SetLength(0);
            _stream.Dispose();
        }
        catch (Exception error) when (DurableFile.IsFailure(error))
        {
            // The folder is gone.
        }
    }

    private void Stop()
    {
        lock (_gate) _ended = true;
        _timer.Dispose();
    }

    private void Beat()
    {
        lock (_gate)
        {
            if (_ended) return;
            try
            {
                if (Read(_file) is LockHolder other && other.Key != _own.Key)
                {
                    _ended = true;
                    _lost(new UserError($"{Path.GetDirectoryName(_file)}: another launch has taken this folder from this one: {other}", ExitCodes.Environment));
                    return;
                }
                _own = _own with { Beats = _own.Beats + 1 };
                Write();
            }
            catch (Exception error) when (DurableFile.IsFailure(error))
            {
                // The folder is gone, or the disk fails: what is to be written there next tells it.
            }
        }
    }

    private void Write()
    {
        byte[] record = new byte[RecordBytes];
        byte[] line = Encoding.UTF8.GetBytes(JsonSerializer.Serialize(_own, Format) + "\n");
        line.CopyTo(record.AsSpan());
        _stream.Position = 0;
        _stream.Write(record);
        _stream.Flush(flushToDisk: true);
    }

    /// <summary>The holder that a file names; null where it cannot be read. .NET's own way to open would ask for the lock.</summary>
    private static LockHolder? Read(string file)
    {
        int descriptor = DurableFile.OpenToRead(file);
        if (descriptor < 0) return null;
        using SafeFileHandle handle = new(descriptor, ownsHandle: true);
        byte[] record = new byte[RecordBytes];
        try
        {
            int length = RandomAccess.Read(handle, record, 0), end = Array.IndexOf(record, (byte)'\n', 0, length);
            return end < 0 ? null : JsonSerializer.Deserialize<LockHolder>(record.AsSpan(0, end), Format);
        }
        catch (Exception error) when (DurableFile.IsFailure(error) || error is JsonException)
        {
            return null;
        }
    }

    private static string BootOfKernel() => ReadLine("/proc/sys/kernel/random/boot_id") ?? "";

    /// <summary>When a process of this host began, in ticks since the kernel did: a later one may have its number. Null where it has ended.</summary>
    private static long? StartOf(int process)
    {
        // After the name, which may hold anything: state, ..., and as the 20th the start.
        string[]? fields = ReadLine(string.Create(CultureInfo.InvariantCulture, $"/proc/{process}/stat"))?.Split(") ")[^1].Split(' ');
        return fields is [not ("Z" or "X"), ..] && long.TryParse(fields.ElementAtOrDefault(19), CultureInfo.InvariantCulture, out long ticks) ? ticks : null;
    }

    private static string? ReadLine(string file)
    {
        try
        {
            return File.ReadLines(file).FirstOrDefault();
        }
        catch (Exception error) when (DurableFile.IsFailure(error))
        {
            return null;
        }
    }

    [LibraryImport("libc", EntryPoint = "fcntl")]
    private static partial int Control(int descriptor, int command, nint value);
}
