namespace LoftHpc.Mpi;

/// <summary>Where the ranks' parts of a buffer begin.</summary>
internal static class Displacements
{
    /// <summary>Of parts that lie one after the other, without gaps.</summary>
    public static long[] Of(ReadOnlySpan<long> counts)
    {
        long[] starts = new long[counts.Length];
        for (int rank = 1; rank < counts.Length; rank++) starts[rank] = starts[rank - 1] + counts[rank - 1];
        return starts;
    }
}
