using LoftHpc.Results;
using ScottPlot;
using PlotStyle = LoftHpc.Results.PlotStyle;

namespace LoftHpc.Reporting;

/// <summary>The PNG of a figure: its panels in rows, their titles above them, the legend below.</summary>
internal static class FigureFile
{
    private const int TitleHeight = 34;
    private const int PanelTitleHeight = 22;
    private const int LegendLine = 24;
    private const float LegendSize = 11;

    /// <summary>Its name beside a page.</summary>
    public static string NameOf(string page, ReportFigure figure) => $"{Path.GetFileNameWithoutExtension(page)}-{figure.Name}.png";

    public static void Save(string path, ReportFigure figure)
    {
        int columns = figure.Panels.Count switch { 1 => 1, 2 or 4 => 2, _ => 3 };
        int cell = figure.Panels.Max(panel => panel.Width), width = Math.Max(columns * cell, 520);
        List<(Plot, PixelRect)> plots = [];
        List<FigureText> texts = [new(figure.Title, new Pixel(width / 2f, TitleHeight / 2f), 14, Bold: true)];
        int top = TitleHeight;
        foreach (Panel[] row in figure.Panels.Chunk(columns))
        {
            int left = (width - (row.Length * cell)) / 2;
            int titles = row.Any(panel => panel.Title.Length > 0) ? PanelTitleHeight : 0;
            foreach (Panel panel in row)
            {
                if (panel.Title.Length > 0) texts.Add(new FigureText(panel.Title, new Pixel(left + (cell / 2f), top + (PanelTitleHeight / 2f))));
                plots.Add((panel.Draw(), new PixelRect(left, left + panel.Width, top + titles + panel.Height, top + titles)));
                left += cell;
            }
            top += titles + row.Max(panel => panel.Height);
        }
        foreach (List<LegendEntry> line in LegendLines(figure.Legend, width))
        {
            Plot legend = PlotStyle.NewPlot();
            legend.Layout.Frameless();
            legend.HideGrid();
            PlotStyle.AddLegend(legend, line.Select(Item));
            plots.Add((legend, new PixelRect(0, width, top + LegendLine, top)));
            top += LegendLine;
        }
        PlotStyle.Save(path, width, top, plots, texts);
    }

    private static LegendItem Item(LegendEntry entry)
    {
        LegendItem item = new() { LabelText = entry.Text };
        if (entry.Mark.HasLine) (item.LineColor, item.LineWidth, item.LinePattern) = (entry.Mark.Color, 2, entry.Mark.Pattern);
        if (entry.Mark.HasMarker)
            (item.MarkerShape, item.MarkerSize, item.MarkerFillColor, item.MarkerLineColor, item.MarkerLineWidth) = (entry.Mark.Shape, 8, entry.Mark.Color, entry.Mark.Color, 1.5f);
        return item;
    }

    /// <summary>Entries line by line: the plotting library leaves out what does not fit into one.</summary>
    private static List<List<LegendEntry>> LegendLines(IReadOnlyList<LegendEntry> legend, int width)
    {
        List<List<LegendEntry>> lines = [];
        float used = width;
        foreach (LegendEntry entry in legend)
        {
            float length = PlotStyle.TextWidth(entry.Text, LegendSize) + 50;
            if (used + length > 0.97 * width)
            {
                lines.Add([]);
                used = 0;
            }
            lines[^1].Add(entry);
            used += length;
        }
        return lines;
    }
}
