using System.Globalization;
using LoftHpc.Output;
using LoftHpc.Results;
using ScottPlot;
using PlotStyle = LoftHpc.Results.PlotStyle;

namespace LoftHpc.Reporting;

/// <summary>How many filters of each prunable layer the tickets have kept.</summary>
internal static class TicketWidthsFigure
{
    private const string Name = "widths", Title = "Ticket widths by layer";

    /// <summary>Room for a layer, in units.</summary>
    private const int RowHeight = 24;

    public static ReportFigure Of(IReadOnlyList<GroupLook> looks)
    {
        List<Widths> all = [];
        foreach (GroupLook look in looks)
        {
            RunFolder[] folders = [.. look.Group.Runs.Where(run => run.Path is not null).Select(run => RunFolder.At(run.Path!)).Where(folder => folder.Ticket.Exists)];
            if (folders.Length == 0) continue;
            Dictionary<string, int> filters = [];
            List<(string Layer, int Kept)> kept = [];
            foreach (RunFolder folder in folders)
            {
                foreach (IGrouping<string, TicketRow> layer in folder.Ticket.Read().GroupBy(row => PlainText.Of(row.Layer)))
                {
                    filters[layer.Key] = layer.Count();
                    kept.Add((layer.Key, layer.Count(row => row.Kept)));
                }
            }
            // A network may have no layer that is pruned.
            if (filters.Count == 0) continue;
            Widths own = new(look.Name, look.Mark, [.. filters.Select(layer => (layer.Key, layer.Value, BandPoint.Of(kept.Where(of => of.Layer == layer.Key).Select(of => (0.0, (double)of.Kept)))[0]))]);
            // Controls have the widths of their ticket: one line is enough.
            int same = all.FindIndex(other => other.Layers.Select(Shape).SequenceEqual(own.Layers.Select(Shape)));
            if (same < 0) all.Add(own);
            else all[same] = all[same] with { Alike = all[same].Alike + 1 };
        }
        if (all.Count == 0) return ReportFigure.Without(Name, Title, "no run has a folder with a ticket.csv that has layers.");
        string[] layers = [.. all.SelectMany(widths => widths.Layers).Select(layer => layer.Layer).Distinct()];
        double[] most = [.. layers.Select(layer => (double)all.SelectMany(widths => widths.Layers).Where(of => of.Layer == layer).Max(of => of.Filters))];
        return new ReportFigure(
            Name, Title,
            $"Share of each prunable layer's filters that stay in the ticket, the first layer at the top: the mean over the seeds ({Curves.Seeds(looks.Where(look => look.Group.Runs[0].Path is not null).Select(look => look.Group.Runs.Count))}). Groups whose tickets have the same widths are one line.",
            [new Panel("", $"Share of filters kept, layer by layer: {string.Join("; ", all.Select(widths => $"{widths.Title} {Share(widths)} % in all"))}", () => Draw(all, layers))
            {
                Height = 70 + (RowHeight * Math.Max(4, layers.Length)),
            }],
            [.. all.Select(widths => new LegendEntry(widths.Title, widths.Mark))],
            [
                new TextTable(
                    "Filters kept, mean (smallest to largest)", ["layer", "filters", .. all.Select(widths => widths.Title)],
                    [.. layers.Select((layer, i) => (IReadOnlyList<string>)
                    [
                        layer, most[i].ToString(CultureInfo.InvariantCulture), .. all.Select(widths => widths.Layers.Where(of => of.Layer == layer).Select(of => Kept(of.Kept)).FirstOrDefault("")),
                    ])],
                    new HashSet<int>(Enumerable.Range(1, all.Count + 1))),
            ]);
    }

    /// <summary>A layer whatever the number of seeds.</summary>
    private static (string, int, double, double, double) Shape((string Layer, int Filters, BandPoint Kept) of) => (of.Layer, of.Filters, of.Kept.Mean, of.Kept.Low, of.Kept.High);

    private static string Kept(BandPoint kept) => kept.Low == kept.High ? PlotStyle.Text(kept.Mean) : kept.Text(1, 1);

    private static string Share(Widths widths) =>
        PlotStyle.Text(Math.Round(100 * widths.Layers.Sum(layer => layer.Kept.Mean) / widths.Layers.Sum(layer => layer.Filters), 1));

    private static Plot Draw(IReadOnlyList<Widths> all, string[] layers)
    {
        Plot plot = Curves.New();
        foreach (Widths widths in all)
            widths.Mark.Add(plot, [.. widths.Layers.Select(layer => (100 * layer.Kept.Mean / layer.Filters, (double)(layers.Length - 1 - Array.IndexOf(layers, layer.Layer))))], 7);
        plot.Axes.SetLimits(-3, 103, -0.6, layers.Length - 0.4);
        plot.XLabel("filters kept (%)");
        PlotStyle.SetTicks(plot.Axes.Bottom, PlotStyle.RoundNumbers(0, 100, 5).Select(share => (share, PlotStyle.Text(share))));
        PlotStyle.SetTicks(plot.Axes.Left, layers.Select((layer, i) => ((double)(layers.Length - 1 - i), layer)));
        return plot;
    }

    /// <param name="Alike">Groups more with the same widths.</param>
    private sealed record Widths(string Name, Mark Mark, IReadOnlyList<(string Layer, int Filters, BandPoint Kept)> Layers, int Alike = 0)
    {
        public string Title => Alike == 0 ? Name : $"{Name} and {Alike} more";
    }
}
