using LoftHpc.Output;
using LoftHpc.Results;
using ScottPlot;
using PlotStyle = LoftHpc.Results.PlotStyle;

namespace LoftHpc.Reporting;

/// <summary>The distance between rankings of the filters over the time of pre-training: to the previous, the first and the last measurement.</summary>
internal static class DistanceCurves
{
    private const string Name = "distance", Title = "Filter distance over pre-training";

    public static ReportFigure Of(IReadOnlyList<MeasuredDistances> measured)
    {
        if (measured.Count == 0) return ReportFigure.Without(Name, Title, "no run has two measurements in a filter_distance.csv.");
        string unit = measured.Select(of => of.Unit).Distinct().ToArray() is [string one] ? one : "epoch or step";
        (string Title, Func<MeasuredDistances, int, long> Reference)[] kinds =
        [
            ("to the previous measurement", (of, i) => i > 0 ? of.Steps[i - 1] : -1),
            ("to the first measurement", (of, i) => i > 0 ? of.Steps[0] : -1),
            ("to the last measurement", (of, i) => i < of.Steps.Count - 1 ? of.Steps[^1] : -1),
        ];
        bool bands = measured.Count <= Curves.MostInPanel;
        List<Panel> panels = [];
        List<TextTable> tables = [];
        IReadOnlyList<BandPoint>[][] lines = [.. kinds.Select(kind => measured.Select(of => Points(of, kind.Reference)).ToArray())];
        double[] all = [.. lines.SelectMany(kind => kind).SelectMany(line => line).Select(point => point.High), 0];
        for (int k = 0; k < kinds.Length; k++)
        {
            IReadOnlyList<BandPoint>[] ofKind = lines[k];
            if (ofKind.All(line => line.Count == 0)) continue;
            panels.Add(new Panel(
                kinds[k].Title, $"Normalised filter distance {kinds[k].Title} against {unit}: {string.Join("; ", measured.Select((of, i) => ofKind[i].Count == 0 ? $"{of.Of.Name} has none" : $"{of.Of.Name} ends at {ofKind[i][^1].Text(1, 3)}"))}",
                () => Draw(measured, ofKind, bands, unit, all)));
            double[] times = [.. ofKind.SelectMany(line => line).Select(point => point.X).Distinct().Order()];
            tables.Add(new TextTable(
                $"Normalised distance {kinds[k].Title}, mean (smallest to largest)", [unit, .. measured.Select(of => of.Of.Name)],
                [.. times.Select(time => (IReadOnlyList<string>)[PlotStyle.Text(time), .. ofKind.Select(line => line.Where(point => point.X == time).Select(point => point.Text(1, 4)).FirstOrDefault(""))])],
                new HashSet<int>(Enumerable.Range(0, measured.Count + 1))));
        }
        return new ReportFigure(
            Name, Title,
            $"How far the ranking of the filters by their norm lies from an earlier or later ranking of the same pre-training; 0 is the same ranking, 1 what chance alone gives{(HasChance(all) ? " (dotted)" : "")}. "
            + $"A line is the mean over the layers and the seeds ({Curves.Seeds(measured.Select(of => of.Seeds.Count))}){(bands ? "; its band reaches from the smallest to the largest seed" : "; bands are left out, for there are many lines: the numbers have them")}.",
            panels, [.. measured.Select(of => new LegendEntry(of.Of.Name, of.Of.Mark))], tables);
    }

    private static IReadOnlyList<BandPoint> Points(MeasuredDistances of, Func<MeasuredDistances, int, long> reference) => BandPoint.Of(
        Enumerable.Range(0, of.Steps.Count).Where(i => reference(of, i) >= 0).SelectMany(i => of.At(of.Steps[i], reference(of, i)).Select(distance => (of.Time[of.Steps[i]], distance))));

    /// <summary>Whether the axis reaches to what chance alone gives.</summary>
    private static bool HasChance(double[] all) => all.Max() > 0.8;

    private static Plot Draw(IReadOnlyList<MeasuredDistances> measured, IReadOnlyList<BandPoint>[] lines, bool bands, string unit, double[] all)
    {
        Plot plot = Curves.New();
        for (int i = 0; i < measured.Count; i++) Curves.Add(plot, lines[i], measured[i].Of.Mark, bands);
        double[] times = [.. measured.SelectMany(of => of.Time.Values)];
        double air = 0.04 * (times.Max() - times.Min());
        plot.Axes.SetLimitsX(times.Min() - air, times.Max() + air);
        plot.XLabel(unit);
        plot.Grid.XAxisStyle.IsVisible = false;
        PlotStyle.SetTicks(plot.Axes.Bottom, PlotStyle.RoundNumbers(times.Min(), times.Max(), 8).Select(time => (time, PlotStyle.Text(time))));
        Curves.SetLeft(plot, "normalised distance", all, 0.1);
        if (HasChance(all)) plot.Add.HorizontalLine(1, 1, PlotStyle.Faint, LinePattern.Dotted);
        return plot;
    }
}
