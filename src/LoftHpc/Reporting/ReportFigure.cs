using LoftHpc.Output;
using ScottPlot;

namespace LoftHpc.Reporting;

/// <summary>A figure of a report: panels with one legend.</summary>
/// <param name="Name">In the name of its PNG.</param>
/// <param name="Caption">What is shown, and what a point, a line or a band is.</param>
/// <param name="Legend">Empty: all says itself.</param>
/// <param name="Numbers">What was drawn, in tables.</param>
internal sealed record ReportFigure(
    string Name, string Title, string Caption, IReadOnlyList<Panel> Panels, IReadOnlyList<LegendEntry> Legend, IReadOnlyList<TextTable> Numbers)
{
    /// <summary>Why there is nothing to draw, in one sentence; null where there is.</summary>
    public string? Absent { get; init; }

    public static ReportFigure Without(string name, string title, string reason) => new(name, title, "", [], [], []) { Absent = reason };
}

/// <summary>One plot of a figure.</summary>
/// <param name="Title">May be empty.</param>
/// <param name="Description">For those who do not see it.</param>
/// <param name="Draw">Each time anew; whoever calls it disposes the plot.</param>
internal sealed record Panel(string Title, string Description, Func<Plot> Draw)
{
    /// <summary>Units of the usual width, which leaves text readable on a phone.</summary>
    public int Width { get; init; } = 380;

    public int Height { get; init; } = 280;
}
