namespace LoftHpc.Networks;

/// <summary>
/// Which rank owns which filters inside the partitioned blocks in one round of LoFT (Wang et al. 2023): of such a block's
/// first convolution the output filters, with them the entries of the norm between the two convolutions and the input
/// channels of the second one. Shares of a block differ by one filter at most. All else is shared: every rank holds it
/// whole.
/// </summary>
public sealed class FilterPartition
{
    private readonly Dictionary<string, ChannelSplit> _splits;

    private FilterPartition(Dictionary<string, ChannelSplit> splits) => _splits = splits;

    /// <summary>Nothing is partitioned: every rank holds the whole network.</summary>
    public static FilterPartition None { get; } = new([]);

    /// <summary>False where every rank holds the whole network.</summary>
    public bool CutsAnything => _splits.Count > 0;

    /// <summary>The blocks of some stages (from 1), all of them or all but each stage's first.</summary>
    public static IReadOnlyList<BlockSpec> BlocksOf(NetworkSpec network, IReadOnlyList<int> stages, bool firstBlocks) =>
        [.. network.Blocks.Where(block => stages.Contains(block.Stage) && (firstBlocks || block.Index > 0))];

    /// <summary>Each block's filters dealt in the order of a permutation of its own, a function of (seed, block, round).</summary>
    public static FilterPartition AtRandom(IEnumerable<BlockSpec> blocks, long seed, long round, int ranks) =>
        Deal(blocks, ranks, space => RandomOwners(space, seed, round, ranks));

    /// <summary>The owner of each filter of one block in <see cref="AtRandom"/>.</summary>
    public static int[] RandomOwners(ChannelSpace space, long seed, long round, int ranks)
    {
        int[] owners = new int[space.Count];
        int[] order = Stream(seed, space, round).Permutation(space.Count);
        for (int i = 0; i < order.Length; i++) owners[order[i]] = i % ranks;
        return owners;
    }

    /// <summary>
    /// Every rank gets a like spectrum: of each <paramref name="ranks"/> neighbours in the order of the norms each rank
    /// gets one, drawn at random, so that an order that has settled does not freeze who owns what.
    /// </summary>
    /// <param name="norms">Norm of each filter of a block's first convolution; the same bits on every rank.</param>
    public static FilterPartition ByNorm(
        IEnumerable<BlockSpec> blocks, long seed, long round, int ranks, Func<ChannelSpace, double[]> norms) => Deal(blocks, ranks, space =>
    {
        double[] values = norms(space);
        int[] owners = new int[space.Count];
        int[] order = [.. Enumerable.Range(0, space.Count).OrderByDescending(filter => values[filter]).ThenBy(filter => filter)];
        RandomStream stream = Stream(seed, space, round);
        for (int group = 0; group < order.Length; group += ranks)
        {
            int[] drawn = stream.Permutation(ranks);
            for (int i = group; i < Math.Min(group + ranks, order.Length); i++) owners[order[i]] = drawn[i - group];
        }
        return owners;
    });

    /// <summary>Who owns which channels of a space; null: it is not partitioned.</summary>
    public ChannelSplit? Of(ChannelSpace? space) => space is null ? null : _splits.GetValueOrDefault(space.Name);

    /// <summary>Whether each rank holds a part of a tensor, rather than all of it.</summary>
    public bool Cuts(TensorSpec tensor) => Of(tensor.Axis0) is not null || Of(tensor.Axis1) is not null;

    /// <summary>What a rank holds of a tensor; its filters in ascending order.</summary>
    public TensorSlice Slice(TensorSpec tensor, int rank) => new(tensor, Of(tensor.Axis0)?.Owned[rank], Of(tensor.Axis1)?.Owned[rank]);

    /// <summary>This partition, or the one that is read: the owner of each filter of each block, none where the block is not partitioned.</summary>
    /// <exception cref="UserError">What is read deals no filters of these blocks to these ranks.</exception>
    public FilterPartition Archived(StateArchive archive, IReadOnlyList<BlockSpec> blocks, int ranks)
    {
        Dictionary<string, int[]> read = [];
        foreach (ChannelSpace space in blocks.Select(block => block.Inner))
        {
            int[] owners = new int[Of(space) is null ? 0 : space.Count];
            if (Of(space) is ChannelSplit split)
            {
                for (int rank = 0; rank < split.Owned.Count; rank++)
                {
                    foreach (int filter in split.Owned[rank]) owners[filter] = rank;
                }
            }
            string name = $"partition/{space.Name}";
            archive.Numbers(name, ref owners);
            if (owners.Length == 0) continue;
            if (owners.Length != space.Count || owners.Any(owner => owner < 0 || owner >= ranks))
                throw new UserError($"{name}: it does not deal {space.Count} filters to {ranks} ranks");
            read.Add(space.Name, owners);
        }
        return archive.IsReading ? Deal(blocks.Where(block => read.ContainsKey(block.Inner.Name)), ranks, space => read[space.Name]) : this;
    }

    private static RandomStream Stream(long seed, ChannelSpace space, long round) => RandomStream.For(seed, $"loft/partition/{space.Name}", round);

    private static FilterPartition Deal(IEnumerable<BlockSpec> blocks, int ranks, Func<ChannelSpace, int[]> deal) =>
        new(blocks.Select(block => block.Inner).ToDictionary(space => space.Name, space =>
        {
            int[] owners = deal(space);
            return new ChannelSplit(
                [.. Enumerable.Range(0, ranks).Select(rank => Enumerable.Range(0, space.Count).Where(filter => owners[filter] == rank).ToArray())]);
        }));
}
