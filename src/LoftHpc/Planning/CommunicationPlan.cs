using LoftHpc.Communication;
using LoftHpc.Results;

namespace LoftHpc.Planning;

/// <summary>
/// What every rank sends and receives, by purpose and collective, without a call being made: the ledgers of all ranks at
/// once, kept by the same convention (<see cref="TransferCount"/>).
/// </summary>
public sealed class CommunicationPlan(int ranks)
{
    private readonly Dictionary<(CommunicationPurpose Purpose, string Collective), Entry[]> _entries = [];

    private record struct Entry(long Calls, Transfers Transfers);

    /// <summary>Number of ranks.</summary>
    public int Ranks => ranks;

    /// <summary>As in communication.csv, without times: by rank, purpose and collective.</summary>
    public IReadOnlyList<CommunicationRow> Rows =>
    [
        .. from entry in _entries
           from rank in Enumerable.Range(0, ranks)
           let planned = entry.Value[rank]
           where planned.Calls > 0
           orderby rank, entry.Key.Purpose, entry.Key.Collective
           select new CommunicationRow(
               rank, "pretrain", entry.Key.Purpose, entry.Key.Collective, planned.Calls, planned.Transfers.Messages,
               planned.Transfers.BytesSent, planned.Transfers.BytesReceived, 0),
    ];

    /// <summary>Bytes that all ranks send.</summary>
    public long BytesSent => _entries.Values.Sum(entry => entry.Sum(rank => rank.Transfers.BytesSent));

    public void Allreduce(CommunicationPurpose purpose, long count, int elementBytes, long calls = 1) =>
        Collective(purpose, "allreduce", rank => TransferCount.Allreduce(rank, ranks, count, elementBytes), calls);

    /// <param name="count">Elements of each rank.</param>
    public void Allgather(CommunicationPurpose purpose, long count, int elementBytes) =>
        Collective(purpose, "allgather", _ => TransferCount.Allgather(ranks, count, elementBytes));

    /// <param name="counts">Elements of each rank.</param>
    public void Allgatherv(CommunicationPurpose purpose, long[] counts, int elementBytes, long calls = 1) =>
        Collective(purpose, "allgatherv", rank => TransferCount.Allgatherv(rank, counts, elementBytes), calls);

    /// <param name="counts">Elements of each rank.</param>
    public void ReduceScatter(CommunicationPurpose purpose, long[] counts, int elementBytes, long calls = 1) =>
        Collective(purpose, "reduce_scatter", rank => TransferCount.ReduceScatter(rank, counts, elementBytes), calls);

    /// <param name="counts">Elements that a rank (first index) sends to another.</param>
    public void Alltoallv(CommunicationPurpose purpose, long[][] counts, int elementBytes, long calls = 1) =>
        Collective(purpose, "alltoallv", rank =>
            TransferCount.Alltoallv(rank, counts[rank], [.. counts.Select(from => from[rank])], elementBytes), calls);

    /// <summary>To rank 0.</summary>
    public void Reduce(CommunicationPurpose purpose, long count, int elementBytes, long calls = 1) =>
        Collective(purpose, "reduce", rank => TransferCount.Reduce(rank, ranks, 0, count, elementBytes), calls);

    /// <summary>From rank 0.</summary>
    public void Broadcast(CommunicationPurpose purpose, long count, int elementBytes) =>
        Collective(purpose, "broadcast", rank => TransferCount.Broadcast(rank, ranks, 0, count, elementBytes));

    /// <summary>A send of one rank and the receive of another.</summary>
    public void Send(CommunicationPurpose purpose, int from, int to, long count, int elementBytes, long calls = 1)
    {
        Add((purpose, "send"), from, calls, new Entry(1, TransferCount.Send(count, elementBytes)));
        Add((purpose, "receive"), to, calls, new Entry(1, TransferCount.Receive(count, elementBytes)));
    }

    /// <summary>Adds another plan to this one, so many times.</summary>
    public void Add(CommunicationPlan other, long times = 1)
    {
        foreach ((var key, Entry[] entry) in other._entries)
        {
            for (int rank = 0; rank < ranks; rank++) Add(key, rank, times, entry[rank]);
        }
    }

    /// <summary>
    /// Seconds that the slowest rank takes for what it sends: its messages times the latency plus its bytes over the
    /// bandwidth. Nothing overlaps, and nobody waits for another rank.
    /// </summary>
    /// <param name="latency">Seconds a message.</param>
    /// <param name="bandwidth">Bytes a second.</param>
    public double Seconds(double latency, double bandwidth) => Rows.GroupBy(row => row.Rank)
        .Select(rank => rank.Sum(row => (row.Messages * latency) + (row.BytesSent / bandwidth))).DefaultIfEmpty().Max();

    /// <summary>The part of it that one purpose and collective make up.</summary>
    public CommunicationPlan Of(CommunicationPurpose purpose, string collective)
    {
        CommunicationPlan part = new(ranks);
        if (_entries.TryGetValue((purpose, collective), out Entry[]? entry)) part._entries.Add((purpose, collective), entry);
        return part;
    }

    private void Collective(CommunicationPurpose purpose, string collective, Func<int, Transfers> ofRank, long calls = 1)
    {
        for (int rank = 0; rank < ranks; rank++) Add((purpose, collective), rank, calls, new Entry(1, ofRank(rank)));
    }

    /// <exception cref="OverflowException">The sum is beyond 64 bits.</exception>
    private void Add((CommunicationPurpose, string) key, int rank, long times, Entry added)
    {
        if (!_entries.TryGetValue(key, out Entry[]? entry)) _entries.Add(key, entry = new Entry[ranks]);
        ((long calls, Transfers sum), Transfers one) = (entry[rank], added.Transfers);
        checked
        {
            entry[rank] = new Entry(calls + (times * added.Calls), new Transfers(
                sum.Messages + (times * one.Messages), sum.BytesSent + (times * one.BytesSent), sum.BytesReceived + (times * one.BytesReceived)));
        }
    }
}
