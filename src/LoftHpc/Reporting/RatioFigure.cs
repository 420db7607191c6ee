using System.Globalization;
using LoftHpc.Comparing;
using LoftHpc.Configuration;
using LoftHpc.Output;
using LoftHpc.Results;
using ScottPlot;
using PlotStyle = LoftHpc.Results.PlotStyle;

namespace LoftHpc.Reporting;

/// <summary>The accuracy of tickets, and of their controls, against the share of the filters that was removed.</summary>
internal static class RatioFigure
{
    private const string Name = "accuracy-ratio", Title = "Accuracy against pruning ratio, with controls";

    /// <summary>Settings that say how many filters go.</summary>
    private static readonly string[] Amounts = ["extract.ratio", "extract.budget", "extract.layer_ratios", "extract.like", "ratio", ComparedRun.NameOfRow];

    /// <summary>What makes a ticket a control, and of what.</summary>
    private static readonly (string Key, string Value, string Words)[] Controls =
    [
        ("extract.criterion", ConfigName.Of(FilterCriterion.Random), "random filters"),
        ("extract.criterion", ConfigName.Of(FilterCriterion.Smallest), "smallest filters"),
        ("retrain.start", ConfigName.Of(RetrainStart.Reinitialised), "weights drawn anew"),
        ("retrain.start", ConfigName.Of(RetrainStart.Shuffled), "weights shuffled"),
    ];

    public static ReportFigure Of(RunComparison runs, IReadOnlyList<GroupLook> looks)
    {
        string[] columns = [.. runs.Columns.Where(column => !Amounts.Contains(column))];
        IGrouping<string, RunGroup>[] alike = [.. runs.Groups.GroupBy(group => string.Join('\n', columns.Select(column => RunComparison.ValueOf(group.Runs[0], column))))];
        Line[] lines = [.. alike.Select(groups => LineOf(groups, columns, looks.First(look => look.Group == groups.First()))).OrderBy(line => line.IsControl)];
        double[] removed = [.. lines.SelectMany(line => line.Points).Select(point => point.X)];
        bool controls = lines.Any(line => line.IsControl) || removed.Contains(0);
        if (removed.Distinct().Count() < 2 && !controls)
            return ReportFigure.Without(Name, Title, "all tickets have lost the same share of their filters, and none is a control.");
        double[] accuracies = [.. lines.SelectMany(line => line.Points).SelectMany(point => new[] { point.Low, point.High })];
        if (accuracies.Length == 0) return ReportFigure.Without(Name, Title, "no ticket has an accuracy that is a number.");

        double[] shares = [.. removed.Distinct().Order()];
        List<Panel> panels = [PanelOf(lines, accuracies, "")];
        // A control that fails would press the others together.
        double[] tickets = [.. lines.Where(line => !line.IsControl).SelectMany(line => line.Points).SelectMany(point => new[] { point.Low, point.High })];
        bool closer = tickets.Length > 0 && accuracies.Max() - accuracies.Min() > 3 * (tickets.Max() - tickets.Min());
        if (closer) panels = [PanelOf(lines, accuracies, "all"), PanelOf(lines, tickets, "the tickets closer")];
        return new ReportFigure(
            Name, Title,
            "Test accuracy of the retrained tickets against the share of all prunable filters that was removed. A line is the mean over the seeds "
            + $"({Curves.Seeds(runs.Groups.Select(group => group.Runs.Count))}), its band reaches from the smallest to the largest of them; controls are dashed. "
            + (removed.Contains(0) ? "At 0 % stands the dense network, retrained as the tickets were. " : "")
            + (closer ? "The second panel is a part of the first." : ""),
            panels,
            [.. lines.Select(line => new LegendEntry(line.Name, line.Mark))],
            [
                new TextTable(
                    "Test accuracy of the retrained ticket (%), mean (smallest to largest)", ["removed (%)", .. lines.Select(line => line.Name)],
                    [.. shares.Select(share => (IReadOnlyList<string>)
                    [
                        PlotStyle.Text(Math.Round(share, 2)), .. lines.Select(line => line.Points.Where(point => point.X == share).Select(point => point.Text()).FirstOrDefault("")),
                    ])],
                    new HashSet<int>(Enumerable.Range(0, lines.Length + 1))),
            ]);
    }

    /// <param name="accuracies">Over which its axis reaches.</param>
    private static Panel PanelOf(Line[] lines, double[] accuracies, string title) =>
        new(title, $"Accuracy against share of filters removed: {string.Join("; ", lines.Select(Describe))}", () => Draw(lines, accuracies)) { Height = 300, Width = 440 };

    private static string Describe(Line line) => $"{line.Name}: {string.Join(", ", line.Points.Select(point => FormattableString.Invariant($"{point.Mean:F2} % at {point.X:0.#} %")))}";

    private static Line LineOf(IGrouping<string, RunGroup> groups, string[] columns, GroupLook look)
    {
        ComparedRun first = groups.First().Runs[0];
        (string Key, string Value, string Words)[] controls = [.. Controls.Where(control => first.Settings.Any(setting => setting.Key == control.Key && setting.Value == control.Value))];
        // A control is named by what it is one of, else like the rest.
        string[] words =
        [
            .. controls.Select(control => control.Words),
            .. columns.Except(controls.Select(control => control.Key)).Select(column => GroupLook.Short(column, RunComparison.ValueOf(first, column))),
        ];
        string name = words.Length == 0 ? "tickets" : PlainText.Of(string.Join(", ", words));
        Mark mark = look.Mark with { Pattern = controls.Length > 0 ? LinePattern.Dashed : LinePattern.Solid };
        return new Line(
            controls.Length > 0 ? $"{name} (control)" : name, mark, controls.Length > 0,
            [.. groups.Select(PointOf).OfType<BandPoint>().OrderBy(point => point.X)]);
    }

    /// <summary>A group: the share of its filters that went, in percent, and its accuracies.</summary>
    private static BandPoint? PointOf(RunGroup group)
    {
        double removed = Math.Round(group.Runs.Average(Removed), 6);
        return BandPoint.Of(group.Runs.Select(run => (removed, 100 * run.Row.RetrainedAccuracy))) is [BandPoint point] ? point : null;
    }

    /// <summary>From the ticket's table, since the ratio of a config says little for some scopes.</summary>
    private static double Removed(ComparedRun run)
    {
        if (run.Path is null || !RunFolder.At(run.Path).Ticket.Exists) return 100 * run.Row.Ratio;
        IReadOnlyList<TicketRow> filters = RunFolder.At(run.Path).Ticket.Read();
        return filters.Count == 0 ? 0 : 100.0 * filters.Count(filter => !filter.Kept) / filters.Count;
    }

    private static Plot Draw(Line[] lines, double[] accuracies)
    {
        Plot plot = Curves.New();
        foreach (Line line in lines) Curves.Add(plot, line.Points, line.Mark);
        double[] shares = [.. lines.SelectMany(line => line.Points).Select(point => point.X)];
        double air = Math.Max(2, 0.05 * (shares.Max() - shares.Min()));
        plot.Axes.SetLimitsX(shares.Min() - air, shares.Max() + air);
        plot.XLabel("filters removed (%)");
        PlotStyle.SetTicks(plot.Axes.Bottom, PlotStyle.RoundNumbers(Math.Max(0, shares.Min() - air), Math.Min(100, shares.Max() + air), 10).Select(share => (share, PlotStyle.Text(share))));
        Curves.SetAccuracy(plot, "accuracy of the ticket (%)", accuracies);
        return plot;
    }

    private sealed record Line(string Name, Mark Mark, bool IsControl, IReadOnlyList<BandPoint> Points);
}
