using LoftHpc.Configuration;
using TorchSharp;
using Tensor = TorchSharp.torch.Tensor;

namespace LoftHpc.Networks;

/// <summary>Which rank owns which channels of one space.</summary>
/// <param name="Owned">For each rank its channels, ascending.</param>
public sealed record ChannelSplit(IReadOnlyList<int[]> Owned)
{
    /// <summary>Channels of each rank.</summary>
    public int[] Counts { get; } = [.. Owned.Select(own => own.Length)];

    /// <summary>All channels in the order in which an allgather places them: rank after rank.</summary>
    public int[] Gathered { get; } = [.. Owned.SelectMany(own => own)];
}

/// <summary>
/// Deals the channels of every space to the ranks, in shares whose sizes differ by at most one. A space is dealt once,
/// so every tensor that shares it is cut alike, and a residual sum needs no exchange.
/// </summary>
public sealed class FilterAssignment
{
    private readonly Dictionary<string, ChannelSplit> _splits;

    private FilterAssignment(Dictionary<string, ChannelSplit> splits) => _splits = splits;

    public ChannelSplit this[ChannelSpace space] => _splits[space.Name];

    /// <summary>Contiguous shares, or shares of a permutation that is a function of (seed, space).</summary>
    public static FilterAssignment Create(NetworkSpec network, AssignmentKind kind, long seed, int ranks) =>
        new(network.Spaces.ToDictionary(space => space.Name, space =>
        {
            int[] order = kind is AssignmentKind.Random
                ? RandomStream.For(seed, $"assignment/{space.Name}").Permutation(space.Count)
                : [.. Enumerable.Range(0, space.Count)];
            return new ChannelSplit([.. Enumerable.Range(0, ranks).Select(rank => Share(order, rank, ranks))]);
        }));

    /// <summary>What one rank holds of every tensor of a network.</summary>
    public IReadOnlyList<TensorSlice> Slices(NetworkSpec network, int rank) =>
        [.. network.Tensors.Select(tensor => Slice(tensor, rank))];

    /// <summary>
    /// Rows are the rank's own filters. The columns of a convolution are all channels of its input, in the order in
    /// which they are gathered; those of the head are the rank's own features.
    /// </summary>
    public TensorSlice Slice(TensorSpec tensor, int rank) => new(
        tensor,
        tensor.Axis0 is null ? null : this[tensor.Axis0].Owned[rank],
        tensor.Axis1 is null ? null : tensor.Role is TensorRole.LinearWeight ? this[tensor.Axis1].Owned[rank] : this[tensor.Axis1].Gathered);

    private static int[] Share(int[] order, int rank, int ranks)
    {
        (int start, int end) = new Shard(rank, ranks).Of(order.Length);
        int[] own = order[start..end];
        Array.Sort(own);
        return own;
    }
}

/// <summary>The part of one tensor that is held somewhere.</summary>
/// <param name="Rows">Indices along axis 0, in the order held; null: all.</param>
/// <param name="Columns">Indices along axis 1, in the order held; null: all.</param>
public sealed record TensorSlice(TensorSpec Spec, int[]? Rows, int[]? Columns)
{
    /// <summary>Shape of the part.</summary>
    public long[] Shape
    {
        get
        {
            long[] shape = [.. Spec.Shape];
            if (Rows is not null) shape[0] = Rows.Length;
            if (Columns is not null) shape[1] = Columns.Length;
            return shape;
        }
    }

    public string Name => Spec.Name;

    /// <summary>The layer that it belongs to.</summary>
    public string Layer => Name[..Name.LastIndexOf('.')];

    /// <summary>Values of the part.</summary>
    public long Count => Shape.Aggregate(1L, (product, side) => product * side);

    /// <summary>The whole tensor.</summary>
    public static TensorSlice Whole(TensorSpec tensor) => new(tensor, null, null);

    /// <summary>This part of the whole tensor, as a tensor of its own.</summary>
    public Tensor Take(Tensor whole) => Select(Select(whole, 0, Rows), 1, Columns).clone();

    /// <summary>Puts this part into the whole tensor.</summary>
    public void Place(Tensor part, Tensor whole)
    {
        using DisposeScope scope = torch.NewDisposeScope();
        if (Columns is not null && Rows is not null)
        {
            // In two steps: the columns in the order of the whole, then whole rows.
            Tensor rows = torch.empty([part.size(0), .. Spec.Shape.Skip(1)], part.dtype, part.device);
            rows.index_copy_(1, Index(Columns), part);
            whole.index_copy_(0, Index(Rows), rows);
        }
        else if (Rows is not null)
        {
            whole.index_copy_(0, Index(Rows), part);
        }
        else if (Columns is not null)
        {
            whole.index_copy_(1, Index(Columns), part);
        }
        else
        {
            whole.copy_(part);
        }
    }

    private static Tensor Select(Tensor tensor, int axis, int[]? indices) => indices is null ? tensor : tensor.index_select(axis, Index(indices));

    private static Tensor Index(int[] indices) => torch.tensor([.. indices.Select(i => (long)i)], torch.int64);
}
