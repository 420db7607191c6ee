namespace LoftHpc;

/// <summary>One of several near-equal contiguous parts.</summary>
public readonly record struct Shard(int Index, int Count)
{
    public static Shard Whole => new(0, 1);

    /// <summary>The part of <paramref name="items"/> things that is this shard's; sizes differ by at most one.</summary>
    public (int Start, int End) Of(int items) => (Bound(items, Index), Bound(items, Index + 1));

    /// <summary>The part of things that stand in batches, which are dealt whole: from the first of this shard's batches to the end of its last.</summary>
    public (int Start, int End) OfBatches(int items, int batch)
    {
        (int start, int end) = Of(Batches.Count(items, batch));
        return ((int)Math.Min(items, (long)start * batch), (int)Math.Min(items, (long)end * batch));
    }

    /// <summary>The different sizes of so many shards, and how many there are of each: two at most.</summary>
    public static IEnumerable<(int Size, int Count)> Sizes(int items, int shards)
    {
        int larger = items % shards;
        if (larger > 0) yield return ((items / shards) + 1, larger);
        yield return (items / shards, shards - larger);
    }

    // The first shards are the larger ones, so the first is empty only where all are.
    private int Bound(int items, int index) => (index * (items / Count)) + Math.Min(index, items % Count);
}
