using ScottPlot;
using ScottPlot.Plottables;

namespace LoftHpc.Reporting;

/// <summary>How what belongs together is drawn, in all figures alike.</summary>
internal sealed record Mark(Color Color, MarkerShape Shape, LinePattern Pattern)
{
    private const float LineWidth = 1.75f;

    /// <summary>A marker, or a line with or without markers, or both.</summary>
    public bool HasLine { get; init; } = true;

    public bool HasMarker { get; init; } = true;

    /// <summary>A line through points and their markers, as far as the mark has them.</summary>
    /// <param name="size">Of the markers.</param>
    public void Add(Plot plot, IReadOnlyList<(double X, double Y)> points, float size, double alpha = 1)
    {
        Color color = alpha < 1 ? Color.WithAlpha(alpha) : Color;
        double[] xs = [.. points.Select(point => point.X)], ys = [.. points.Select(point => point.Y)];
        if (HasLine)
        {
            Scatter line = plot.Add.Scatter(xs, ys, color);
            (line.LineWidth, line.LinePattern, line.MarkerSize) = (LineWidth, Pattern, 0);
            // The library keeps dashes for the filled markers that follow, and says so on the standard error: a line of no length ends them.
            LinePlot end = plot.Add.Line(xs[0], ys[0], xs[0], ys[0]);
            (end.LineColor, end.LineWidth, end.MarkerSize) = (color, 1, 0);
        }
        if (HasMarker)
        {
            Scatter markers = plot.Add.Scatter(xs, ys, color);
            (markers.LineWidth, markers.MarkerShape, markers.MarkerSize) = (0, Shape, size);
            (markers.MarkerLineColor, markers.MarkerLineWidth) = (color, IsOpen ? 1.5f : 0);
        }
    }

    private bool IsOpen => Shape is MarkerShape.OpenCircle or MarkerShape.OpenSquare or MarkerShape.OpenDiamond or MarkerShape.OpenTriangleUp or MarkerShape.OpenTriangleDown;
}

/// <summary>An entry of a figure's legend.</summary>
internal sealed record LegendEntry(string Text, Mark Mark);
