namespace LoftHpc;

/// <summary>How a row of things is cut into batches: whole ones, and then what is left. No size overflows.</summary>
public static class Batches
{
    /// <summary>Batches, of which the last one may be smaller.</summary>
    public static int Count(int items, int batch) => (int)Count((long)items, batch);

    /// <summary>The same of longer rows.</summary>
    public static long Count(long items, long batch) => (items / batch) + (items % batch == 0 ? 0 : 1);

    /// <summary>Each batch of the things from <paramref name="first"/> up to, but not with, <paramref name="end"/>.</summary>
    public static IEnumerable<(int Start, int Count)> Of(int first, int end, int batch)
    {
        for (int start = first, count; start < end; start += count)
        {
            count = Math.Min(batch, end - start);
            yield return (start, count);
        }
    }

    /// <summary>The different sizes of batches, and how many there are of each: two at most.</summary>
    public static IEnumerable<(int Size, int Count)> Sizes(int items, int batch) =>
        Sizes((long)items, batch).Select(batches => ((int)batches.Size, (int)batches.Count));

    /// <summary>The same of longer rows.</summary>
    public static IEnumerable<(long Size, long Count)> Sizes(long items, long batch)
    {
        if (items >= batch) yield return (batch, items / batch);
        if (items % batch != 0) yield return (items % batch, 1);
    }
}
