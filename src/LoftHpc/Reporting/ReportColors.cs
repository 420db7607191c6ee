using LoftHpc.Results;
using ScottPlot;
using PlotStyle = LoftHpc.Results.PlotStyle;

namespace LoftHpc.Reporting;

/// <summary>
/// The colours of a report's figures: each has a name, under which the page has a light and a dark one. Figures are drawn in the
/// light ones; in the page the names stand in their place. Okabe and Ito's hues, told apart with any colour vision.
/// </summary>
internal static class ReportColors
{
    /// <summary>Behind all else.</summary>
    public const string Paper = "paper";

    public static readonly IReadOnlyList<Color> Series = [.. PlotStyle.Palette, Color.FromHex("#7F5539")];

    private static readonly string[] DarkSeries = ["#4FA8E8", "#FF8A3D", "#2FC795", "#E59CC4", "#F0BE45", "#A6DBFF", "#C9A27E"];

    /// <summary>Name, light and dark.</summary>
    private static readonly (string Name, string Light, string Dark)[] All =
    [
        (Paper, "#FFFFFF", "#16191D"),
        ("ink", PlotStyle.Ink.ToHex(), "#E6E8EA"),
        ("faint", PlotStyle.Faint.ToHex(), "#8D949C"),
        ("grid", PlotStyle.GridLine.ToHex(), "#353B42"),
        .. Series.Select((color, i) => ($"series-{i}", color.ToHex(), DarkSeries[i])),
    ];

    private static readonly Dictionary<string, string> Names =
        All.Select(color => (color.Light.ToUpperInvariant(), color.Name)).Append(("WHITE", Paper)).ToDictionary(StringComparer.Ordinal);

    /// <summary>The style sheet's variables, of light pages or of dark ones.</summary>
    public static string Variables(bool dark) => string.Concat(All.Select(color => $"--{color.Name}:{(dark ? color.Dark : color.Light)};"));

    /// <summary>The variable of a colour as SVG has it; null for one that is the same in light and dark.</summary>
    public static string? VariableOf(string color)
    {
        // Of #222222 the library writes #222.
        string whole = color is ['#', char red, char green, char blue] ? $"#{red}{red}{green}{green}{blue}{blue}" : color;
        return Names.TryGetValue(whole.ToUpperInvariant(), out string? name) ? $"var(--{name})" : null;
    }
}
