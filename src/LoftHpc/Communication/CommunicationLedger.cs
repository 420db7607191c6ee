using System.Diagnostics;
using System.Text.Json;
using LoftHpc.Mpi;

namespace LoftHpc.Communication;

/// <summary>What communication is for; every call is counted under the purpose that is current.</summary>
public enum CommunicationPurpose
{
    Step,
    Round,
    Distance,
    RunningStatistics,
    Evaluation,
    Save,
    Control,
}

/// <summary>What one rank sent and received for one purpose through one collective.</summary>
/// <param name="Messages">Transfers from this rank to another.</param>
/// <param name="Seconds">Time that this rank spent in these calls, waiting for the other ranks included.</param>
public sealed record CommunicationTotal(
    string Phase, CommunicationPurpose Purpose, string Collective,
    long Calls, long Messages, long BytesSent, long BytesReceived, double Seconds);

/// <summary>
/// The account of one rank's communication. Phase and purpose are those of the rank as a whole: calls from several
/// threads at once would be counted wrong.
/// </summary>
public sealed class CommunicationLedger
{
    private readonly Dictionary<(string Phase, CommunicationPurpose Purpose, string Collective), Entry> _entries = [];

    /// <summary>The entries of the current phase and purpose that have been used since the last change of either.</summary>
    private readonly Dictionary<string, Entry> _current = [];

    /// <summary>What the run is doing: pretrain, retrain, ... as in the column of the CSV files.</summary>
    public string Phase
    {
        get;
        set
        {
            field = value;
            _current.Clear();
        }
    } = "setup";

    /// <summary>What the next calls are for.</summary>
    public CommunicationPurpose Purpose
    {
        get;
        private set
        {
            field = value;
            _current.Clear();
        }
    } = CommunicationPurpose.Control;

    /// <summary>All totals so far, by phase in order of appearance, then by purpose and collective.</summary>
    public IReadOnlyList<CommunicationTotal> Totals
    {
        get
        {
            List<string> phases = [.. _entries.Keys.Select(k => k.Phase).Distinct()];
            return [.. _entries
                .OrderBy(e => phases.IndexOf(e.Key.Phase)).ThenBy(e => e.Key.Purpose).ThenBy(e => e.Key.Collective, StringComparer.Ordinal)
                .Select(e => new CommunicationTotal(
                    e.Key.Phase, e.Key.Purpose, e.Key.Collective, e.Value.Calls,
                    e.Value.Transfers.Messages, e.Value.Transfers.BytesSent, e.Value.Transfers.BytesReceived,
                    e.Value.Ticks / (double)Stopwatch.Frequency))];
        }
    }

    /// <summary>The totals of the current phase; those that are read replace what the phase has had.</summary>
    /// <exception cref="UserError">What is read is no list of totals.</exception>
    public void Archive(StateArchive archive)
    {
        string json = JsonSerializer.Serialize(Totals.Where(total => total.Phase == Phase));
        archive.Text("communication", ref json);
        if (!archive.IsReading) return;
        foreach ((string, CommunicationPurpose, string) key in _entries.Keys.Where(key => key.Phase == Phase).ToArray()) _entries.Remove(key);
        _current.Clear();
        if (archive.Writers is null) Add(json);
        foreach (StateArchive writer in archive.TakenOver)
        {
            writer.Text("communication", ref json);
            Add(json);
        }
    }

    private void Add(string json)
    {
        CommunicationTotal[]? totals;
        try
        {
            totals = JsonSerializer.Deserialize<CommunicationTotal[]>(json);
        }
        catch (JsonException)
        {
            totals = null;
        }
        if (totals is null || totals.Any(total => total is null || total.Phase != Phase || total.Collective is null))
            throw new UserError($"communication: it is no list of totals of {Phase}");
        foreach (CommunicationTotal total in totals)
        {
            (string, CommunicationPurpose, string) key = (total.Phase, total.Purpose, total.Collective);
            if (!_entries.TryGetValue(key, out Entry? entry)) _entries.Add(key, entry = new Entry());
            entry.Add(total);
        }
    }

    /// <summary>Forgets all totals: what follows is of another folder.</summary>
    public void Clear()
    {
        _entries.Clear();
        _current.Clear();
    }

    /// <summary>Sets the purpose until the result is disposed, which brings the purpose before back.</summary>
    public PurposeScope For(CommunicationPurpose purpose)
    {
        PurposeScope scope = new(this, Purpose);
        Purpose = purpose;
        return scope;
    }

    /// <summary>Counts in another phase until the result is disposed: what belongs to the launch, and not to the training that a table tells of.</summary>
    public PhaseScope In(string phase)
    {
        PhaseScope scope = new(this, Phase);
        Phase = phase;
        return scope;
    }

    /// <summary>The entry that a call of this collective belongs to now.</summary>
    internal Entry Current(string collective)
    {
        // Small messages take less time than a look-up by all three.
        if (_current.TryGetValue(collective, out Entry? entry)) return entry;
        (string, CommunicationPurpose, string) key = (Phase, Purpose, collective);
        if (!_entries.TryGetValue(key, out entry)) _entries.Add(key, entry = new Entry());
        return _current[collective] = entry;
    }

    /// <summary>A running total.</summary>
    internal sealed class Entry
    {
        public long Calls { get; private set; }

        public Transfers Transfers { get; private set; }

        public long Ticks { get; private set; }

        /// <summary>Adds what was counted before.</summary>
        public void Add(CommunicationTotal total)
        {
            Calls += total.Calls;
            Transfers += new Transfers(total.Messages, total.BytesSent, total.BytesReceived);
            Ticks += (long)(total.Seconds * Stopwatch.Frequency);
        }

        public void AddCall(Transfers transfers)
        {
            Calls++;
            Transfers += transfers;
        }

        /// <summary>Adds the time since <paramref name="start"/> (<see cref="Stopwatch.GetTimestamp"/>).</summary>
        public void AddTimeSince(long start) => Ticks += Stopwatch.GetTimestamp() - start;
    }

    /// <summary>Ends a phase; see <see cref="In"/>.</summary>
    public readonly struct PhaseScope(CommunicationLedger ledger, string before) : IDisposable
    {
        public void Dispose() => ledger.Phase = before;
    }

    /// <summary>Ends a purpose; see <see cref="For"/>.</summary>
    public readonly struct PurposeScope(CommunicationLedger ledger, CommunicationPurpose before) : IDisposable
    {
        public void Dispose() => ledger.Purpose = before;
    }
}
