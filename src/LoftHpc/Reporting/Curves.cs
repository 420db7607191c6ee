using System.Globalization;
using LoftHpc.Results;
using ScottPlot;
using ScottPlot.Plottables;
using PlotStyle = LoftHpc.Results.PlotStyle;

namespace LoftHpc.Reporting;

/// <summary>What figures with lines and points share.</summary>
internal static class Curves
{
    /// <summary>So many lines with bands can be told apart in one panel; of more, families get a panel each.</summary>
    public const int MostInPanel = 6;

    private const double BandAlpha = 0.18;

    /// <summary>How many seeds there are of each of what is shown.</summary>
    public static string Seeds(IEnumerable<int> counts)
    {
        int[] different = [.. counts.Distinct().Order()];
        return string.Create(CultureInfo.InvariantCulture, $"n = {different[0]}{(different.Length > 1 ? $" to {different[^1]}" : "")}");
    }

    /// <summary>An empty plot, with room at its right for half of a number.</summary>
    public static Plot New()
    {
        Plot plot = PlotStyle.NewPlot();
        plot.Axes.Right.MinimumSize = 24;
        return plot;
    }

    /// <summary>The line of the means, and from the smallest to the largest a band.</summary>
    /// <param name="markers">Largest number of points that get one each.</param>
    public static void Add(Plot plot, IReadOnlyList<BandPoint> points, Mark mark, bool band = true, int markers = 12)
    {
        if (points.Count == 0) return;
        if (band && points.Any(point => point.High > point.Low))
        {
            FillY fill = plot.Add.FillY([.. points.Select(point => point.X)], [.. points.Select(point => point.Low)], [.. points.Select(point => point.High)]);
            fill.FillColor = mark.Color.WithAlpha(BandAlpha);
            (fill.LineWidth, fill.MarkerSize) = (0, 0);
        }
        (points.Count <= markers ? mark : mark with { HasMarker = false }).Add(plot, [.. points.Select(point => (point.X, point.Mean))], 6);
    }

    /// <summary>Makes the left axis reach over values with some air, and over <paramref name="least"/> at least.</summary>
    public static void SetLeft(Plot plot, string label, IReadOnlyCollection<double> values, double least, double floor = 0, double ceiling = double.PositiveInfinity)
    {
        (double low, double high) = values.Count == 0 ? (0, 1) : (values.Min(), values.Max());
        double air = Math.Max(0.06 * (high - low), (least - (high - low)) / 2);
        (low, high) = (Math.Max(floor, low - air), Math.Min(ceiling, high + air));
        plot.Axes.SetLimitsY(low, high);
        plot.YLabel(label);
        PlotStyle.SetTicks(plot.Axes.Left, PlotStyle.RoundNumbers(low, high, 7).Select(y => (y, PlotStyle.Text(y))));
    }

    /// <summary>An accuracy axis in percent.</summary>
    public static void SetAccuracy(Plot plot, string label, IReadOnlyCollection<double> percent) => SetLeft(plot, label, percent, least: 2, ceiling: 101);

    /// <summary>Text of 11 units, cut where it is wider than so many units.</summary>
    public static string Fit(string text, float width)
    {
        const string more = "...";
        if (PlotStyle.TextWidth(text, 11) <= width) return text;
        int length = text.Length;
        while (length > 1 && PlotStyle.TextWidth(text[..length] + more, 11) > width) length--;
        return text[..length] + more;
    }
}
