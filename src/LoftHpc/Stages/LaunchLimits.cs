using System.ComponentModel;
using System.Diagnostics;
using System.Globalization;
using LoftHpc.Configuration;
using LoftHpc.Training;

namespace LoftHpc.Stages;

/// <summary>
/// When a launch is to stop by itself (config section limits): after some minutes, when a file asks for it, and early enough before
/// its Slurm job ends that there is time for one more checkpoint.
/// </summary>
public sealed class LaunchLimits(RunConfig config)
{
    private static readonly TimeSpan LookEvery = TimeSpan.FromSeconds(1), Margin = TimeSpan.FromMinutes(1), SqueueTime = TimeSpan.FromSeconds(10);

    /// <summary>No clock of the host is asked again: it may be set while the launch runs.</summary>
    private readonly Stopwatch _clock = Stopwatch.StartNew();

    private readonly string _stopFile = Path.Combine(config.Run.Folder, config.Run.Name, config.Limits.StopFile);
    private TimeSpan _looked = -LookEvery, _asked, _longest;
    private TimeSpan? _jobEnd;
    private bool _jobEndIsKnown, _fileWasThere, _otherFileWasThere;

    /// <summary>Another file, which is left where it is, by which ranks say that they were asked to stop; null: there is none.</summary>
    public string? OtherStopFile { get; set; }

    /// <summary>What the last checkpoint took.</summary>
    public TimeSpan CheckpointTime { get; set; }

    /// <summary>Whether one of the limits is reached; on rank 0, whenever the ranks agree.</summary>
    public Pause Ask()
    {
        TimeSpan now = _clock.Elapsed;
        (_longest, _asked) = (now - _asked > _longest ? now - _asked : _longest, now);
        if (FileAsks(now)) return _otherFileWasThere ? Pause.StopBySignal : Pause.StopByFile;
        if (config.Limits.Minutes is double minutes && now >= TimeSpan.FromMinutes(minutes)) return Pause.StopByTime;
        // Without checkpoints nothing is gained by an early end.
        return config.Checkpoint.Every is not null && JobEnds(now) ? Pause.StopBeforeEnd : Pause.None;
    }

    private bool FileAsks(TimeSpan now)
    {
        if (_fileWasThere || now - _looked < LookEvery) return _fileWasThere;
        _looked = now;
        if (OtherStopFile is not null && File.Exists(OtherStopFile)) return _otherFileWasThere = _fileWasThere = true;
        if (!File.Exists(_stopFile)) return false;
        _fileWasThere = true;
        try
        {
            // The launch that goes on is not to stop too.
            File.Delete(_stopFile);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            // Whoever made it must remove it.
        }
        return true;
    }

    private bool JobEnds(TimeSpan now)
    {
        if (!_jobEndIsKnown) (_jobEnd, _jobEndIsKnown) = (now + UntilJobEnd(), true);
        // The next question comes after as long as the longest so far.
        TimeSpan needed = config.Limits.MinutesBeforeEnd is double minutes ? TimeSpan.FromMinutes(minutes) : CheckpointTime + _longest + Margin;
        if (_jobEnd is null || now + needed < _jobEnd) return false;
        // Somebody may have given the job more time.
        _jobEnd = now + (BySqueue() ?? _jobEnd - now);
        return now + needed >= _jobEnd;
    }

    /// <summary>Null: it is no job of Slurm's, or when it ends cannot be known.</summary>
    private static TimeSpan? UntilJobEnd() => Until(Environment.GetEnvironmentVariable("SLURM_JOB_END_TIME")) ?? BySqueue();

    /// <summary>Slurm 22.05 does not tell a job its end.</summary>
    private static TimeSpan? BySqueue()
    {
        if (Environment.GetEnvironmentVariable("SLURM_JOB_ID") is not { Length: > 0 } job) return null;
        try
        {
            ProcessStartInfo start = new("squeue", ["--noheader", "--jobs", job, "--format", "%e"])
            {
                RedirectStandardOutput = true,
                RedirectStandardError = true,
            };
            start.Environment["SLURM_TIME_FORMAT"] = "%s";
            using Process squeue = Process.Start(start)!;
            Task<string> output = squeue.StandardOutput.ReadToEndAsync();
            if (squeue.WaitForExit(SqueueTime)) return Until(output.GetAwaiter().GetResult());
            squeue.Kill();
        }
        catch (Exception error) when (error is Win32Exception or IOException or InvalidOperationException)
        {
            // There is no squeue on this node.
        }
        return null;
    }

    /// <param name="time">In seconds since 1970.</param>
    private static TimeSpan? Until(string? time) =>
        long.TryParse(time?.Trim(), NumberStyles.None, CultureInfo.InvariantCulture, out long seconds)
            ? TimeSpan.FromSeconds(seconds - (DateTimeOffset.UtcNow.ToUnixTimeMilliseconds() / 1000.0)) : null;
}
