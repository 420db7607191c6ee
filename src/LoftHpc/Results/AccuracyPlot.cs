using LoftHpc.Configuration;
using ScottPlot;
using ScottPlot.Plottables;

namespace LoftHpc.Results;

/// <summary>
/// accuracy.png: accuracy on the training, the validation and the test images against the epoch, of pre-training and of retraining side
/// by side, with the test accuracy of the dense, the pruned and the retrained network.
/// </summary>
internal static class AccuracyPlot
{
    private const int Width = 800;
    private const int Height = 500;

    /// <param name="metrics">Rows of metrics.csv.</param>
    /// <param name="summary">Rows of summary.csv; empty where there is none yet.</param>
    public static void Draw(string path, IReadOnlyList<MetricsRow> metrics, IReadOnlyList<SummaryRow> summary)
    {
        metrics = [.. metrics.Where(r => double.IsFinite(r.Accuracy)).OrderBy(r => r.Epoch)];
        summary = [.. summary.Where(s => double.IsFinite(s.TestAccuracy))];
        int pretrainEpochs = LastEpoch(metrics, TrainingPhase.Pretrain), retrainEpochs = LastEpoch(metrics, TrainingPhase.Retrain);
        int epochs = Math.Max(1, pretrainEpochs + retrainEpochs);
        (double low, double high) = Limits(
            [.. metrics.Select(r => r.Accuracy), .. summary.Where(s => s.Network != NetworkState.Pruned).Select(s => s.TestAccuracy)]);

        Plot plot = PlotStyle.NewPlot();
        List<LegendItem> legend = [];
        foreach ((DataSplit split, string name, Color color) in new[]
            { (DataSplit.Train, "training images", PlotStyle.Palette[0]), (DataSplit.Validation, "validation images", PlotStyle.Palette[4]), (DataSplit.Test, "test images", PlotStyle.Palette[1]) })
        {
            foreach (TrainingPhase phase in Enum.GetValues<TrainingPhase>())
            {
                MetricsRow[] rows = [.. metrics.Where(r => r.Phase == phase && r.Split == split)];
                int offset = phase == TrainingPhase.Retrain ? pretrainEpochs : 0;
                Scatter line = plot.Add.Scatter(rows.Select(r => (double)(r.Epoch + offset)).ToArray(), rows.Select(r => 100 * r.Accuracy).ToArray(), color);
                line.LineWidth = 1.75f;
                line.MarkerSize = epochs <= 30 ? 5 : 0;
            }
            if (metrics.Any(r => r.Split == split)) legend.Add(PlotStyle.LineEntry(name, color, 2));
        }
        foreach (SummaryRow row in summary)
        {
            double accuracy = 100 * row.TestAccuracy;
            // Far below the curves (pruning alone may cost everything) it would press them together: then it stands at the edge.
            bool below = accuracy < low;
            (string name, MarkerShape shape, Color color, int epoch) = row.Network switch
            {
                NetworkState.Dense => ("dense", MarkerShape.FilledSquare, PlotStyle.Ink, pretrainEpochs),
                NetworkState.Pruned => ("pruned", below ? MarkerShape.FilledTriangleDown : MarkerShape.FilledDiamond, PlotStyle.Palette[3], pretrainEpochs),
                _ => ("ticket", MarkerShape.FilledCircle, PlotStyle.Palette[2], epochs),
            };
            Marker marker = plot.Add.Marker(epoch, below ? low + (0.02 * (high - low)) : accuracy, shape, 11, color);
            marker.MarkerStyle.OutlineColor = Colors.White;
            marker.MarkerStyle.OutlineWidth = 1;
            legend.Add(PlotStyle.MarkerEntry(FormattableString.Invariant($"{name}: {accuracy:F2} %{(below ? " (off the scale)" : "")}"), shape, color));
        }

        plot.Axes.SetLimits(0.5 - (0.02 * epochs), epochs + 0.5 + (0.02 * epochs), low, high);
        plot.XLabel("epoch");
        plot.YLabel("accuracy (%)");
        plot.Grid.XAxisStyle.IsVisible = false;
        PlotStyle.SetTicks(plot.Axes.Left, PlotStyle.RoundNumbers(low, high, 8).Select(y => (y, PlotStyle.Text(y))));
        // Each training counts its own epochs, as metrics.csv does.
        int step = (int)Math.Max(1, PlotStyle.RoundStep(epochs, 16));
        PlotStyle.SetTicks(plot.Axes.Bottom, Ticks(0, pretrainEpochs, step).Concat(Ticks(pretrainEpochs, retrainEpochs, step)));
        if (pretrainEpochs > 0 && retrainEpochs > 0)
        {
            plot.Add.VerticalLine(pretrainEpochs + 0.5, 1, PlotStyle.Faint, LinePattern.Dotted);
            PlotStyle.SetTicks(plot.Axes.Top, [((pretrainEpochs + 0.5) / 2, "pre-training"), (pretrainEpochs + ((retrainEpochs + 0.5) / 2), "retraining")]);
            plot.Axes.Top.Min = plot.Axes.Bottom.Min;
            plot.Axes.Top.Max = plot.Axes.Bottom.Max;
            plot.Axes.Top.MajorTickStyle.Length = 0;
            plot.Axes.Top.TickLabelStyle.FontSize = 12;
        }
        PlotStyle.AddLegend(plot, legend);
        PlotStyle.Save(path, Width, Height, [(plot, new PixelRect(6, Width - 6, Height - 2, 6))], []);
    }

    private static IEnumerable<(double Position, string Text)> Ticks(int offset, int epochs, int step)
    {
        for (int epoch = step; epoch <= epochs; epoch += step) yield return (offset + epoch, PlotStyle.Text(epoch));
    }

    private static int LastEpoch(IReadOnlyList<MetricsRow> metrics, TrainingPhase phase) =>
        metrics.Where(r => r.Phase == phase).Select(r => r.Epoch).DefaultIfEmpty(0).Max();

    /// <summary>Limits of the axis in percent: the fractions with some air, at least 5 points, from 0 to a little above 100.</summary>
    private static (double Low, double High) Limits(IReadOnlyList<double> fractions)
    {
        if (fractions.Count == 0) return (0, 100);
        double low = 100 * fractions.Min(), high = 100 * fractions.Max();
        double air = Math.Max(0.06 * (high - low), (5 - (high - low)) / 2);
        return (Math.Max(0, low - air), Math.Min(102, high + air));
    }
}
