namespace LoftHpc.Networks;

/// <summary>One rank's part of a network that is cut into a pipeline: some units in a row.</summary>
/// <param name="First">Its first unit (<see cref="NetworkSpec.UnitCount"/>).</param>
/// <param name="End">The unit after its last one.</param>
public readonly record struct PipelineStage(int First, int End)
{
    /// <summary>The tensors of its units, each whole.</summary>
    public IReadOnlyList<TensorSlice> Slices(NetworkSpec network) =>
        [.. Enumerable.Range(First, End - First).SelectMany(network.TensorsOf).Select(TensorSlice.Whole)];
}

/// <summary>Where a network is cut into pipeline stages.</summary>
public static class PipelineStages
{
    private const string CutsKey = "pretrain.gpipe.cuts";

    /// <summary>
    /// One stage a rank, each of at least one unit: cut where <paramref name="cuts"/> says, or, if it is empty, so that
    /// the largest stage has as few floating-point operations as possible.
    /// </summary>
    /// <param name="imageSide">In pixels.</param>
    /// <param name="cuts">Name of the first unit of each stage but the first (<see cref="NetworkSpec.UnitName"/>).</param>
    /// <exception cref="UserError">There are more ranks than units, or the cuts do not cut the network into so many stages.</exception>
    public static IReadOnlyList<PipelineStage> Create(NetworkSpec network, int imageSide, int ranks, IReadOnlyList<string> cuts)
    {
        int units = network.UnitCount;
        if (ranks > units)
        {
            throw new UserError(
                $"pretrain.method: gpipe gives each rank a stage of the network, and there are {ranks} ranks; " +
                $"allowed: 1 to {units} ranks (the stem, {units - 2} blocks, the head)");
        }
        int[] starts = cuts.Count == 0
            ? Balance([.. Enumerable.Range(0, units).Select(unit => new PipelineStage(unit, unit + 1).Slices(network)).Select(held => network.Flops(imageSide, held))], ranks)
            : Given(network, ranks, cuts);
        return [.. starts.Zip([.. starts.Skip(1), units], (first, end) => new PipelineStage(first, end))];
    }

    /// <summary>
    /// Cuts a row of costs into contiguous parts, none empty, so that the largest part's cost is as small as possible.
    /// Of equal cuts it takes those that come first, since early units of a network hold the largest activations.
    /// </summary>
    /// <returns>Where each part begins.</returns>
    public static int[] Balance(IReadOnlyList<long> costs, int parts)
    {
        int count = costs.Count;
        long[] before = new long[count + 1];
        for (int i = 0; i < count; i++) before[i + 1] = before[i] + costs[i];

        // least[p, n]: the largest part's cost when the first n are cut into p parts; start[p, n]: where the last of them begins.
        long[,] least = new long[parts + 1, count + 1];
        int[,] start = new int[parts + 1, count + 1];
        for (int n = 1; n <= count; n++) least[1, n] = before[n];
        for (int p = 2; p <= parts; p++)
        {
            for (int n = p; n <= count; n++)
            {
                least[p, n] = long.MaxValue;
                for (int cut = p - 1; cut < n; cut++)
                {
                    long largest = Math.Max(least[p - 1, cut], before[n] - before[cut]);
                    if (largest < least[p, n]) (least[p, n], start[p, n]) = (largest, cut);
                }
            }
        }

        int[] starts = new int[parts];
        for (int p = parts, end = count; p > 1; p--) end = starts[p - 1] = start[p, end];
        return starts;
    }

    private static int[] Given(NetworkSpec network, int ranks, IReadOnlyList<string> cuts)
    {
        if (cuts.Count != ranks - 1)
        {
            throw new UserError(
                $"{CutsKey}: [{string.Join(", ", cuts)}] has {cuts.Count} names, and there are {ranks} ranks; " +
                $"allowed: one name fewer than ranks, or none (balanced by FLOPs)");
        }
        string[] names = [.. Enumerable.Range(0, network.UnitCount).Select(network.UnitName)];
        int[] starts = [0, .. cuts.Select(cut => Array.IndexOf(names, cut))];
        for (int stage = 1; stage < ranks; stage++)
        {
            if (starts[stage] <= 0)
                throw new UserError($"{CutsKey}: {cuts[stage - 1]} is nothing that a stage can begin with; allowed: {string.Join(", ", names[1..])}");
            if (starts[stage] <= starts[stage - 1])
                throw new UserError($"{CutsKey}: {cuts[stage - 1]} does not come after {cuts[stage - 2]}; allowed: names in the order of the forward pass, each once");
        }
        return starts;
    }
}
