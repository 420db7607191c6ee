using System.Diagnostics;

namespace LoftHpc.Training;

/// <summary>In which optimizer step of a stage this rank is, for another thread that watches whether it gets on.</summary>
public sealed class StepClock
{
    private long _step, _since, _longest;
    private volatile bool _inStep;

    /// <summary>The longest step so far.</summary>
    public TimeSpan Longest => TimeSpan.FromTicks(Volatile.Read(ref _longest));

    /// <summary>Steps done.</summary>
    public long Steps => Volatile.Read(ref _step);

    /// <summary>In words.</summary>
    public string Where => _inStep ? $"in step {Volatile.Read(ref _step) + 1}" : $"after step {Volatile.Read(ref _step)}";

    /// <param name="done">Steps done before it.</param>
    public void Begin(long done)
    {
        Volatile.Write(ref _step, done);
        _since = Stopwatch.GetTimestamp();
        _inStep = true;
    }

    public void End()
    {
        Volatile.Write(ref _step, _step + 1);
        Volatile.Write(ref _longest, Math.Max(_longest, Stopwatch.GetElapsedTime(_since).Ticks));
        _inStep = false;
    }
}
