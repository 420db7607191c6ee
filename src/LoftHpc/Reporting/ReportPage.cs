using System.Globalization;
using System.Xml.Linq;
using LoftHpc.Comparing;
using LoftHpc.Output;
using LoftHpc.Results;

namespace LoftHpc.Reporting;

/// <summary>The page of a report: what was compared and what came of it, the figures, the tables, and what made the runs.</summary>
internal static class ReportPage
{
    /// <summary>Verdicts with a sign each, so that no colour is needed to tell them apart.</summary>
    private static readonly Dictionary<Verdict, string> Signs = new()
    {
        [Verdict.Better] = "▲",
        [Verdict.Worse] = "▼",
        [Verdict.AsGood] = "≈",
        [Verdict.Undecided] = "?",
        [Verdict.None] = "",
    };

    /// <param name="file">Name of the page.</param>
    public static XElement Of(RunComparison runs, GroupComparison groups, IReadOnlyList<GroupLook> looks, IReadOnlyList<ReportFigure> figures, string file)
    {
        string title = TitleOf(runs);
        XElement page = Html.Element(
            "html", "",
            Html.Element(
                "head", "",
                Meta(("charset", "utf-8")), Meta(("name", "viewport"), ("content", "width=device-width, initial-scale=1")), Meta(("name", "color-scheme"), ("content", "light dark")),
                Html.Element("title", "", title), new XElement("style", Style())),
            Html.Element(
                "body", "",
                Html.Element("header", "", Html.Element("h1", "", title), Html.Element("p", "lead", Lead(runs)), Navigation()),
                Html.Element(
                    "main", "",
                    Html.Section("summary", "Summary", [.. ResultOf(groups, looks), .. Warnings(runs)]),
                    Html.Section("groups", "What was compared", [.. Compared(runs, looks)]),
                    Html.Section("figures", "Figures", [.. figures.Where(figure => figure.Absent is null).Select((figure, i) => Figure(figure, i + 1, file)), Absent(figures)]),
                    Html.Section("tables", "Tables and tests", [.. Tables(runs, groups)]),
                    Html.Section("origin", "What made the runs", [.. ReportOrigin.Of(runs)]))));
        page.SetAttributeValue("lang", "en");
        return page;
    }

    /// <summary>What the runs have alike of network and data.</summary>
    private static string TitleOf(RunComparison runs)
    {
        string? Alike(string key) => runs.Runs.Select(run => run.Settings.FirstOrDefault(setting => setting.Key == key).Value).Distinct().ToArray() is [string one] ? one : null;
        string? network = Alike("network.family"), depth = Alike("network.depth"), width = Alike("network.width"), data = Alike("data.set");
        string what = network is null || depth is null || width is null ? "" : $"{network}-{depth} of width {width}";
        string on = data is null ? "" : $"{(what.Length > 0 ? " on " : "")}{data}";
        return what.Length + on.Length == 0 ? "LoftHpc: runs compared" : $"LoftHpc: {what}{on}";
    }

    private static string Lead(RunComparison runs)
    {
        string Count(int count, string thing) => FormattableString.Invariant($"{count} {thing}{(count == 1 ? "" : "s")}");
        long[] seeds = [.. runs.Runs.Select(run => run.Row.Seed).Distinct().Order()];
        return $"{Count(runs.Runs.Count, "run")} in {Count(runs.Groups.Count, "group")}, {(seeds.Length == 1 ? "seed" : "seeds")} {string.Join(", ", seeds.Select(seed => seed.ToString(CultureInfo.InvariantCulture)))}. "
            + (runs.Columns.Count == 0 ? "All runs have the same settings but for the seed." : $"Groups differ in {string.Join(", ", runs.Columns)}.");
    }

    private static XElement Navigation() => Html.Element(
        "nav", "", [.. new[] { ("summary", "Summary"), ("groups", "Groups"), ("figures", "Figures"), ("tables", "Tables"), ("origin", "Origin") }.Select(part =>
        {
            XElement link = Html.Element("a", "", part.Item2);
            link.SetAttributeValue("href", $"#{part.Item1}");
            return link;
        })]);

    /// <summary>The verdicts in words, of the accuracy of the ticket where it is there, and in a table for all metrics.</summary>
    private static IEnumerable<object?> ResultOf(GroupComparison groups, IReadOnlyList<GroupLook> looks)
    {
        Metric main = groups.Metrics.FirstOrDefault(metric => metric.Name == "retrained_accuracy") ?? groups.Metrics[0];
        (GroupLook Look, StatisticsRow Row)[] rows = [.. groups.Rows.Where(row => row.Metric == main).Select(row => (looks.First(look => look.Group == row.Group), row.Row))];
        string Mean((GroupLook Look, StatisticsRow Row) of) => $"{of.Look.Name} ({ResultTables.Value(main, of.Row.Mean)} {main.Unit}, n = {of.Row.Seeds.ToString(CultureInfo.InvariantCulture)})";
        IEnumerable<(GroupLook, StatisticsRow)> best = main.Better == BetterSide.Higher ? rows.OrderByDescending(row => row.Row.Mean) : rows.OrderBy(row => row.Row.Mean);
        yield return Html.Paragraph(
            $"{Words(main)}, {(main.Better == BetterSide.Higher ? "highest" : "lowest")} mean: ", Html.Element("strong", "", Mean(best.First())), rows.Length > 1 ? $"; {(main.Better == BetterSide.Higher ? "lowest" : "highest")}: {Mean(best.Last())}." : ".");
        if (groups.Baseline is null)
        {
            yield return Html.Paragraph("No baseline was named, so differences are not tested: --baseline NAME names one.");
        }
        else
        {
            (GroupLook Look, StatisticsRow Row) baseline = rows.FirstOrDefault(row => row.Row.Baseline);
            double? margin = rows.Select(row => row.Row.Margin).FirstOrDefault(value => value is not null);
            yield return Html.Paragraph(
                $"{Words(main)} against the baseline {(baseline.Look is null ? PlainText.Of(groups.Baseline.Label) : Mean(baseline))}, paired by seed, by Holm's correction over all tests of this page"
                + $"{(margin is double value ? $", with a margin of {ResultTables.Value(main, value)} {main.Unit}" : "")}:");
            yield return Html.Element(
                "ul", "verdicts",
                [.. new[] { Verdict.Better, Verdict.Worse, Verdict.AsGood, Verdict.Undecided }.Select(verdict => (verdict, Rows: rows.Where(row => row.Row.Verdict == verdict).ToArray())).Where(of => of.Rows.Length > 0)
                    .Select(of => Html.Element("li", "", Chip(of.verdict), " ", string.Join("; ", of.Rows.Select(row => row.Look.Name + (of.verdict == Verdict.Undecided ? "" : Difference(main, row.Row))))))]);
            if (rows.Any(row => row.Row.Verdict is Verdict.Better or Verdict.Worse or Verdict.AsGood))
                yield return Html.Element("p", "note", $"In brackets: the mean difference to the baseline, in {main.Unit}.");
            if (rows.Any(row => row.Row.Verdict == Verdict.Undecided))
                yield return Html.Element("p", "note", "Undecided does not mean that there is no difference: these seeds cannot tell.");
        }
        yield return Overview(groups, looks);
    }

    private static string Difference(Metric metric, StatisticsRow row) =>
        $" ({ResultTables.Value(metric, row.Difference)}{(row.DifferenceLow is null ? "" : $", 95 % interval {ResultTables.Value(metric, row.DifferenceLow)} to {ResultTables.Value(metric, row.DifferenceHigh)}")})";

    private static string Words(Metric metric)
    {
        string words = metric.Name.Replace('_', ' ');
        return char.ToUpperInvariant(words[0]) + words[1..];
    }

    private static XElement Chip(Verdict verdict) => Html.Element("span", $"verdict {ResultTables.Words(verdict).Replace(' ', '-')}", $"{Signs[verdict]} {ResultTables.Words(verdict)}");

    /// <summary>Every group and metric: the mean, and the verdict.</summary>
    private static XElement Overview(GroupComparison groups, IReadOnlyList<GroupLook> looks)
    {
        IEnumerable<object> Cells(GroupLook look)
        {
            yield return look.Name;
            foreach (Metric metric in groups.Metrics)
            {
                StatisticsRow? row = groups.Rows.FirstOrDefault(of => of.Metric == metric && of.Group == look.Group).Row;
                yield return row is null ? "" : Html.Element(
                    "span", "", ResultTables.Value(metric, row.Mean), row.Baseline ? Html.Element("span", "verdict", "baseline") : row.Verdict == Verdict.None ? null : Chip(row.Verdict));
            }
        }
        return Html.Table(
            groups.Baseline is null ? "Means over the seeds" : "Means over the seeds, and the verdict on each difference to the baseline",
            ["group", .. groups.Metrics.Select(metric => $"{metric.Name.Replace('_', ' ')} ({metric.Unit})")], looks.Select(Cells),
            new HashSet<int>(Enumerable.Range(1, groups.Metrics.Count)));
    }

    private static IEnumerable<XElement> Warnings(RunComparison runs)
    {
        string[] lines =
        [
            .. runs.Differences,
            .. runs.LeftOut.Select(run => $"left out: {run}"),
            .. runs.Unfinished.Count > 0 ? [$"left out, since not finished: {string.Join(", ", runs.Unfinished)}"] : Array.Empty<string>(),
        ];
        if (lines.Length > 0) yield return Html.Element("div", "warnings", Html.Element("h3", "", "To be kept in mind"), Html.List(lines));
    }

    private static IEnumerable<XElement> Compared(RunComparison runs, IReadOnlyList<GroupLook> looks)
    {
        yield return Html.Paragraph("Runs are one group where they differ in their seed alone. Each has one name in all figures, and one mark where a legend has it.");
        yield return Html.Table(
            "", ["", "group", .. runs.Columns, "seeds"],
            looks.Select((look, i) => (IEnumerable<object>)
            [
                Swatch(look.Mark, $"group-{i}"), look.Name, .. look.Group.Values.Select(PlainText.Of),
                string.Join(", ", look.Group.Runs.Select(run => run.Row.Seed.ToString(CultureInfo.InvariantCulture))),
            ]),
            new HashSet<int>());
    }

    private static XElement Figure(ReportFigure figure, int number, string file) => Html.Element(
        "figure", "",
        Html.Element("h3", "", FormattableString.Invariant($"Figure {number}. {figure.Title}")),
        Html.Element(
            "div", figure.Panels.Count == 1 ? "panels one" : "panels",
            [.. figure.Panels.Select((panel, i) => Html.Element("div", "panel", panel.Title.Length > 0 ? Html.Element("h4", "", panel.Title) : null, InlineSvg.Of(panel, $"{figure.Name}-{i}")))]),
        figure.Legend.Count == 0 ? null : Html.Element(
            "ul", "legend", [.. figure.Legend.Select((entry, i) => Html.Element("li", "", Swatch(entry.Mark, $"{figure.Name}-legend-{i}"), entry.Text))]),
        Html.Element("figcaption", "", figure.Caption, " ", Html.Element("span", "note", "As a file: ", Html.Element("code", "", FigureFile.NameOf(file, figure)), ".")),
        figure.Numbers.Count == 0 ? null : Html.Details("Numbers of this figure", [.. figure.Numbers.Select(Html.Table)]));

    private static XElement Swatch(Mark mark, string id) => Html.Element("span", "swatch", InlineSvg.Of(mark, id));

    private static XElement? Absent(IReadOnlyList<ReportFigure> figures)
    {
        ReportFigure[] absent = [.. figures.Where(figure => figure.Absent is not null)];
        return absent.Length == 0 ? null : Html.Element("div", "absent", Html.Element("h3", "", "Figures that are not drawn"), Html.List(absent.Select(figure => $"{figure.Title}: {figure.Absent}")));
    }

    private static IEnumerable<XElement> Tables(RunComparison runs, GroupComparison groups)
    {
        yield return Html.Paragraph("The tables that lofthpc compare prints, of the same runs.");
        yield return Html.Table(ResultTables.Comparison(runs));
        foreach (TextTable table in ResultTables.Statistics(groups)) yield return Html.Table(table);
        yield return Html.Details("How to read them", Html.List(
        [
            "Costs are those of pre-training, over all ranks; seconds are those of the slowest rank, and memory that of the largest.",
            "deviation: standard deviation over the seeds, n - 1 in the denominator. 95 % interval: of the mean, by Student's t.",
            "difference: mean of group minus baseline over the pairs, the seeds that both have. p: of the two-sided paired t test. p (Holm): after Holm's correction over all tests of all tables. p (signs), from 6 pairs on: of the exact permutation test of the signs, not corrected, and not looked at for the verdict.",
            FormattableString.Invariant($"better, worse: p (Holm) is below {GroupComparison.Alpha}. as good: the one-sided paired t test rejects a loss of the margin or more (below {GroupComparison.Alpha / 2} after Holm's correction). undecided: all else."),
            "What is counted (FLOPs, bytes, samples, sizes), and differs by the same in all pairs, two at least, needs no test.",
        ]));
    }

    private static XElement Meta(params (string Name, string Value)[] attributes) => new("meta", [.. attributes.Select(attribute => new XAttribute(attribute.Name, attribute.Value))]);

    private static string Style()
    {
        using Stream stream = typeof(ReportPage).Assembly.GetManifestResourceStream("report.css")!;
        using StreamReader reader = new(stream);
        return $":root{{{ReportColors.Variables(dark: false)}}}@media (prefers-color-scheme:dark){{:root{{{ReportColors.Variables(dark: true)}}}}}\n{reader.ReadToEnd()}";
    }
}
