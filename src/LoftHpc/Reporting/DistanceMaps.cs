using LoftHpc.Output;
using LoftHpc.Results;
using ScottPlot;
using ScottPlot.Plottables;
using PlotStyle = LoftHpc.Results.PlotStyle;

namespace LoftHpc.Reporting;

/// <summary>Heat-maps of the filter distance, one for each pre-training: measurement against measurement, and layer against measurement.</summary>
internal static class DistanceMaps
{
    /// <summary>So many are drawn.</summary>
    private const int Most = 12;

    private const int MapSize = 300;

    /// <summary>Maps of more measurements have no table: filter_distance.csv has their numbers.</summary>
    private const int MostInTable = 30;

    private const float TickMargin = 46;

    private static readonly ScottPlot.Colormaps.Viridis Colormap = new();

    /// <summary>Of each measurement to each other, the mean over layers and seeds.</summary>
    public static ReportFigure OfMeasurements(IReadOnlyList<MeasuredDistances> measured)
    {
        const string name = "distance-maps", title = "Filter distance, measurement against measurement";
        Map[] maps =
        [
            .. measured.Take(Most).Select(of =>
            {
                // Those that were compared each with each.
                long[] steps = [.. of.Steps.Where(step => step == of.Steps[^1] || of.At(step, of.Steps[^1]).Any())];
                if (steps.Length < 2) steps = [.. of.Steps];
                double[,] values = new double[steps.Length, steps.Length];
                for (int i = 0; i < steps.Length; i++)
                {
                    for (int j = 0; j < steps.Length; j++) values[i, j] = i == j ? 0 : of.Mean(steps[i], steps[j]);
                }
                double[] times = [.. steps.Select(step => of.Time[step])];
                return new Map(of.Of.Name, values, times, Rows: null, $"{of.Unit} that it is compared with", $"{of.Unit} of the ranking");
            }),
        ];
        return Figure(
            name, title, maps, measured.Count,
            "Mean over layers and seeds of the normalised distance of the ranking at one time (upwards) to that at another (to the right). Dark blocks along the diagonal are times in which the ranking hardly moved; grey was not measured.",
            map => map.Times.Select(PlotStyle.Text));
    }

    /// <summary>Of each layer to its last ranking, the mean over seeds.</summary>
    public static ReportFigure OfLayers(IReadOnlyList<MeasuredDistances> measured)
    {
        const string name = "distance-layers", title = "Filter distance to the last ranking, layer by layer";
        Map[] maps =
        [
            .. measured.Take(Most).Select(of =>
            {
                long last = of.Steps[^1];
                long[] steps = [.. of.Steps.Where(step => step != last && of.At(step, last).Any())];
                double[,] values = new double[of.Layers.Count, steps.Length];
                for (int i = 0; i < of.Layers.Count; i++)
                {
                    // The first layer is at the top.
                    for (int j = 0; j < steps.Length; j++) values[of.Layers.Count - 1 - i, j] = of.Mean(steps[j], last, of.Layers[i]);
                }
                double[] times = [.. steps.Select(step => of.Time[step])];
                return new Map(of.Of.Name, values, times, [.. of.Layers.Reverse()], of.Unit, "");
            }).Where(map => map.Times.Length > 0),
        ];
        return Figure(
            name, title, maps, measured.Count,
            "Mean over seeds of the normalised distance of each layer's ranking to the one at the end of pre-training: the earlier a row is dark, the earlier the layer knew its filters. The first layer is at the top.",
            map => map.Rows!);
    }

    private static ReportFigure Figure(string name, string title, Map[] maps, int measured, string caption, Func<Map, IEnumerable<string>> rows)
    {
        if (maps.Length == 0) return ReportFigure.Without(name, title, "no run has two measurements in a filter_distance.csv.");
        double largest = maps.SelectMany(map => map.Values.Cast<double>()).Where(double.IsFinite).DefaultIfEmpty(0).Max();
        // Rankings that never change still need a scale.
        if (largest == 0) largest = 1;
        return new ReportFigure(
            name, title, $"{caption} All maps have one colour scale{(measured > Most ? $"; the first {Most} are drawn" : "")}.",
            [
                .. maps.Select(map => new Panel(map.Name, $"Heat-map of the normalised filter distance of {map.Name}", () => Draw(map, largest))
                {
                    Height = map.Rows is null ? MapSize : Math.Max(150, 54 + (20 * map.Rows.Count)),
                    Width = map.Rows is null ? MapSize + 30 : 380,
                }),
                new Panel("", $"Colour scale from 0 to {PlotStyle.Text(largest)}", () => Scale(largest)) { Height = 60, Width = maps[0].Rows is null ? MapSize + 30 : 380 },
            ],
            [],
            [
                .. maps.Where(map => map.Times.Length <= MostInTable).Select(map => new TextTable(
                    $"{map.Name}: normalised distance", [map.Rows is null ? map.YLabel : "layer", .. map.Times.Select(PlotStyle.Text)],
                    // As it is drawn: the last row is at the bottom.
                    [.. rows(map).Select((row, i) => (IReadOnlyList<string>)[row, .. Enumerable.Range(0, map.Times.Length).Select(j => Number(map.Values[i, j]))]).Reverse()],
                    new HashSet<int>(Enumerable.Range(1, map.Times.Length)))),
            ]);
    }

    private static string Number(double value) => double.IsFinite(value) ? PlotStyle.Text(value) : "";

    private static Plot Draw(Map map, double largest)
    {
        int rows = map.Values.GetLength(0), columns = map.Times.Length;
        double[,] downwards = new double[rows, columns];
        for (int i = 0; i < rows; i++)
        {
            for (int j = 0; j < columns; j++) downwards[rows - 1 - i, j] = map.Values[i, j];
        }
        Plot plot = PlotStyle.NewPlot();
        Heatmap heat = plot.Add.Heatmap(downwards);
        heat.Colormap = Colormap;
        heat.ManualRange = new ScottPlot.Range(0, largest);
        heat.NaNCellColor = Color.FromHex("#9A9A9A");
        plot.Axes.SetLimits(-0.5, columns - 0.5, -0.5, rows - 0.5);
        plot.HideGrid();
        PlotStyle.SetTicks(plot.Axes.Bottom, TimeTicks(map.Times));
        plot.XLabel(map.XLabel);
        if (map.Rows is null)
        {
            PlotStyle.SetTicks(plot.Axes.Left, TimeTicks(map.Times));
            plot.YLabel(map.YLabel);
            plot.Layout.Fixed(new PixelPadding(TickMargin + 12, 18, TickMargin, 10));
        }
        else
        {
            PlotStyle.SetTicks(plot.Axes.Left, map.Rows.Select((row, i) => ((double)i, row)));
            plot.Layout.Fixed(new PixelPadding(map.Rows.Max(row => PlotStyle.TextWidth(row, 11)) + 14, 16, TickMargin, 8));
        }
        return plot;
    }

    private static IEnumerable<(double, string)> TimeTicks(double[] times)
    {
        if (times.Length == 1) return [(0, PlotStyle.Text(times[0]))];
        return FilterDistancePlot.Ticks(times, [.. times.Select((_, i) => (double)i)], 0.5, MapSize - 80);
    }

    private static Plot Scale(double largest)
    {
        const int shades = 128;
        Plot plot = PlotStyle.NewPlot();
        double[,] values = new double[1, shades];
        for (int i = 0; i < shades; i++) values[0, i] = i;
        Heatmap bar = plot.Add.Heatmap(values);
        bar.Colormap = Colormap;
        plot.HideGrid();
        plot.Axes.SetLimits(-0.5, shades - 0.5, -0.5, 0.5);
        PlotStyle.SetTicks(plot.Axes.Left, []);
        PlotStyle.SetTicks(plot.Axes.Bottom, PlotStyle.RoundNumbers(0, largest, 6).Select(value => ((value / largest * shades) - 0.5, PlotStyle.Text(value))));
        plot.XLabel("normalised distance (1 = chance)");
        plot.Layout.Fixed(new PixelPadding(TickMargin + 12, 18, 42, 4));
        return plot;
    }

    /// <summary>A heat-map.</summary>
    /// <param name="Values">By row, upwards, and time.</param>
    /// <param name="Rows">What the rows are, upwards; null: the times.</param>
    private sealed record Map(string Name, double[,] Values, double[] Times, IReadOnlyList<string>? Rows, string XLabel, string YLabel);
}
