namespace LoftHpc.Sweeping;

/// <summary>How long runs took, and what is expected of others: the time of a run with another seed, else the mean of all.</summary>
public sealed class SweepTimes
{
    private readonly Dictionary<string, TimeSpan> _took = [];

    public void Add(SweepRun run, TimeSpan time) => _took[run.Group] = time;

    public TimeSpan Of(IEnumerable<SweepRun> left)
    {
        TimeSpan mean = _took.Count == 0 ? TimeSpan.Zero : _took.Values.Aggregate(TimeSpan.Zero, (sum, time) => sum + time) / _took.Count;
        return left.Aggregate(TimeSpan.Zero, (sum, run) => sum + (_took.TryGetValue(run.Group, out TimeSpan time) ? time : mean));
    }

    /// <summary>1:02:03; hours may be more than a day's.</summary>
    public static string Text(TimeSpan time) => string.Create(System.Globalization.CultureInfo.InvariantCulture, $"{(long)time.TotalHours}:{time:mm\\:ss}");
}
