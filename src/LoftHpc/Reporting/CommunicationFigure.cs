using LoftHpc.Communication;
using LoftHpc.Comparing;
using LoftHpc.Configuration;
using LoftHpc.Output;
using LoftHpc.Results;
using ScottPlot;
using ScottPlot.Plottables;
using PlotStyle = LoftHpc.Results.PlotStyle;

namespace LoftHpc.Reporting;

/// <summary>What all ranks sent in pre-training: how much, and for what.</summary>
internal static class CommunicationFigure
{
    private const string Name = "communication", Title = "Communication by method";

    private const double Mega = 1e-6;

    /// <summary>Room for a group, in units: its name above its bar.</summary>
    private const int RowHeight = 38;

    /// <summary>Of a row's text over its bar, in rows.</summary>
    private const double TextAbove = 0.42;

    /// <summary>The colours here are those of the purposes; groups are named.</summary>
    private static readonly Mark Dot = new(PlotStyle.Ink, MarkerShape.FilledCircle, LinePattern.Solid) { HasLine = false };

    public static ReportFigure Of(IReadOnlyList<GroupLook> looks)
    {
        Sent[] groups =
        [
            .. Pretraining.Of(looks).Select(pretraining => Of(pretraining.Name, pretraining.Looks[0], pretraining.Folders)),
            .. looks.Where(look => look.Group.Runs[0].Path is null).Select(look => Of(look.Name, look, [])),
        ];
        if (groups.All(group => group.ToTrain.High == 0 && group.Besides.High == 0))
            return ReportFigure.Without(Name, Title, "no run has sent anything: all were pre-trained on one rank.");

        CommunicationPurpose[] purposes = [.. Enum.GetValues<CommunicationPurpose>().Where(purpose => groups.Any(group => group.Bytes.GetValueOrDefault(purpose) > 0))];
        List<Panel> panels =
        [
            new Panel(
                "sent to train", $"Megabytes that all ranks sent to train: {string.Join("; ", groups.Select(group => $"{group.Name} {group.ToTrain.Text(Mega, 1)}"))}", () => DrawBytes(groups))
            { Height = 60 + (RowHeight * groups.Length) },
        ];
        // Rows of a table do not say for what.
        bool known = purposes.Length > 0;
        if (known)
        {
            panels.Add(new Panel("for what", "Share of each purpose in all bytes that were sent, measurements included", () => DrawShares(groups, purposes))
            { Height = 60 + (RowHeight * groups.Length) });
        }
        bool varies = groups.Any(group => group.ToTrain.High > group.ToTrain.Low);
        return new ReportFigure(
            Name, Title,
            $"Bytes that all ranks together sent in pre-training to train, without measurements: the mean over the seeds ({Curves.Seeds(groups.Select(group => group.ToTrain.Runs))}){(varies ? "; a line reaches from the smallest to the largest seed" : "")}. "
            + (known ? "The bars say what all bytes were sent for; evaluation, distance and save are measurements and files." : "What they were sent for is not known of rows of a table."),
            panels, [.. purposes.Select(purpose => new LegendEntry(ConfigName.Of(purpose).Replace('-', ' '), MarkOf(purpose)))],
            [
                new TextTable(
                    "Sent in pre-training (MB), mean (smallest to largest)", ["group", "to train", "besides", .. purposes.Select(purpose => ConfigName.Of(purpose))],
                    [.. groups.Select(group => (IReadOnlyList<string>)
                    [
                        group.Name, group.ToTrain.Text(Mega, 3), group.Besides.Text(Mega, 3),
                        .. purposes.Select(purpose => PlotStyle.Text(Mega * group.Bytes.GetValueOrDefault(purpose))),
                    ])],
                    new HashSet<int>(Enumerable.Range(1, 2 + purposes.Length))),
            ]);
    }

    private static Sent Of(string name, GroupLook look, IReadOnlyList<RunFolder> folders)
    {
        ComparedRun[] runs = [.. look.Group.Runs.DistinctBy(run => run.Source ?? run.Path ?? run.Name)];
        Dictionary<CommunicationPurpose, double> bytes = folders.SelectMany(folder => folder.Communication.Read()).Where(row => row.Phase == ConfigName.Of(TrainingPhase.Pretrain))
            .GroupBy(row => row.Purpose).ToDictionary(rows => rows.Key, rows => rows.Sum(row => (double)row.BytesSent) / folders.Count);
        return new Sent(name, Over(runs, run => run.Row.Bytes), Over(runs, run => run.Row.MeasurementBytes), bytes);
    }

    private static BandPoint Over(IEnumerable<ComparedRun> runs, Func<ComparedRun, double> of) => BandPoint.Of(runs.Select(run => (0.0, of(run))))[0];

    private static Mark MarkOf(CommunicationPurpose purpose) =>
        new(ReportColors.Series[(int)purpose % ReportColors.Series.Count], MarkerShape.FilledSquare, LinePattern.Solid) { HasLine = false };

    private static Plot DrawBytes(Sent[] groups)
    {
        Plot plot = PlotStyle.NewPlot();
        ValueAxis axis = new([.. groups.SelectMany(group => new[] { group.ToTrain.Low * Mega, group.ToTrain.High * Mega })]);
        axis.Apply(plot, "sent to train (MB)");
        AddRows(plot, groups);
        for (int i = 0; i < groups.Length; i++)
        {
            BandPoint sent = groups[i].ToTrain;
            double y = Row(groups, i), x = axis.Place(sent.Mean * Mega), low = plot.Axes.Bottom.Min, high = plot.Axes.Bottom.Max;
            LinePlot stem = plot.Add.Line(low, y, x, y);
            (stem.LineColor, stem.LineWidth, stem.MarkerSize) = (PlotStyle.GridLine, 2, 0);
            if (sent.High > sent.Low)
            {
                LinePlot range = plot.Add.Line(axis.Place(sent.Low * Mega), y, axis.Place(sent.High * Mega), y);
                (range.LineColor, range.LineWidth, range.MarkerSize) = (Dot.Color, 3, 0);
            }
            Dot.Add(plot, [(x, y)], 9);
            AddText(plot, FormattableString.Invariant($"{sent.Mean * Mega:N1} MB"), high, y + TextAbove, Alignment.MiddleRight, -6);
        }
        return plot;
    }

    private static Plot DrawShares(Sent[] groups, CommunicationPurpose[] purposes)
    {
        Plot plot = PlotStyle.NewPlot();
        plot.Axes.SetLimitsX(0, 100);
        AddRows(plot, groups);
        plot.XLabel("share of the bytes (%)");
        PlotStyle.SetTicks(plot.Axes.Bottom, PlotStyle.RoundNumbers(0, 100, 5).Select(share => (share, PlotStyle.Text(share))));
        for (int i = 0; i < groups.Length; i++)
        {
            double y = Row(groups, i), from = 0;
            if (groups[i].Total == 0) AddText(plot, "nothing was sent", 0, y, Alignment.MiddleLeft, 4);
            foreach (CommunicationPurpose purpose in purposes)
            {
                double to = groups[i].Total == 0 ? 0 : from + (100 * groups[i].Bytes.GetValueOrDefault(purpose) / groups[i].Total);
                if (to > from)
                {
                    Rectangle bar = plot.Add.Rectangle(from, to, y - 0.17, y + 0.17);
                    bar.FillColor = MarkOf(purpose).Color;
                    (bar.LineColor, bar.LineWidth) = (Colors.White, 0.5f);
                }
                from = to;
            }
        }
        return plot;
    }

    private static double Row(Sent[] groups, int i) => groups.Length - 1 - i;

    /// <summary>Makes of a plot one with a row for each group, its name above where the bar goes; the lower axis is set.</summary>
    private static void AddRows(Plot plot, Sent[] groups)
    {
        plot.Axes.SetLimitsY(-0.45, groups.Length - 0.25);
        PlotStyle.SetTicks(plot.Axes.Left, []);
        plot.Grid.YAxisStyle.IsVisible = false;
        plot.Layout.Fixed(new PixelPadding(10, 14, 44, 6));
        for (int i = 0; i < groups.Length; i++)
        {
            AddText(plot, Curves.Fit(groups[i].Name, 260), plot.Axes.Bottom.Min, Row(groups, i) + TextAbove, Alignment.MiddleLeft, 4);
        }
    }

    private static void AddText(Plot plot, string text, double x, double y, Alignment alignment, float offset)
    {
        Text label = plot.Add.Text(text, x, y);
        PlotStyle.StyleLabel(label.LabelStyle, 11, bold: false);
        (label.LabelAlignment, label.OffsetX, label.LabelOffsetY) = (alignment, offset, 1.5f);
    }

    /// <param name="Bytes">Mean over the seeds, by purpose; empty for rows of a table.</param>
    private sealed record Sent(string Name, BandPoint ToTrain, BandPoint Besides, IReadOnlyDictionary<CommunicationPurpose, double> Bytes)
    {
        public double Total { get; } = Bytes.Values.Sum();
    }
}
