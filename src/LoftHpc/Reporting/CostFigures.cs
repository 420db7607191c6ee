using System.Globalization;
using LoftHpc.Comparing;
using LoftHpc.Configuration;
using LoftHpc.Output;
using LoftHpc.Results;
using ScottPlot;
using PlotStyle = LoftHpc.Results.PlotStyle;

namespace LoftHpc.Reporting;

/// <summary>The ticket's accuracy against what it has cost, and against what it costs.</summary>
internal static class CostFigures
{
    private const string Legend = "A large mark is the mean over the seeds of a group";

    /// <summary>Against the bytes and the FLOPs of pre-training, and the FLOPs of the ticket.</summary>
    public static ReportFigure OfBytesAndFlops(IReadOnlyList<GroupLook> looks)
    {
        Cost[] costs =
        [
            new("bytes", "sent in pre-training", "MB", run => 1e-6 * run.Row.Bytes),
            new("FLOPs of pre-training", "FLOPs of pre-training", "GFLOP", run => 1e-9 * run.Row.Flops),
            new("FLOPs of the ticket", "FLOPs an image", "MFLOP", run => 1e-6 * run.Ticket?.Flops),
        ];
        return Of(
            "accuracy-costs", "Accuracy against bytes and FLOPs", looks, costs,
            $"Test accuracy of the retrained ticket against what all ranks together sent and computed in pre-training, and against the ticket's forward pass of one image. {Legend} ({Curves.Seeds(looks.Select(look => look.Group.Runs.Count))}), a small one a seed. Upper left is better.");
    }

    /// <summary>Against the ticket's measured time, for each pass and batch that was measured.</summary>
    public static ReportFigure OfLatency(IReadOnlyList<GroupLook> looks)
    {
        const string name = "accuracy-latency", title = "Accuracy against latency";
        const int most = 6;
        Dictionary<ComparedRun, IReadOnlyList<LatencyRow>> measured = new(ReferenceEqualityComparer.Instance);
        foreach (ComparedRun run in looks.SelectMany(look => look.Group.Runs).Where(run => run.Path is not null && RunFolder.At(run.Path).Latency.Exists))
            measured[run] = RunFolder.At(run.Path!).Latency.Read();
        (MeasuredPass Pass, int Batch)[] kinds = [.. measured.Values.SelectMany(rows => rows).Where(row => row.Network == NetworkState.Ticket).Select(row => (row.Pass, row.Batch)).Distinct().Order()];
        if (kinds.Length == 0) return ReportFigure.Without(name, title, "no run has measured times in a latency.csv.");

        double? Milliseconds(ComparedRun run, (MeasuredPass Pass, int Batch) kind, NetworkState network) => measured.TryGetValue(run, out IReadOnlyList<LatencyRow>? rows)
            ? 1000 * rows.LastOrDefault(row => row.Network == network && (row.Pass, row.Batch) == kind)?.MedianSeconds
            : null;
        Cost[] costs = [.. kinds.Take(most).Select(kind => new Cost(Words(kind), Words(kind), "ms", run => Milliseconds(run, kind, NetworkState.Ticket)))];
        ReportFigure figure = Of(
            name, title, looks, costs,
            $"Test accuracy of the retrained ticket against the median time that it takes for a batch, where that was measured. {Legend} ({Curves.Seeds(looks.Select(look => look.Group.Runs.Count))}), a small one a seed. Upper left is better.");
        List<IReadOnlyList<string>> rows = [];
        foreach (GroupLook look in looks)
        {
            foreach ((MeasuredPass Pass, int Batch) kind in kinds)
            {
                (double Dense, double Ticket)[] pairs =
                [
                    .. look.Group.Runs.Select(run => (Milliseconds(run, kind, NetworkState.Dense) ?? double.NaN, Milliseconds(run, kind, NetworkState.Ticket) ?? double.NaN)).Where(pair => double.IsFinite(pair.Item2)),
                ];
                if (pairs.Length == 0) continue;
                string Over(Func<(double Dense, double Ticket), double> of, int decimals) => BandPoint.Of(pairs.Select(pair => (0.0, of(pair)))) is [BandPoint point] ? point.Text(1, decimals) : "";
                rows.Add([look.Name, ConfigName.Of(kind.Pass), kind.Batch.ToString(CultureInfo.InvariantCulture), Over(pair => pair.Dense, 3), Over(pair => pair.Ticket, 3), Over(pair => pair.Dense / pair.Ticket, 2)]);
            }
        }
        TextTable latency = new("Median time of a batch (ms), mean (smallest to largest) over the seeds", ["group", "pass", "batch", "dense", "ticket", "times faster"], rows, new HashSet<int> { 2, 3, 4, 5 });
        return figure with { Numbers = [latency, .. figure.Numbers] };
    }

    private static string Words((MeasuredPass Pass, int Batch) kind) =>
        $"{(kind.Pass == MeasuredPass.Forward ? "forward pass" : "training step")}, batch {kind.Batch.ToString(CultureInfo.InvariantCulture)}";

    private static ReportFigure Of(string name, string title, IReadOnlyList<GroupLook> looks, Cost[] costs, string caption)
    {
        List<Panel> panels = [];
        List<string> missing = [], columns = [];
        List<Func<GroupLook, string>> cells = [];
        double[] accuracies = [.. looks.SelectMany(look => look.Group.Runs).Select(run => 100 * run.Row.RetrainedAccuracy).Where(double.IsFinite)];
        if (accuracies.Length == 0) return ReportFigure.Without(name, title, "no ticket has an accuracy that is a number.");
        foreach (Cost cost in costs)
        {
            (GroupLook Look, (double X, double Y)[] Seeds)[] points = [.. looks.Select(look => (look, PointsOf(look, cost))).Where(of => of.Item2.Length > 0)];
            double[] values = [.. points.SelectMany(of => of.Seeds).Select(seed => seed.X).Distinct()];
            if (values.Length < 2)
            {
                missing.Add(values.Length == 0 ? $"{cost.Title}: no run has a number." : FormattableString.Invariant($"{cost.Title}: all runs have the same, {values[0]:#,0.###} {cost.Unit}."));
                continue;
            }
            panels.Add(new Panel(
                $"against {cost.Title}",
                $"Accuracy of the ticket against {cost.Label}: {string.Join("; ", points.Select(of => FormattableString.Invariant($"{of.Look.Name} {of.Seeds.Average(seed => seed.Y):F2} % at {of.Seeds.Average(seed => seed.X):#,0.###}")))}",
                () => Draw(points, cost, accuracies)));
            columns.Add(cost.Label);
            cells.Add(look => BandPoint.Of(PointsOf(look, cost).Select(seed => (0.0, seed.X))) is [BandPoint point] ? point.Low == point.High ? (point with { Runs = 1 }).Text(1, 3) : point.Text(1, 3) : "");
        }
        if (panels.Count == 0) return ReportFigure.Without(name, title, string.Join(' ', missing));
        return new ReportFigure(
            name, title, string.Join(' ', missing.Select(what => $"Not drawn is {what}").Prepend(caption)), panels, [.. looks.Select(look => new LegendEntry(look.Name, look.Mark with { HasLine = false }))],
            [
                new TextTable(
                    "Mean (smallest to largest) over the seeds", ["group", "accuracy of the ticket (%)", .. columns],
                    [.. looks.Select(look => (IReadOnlyList<string>)
                    [
                        look.Name, BandPoint.Of(look.Group.Runs.Select(run => (0.0, run.Row.RetrainedAccuracy))) is [BandPoint accuracy] ? accuracy.Text(100) : "", .. cells.Select(cell => cell(look)),
                    ])],
                    new HashSet<int>(Enumerable.Range(1, columns.Count + 1))),
            ]);
    }

    private static (double X, double Y)[] PointsOf(GroupLook look, Cost cost) =>
        [.. look.Group.Runs.Select(run => (cost.Of(run) ?? double.NaN, 100 * run.Row.RetrainedAccuracy)).Where(seed => double.IsFinite(seed.Item1) && double.IsFinite(seed.Item2))];

    private static Plot Draw((GroupLook Look, (double X, double Y)[] Seeds)[] points, Cost cost, double[] accuracies)
    {
        Plot plot = Curves.New();
        ValueAxis axis = new([.. points.SelectMany(of => of.Seeds).Select(seed => seed.X)]);
        foreach ((GroupLook look, (double X, double Y)[] seeds) in points.Where(of => of.Seeds.Length > 1))
            (look.Mark with { HasLine = false }).Add(plot, [.. seeds.Select(seed => (axis.Place(seed.X), seed.Y))], 5, alpha: 0.55);
        foreach ((GroupLook look, (double X, double Y)[] seeds) in points)
            (look.Mark with { HasLine = false }).Add(plot, [(axis.Place(seeds.Average(seed => seed.X)), seeds.Average(seed => seed.Y))], 11);
        axis.Apply(plot, cost.Label);
        Curves.SetAccuracy(plot, "accuracy of the ticket (%)", accuracies);
        return plot;
    }

    /// <summary>What something costs in a run; null where that is not known.</summary>
    private sealed record Cost(string Title, string Axis, string Unit, Func<ComparedRun, double?> Of)
    {
        public string Label => $"{Axis} ({Unit})";
    }
}
