using System.Globalization;
using LoftHpc.Configuration;
using LoftHpc.Output;
using LoftHpc.Results;
using ScottPlot;
using PlotStyle = LoftHpc.Results.PlotStyle;

namespace LoftHpc.Reporting;

/// <summary>Test accuracy against the epoch, of pre-training and then of retraining, with a band over the seeds.</summary>
internal static class AccuracyCurves
{
    private const string Name = "accuracy", Title = "Accuracy against epoch";

    public static ReportFigure Of(IReadOnlyList<GroupLook> looks)
    {
        IReadOnlyList<Pretraining> pretrainings = Pretraining.Of(looks);
        if (pretrainings.Count == 0) return ReportFigure.Without(Name, Title, "no run has a folder with its metrics.csv.");
        Line[] dense = [.. pretrainings.Select(of => new Line(of.Name, of.Family, of.Mark, Points(of.Folders, TrainingPhase.Pretrain), of))];
        Line[] tickets = [.. looks.Where(look => look.Group.Runs[0].Path is not null)
            .Select(look => new Line(look.Name, look.Family, look.Mark, Points(look.Group.Runs.Select(run => RunFolder.At(run.Path!)), TrainingPhase.Retrain), null))];
        int epochs = (int)dense.SelectMany(line => line.Points).Select(point => point.X).DefaultIfEmpty(0).Max();
        int more = (int)tickets.SelectMany(line => line.Points).Select(point => point.X).DefaultIfEmpty(0).Max();
        if (epochs + more == 0) return ReportFigure.Without(Name, Title, "no run has trained for an epoch.");

        string[] families = looks.Count <= Curves.MostInPanel ? [""] : [.. tickets.Select(line => line.Family).Distinct()];
        double[] all = [.. dense.Concat(tickets).SelectMany(line => line.Points).SelectMany(point => new[] { point.Low, point.High })];
        Panel[] panels =
        [
            .. families.Select(family =>
            {
                Line[] inPanel = [.. tickets.Where(line => family.Length == 0 || line.Family == family)];
                Line[] before = [.. dense.Where(line => line.Pretraining!.Looks.Any(look => inPanel.Any(ticket => ticket.Name == look.Name)))];
                return new Panel(family, $"Test accuracy in percent against epoch{(family.Length > 0 ? $", {family}" : "")}: {string.Join("; ", inPanel.Select(End))}", () => Draw(before, inPanel, epochs, more, all));
            }),
        ];
        LegendEntry[] legend =
        [
            .. dense.Where(line => line.Pretraining!.Looks.Count > 1).Select(line => new LegendEntry($"pre-training {line.Name}", line.Mark)),
            .. tickets.Select(line => new LegendEntry(line.Name, line.Mark)),
        ];
        return new ReportFigure(
            Name, Title,
            "Accuracy on the test images after each epoch of pre-training, and, right of the dotted line, of retraining the ticket; each training counts its own epochs. "
            + $"A line is the mean over the seeds of a group ({Curves.Seeds([.. pretrainings.Select(of => of.Folders.Count), .. looks.Select(look => look.Group.Runs.Count)])}), its band reaches from the smallest to the largest of them.",
            panels, legend, [Table("Pre-training: test accuracy (%), mean (smallest to largest)", dense), Table("Retraining: test accuracy (%), mean (smallest to largest)", tickets)]);
    }

    private static IReadOnlyList<BandPoint> Points(IEnumerable<RunFolder> folders, TrainingPhase phase) => BandPoint.Of(
        folders.SelectMany(folder => folder.Metrics.Read()).Where(row => row.Phase == phase && row.Split == DataSplit.Test).Select(row => ((double)row.Epoch, 100 * row.Accuracy)));

    private static string End(Line line) => line.Points.Count == 0 ? $"{line.Name} was not retrained" : $"{line.Name} ends at {line.Points[^1].Text()}";

    private static Plot Draw(Line[] dense, Line[] tickets, int epochs, int more, double[] all)
    {
        Plot plot = Curves.New();
        foreach (Line line in dense) Curves.Add(plot, line.Points, line.Mark);
        foreach (Line line in tickets) Curves.Add(plot, [.. line.Points.Select(point => point with { X = point.X + epochs })], line.Mark);
        double air = 0.5 + (0.02 * (epochs + more));
        plot.Axes.SetLimitsX(1 - air, epochs + more + air);
        plot.XLabel("epoch");
        plot.Grid.XAxisStyle.IsVisible = false;
        int step = (int)Math.Max(1, PlotStyle.RoundStep(epochs + more, 10));
        PlotStyle.SetTicks(plot.Axes.Bottom, [.. Ticks(0, epochs, step), .. Ticks(epochs, more, step)]);
        if (epochs > 0 && more > 0) plot.Add.VerticalLine(epochs + 0.5, 1, PlotStyle.Faint, LinePattern.Dotted);
        Curves.SetAccuracy(plot, "test accuracy (%)", all);
        return plot;
    }

    private static IEnumerable<(double, string)> Ticks(int offset, int epochs, int step)
    {
        for (int epoch = step; epoch <= epochs; epoch += step) yield return (offset + epoch, PlotStyle.Text(epoch));
    }

    private static TextTable Table(string title, Line[] lines)
    {
        double[] epochs = [.. lines.SelectMany(line => line.Points).Select(point => point.X).Distinct().Order()];
        return new TextTable(
            title, ["epoch", .. lines.Select(line => line.Name)],
            [.. epochs.Select(epoch => (IReadOnlyList<string>)
            [
                epoch.ToString(CultureInfo.InvariantCulture),
                .. lines.Select(line => line.Points.Where(point => point.X == epoch).Select(point => point.Text()).FirstOrDefault("")),
            ])],
            new HashSet<int>(Enumerable.Range(0, lines.Length + 1)));
    }

    private sealed record Line(string Name, string Family, Mark Mark, IReadOnlyList<BandPoint> Points, Pretraining? Pretraining);
}
