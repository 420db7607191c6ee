using System.Globalization;
using System.Text.Json;
using LoftHpc.Mpi;
using LoftHpc.Results;

namespace LoftHpc.Stages;

/// <summary>
/// Ends a job in which ranks wait in MPI for one that does not come (limits.collective_seconds), and says for which. A thread on each
/// rank looks whether its rank gets on. One that does not writes down where it is, in the run folder, which all ranks see; a
/// rank of which there is nothing to read has been stopped, or is gone.
/// </summary>
public sealed class StallWatch : IDisposable
{
    private static readonly TimeSpan LookEvery = TimeSpan.FromSeconds(1);

    /// <summary>Between what this rank writes and what it makes of what the others wrote.</summary>
    private static readonly TimeSpan Grace = TimeSpan.FromSeconds(5);

    private const int MostNamed = 4;

    private readonly Session _session;
    private readonly RunFolder _folder;
    private readonly Action<string> _end;
    private readonly ManualResetEventSlim _done = new();

    /// <summary>Where a rank is that gets no further.</summary>
    /// <param name="Call">Of MPI; null: it computes.</param>
    private sealed record Place(int Rank, string Host, string? Call, double Seconds, string Where);

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

    private int Rank => _session.World.Rank;

    private string OwnFile => _folder.StallOf(Rank);

    private void Watch()
    {
        // Counted by looks: a job that Slurm suspends gets no further either, and is not to be ended when it is resumed.
        (long seen, TimeSpan since, TimeSpan? told) = (-1, default, null);
        while (!_done.Wait(LookEvery))
        {
            (string? call, long changes) = MpiCalls.Now;
            (since, seen) = (changes == seen ? since + LookEvery : default, changes);
            if (since < Limit)
            {
                if (told is not null) Try(() => File.Delete(OwnFile));
                told = null;
            }
            else if (told is null)
            {
                Place own = new(Rank, Environment.MachineName, call, since.TotalSeconds, $"{_session.Context.Clock.Where} of {_session.Context.Ledger.Phase}");
                Try(() => File.WriteAllText(OwnFile, JsonSerializer.Serialize(own)));
                told = since;
            }
            else if (call is not null && since - told > Grace && Message(call, since) is string message)
            {
                _end(message);
                return;
            }
        }
        if (told is not null) Try(() => File.Delete(OwnFile));
    }

    /// <summary>Who waits and for whom; null: a lower rank waits too, and says it.</summary>
    private string? Message(string call, TimeSpan since)
    {
        Place?[] places = [.. Enumerable.Range(0, _session.World.Size).Select(Read)];
        if (places.Take(Rank).Any(place => place?.Call is not null)) return null;
        int[] missing = [.. Enumerable.Range(0, places.Length).Where(rank => rank != Rank && places[rank]?.Call is null)];
        // Where all wait, they wait for each other.
        int[] named = missing.Length > 0 ? missing : [.. Enumerable.Range(0, places.Length).Where(rank => rank != Rank)];
        string more = named.Length > MostNamed ? $", and {named.Length - MostNamed} more" : "";
        return string.Create(
            CultureInfo.InvariantCulture,
            $"rank {Rank} waits in {call}, {_session.Context.Clock.Where} of {_session.Context.Ledger.Phase}, for {since.TotalSeconds:F0} s (limits.collective_seconds): ")
            + string.Join(", ", named.Take(MostNamed).Select(rank => Text(rank, places[rank]))) + more;
    }

    private static string Text(int rank, Place? place) => place is null
        ? $"rank {rank} says nothing, as one that was stopped or whose host is gone"
        : string.Create(CultureInfo.InvariantCulture, $"rank {rank} on {place.Host} {(place.Call is null ? "computes" : $"waits in {place.Call}")}, {place.Where}, for {place.Seconds:F0} s");

    private Place? Read(int rank)
    {
        Place? place = null;
        Try(() => place = JsonSerializer.Deserialize<Place>(File.ReadAllText(_folder.StallOf(rank))));
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
