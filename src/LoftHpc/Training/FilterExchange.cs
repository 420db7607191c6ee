using LoftHpc.Communication;
using LoftHpc.Distances;
using LoftHpc.Mpi;
using LoftHpc.Networks;
using TorchSharp;
using static TorchSharp.torch;

namespace LoftHpc.Training;

/// <summary>
/// Moves filters straight from their owners of one round to their owners of the next: one alltoallv for the filters of all
/// partitioned blocks, with their norm's entries and the second convolution's input channels. Both sides know both
/// partitions, so nothing but values is sent.
/// </summary>
public sealed class FilterExchange : IDisposable
{
    private readonly RankContext _context;
    private readonly Cut[] _cuts;
    private readonly ChannelSpace[] _spaces;
    private readonly bool _momentum, _statistics;
    private readonly Tensor? _send, _receive;
    private readonly NativeBuffer _ownNorms = new(), _allNorms = new();

    /// <param name="momentum">True: a filter's momentum goes with it; otherwise the caller restarts momentum (<see cref="ModelState.ZeroMomentum"/>).</param>
    /// <param name="statistics">True: running statistics go with it; otherwise they are not looked after.</param>
    public FilterExchange(RankContext context, NetworkSpec network, IReadOnlyList<BlockSpec> blocks, bool momentum, bool statistics)
    {
        (_context, _momentum, _statistics) = (context, momentum, statistics);
        _spaces = [.. blocks.Select(block => block.Inner)];
        _cuts =
        [
            .. from tensor in network.Tensors
               from cut in new Cut?[] { Cut.Along(tensor, tensor.Axis0, 0, _spaces), Cut.Along(tensor, tensor.Axis1, 1, _spaces) }
               where cut is not null
               select cut,
        ];
        // Room for a rank's whole share in every block, and the same for what may arrive.
        long most = _spaces.Sum(space => (space.Count + context.Size - 1) / context.Size * ValuesPerFilter(space));
        if (context.Size == 1 || most == 0) return;
        _send = empty([most], context.Type, context.Device).DetachFromDisposeScope();
        _receive = empty([most], context.Type, context.Device).DetachFromDisposeScope();
        TensorMemory.UseHugePages(_send);
        TensorMemory.UseHugePages(_receive);
    }

    /// <summary>Bytes of the buffers for filters and their norms.</summary>
    public long BufferBytes => (_send is null ? 0 : 2 * _send.numel() * _send.element_size()) + _ownNorms.CapacityBytes + _allNorms.CapacityBytes;

    /// <summary>Buffers as large as they were.</summary>
    public void Archive(StateArchive archive)
    {
        // Other ranks need others.
        if (archive.Writers is not null) return;
        (long own, long all) = (_ownNorms.CapacityBytes, _allNorms.CapacityBytes);
        archive.Number("norms/own_bytes", ref own);
        archive.Number("norms/all_bytes", ref all);
        if (!archive.IsReading) return;
        _ownNorms.Keep(Math.Max(0, own));
        _allNorms.Keep(Math.Max(0, all));
    }

    /// <summary>Values that this rank sends to each rank, and receives from each, when it moves filters.</summary>
    public (long[] Send, long[] Receive) Counts(FilterPartition from, FilterPartition to)
    {
        Dictionary<string, Moves> moves = MovesOf(from, to);
        return (CountsOf(moves, move => move.LeavingTo), CountsOf(moves, move => move.ArrivingFrom));
    }

    /// <summary>Which tensors all ranks hold copies of by a partition, to be averaged (<see cref="ModelState.Copied"/>).</summary>
    public Func<TensorSpec, bool> Copied(FilterPartition partition) => tensor => !partition.Cuts(tensor) && Travels(tensor);

    /// <summary>Makes <paramref name="state"/> hold this rank's part by the new partition. Collective.</summary>
    public void Move(ModelState state, FilterPartition from, FilterPartition to)
    {
        using DisposeScope scope = NewDisposeScope();
        using IDisposable frozen = no_grad();
        Dictionary<string, Moves> moves = MovesOf(from, to);
        long[] starts = from.CutsAnything && _context.Size > 1 ? Send(state, moves) : [];
        // Shares of the same sizes are rearranged where they are.
        using ModelState? left = state.Hold([.. state.Slices.Select(slice => to.Slice(slice.Spec, _context.Rank))], Copied(to));
        ModelState before = left ?? state;
        foreach (Cut cut in _cuts)
        {
            (TensorSpec tensor, Moves own) = (cut.Tensor, moves[cut.Space.Name]);
            Tensor value = state[tensor.Name];
            // Running statistics that do not travel start anew. Momentum that does not is zeroed by whoever restarts all of it.
            if (Travels(tensor)) Arrange(before[tensor.Name], value);
            else value.fill_(tensor.Role is TensorRole.RunningVariance ? 1 : 0);
            if (tensor.IsParameter && _momentum) Arrange(before.Momentum(tensor.Name), state.Momentum(tensor.Name));

            void Arrange(Tensor before, Tensor after)
            {
                List<ChannelCopy.Part> parts = [new(before, own.StayingFrom, own.StayingTo)];
                for (int source = 0; source < starts.Length; source++)
                {
                    int[] places = own.ArrivingFrom[source];
                    if (places.Length > 0) parts.Add(new(cut.Part(_receive!, ref starts[source], places.Length), null, places));
                }
                ChannelCopy.Run(after, cut.Axis, [.. parts]);
            }
        }
    }

    /// <summary>
    /// The norms of the filters of each partitioned block's first convolution, on every rank: an allgatherv of float64,
    /// each rank the norms of its own filters. Collective.
    /// </summary>
    public IReadOnlyDictionary<string, double[]> GatherNorms(ModelState state, FilterPartition partition)
    {
        int size = _context.Size;
        long[] counts = [.. Enumerable.Range(0, size).Select(rank => (long)_spaces.Sum(space => partition.Of(space)!.Counts[rank]))];
        long[] starts = new long[size];
        for (int rank = 1; rank < size; rank++) starts[rank] = starts[rank - 1] + counts[rank - 1];
        double[] own = [.. _spaces.SelectMany(space => NormsOf(state, space))];
        own.CopyTo(_ownNorms.Span<double>(own.Length));
        int total = (int)counts.Sum();
        _context.Communicator.Allgatherv(
            _ownNorms.View(own.Length, MpiDataType.Float64), _allNorms.View(total, MpiDataType.Float64), counts, starts);
        Span<double> all = _allNorms.Span<double>(total);
        Dictionary<string, double[]> norms = _spaces.ToDictionary(space => space.Name, space => new double[space.Count]);
        int at = 0;
        for (int rank = 0; rank < size; rank++)
        {
            foreach (ChannelSpace space in _spaces)
            {
                foreach (int filter in partition.Of(space)!.Owned[rank]) norms[space.Name][filter] = all[at++];
            }
        }
        return norms;
    }

    public void Dispose()
    {
        _send?.Dispose();
        _receive?.Dispose();
        _ownNorms.Dispose();
        _allNorms.Dispose();
    }

    /// <summary>Packs what leaves, by destination, then by tensor, then (value, momentum), and exchanges it.</summary>
    /// <returns>Where each source's part starts in the receive buffer.</returns>
    private long[] Send(ModelState state, Dictionary<string, Moves> moves)
    {
        long at = 0;
        for (int rank = 0; rank < _context.Size; rank++)
        {
            foreach (Cut cut in _cuts.Where(cut => Travels(cut.Tensor)))
            {
                int[] places = moves[cut.Space.Name].LeavingTo[rank];
                if (places.Length == 0) continue;
                ChannelCopy.Run(cut.Part(_send!, ref at, places.Length), cut.Axis, new ChannelCopy.Part(state[cut.Tensor.Name], places, null));
                if (!cut.Tensor.IsParameter || !_momentum) continue;
                ChannelCopy.Run(cut.Part(_send!, ref at, places.Length), cut.Axis, new ChannelCopy.Part(state.Momentum(cut.Tensor.Name), places, null));
            }
        }
        long[] receiveCounts = CountsOf(moves, move => move.ArrivingFrom);
        _context.Channels.Alltoallv(_send!, CountsOf(moves, move => move.LeavingTo), _receive!, receiveCounts);
        long[] starts = new long[_context.Size];
        for (int rank = 1; rank < starts.Length; rank++) starts[rank] = starts[rank - 1] + receiveCounts[rank - 1];
        return starts;
    }

    /// <summary>Values to, or from, each rank.</summary>
    private long[] CountsOf(Dictionary<string, Moves> moves, Func<Moves, int[][]> places)
    {
        long[] counts = new long[_context.Size];
        foreach (ChannelSpace space in _spaces)
        {
            long values = ValuesPerFilter(space);
            for (int rank = 0; rank < counts.Length; rank++) counts[rank] += places(moves[space.Name])[rank].Length * values;
        }
        return counts;
    }

    private Dictionary<string, Moves> MovesOf(FilterPartition from, FilterPartition to) =>
        _spaces.ToDictionary(space => space.Name, space => new Moves(space, from, to, _context.Rank, _context.Size));

    private bool Travels(TensorSpec tensor) => tensor.IsParameter || _statistics;

    private double[] NormsOf(ModelState state, ChannelSpace space) => FilterNorms.OfRows(
        state[_cuts.First(cut => cut.Tensor.Role is TensorRole.ConvWeight && cut.Axis == 0 && cut.Space == space).Tensor.Name], columns: null);

    /// <summary>Values that travel with one filter of a space.</summary>
    private long ValuesPerFilter(ChannelSpace space) => _cuts.Where(cut => cut.Space == space && Travels(cut.Tensor))
        .Sum(cut => cut.Tensor.Count / space.Count * (cut.Tensor.IsParameter && _momentum ? 2 : 1));

    /// <summary>A tensor that is partitioned, and the axis of the filters.</summary>
    private sealed record Cut(TensorSpec Tensor, ChannelSpace Space, int Axis)
    {
        public static Cut? Along(TensorSpec tensor, ChannelSpace? space, int axis, ChannelSpace[] spaces) =>
            space is not null && spaces.Contains(space) ? new Cut(tensor, space, axis) : null;

        /// <summary>The next part of a flat buffer, as so many filters of this tensor.</summary>
        public Tensor Part(Tensor flat, ref long at, int filters)
        {
            long[] shape = [.. Tensor.Shape];
            shape[Axis] = filters;
            long count = shape.Aggregate(1L, (product, side) => product * side);
            at += count;
            return flat.narrow(0, at - count, count).view(shape);
        }
    }

    /// <summary>Where one rank's filters of a space go to, stay and come from: places in its shares of before and after, those that leave and arrive ascending by filter.</summary>
    private sealed class Moves
    {
        public Moves(ChannelSpace space, FilterPartition from, FilterPartition to, int rank, int size)
        {
            int[]? held = from.Of(space)?.Owned[rank], next = to.Of(space)?.Owned[rank];
            // Place of each filter in this rank's share, or -1; where all hold everything, the filter's own number.
            int[] before = PlacesIn(held, space.Count), after = PlacesIn(next, space.Count);
            int[] Places(int[]? filters, int[] own) => filters is null ? [] : [.. filters.Where(filter => own[filter] >= 0).Select(filter => own[filter])];
            int[] staying = [.. Enumerable.Range(0, space.Count).Where(filter => before[filter] >= 0 && after[filter] >= 0)];
            (StayingFrom, StayingTo) = ChannelCopy.InPlace(Places(staying, before), Places(staying, after));
            LeavingTo = [.. Enumerable.Range(0, size).Select(other => other == rank ? [] : Places(to.Of(space)?.Owned[other], before))];
            ArrivingFrom = [.. Enumerable.Range(0, size).Select(other => other == rank ? [] : Places(from.Of(space)?.Owned[other], after))];
        }

        public int[] StayingFrom { get; }

        public int[] StayingTo { get; }

        public int[][] LeavingTo { get; }

        public int[][] ArrivingFrom { get; }

        private static int[] PlacesIn(int[]? filters, int count)
        {
            int[] places = new int[count];
            if (filters is not null) Array.Fill(places, -1);
            for (int place = 0; place < (filters?.Length ?? count); place++) places[filters?[place] ?? place] = place;
            return places;
        }
    }
}
