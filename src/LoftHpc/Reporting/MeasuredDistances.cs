using LoftHpc.Results;

namespace LoftHpc.Reporting;

/// <summary>Normalised filter distances of one pre-training over its seeds.</summary>
/// <param name="Steps">Of the measurements, rising.</param>
/// <param name="Layers">Those that have a normalised distance, in the order of the network.</param>
/// <param name="Seeds">One table a seed: by step, reference step and layer.</param>
/// <param name="Time">Each step in <paramref name="Unit"/>.</param>
internal sealed record MeasuredDistances(
    Pretraining Of, IReadOnlyList<long> Steps, IReadOnlyList<string> Layers, IReadOnlyList<IReadOnlyDictionary<(long Step, long Reference, string Layer), double>> Seeds,
    IReadOnlyDictionary<long, double> Time, string Unit)
{
    /// <summary>Null where none of its runs has measured twice.</summary>
    public static MeasuredDistances? Read(Pretraining pretraining)
    {
        List<Dictionary<(long, long, string), double>> seeds = [];
        Dictionary<long, double> epochs = [];
        List<string> layers = [];
        foreach (RunFolder folder in pretraining.Folders.Where(folder => folder.FilterDistance.Exists))
        {
            FilterDistanceRow[] rows =
            [
                .. folder.FilterDistance.Read().Where(row => row.NormalizedDistance is double distance && double.IsFinite(distance)).Select(row => row with { Layer = PlainText.Of(row.Layer) }),
            ];
            if (rows.Length == 0) continue;
            seeds.Add(rows.GroupBy(row => (row.Step, row.ReferenceStep, row.Layer)).ToDictionary(same => same.Key, same => same.Last().NormalizedDistance!.Value));
            layers.AddRange(rows.Select(row => row.Layer).Distinct().Except(layers));
            if (!folder.FilterNorms.Exists) continue;
            foreach (FilterNormRow row in folder.FilterNorms.Read()) epochs[row.Step] = row.Epoch;
        }
        if (seeds.Count == 0) return null;
        long[] steps = [.. seeds.SelectMany(seed => seed.Keys).SelectMany(key => new[] { key.Item1, key.Item2 }).Distinct().Order()];
        bool inEpochs = steps.All(epochs.ContainsKey);
        return new MeasuredDistances(pretraining, steps, layers, seeds, steps.ToDictionary(step => step, step => inEpochs ? epochs[step] : step), inEpochs ? "epoch" : "step");
    }

    /// <summary>Mean over the layers, of each seed that has any; <paramref name="layer"/>: of this one alone.</summary>
    public IEnumerable<double> At(long step, long reference, string? layer = null)
    {
        foreach (IReadOnlyDictionary<(long, long, string), double> seed in Seeds)
        {
            double[] found = [.. (layer is null ? Layers : [layer]).Where(name => seed.ContainsKey((step, reference, name))).Select(name => seed[(step, reference, name)])];
            if (found.Length > 0) yield return found.Average();
        }
    }

    /// <summary>Mean over the layers and the seeds; not-a-number where there is none.</summary>
    public double Mean(long step, long reference, string? layer = null) => At(step, reference, layer).DefaultIfEmpty(double.NaN).Average();
}
