namespace LoftHpc;

/// <summary>One of several near-equal contiguous parts.</summary>
public readonly record struct Shard(int Index, int Count)
{
    public static Shard Whole => new(0, 1);

    /// <summary>The part of <paramref name="items"/> things that is this shard's; sizes differ by at most one.</summary>
    public (int Start, int End) Of(int items) => (Bound(items, Index), Bound(items, Index + 1));

    // The first shards are the larger ones, so the first is empty only where all are.
    private int Bound(int items, int index) => (index * (items / Count)) + Math.Min(index, items % Count);
}
