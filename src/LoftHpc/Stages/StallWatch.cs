using System.Globalization;
using System.Text.Json;
using LoftHpc.Mpi;
using LoftHpc.Results;

namespace LoftHpc.Stages;

/// <summary>
/// Ends a job in which ranks wait in MPI for one that does not come (limits.collective_seconds), and says for which. A thread on each
/// rank looks whether its rank gets on. One that does not writes down where it is, in the run folder, which all ranks see. One that does,
/// and sees that another waits, writes that too, again and again: ranks of a long round may be far apart. A rank of which there is
/// nothing to read has been stopped, or is gone.
/// </summary>
public sealed class StallWatch : IDisposable
{
    private static readonly TimeSpan LookEvery = TimeSpan.FromSeconds(1);

    private const int MostNamed = 4;

    private readonly Session _session;
    private readonly RunFolder _folder;
    private readonly Action<string> _end;
    private readonly ManualResetEventSlim _done = new();
    private readonly Dictionary<int, long> _progressOf = [];

    /// <summary>Where a rank is while some rank waits.</summary>
    /// <param name="Call">Of MPI; null: it computes.</param>
    /// <param name="Seconds">For which it has got no further.</param>
    /// <param name="Progress">Grows while it gets on; null: it does not.</param>
    private sealed record Place(int Rank, string Host, string? Call, double Seconds, string Where, long? Progress);

    /// <param name="end">Gets the reason, in one line, and ends the job; called on one rank, on a thread of its own.</param>
    public StallWatch(Session session, RunFolder folder, Action<string> end)
    {
        (_session, _folder, _end) = (session, folder, end);
        if (session.World.Size > 1) new Thread(Watch) { IsBackground = true, Name = "stall watch" }.Start();
    }

    public void Dispose() => _done.Set();

    private TimeSpan Limit
    {
        get
        {
            TimeSpan limit = TimeSpan.FromSeconds(_session.Config.Limits.CollectiveSeconds), twoSteps = 2 * _session.Context.Clock.Longest;
            return limit > twoSteps ? limit : twoSteps;
        }
    }

    /// <summary>After so many looks a rank that gets on looks whether others wait.</summary>
    private int LooksBetween => Math.Clamp(_session.Config.Limits.CollectiveSeconds / 10, 1, 10);

    /// <summary>Between what a rank writes that waits and what it makes of what the others wrote: these have had three turns.</summary>
    private TimeSpan Grace => 3 * LooksBetween * LookEvery;

    private int Rank => _session.World.Rank;

    private string OwnFile => _folder.StallOf(Rank);

    private string Where => $"{_session.Context.Clock.Where} of {_session.Context.Ledger.Phase}";

    private void Watch()
    {
        // Counted by looks: a job that Slurm suspends gets no further either, and is not to be ended when it is resumed.
        (long seen, TimeSpan since, TimeSpan? told, bool tells) = (-1, default, null, false);
        for (int look = 1; !_done.Wait(LookEvery); look++)
        {
            (string? call, long changes) = MpiCalls.Now;
            long progress = changes + _session.Context.Clock.Steps;
            (since, seen) = (progress == seen ? since + LookEvery : default, progress);
            if (since < Limit)
            {
                if (told is null && look % LooksBetween != 0) continue;
                told = null;
                bool others = false;
                Try(() => others = _folder.FindStalls().Any(file => file != OwnFile && Read(file) is { Progress: null }));
                if (others) Tell(new Place(Rank, Environment.MachineName, call, since.TotalSeconds, Where, progress));
                else if (tells) Try(() => File.Delete(OwnFile));
                tells = others;
            }
            else if (told is null)
            {
                Tell(new Place(Rank, Environment.MachineName, call, since.TotalSeconds, Where, null));
                (told, tells) = (since, true);
            }
            else if (call is not null && since - told >= Grace)
            {
                if (Message(call, since) is string message)
                {
                    _end(message);
                    return;
                }
                told = since;
            }
        }
        if (tells) Try(() => File.Delete(OwnFile));
    }

    private void Tell(Place place) => Try(() => File.WriteAllText(OwnFile, JsonSerializer.Serialize(place)));

    /// <summary>Who waits and for whom; null: a lower rank waits too, and says it, or some rank gets on.</summary>
    private string? Message(string call, TimeSpan since)
    {
        Place?[] places = [.. Enumerable.Range(0, _session.World.Size).Select(rank => Read(_folder.StallOf(rank)))];
        bool getOn = false;
        foreach (Place place in places.OfType<Place>())
        {
            if (place.Progress is not long progress) continue;
            getOn |= !_progressOf.TryGetValue(place.Rank, out long before) || before != progress;
            _progressOf[place.Rank] = progress;
        }
        if (getOn || places.Take(Rank).Any(place => place is { Call: not null, Progress: null })) return null;
        int[] missing = [.. Enumerable.Range(0, places.Length).Where(rank => rank != Rank && places[rank] is not { Call: not null, Progress: null })];
        // Where all wait, they wait for each other.
        int[] named = missing.Length > 0 ? missing : [.. Enumerable.Range(0, places.Length).Where(rank => rank != Rank)];
        string more = named.Length > MostNamed ? $", and {named.Length - MostNamed} more" : "";
        return string.Create(CultureInfo.InvariantCulture, $"rank {Number(Rank)} waits in {call}, {Where}, for {since.TotalSeconds:F0} s (limits.collective_seconds): ")
            + string.Join(", ", named.Take(MostNamed).Select(rank => Text(Number(rank), places[rank]))) + more;
    }

    /// <summary>Of a rank among all ranks of the job.</summary>
    private int Number(int rank) => _session.FirstRank + rank;

    private static string Text(int rank, Place? place) => place is null
        ? $"rank {rank} says nothing, as one that was stopped or whose host is gone"
        : string.Create(CultureInfo.InvariantCulture, $"rank {rank} on {place.Host} {(place.Call is null ? "computes" : $"waits in {place.Call}")}, {place.Where}, for {place.Seconds:F0} s");

    private static Place? Read(string file)
    {
        Place? place = null;
        Try(() => place = JsonSerializer.Deserialize<Place>(File.ReadAllText(file)));
        return place;
    }

    private static void Try(Action action)
    {
        try
        {
            action();
        }
        catch (Exception error) when (error is JsonException || DurableFile.IsFailure(error))
        {
            // Then this rank says nothing, or another one did not.
        }
    }
}
