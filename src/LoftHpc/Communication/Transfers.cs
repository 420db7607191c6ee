namespace LoftHpc.Communication;

/// <summary>What one rank sends and receives in one call, or in several.</summary>
/// <param name="Messages">Transfers from this rank to another; a transfer of no bytes is none.</param>
public readonly record struct Transfers(long Messages, long BytesSent, long BytesReceived)
{
    public static Transfers operator +(Transfers a, Transfers b) =>
        new(a.Messages + b.Messages, a.BytesSent + b.BytesSent, a.BytesReceived + b.BytesReceived);

    public static Transfers operator *(long calls, Transfers t) => new(calls * t.Messages, calls * t.BytesSent, calls * t.BytesReceived);
}

/// <summary>
/// The convention by which communication is counted, whatever an MPI library does inside: functions of a rank, the
/// number of ranks and the counts alone. Counts are in elements. What a rank keeps to itself is not counted.
/// </summary>
public static class TransferCount
{
    /// <summary>A rank sends its own part to each of the others, and receives theirs.</summary>
    public static Transfers Allgatherv(int rank, ReadOnlySpan<long> counts, int elementBytes)
    {
        long others = counts.Length - 1, own = counts[rank], total = Sum(counts);
        return new Transfers(own > 0 ? others : 0, others * own * elementBytes, (total - own) * elementBytes);
    }

    /// <summary>Allgatherv of equal parts of <paramref name="count"/> elements.</summary>
    public static Transfers Allgather(int ranks, long count, int elementBytes)
    {
        long others = ranks - 1, bytes = others * count * elementBytes;
        return new Transfers(count > 0 ? others : 0, bytes, bytes);
    }

    /// <summary>The reverse of allgatherv: a rank sends each other rank's part to it, and receives its own part from each.</summary>
    public static Transfers ReduceScatter(int rank, ReadOnlySpan<long> counts, int elementBytes)
    {
        long others = counts.Length - 1, own = counts[rank], total = Sum(counts), messages = 0;
        for (int r = 0; r < counts.Length; r++)
        {
            if (r != rank && counts[r] > 0) messages++;
        }
        return new Transfers(messages, (total - own) * elementBytes, others * own * elementBytes);
    }

    /// <summary>
    /// A reduce-scatter and an allgather over near-equal parts: of n elements, the first n mod P ranks have one more.
    /// </summary>
    public static Transfers Allreduce(int rank, int ranks, long count, int elementBytes)
    {
        // Part sizes differ by at most one, so the parts that are not empty are all of them, or the first 'count'.
        long own = (count / ranks) + (rank < count % ranks ? 1 : 0), others = ranks - 1;
        long filled = Math.Min(count, ranks), toOthers = filled - (own > 0 ? 1 : 0);
        Transfers scatter = new(toOthers, (count - own) * elementBytes, others * own * elementBytes);
        Transfers gather = new(own > 0 ? others : 0, others * own * elementBytes, (count - own) * elementBytes);
        return scatter + gather;
    }

    /// <summary>The root sends a copy to each other rank.</summary>
    public static Transfers Broadcast(int rank, int ranks, int root, long count, int elementBytes)
    {
        long bytes = count * elementBytes;
        return rank == root ? new Transfers(count > 0 ? ranks - 1 : 0, (ranks - 1) * bytes, 0) : new Transfers(0, 0, bytes);
    }

    /// <summary>Each other rank sends its elements to the root.</summary>
    public static Transfers Reduce(int rank, int ranks, int root, long count, int elementBytes)
    {
        long bytes = count * elementBytes;
        return rank == root ? new Transfers(0, 0, (ranks - 1) * bytes) : Send(count, elementBytes);
    }

    /// <summary>A rank sends each other rank its part, and receives its parts from them.</summary>
    public static Transfers Alltoallv(int rank, ReadOnlySpan<long> sendCounts, ReadOnlySpan<long> receiveCounts, int elementBytes)
    {
        long messages = 0;
        for (int r = 0; r < sendCounts.Length; r++)
        {
            if (r != rank && sendCounts[r] > 0) messages++;
        }
        return new Transfers(
            messages, (Sum(sendCounts) - sendCounts[rank]) * elementBytes, (Sum(receiveCounts) - receiveCounts[rank]) * elementBytes);
    }

    public static Transfers Send(long count, int elementBytes) => new(count > 0 ? 1 : 0, count * elementBytes, 0);

    public static Transfers Receive(long count, int elementBytes) => new(0, 0, count * elementBytes);

    private static long Sum(ReadOnlySpan<long> counts)
    {
        long sum = 0;
        foreach (long count in counts) sum += count;
        return sum;
    }
}
