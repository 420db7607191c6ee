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

    /// <summary>A line through points, as the mark has it.</summary>
    /// <param name="size">Of the markers.</param>
    public Scatter Add(Plot plot, IReadOnlyList<(double X, double Y)> points, float size, double alpha = 1)
    {
        Color color = alpha < 1 ? Color.WithAlpha(alpha) : Color;
        Scatter line = plot.Add.Scatter(points.Select(point => point.X).ToArray(), points.Select(point => point.Y).ToArray(), color);
        line.LineWidth = HasLine ? LineWidth : 0;
        line.LinePattern = Pattern;
        line.MarkerShape = Shape;
        line.MarkerSize = HasMarker ? size : 0;
        line.MarkerLineColor = color;
        line.MarkerLineWidth = IsOpen ? 1.5f : 0;
        return line;
    }

    private bool IsOpen => Shape is MarkerShape.OpenCircle or MarkerShape.OpenSquare or MarkerShape.OpenDiamond or MarkerShape.OpenTriangleUp or MarkerShape.OpenTriangleDown;
}

/// <summary>An entry of a figure's legend.</summary>
internal sealed record LegendEntry(string Text, Mark Mark);
