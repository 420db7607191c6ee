using LoftHpc.Communication;
using LoftHpc.Mpi;

namespace LoftHpc.Distances;

/// <summary>One distance F(R, R^) of a layer: R is the ranking at <paramref name="Step"/>, R^ that at <paramref name="ReferenceStep"/>.</summary>
/// <param name="Normalized">Divided by the mean over random permutations (1 = chance); null for a layer of one filter.</param>
public sealed record LayerDistance(long Step, long ReferenceStep, string Layer, int Filters, double Distance, double? Normalized);

/// <summary>What one measurement brings to rank 0; on the other ranks both lists are empty.</summary>
/// <param name="Norms">Of every layer, all filters, in the order of the saved weights.</param>
public sealed record RankingMeasurement(
    long Step, IReadOnlyList<(string Layer, double[] Norms)> Norms, IReadOnlyList<LayerDistance> Distances);

/// <summary>
/// Follows the rankings of the filters through training. Each rank brings the norms of its own filters, the rankings
/// are found over whole layers, each rank computes the terms of its own filters, and the sums are reduced to rank 0.
/// </summary>
public sealed class RankingTracker(ICommunicator communicator) : IDisposable
{
    private const int Root = 0;

    private readonly NativeBuffer _send = new(), _receive = new();
    private readonly List<(long Step, int[] Positions)> _measured = [];
    private List<(string Name, int Filters)> _layers = [];
    private int[] _ownLayers = [];
    private long[] _counts = [], _displacements = [];
    private int[] _placeOfReceived = [];
    /// <summary>Whether each rank has the positions of all filters, until it knows which are its own: after a move to other ranks.</summary>
    private bool _isWhole;

    /// <summary>The steps measured so far.</summary>
    public IEnumerable<long> Steps => _measured.Select(measured => measured.Step);

    /// <summary>
    /// Measures all layers after <paramref name="step"/> optimizer steps: their norms, and for each layer the distance
    /// to the previous and to the first measurement. Collective.
    /// </summary>
    public RankingMeasurement Measure(long step, IReadOnlyList<FilterNorms> own)
    {
        if (_measured.Count == 0) AgreeOnFilters(own);
        if (_isWhole) TakeOwn(own);
        double[] norms = GatherNorms(own);
        List<(string, double[])> byLayer = [];
        List<int> positions = [];
        for (int layer = 0, start = 0; layer < _layers.Count; start += _layers[layer++].Filters)
        {
            double[] whole = norms[start..(start + _layers[layer].Filters)];
            int[] ranking = FilterDistance.Positions(whole);
            positions.AddRange(own[layer].Filters.Select(filter => ranking[filter]));
            byLayer.Add((_layers[layer].Name, whole));
        }
        _measured.Add((step, [.. positions]));

        IReadOnlyList<LayerDistance> distances = Distances(PairsAt(_measured.Count - 1));
        return new RankingMeasurement(step, communicator.Rank == Root ? byLayer : [], distances);
    }

    /// <summary>
    /// All ordered pairs of two different measurements that <see cref="Measure"/> has not given yet, among at most
    /// <paramref name="measurementsMax"/> measurements spread evenly from the first to the last. Collective.
    /// </summary>
    public IReadOnlyList<LayerDistance> RemainingPairs(int measurementsMax) => Distances(PairsRemaining(_measured.Count, measurementsMax));

    /// <summary>The pairs of measurements that <see cref="Measure"/> compares at measurement number <paramref name="last"/>, from 0.</summary>
    public static IReadOnlyList<(int Measured, int Reference)> PairsAt(int last) =>
        last == 0 ? [] : last == 1 ? [(1, 0)] : [(last, last - 1), (last, 0)];

    /// <summary>The pairs that <see cref="RemainingPairs"/> compares after so many measurements.</summary>
    public static IReadOnlyList<(int Measured, int Reference)> PairsRemaining(int measurements, int measurementsMax)
    {
        int[] chosen = EvenlySpaced(measurements, measurementsMax);
        return [.. from a in chosen from b in chosen where a < b || (a > b && b != 0 && b != a - 1) select (a, b)];
    }

    /// <summary>Indices below <paramref name="count"/>: all, or <paramref name="most"/> of them with the first and the last.</summary>
    public static int[] EvenlySpaced(int count, int most) => [.. Spaced(count, most).Select(i => (int)i)];

    /// <summary>How many pairs <see cref="PairsRemaining"/> has, for more measurements than a list could hold.</summary>
    public static long CountRemaining(long measurements, int measurementsMax)
    {
        long[] chosen = [.. Spaced(measurements, measurementsMax)];
        long count = chosen.Length, neighbours = chosen.Skip(1).Zip(chosen.Skip(2)).Count(pair => pair.Second - pair.First == 1);
        return ((count - 1) * (count - 1)) - neighbours;
    }

    private static IEnumerable<long> Spaced(long count, int most) => count <= most
        ? Enumerable.Range(0, (int)count).Select(i => (long)i)
        : Enumerable.Range(0, most).Select(i => (long)Math.Round((double)i * (count - 1) / (most - 1)));

    /// <summary>The rankings measured so far, and who brings which filters.</summary>
    public void Archive(StateArchive archive)
    {
        string layers = string.Join('\n', _layers.Select(layer => layer.Name));
        int[] filters = [.. _layers.Select(layer => layer.Filters)], counts = [.. _counts.Select(count => (int)count)];
        archive.Text("rankings/layers", ref layers);
        archive.Numbers("rankings/filters", ref filters);
        archive.Numbers("rankings/own_layers", ref _ownLayers);
        archive.Numbers("rankings/counts", ref counts);
        archive.Numbers("rankings/places", ref _placeOfReceived);
        int[] steps = [.. _measured.Select(measured => checked((int)measured.Step))];
        int[] positions = [.. _measured.SelectMany(measured => measured.Positions)];
        long isWhole = _isWhole ? 1 : 0;
        archive.Numbers("rankings/steps", ref steps);
        archive.Numbers("rankings/positions", ref positions);
        archive.Number("rankings/is_whole", ref isWhole);
        if (!archive.IsReading) return;

        string[] names = layers.Length == 0 ? [] : layers.Split('\n');
        _isWhole = isWhole != 0;
        if (archive.Writers is { } writers && steps.Length > 0)
        {
            if (!_isWhole) positions = PutTogether(writers, steps.Length);
            _isWhole = true;
            _ownLayers = [.. filters.SelectMany((count, layer) => Enumerable.Repeat(layer, count))];
            counts = new int[communicator.Size];
        }
        int own = _ownLayers.Length;
        if (names.Length != filters.Length || counts.Length != (steps.Length == 0 ? 0 : communicator.Size) || positions.Length != (long)steps.Length * own
            || _ownLayers.Any(layer => layer < 0 || layer >= names.Length))
            throw new UserError("rankings: they do not fit together");
        _layers = [.. names.Zip(filters)];
        _counts = [.. counts.Select(count => (long)count)];
        _displacements = new long[counts.Length];
        for (int rank = 1; rank < counts.Length; rank++) _displacements[rank] = _displacements[rank - 1] + _counts[rank - 1];
        _measured.Clear();
        _measured.AddRange(steps.Select((step, i) => ((long)step, positions[(i * own)..((i + 1) * own)])));
    }

    /// <summary>The positions of all filters, measurement by measurement, of what each rank measured.</summary>
    private int[] PutTogether(IReadOnlyList<StateArchive> writers, int measurements)
    {
        int[][] parts = [.. writers.Select(writer =>
        {
            int[] part = [];
            writer.Numbers("rankings/positions", ref part);
            return part;
        })];
        int filters = _placeOfReceived.Length;
        if (parts.Sum(part => (long)part.Length) != (long)measurements * filters || parts.Any(part => part.Length % measurements != 0)
            || !_placeOfReceived.Order().SequenceEqual(Enumerable.Range(0, filters)))
            throw new UserError("rankings: what the ranks measured does not fit together");
        int[] whole = new int[measurements * filters];
        for (int measurement = 0; measurement < measurements; measurement++)
        {
            int received = 0;
            foreach (int[] part in parts)
            {
                int own = part.Length / measurements;
                for (int i = 0; i < own; i++) whole[(measurement * filters) + _placeOfReceived[received++]] = part[(measurement * own) + i];
            }
        }
        return whole;
    }

    /// <summary>Keeps, of all positions, those of the filters that this rank measures from now on. Collective.</summary>
    private void TakeOwn(IReadOnlyList<FilterNorms> own)
    {
        AgreeOnFilters(own);
        List<int> places = [];
        int start = 0;
        foreach (FilterNorms layer in own)
        {
            places.AddRange(layer.Filters.Select(filter => start + filter));
            start += layer.FilterCount;
        }
        for (int i = 0; i < _measured.Count; i++)
            _measured[i] = (_measured[i].Step, [.. places.Select(place => _measured[i].Positions[place])]);
        _isWhole = false;
    }

    public void Dispose()
    {
        _send.Dispose();
        _receive.Dispose();
    }

    /// <summary>Once: every rank learns which filters the norms are of that it will receive.</summary>
    private void AgreeOnFilters(IReadOnlyList<FilterNorms> own)
    {
        _layers = [.. own.Select(layer => (layer.Layer, layer.FilterCount))];
        _ownLayers = [.. own.SelectMany((layer, index) => Enumerable.Repeat(index, layer.Filters.Length))];

        Span<long> count = _send.Span<long>(1);
        count[0] = _ownLayers.Length;
        communicator.Allgather(_send.View(1, MpiDataType.Int64), _receive.View(communicator.Size, MpiDataType.Int64));
        _counts = _receive.Span<long>(communicator.Size).ToArray();
        _displacements = new long[communicator.Size];
        for (int rank = 1; rank < communicator.Size; rank++) _displacements[rank] = _displacements[rank - 1] + _counts[rank - 1];

        Span<int> places = _send.Span<int>(_ownLayers.Length);
        int at = 0, start = 0;
        foreach (FilterNorms layer in own)
        {
            foreach (int filter in layer.Filters) places[at++] = start + filter;
            start += layer.FilterCount;
        }
        _placeOfReceived = Gather<int>(MpiDataType.Int32).ToArray();
        if (_placeOfReceived.Length != start || _placeOfReceived.Distinct().Count() != start)
            throw new InvalidOperationException($"the ranks together measure {_placeOfReceived.Length} filters of {start}");
    }

    private double[] GatherNorms(IReadOnlyList<FilterNorms> own)
    {
        Span<double> norms = _send.Span<double>(_ownLayers.Length);
        int at = 0;
        foreach (FilterNorms layer in own)
        {
            layer.Norms.CopyTo(norms[at..]);
            at += layer.Norms.Length;
        }
        Span<double> received = Gather<double>(MpiDataType.Float64);
        double[] whole = new double[received.Length];
        for (int i = 0; i < received.Length; i++) whole[_placeOfReceived[i]] = received[i];
        return whole;
    }

    private Span<T> Gather<T>(MpiDataType type) where T : unmanaged
    {
        int total = (int)_counts.Sum();
        communicator.Allgatherv(_send.View(_ownLayers.Length, type), _receive.View(total, type), _counts, _displacements);
        return _receive.Span<T>(total);
    }

    /// <summary>F for every pair of measurements and every layer; all pairs in one reduce.</summary>
    private List<LayerDistance> Distances(IReadOnlyList<(int Measured, int Reference)> pairs)
    {
        int values = pairs.Count * _layers.Count;
        if (values == 0) return [];
        Span<double> sums = _send.Span<double>(values);
        sums.Clear();
        for (int pair = 0; pair < pairs.Count; pair++)
        {
            int[] positions = _measured[pairs[pair].Measured].Positions, others = _measured[pairs[pair].Reference].Positions;
            Span<double> byLayer = sums.Slice(pair * _layers.Count, _layers.Count);
            for (int i = 0; i < positions.Length; i++) byLayer[_ownLayers[i]] += FilterDistance.Term(positions[i], others[i]);
        }
        communicator.Reduce(_send.View(values, MpiDataType.Float64), _receive.View(values, MpiDataType.Float64), MpiOperation.Sum, Root);
        if (communicator.Rank != Root) return [];

        ReadOnlySpan<double> totals = _receive.Span<double>(values);
        double[] chance = [.. _layers.Select(layer => FilterDistance.RandomMean(layer.Filters))];
        List<LayerDistance> distances = new(values);
        for (int i = 0; i < values; i++)
        {
            ((int measured, int reference), (string name, int filters)) = (pairs[i / _layers.Count], _layers[i % _layers.Count]);
            distances.Add(new LayerDistance(
                _measured[measured].Step, _measured[reference].Step, name, filters, totals[i],
                filters == 1 ? null : totals[i] / chance[i % _layers.Count]));
        }
        return distances;
    }
}
