using ScottPlot;
using ScottPlot.Plottables;

namespace LoftHpc.Results;

/// <summary>
/// filter_distance.png: for each layer a heat-map of measurement against measurement of the normalised filter distance,
/// all in one colour scale; below, the distance of each measurement to the previous, the first and the last one.
/// </summary>
internal static class FilterDistancePlot
{
    private const float Width = 900;
    private const float LeftMargin = 70;
    private const float RightMargin = 92;
    private const float LargestMap = 340;
    private const float SmallMap = 130;
    private const float TitleHeight = 17;
    private const float Gap = 12;
    private const float AxisHeight = 44;
    private const float CurvesHeight = 290;

    private static readonly ScottPlot.Colormaps.Viridis Colormap = new();

    /// <summary>The PNG.</summary>
    /// <param name="rows">Rows of filter_distance.csv.</param>
    /// <param name="layers">Layers whose heat-map is drawn; empty: all. The curves are of all layers.</param>
    /// <param name="epochs">Time of each measurement in epochs, by step; where a step is missing, steps are shown.</param>
    /// <returns>Null where there is no distance to draw yet.</returns>
    public static byte[]? Draw(IReadOnlyList<FilterDistanceRow> rows, IReadOnlyList<string> layers, IReadOnlyDictionary<long, double> epochs)
    {
        string[] allLayers = [.. rows.Select(r => r.Layer).Distinct()];
        // A layer of one filter has no normalised distance.
        Dictionary<string, Layer> measured = rows.Where(r => r.NormalizedDistance is double d && double.IsFinite(d)).GroupBy(r => r.Layer)
            .ToDictionary(g => g.Key, g => new Layer(g.Key, g.ToDictionary(r => (r.Step, r.ReferenceStep), r => r.NormalizedDistance!.Value)));
        if (measured.Count == 0) return null;

        long[] steps = [.. measured.Values.SelectMany(l => l.Distances.Keys).SelectMany(k => new[] { k.Step, k.Reference }).Distinct().Order()];
        bool inEpochs = steps.All(epochs.ContainsKey);
        Time time = new(inEpochs ? "epoch" : "step", steps.ToDictionary(s => s, s => inEpochs ? epochs[s] : s));
        // Distances to the last measurement are there for those that were compared each with each.
        long[] compared = [.. steps.Where(s => s == steps[^1] || measured.Values.Any(l => l.Distances.ContainsKey((s, steps[^1]))))];
        if (compared.Length < 2) compared = steps;

        Layer[] all = [.. allLayers.Where(measured.ContainsKey).Select(l => measured[l])];
        Layer[] mapped = layers.Count == 0 ? all : [.. all.Where(l => layers.Contains(l.Name))];
        double largest = all.SelectMany(l => l.Distances.Values).Max();
        // Rankings that never change still need a scale.
        if (largest == 0) largest = 1;
        List<(Plot, PixelRect)> plots = [];
        List<FigureText> texts = [];
        float top = AddMaps(plots, texts, mapped, compared, time, largest);
        AddCurves(plots, texts, all, steps, time, largest, top);
        return PlotStyle.Png((int)Width, (int)(top + CurvesHeight), plots, texts);
    }

    /// <summary>The heat-maps in a grid, and their colour bar. Returns the height that they take.</summary>
    private static float AddMaps(List<(Plot, PixelRect)> plots, List<FigureText> texts, Layer[] layers, long[] steps, Time time, double largest)
    {
        if (layers.Length == 0) return 0;
        int columns = layers.Length <= 4 ? layers.Length : (int)Math.Ceiling(Math.Sqrt(1.25 * layers.Length));
        int rows = (layers.Length + columns - 1) / columns;
        float size = Math.Min(LargestMap, ((Width - LeftMargin - RightMargin + Gap) / columns) - Gap);
        float gridWidth = (columns * (size + Gap)) - Gap, gridHeight = (rows * (size + TitleHeight + Gap)) - Gap;
        // The grid with its margins stands in the middle of the figure.
        float left = ((Width - gridWidth - LeftMargin - RightMargin) / 2) + LeftMargin;
        const float top = 8;
        for (int i = 0; i < layers.Length; i++)
        {
            (int row, int column) = Math.DivRem(i, columns);
            bool leftmost = column == 0, lowest = i + columns >= layers.Length;
            float x = left + (column * (size + Gap)), y = top + (row * (size + TitleHeight + Gap));
            // On every side there is room for half of a number at the end of an axis.
            PixelPadding axes = new(leftmost ? 52 : Gap / 2, Gap / 2, lowest ? 20 : 8, 6);
            plots.Add((Map(layers[i], steps, time, largest, leftmost, lowest, size, axes),
                new PixelRect(x - axes.Left, x + size + axes.Right, y + TitleHeight + size + axes.Bottom, y + TitleHeight - axes.Top)));
            texts.Add(new FigureText(layers[i].Name, new Pixel(x + (size / 2), y + (TitleHeight / 2)), size < SmallMap ? 9 : 11));
        }
        texts.Add(new FigureText($"{time.Unit} of the ranking that it is compared with", new Pixel(left + (gridWidth / 2), top + gridHeight + 31)));
        texts.Add(new FigureText($"{time.Unit} of the ranking R", new Pixel(left - 60, top + TitleHeight + ((gridHeight - TitleHeight) / 2)), Rotation: -90));

        float barHeight = Math.Min(gridHeight - TitleHeight, 300), barTop = top + TitleHeight + ((gridHeight - TitleHeight - barHeight) / 2);
        PixelPadding barAxes = new(1, 40, 6, 6);
        plots.Add((ColorBar(largest, barAxes),
            new PixelRect(left + gridWidth + 16, left + gridWidth + 30 + barAxes.Right, barTop + barHeight + barAxes.Bottom, barTop - barAxes.Top)));
        texts.Add(new FigureText("normalised distance (1 = chance)", new Pixel(left + gridWidth + 74, barTop + (barHeight / 2)), 11, Rotation: 90));
        return top + gridHeight + AxisHeight;
    }

    private static Plot Map(Layer layer, long[] steps, Time time, double largest, bool leftAxis, bool bottomAxis, float size, PixelPadding axes)
    {
        Plot plot = PlotStyle.NewPlot();
        double[,] values = new double[steps.Length, steps.Length];
        for (int i = 0; i < steps.Length; i++)
        {
            for (int j = 0; j < steps.Length; j++)
            {
                // Later measurements go up and to the right.
                values[steps.Length - 1 - i, j] = i == j ? 0 : layer.Distances.GetValueOrDefault((steps[i], steps[j]), double.NaN);
            }
        }
        Heatmap map = plot.Add.Heatmap(values);
        map.Colormap = Colormap;
        map.ManualRange = new ScottPlot.Range(0, largest);
        map.NaNCellColor = Color.FromHex("#DDDDDD");
        plot.Axes.SetLimits(-0.5, steps.Length - 0.5, -0.5, steps.Length - 0.5);
        plot.HideGrid();
        (double, string)[] ticks = Ticks([.. steps.Select(s => time.At[s])], [.. steps.Select((_, i) => (double)i)], 0.5, size);
        foreach ((IAxis axis, bool visible) in new (IAxis, bool)[] { (plot.Axes.Left, leftAxis), (plot.Axes.Bottom, bottomAxis) })
        {
            PlotStyle.SetTicks(axis, visible ? ticks : []);
            axis.MajorTickStyle.Length = 3;
        }
        plot.Layout.Fixed(axes);
        return plot;
    }

    /// <summary>Round times, no more than have room: their texts stay apart, from those of the next plot too.</summary>
    /// <param name="times">Of the measurements, rising.</param>
    /// <param name="places">Of the measurements on the axis; a time between two of them stands between their places.</param>
    /// <param name="margin">How far the axis goes on beyond the first and the last place.</param>
    /// <param name="length">Of the axis, in units of the figure.</param>
    internal static (double Place, string Text)[] Ticks(double[] times, double[] places, double margin, float length)
    {
        double unit = (places[^1] - places[0] + (2 * margin)) / length;
        for (int count = 5; ; count--)
        {
            (double Place, string Text)[] ticks = [.. PlotStyle.RoundNumbers(times[0], times[^1], count).Select(t => (Place(t), PlotStyle.Text(t)))];
            if (count > 1 && ticks.Zip(ticks.Skip(1)).Any(pair => pair.Second.Place - pair.First.Place < Half(pair.First.Text) + Half(pair.Second.Text))) continue;
            return [.. ticks.Where(t => Math.Min(t.Place - places[0], places[^1] - t.Place) + margin + (unit * Gap / 2) >= Half(t.Text))];
        }

        // Half of a text's width and of the air between two of them.
        double Half(string text) => unit * (PlotStyle.TickWidth(text) + 5) / 2;

        double Place(double time)
        {
            int next = Math.Clamp(times.Count(t => t < time), 1, times.Length - 1);
            return places[next] - ((places[next] - places[next - 1]) * (times[next] - time) / (times[next] - times[next - 1]));
        }
    }

    private static Plot ColorBar(double largest, PixelPadding axes)
    {
        const int shades = 256;
        Plot plot = PlotStyle.NewPlot();
        double[,] values = new double[shades, 1];
        for (int i = 0; i < shades; i++) values[i, 0] = shades - 1 - i;
        Heatmap bar = plot.Add.Heatmap(values);
        bar.Colormap = Colormap;
        plot.HideGrid();
        plot.Axes.SetLimits(-0.5, 0.5, -0.5, shades - 0.5);
        (plot.Axes.Right.Min, plot.Axes.Right.Max) = (0, largest);
        PlotStyle.SetTicks(plot.Axes.Left, []);
        PlotStyle.SetTicks(plot.Axes.Bottom, []);
        PlotStyle.SetTicks(plot.Axes.Right, PlotStyle.RoundNumbers(0, largest, 6).Select(d => (d, PlotStyle.Text(d))));
        plot.Layout.Fixed(axes);
        return plot;
    }

    /// <summary>Three plots side by side, and a legend below them.</summary>
    private static void AddCurves(
        List<(Plot, PixelRect)> plots, List<FigureText> texts, Layer[] layers, long[] steps, Time time, double largest, float top)
    {
        bool byDepth = layers.Length > PlotStyle.Palette.Length;
        Color[] colors = byDepth
            ? [.. Enumerable.Range(0, layers.Length).Select(i => Colormap.GetColor(0.92 * i / (layers.Length - 1)))]
            : PlotStyle.Palette[..layers.Length];
        List<LegendItem> legend = byDepth
            ? [.. new[] { (0, "first"), (layers.Length / 2, "middle"), (layers.Length - 1, "last") }
                .Select(l => PlotStyle.LineEntry($"{l.Item2} layer ({layers[l.Item1].Name})", colors[l.Item1], 2))]
            : [.. layers.Select((layer, i) => PlotStyle.LineEntry(layer.Name, colors[i], 2))];
        if (layers.Length > 1) legend.Insert(0, PlotStyle.LineEntry("mean over layers", PlotStyle.Ink, 2.5f));

        (string Title, Func<Layer, IEnumerable<(long Step, double Distance)>> Points)[] panels =
        [
            ("to the previous measurement", l => l.Distances.Where(d => d.Key.Reference < d.Key.Step).GroupBy(d => d.Key.Step)
                .Select(g => g.MaxBy(d => d.Key.Reference)).Select(d => (d.Key.Step, d.Value))),
            ("to the first measurement", l => l.Distances.Where(d => d.Key.Reference == steps[0]).Select(d => (d.Key.Step, d.Value))),
            ("to the last measurement", l => l.Distances.Where(d => d.Key.Reference == steps[^1]).Select(d => (d.Key.Step, d.Value))),
        ];
        const float axisWidth = 46, legendHeight = 30, titleTop = 14;
        float width = (Width - axisWidth - 30) / 3;
        for (int p = 0; p < panels.Length; p++)
        {
            Plot plot = PlotStyle.NewPlot();
            Dictionary<long, List<double>> atStep = [];
            for (int i = 0; i < layers.Length; i++)
            {
                (long Step, double Distance)[] points = [.. panels[p].Points(layers[i]).OrderBy(d => d.Step)];
                foreach ((long step, double distance) in points)
                {
                    if (!atStep.TryGetValue(step, out List<double>? distances)) atStep[step] = distances = [];
                    distances.Add(distance);
                }
                AddLine(plot, [.. points.Select(d => (time.At[d.Step], d.Distance))], colors[i].WithAlpha(byDepth ? 0.6 : 1), byDepth ? 1 : 1.5f);
            }
            if (layers.Length > 1)
                AddLine(plot, [.. atStep.OrderBy(s => s.Key).Select(s => (time.At[s.Key], s.Value.Average()))], PlotStyle.Ink, 2.5f);
            if (largest > 0.8) plot.Add.HorizontalLine(1, 1, PlotStyle.Faint, LinePattern.Dotted);
            double first = time.At[steps[0]], last = time.At[steps[^1]], air = 0.03 * (last - first);
            plot.Axes.SetLimits(first - air, last + air, 0, 1.06 * largest);
            plot.XLabel(time.Unit);
            plot.Grid.XAxisStyle.IsVisible = false;
            PlotStyle.SetTicks(plot.Axes.Left, PlotStyle.RoundNumbers(0, 1.06 * largest, 6).Select(d => (d, p == 0 ? PlotStyle.Text(d) : "")));
            if (p == 0) plot.YLabel("normalised distance");
            float left = 4 + (p * (width + 10)) + (p > 0 ? axisWidth : 0);
            PixelPadding axes = new(p == 0 ? axisWidth + 6 : 6, 9, 40, 4);
            float right = left + width + (p == 0 ? axisWidth : 0);
            double[] times = [.. steps.Select(s => time.At[s])];
            PlotStyle.SetTicks(plot.Axes.Bottom, Ticks(times, times, air, right - left - axes.Left - axes.Right));
            plot.Layout.Fixed(axes);
            plots.Add((plot, new PixelRect(left, right, top + CurvesHeight - legendHeight, top + titleTop + TitleHeight - axes.Top)));
            texts.Add(new FigureText(panels[p].Title, new Pixel((left + axes.Left + right - axes.Right) / 2, top + titleTop + (TitleHeight / 2) - 2)));
        }
        Plot legendPlot = PlotStyle.NewPlot();
        legendPlot.Layout.Frameless();
        legendPlot.HideGrid();
        PlotStyle.AddLegend(legendPlot, legend);
        plots.Add((legendPlot, new PixelRect(0, Width, top + CurvesHeight, top + CurvesHeight - legendHeight)));
    }

    private static void AddLine(Plot plot, (double Time, double Distance)[] points, Color color, float width)
    {
        Scatter line = plot.Add.Scatter(points.Select(p => p.Time).ToArray(), points.Select(p => p.Distance).ToArray(), color);
        line.LineWidth = width;
        line.MarkerSize = points.Length <= 15 ? 2 + (2 * width) : 0;
    }

    /// <summary>Normalised distances of one layer, by the steps of the ranking R and of the one that it is compared with.</summary>
    private sealed record Layer(string Name, IReadOnlyDictionary<(long Step, long Reference), double> Distances);

    /// <summary>The axis of time: its unit, and where each step lies on it.</summary>
    private sealed record Time(string Unit, IReadOnlyDictionary<long, double> At);
}
