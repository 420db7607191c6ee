using System.Xml.Linq;
using LoftHpc.Commands;
using LoftHpc.Comparing;
using LoftHpc.Configuration;
using LoftHpc.Output;
using LoftHpc.Results;
using SkiaSharp;
using Xunit;

namespace LoftHpc.Tests.Reporting;

/// <summary>Pages of runs that are made up here, against numbers worked out by hand.</summary>
public sealed class ReportTests : IDisposable
{
    private static readonly string[] Dense = ["dense"];

    private static readonly string[] Retrained = ["retrained_accuracy"];

    private readonly ReportedRuns _runs = new();

    public void Dispose() => _runs.Dispose();

    [Fact]
    public void Curves_and_bands_are_those_of_the_metrics()
    {
        _runs.MakeAll();
        XElement figure = ReportedRuns.Figure(ReportedRuns.Read(_runs.Write(baseline: Dense)), "Accuracy against epoch");
        Assert.Equal(
            [
                "epoch | dense, 1 rank | loft, 2 ranks",
                "1 | 55.00 (50.00 to 60.00) | 42.50 (40.00 to 45.00)",
                "2 | 65.00 (60.00 to 70.00) | 60.00 (55.00 to 65.00)",
                "3 | 85.00 (80.00 to 90.00) | 72.50 (70.00 to 75.00)",
            ],
            ReportedRuns.Table(figure, "Pre-training: test accuracy (%)"));
        Assert.Equal("1 | 84.00 (82.00 to 86.00) | 79.00 (78.00 to 80.00)", ReportedRuns.Table(figure, "Retraining: test accuracy (%)")[1]);
        Assert.Contains("(n = 2)", figure.Element("figcaption")!.Value, StringComparison.Ordinal);

        // The baseline has the colour of the text. Its line goes up by 10 points, then by 20; a page's y grows downwards.
        XElement svg = Assert.Single(figure.Descendants("svg"), svg => svg.Attribute("role")?.Value == "img");
        (double X, double Y)[] line = Assert.Single(
            svg.Descendants("path").Where(path => path.Attribute("style")?.Value == "stroke:var(--ink);").Select(ReportedRuns.Points), points => points.Length == 3 && points[0].X < points[1].X && points[1].X < points[2].X && points[0].Y > points[1].Y);
        double tenPoints = line[0].Y - line[1].Y;
        Assert.Equal(2 * tenPoints, line[1].Y - line[2].Y, 0.01);
        Assert.Equal(line[1].X - line[0].X, line[2].X - line[1].X, 0.01);
        // The band is 5 points above and below it, everywhere.
        (double X, double Y)[] band = Assert.Single(svg.Descendants("path").Where(path => path.Attribute("style")?.Value == "fill:var(--ink);" && path.Attribute("fill-opacity") is not null).Select(ReportedRuns.Points));
        foreach ((double x, double y) in line)
        {
            Assert.Equal(y - (tenPoints / 2), band.Where(point => Math.Abs(point.X - x) < 0.01).Min(point => point.Y), 0.02);
            Assert.Equal(y + (tenPoints / 2), band.Where(point => Math.Abs(point.X - x) < 0.01).Max(point => point.Y), 0.02);
        }
        // The axis says so too: of its ticks 60 and 80 (20 points apart) the texts stand so far apart.
        double TickAt(string text) => ReportedRuns.Number(Assert.Single(svg.Descendants("text"), label => label.Value == text).Attribute("transform")!.Value.Split('(', ' ', ')')[2]);
        Assert.Equal(2 * tenPoints, TickAt("60") - TickAt("80"), 0.02);
        Assert.Contains("dense, 1 rank ends at 84.00 (82.00 to 86.00)", svg.Attribute("aria-label")!.Value, StringComparison.Ordinal);
    }

    [Fact]
    public void The_tables_are_those_of_compare()
    {
        _runs.MakeAll();
        XElement page = ReportedRuns.Read(_runs.Write(baseline: Dense, margins: ["0.05"]));
        RunComparison runs = RunComparison.Read([_runs.Path]);
        GroupComparison groups = GroupComparison.Of(runs, new ComparisonQuestions(Dense, [], ["0.05"]));
        foreach (TextTable table in (TextTable[])[ResultTables.Comparison(runs), .. ResultTables.Statistics(groups)])
            Assert.Equal([string.Join(" | ", table.Headers), .. table.Rows.Select(row => string.Join(" | ", row))], ReportedRuns.Table(page, table.Title));
        // 84 and 79 % differ by 4 and 6 points: 5, with a deviation of 1.4 from two pairs (t = 5, p = 0.126).
        Assert.Contains("loft | 2 | 2 | 79.00 | 1.41 | 66.29 to 91.71 | 2 | -5.00 | -17.71 to 7.71 | 0.1257 | ", string.Join('\n', ReportedRuns.Table(page, "retrained_accuracy in %")), StringComparison.Ordinal);
        XElement summary = Assert.Single(page.Descendants("section"), section => section.Attribute("id")?.Value == "summary");
        Assert.Contains("dense, 1 rank (84.00 %, n = 2)", summary.Value, StringComparison.Ordinal);
        Assert.Contains("undecided loft, 2 ranks", summary.Value, StringComparison.Ordinal);
        Assert.Contains("with a margin of 5.00 %", summary.Value, StringComparison.Ordinal);
    }

    [Fact]
    public void Communication_and_costs_are_those_of_the_tables()
    {
        _runs.MakeAll();
        XElement page = ReportedRuns.Read(_runs.Write(baseline: Dense));
        // Two ranks send 1.5 and 2.5 MB each in rounds, and 0.5 MB each to evaluate.
        Assert.Equal(
            ["group | to train | besides | round | evaluation", "dense, 1 rank | 0.000 (0.000 to 0.000) | 0.000 (0.000 to 0.000) | 0 | 0", "loft, 2 ranks | 4.000 (3.000 to 5.000) | 1.000 (1.000 to 1.000) | 4 | 1"],
            ReportedRuns.Table(ReportedRuns.Figure(page, "Communication by method"), "Sent in pre-training (MB)"));
        XElement shares = ReportedRuns.Figure(page, "Communication by method").Descendants("svg").Where(svg => svg.Attribute("role") is not null).ElementAt(1);
        // 4 of 5 MB are rounds: so wide is their bar.
        double[] widths = [.. shares.Descendants().Where(element => element.Attribute("style")?.Value.StartsWith("fill:var(--series-", StringComparison.Ordinal) == true).Select(Width)];
        Assert.Equal(2, widths.Length);
        Assert.Equal(4, widths[0] / widths[1], 0.01);

        XElement costs = ReportedRuns.Figure(page, "Accuracy against bytes and FLOPs");
        Assert.Equal(
            ["group | accuracy of the ticket (%) | sent in pre-training (MB) | FLOPs of pre-training (GFLOP)", "dense, 1 rank | 84.00 (82.00 to 86.00) | 0.000 | 2.000", "loft, 2 ranks | 79.00 (78.00 to 80.00) | 4.000 (3.000 to 5.000) | 4.000"],
            ReportedRuns.Table(costs, "Mean"));
        Assert.Contains("Not drawn is FLOPs of the ticket: all runs have the same, 0.001 MFLOP.", costs.Element("figcaption")!.Value, StringComparison.Ordinal);

        Assert.Equal(
            ["layer | filters | dense, 1 rank and 1 more", "layer1.1.conv1 | 4 | 1", "layer2.1.conv1 | 4 | 3"],
            ReportedRuns.Table(ReportedRuns.Figure(page, "Ticket widths by layer"), "Filters kept"));
    }

    /// <summary>Distances of two layers, 0.1 and 0.2 a measurement apart for seed 1 and half of it for seed 2.</summary>
    [Fact]
    public void Distances_are_means_over_layers_with_a_band_over_seeds()
    {
        _runs.MakeAll();
        XElement page = ReportedRuns.Read(_runs.Write());
        XElement curves = ReportedRuns.Figure(page, "Filter distance over pre-training");
        Assert.Equal(
            ["epoch | dense, 1 rank | loft, 2 ranks", .. new[] { 1, 2, 3 }.Select(epoch => $"{epoch} | 0.1125 (0.0750 to 0.1500) | 0.1125 (0.0750 to 0.1500)")],
            ReportedRuns.Table(curves, "Normalised distance to the previous measurement"));
        Assert.Equal("3 | 0.3375 (0.2250 to 0.4500) | 0.3375 (0.2250 to 0.4500)", ReportedRuns.Table(curves, "Normalised distance to the first measurement")[^1]);

        XElement maps = ReportedRuns.Figure(page, "Filter distance, measurement against measurement");
        Assert.Equal(
            ["epoch of the ranking | 0 | 1 | 2 | 3", "3 | 0.338 | 0.225 | 0.113 | 0", "2 | 0.225 | 0.113 | 0 | 0.113", "1 | 0.113 | 0 | 0.113 | 0.225", "0 | 0 | 0.113 | 0.225 | 0.338"],
            ReportedRuns.Table(maps, "dense, 1 rank").Select(row => row.Replace("0.112", "0.113", StringComparison.Ordinal)));
        Assert.Equal(
            ["layer | 0 | 1 | 2", "layer1.1.conv1 | 0.225 | 0.15 | 0.075", "layer2.1.conv1 | 0.45 | 0.3 | 0.15"],
            ReportedRuns.Table(ReportedRuns.Figure(page, "Filter distance to the last ranking, layer by layer"), "dense, 1 rank"));
        // The cells themselves, from the top: the largest distance is Viridis' yellow, none its violet.
        string image = maps.Descendants("image").First().Attribute("href")!.Value;
        using SKBitmap cells = SKBitmap.Decode(Convert.FromBase64String(image["data:image/png;base64,".Length..]));
        Assert.Equal((4, 4), (cells.Width, cells.Height));
        Assert.Equal(new SKColor(0xfd, 0xe7, 0x24), cells.GetPixel(0, 0));
        Assert.Equal(new SKColor(0x44, 0x01, 0x54), cells.GetPixel(3, 0));
        Assert.Equal(cells.GetPixel(0, 0), cells.GetPixel(3, 3));
    }

    [Fact]
    public void A_grid_is_drawn_against_the_ratio_with_its_controls()
    {
        RunFolder source = _runs.Add("whole", 1, PretrainMethod.Dense, 1, [0.5, 0.6], 0.8, 0);
        string tickets = source.Tickets;
        // Of 8 filters 2, 4 and 6 go; the ratios of the configs are others, as those of a budget would be.
        foreach ((string name, int kept, double ratio, FilterCriterion criterion, double accuracy) in new[]
        {
            ("l2-0.2-pretrained", 6, 0.2, FilterCriterion.L2, 0.8), ("l2-0.5-pretrained", 4, 0.5, FilterCriterion.L2, 0.7),
            ("random-0.2-pretrained", 6, 0.2, FilterCriterion.Random, 0.6), ("random-0.5-pretrained", 4, 0.5, FilterCriterion.Random, 0.5),
            ("unpruned-pretrained", 8, 0, FilterCriterion.L2, 0.9),
        })
        {
            foreach (long seed in (long[])[1, 2])
                MakeTicket(source, $"{name}-{seed}", seed, kept, ratio, criterion, accuracy + (0.01 * seed));
        }
        source.TicketsTable.Write([]);
        string page = _runs.Write(runs: [tickets]);
        XElement figure = ReportedRuns.Figure(ReportedRuns.Read(page), "Accuracy against pruning ratio, with controls");
        Assert.Equal(
            [
                "removed (%) | l2 | random filters (control)", "0 | 91.50 (91.00 to 92.00) | ",
                "25 | 81.50 (81.00 to 82.00) | 61.50 (61.00 to 62.00)", "50 | 71.50 (71.00 to 72.00) | 51.50 (51.00 to 52.00)",
            ],
            ReportedRuns.Table(figure, "Test accuracy of the retrained ticket"));
        XElement svg = figure.Descendants("svg").First();
        // A dashed line is many short ones.
        XElement[] lines = [.. svg.Descendants("path").Where(path => path.Attribute("stroke-width")?.Value == "1.75" || path.Attribute("d")!.Value.Count(sign => sign == 'M') > 5)];
        Assert.Equal(["stroke:var(--series-0);", "fill:var(--series-1);"], lines.Select(path => path.Attribute("style")!.Value).Where(style => !style.Contains("grid", StringComparison.Ordinal)));
        // One pre-training of all ten, with one seed.
        XElement curves = ReportedRuns.Figure(ReportedRuns.Read(page), "Filter distance over pre-training");
        Assert.Contains("(n = 1)", curves.Element("figcaption")!.Value, StringComparison.Ordinal);
        Assert.Contains("whole (of 5 groups)", curves.Value, StringComparison.Ordinal);
        // The grid's table stands for its tickets.
        byte[] before = File.ReadAllBytes(page);
        Assert.Equal(before, File.ReadAllBytes(_runs.Write(runs: [source.TicketsTable.Path])));
    }

    [Fact]
    public void Latency_is_drawn_of_the_runs_that_have_it()
    {
        _runs.MakeAll();
        foreach ((string name, double dense, double ticket) in new[] { ("dense-1-1", 0.004, 0.002), ("dense-1-2", 0.006, 0.002), ("loft-2-1", 0.004, 0.001) })
        {
            RunFolder.At(_runs.File(name)).Latency.Write(
            [
                new(NetworkState.Dense, MeasuredPass.Forward, 8, dense, dense, dense, 5, 1000, 1000, 100),
                new(NetworkState.Ticket, MeasuredPass.Forward, 8, ticket, ticket, ticket, 5, 1000, 600, 60),
            ]);
        }
        XElement figure = ReportedRuns.Figure(ReportedRuns.Read(_runs.Write()), "Accuracy against latency");
        Assert.Equal(
            ["group | pass | batch | dense | ticket | times faster", "dense, 1 rank | forward | 8 | 5.000 (4.000 to 6.000) | 2.000 (2.000 to 2.000) | 2.50 (2.00 to 3.00)", "loft, 2 ranks | forward | 8 | 4.000 | 1.000 | 4.00"],
            ReportedRuns.Table(figure, "Median time of a batch (ms)"));
        Assert.Equal("loft, 2 ranks | 79.00 (78.00 to 80.00) | 1.000", ReportedRuns.Table(figure, "Mean (smallest")[2]);
    }

    [Fact]
    public void What_no_run_has_is_left_out_in_a_sentence()
    {
        _runs.Make("dense-1-1", 1, new PretrainSection { Method = PretrainMethod.Dense });
        _runs.Make("unfinished-1-2", 1, new PretrainSection { Method = PretrainMethod.Dense }, seed: 2).Summary.Remove(row => row.Network == NetworkState.Ticket);
        string page = _runs.Write();
        XElement read = ReportedRuns.Read(page);
        Assert.Equal(["Figure 1. Accuracy against epoch", "Figure 2. Communication by method"], read.Descendants("figure").Select(figure => figure.Element("h3")!.Value));
        string absent = Assert.Single(read.Descendants("div"), div => div.Attribute("class")?.Value == "absent").Value;
        Assert.All(
            ["no run has measured times in a latency.csv", "no run has two measurements in a filter_distance.csv", "no run has a folder with a ticket.csv", "all tickets have lost the same share", "bytes: all runs have the same, 2.5 MB."],
            sentence => Assert.Contains(sentence, absent, StringComparison.Ordinal));
        Assert.Contains("left out, since not finished: unfinished-1-2", read.Value, StringComparison.Ordinal);
        Assert.Contains("No baseline was named", read.Value, StringComparison.Ordinal);
        string[] beside = ["report-accuracy.png", "report-communication.png", "report.html"];
        Assert.Equal(beside, Directory.EnumerateFiles(Path.GetDirectoryName(page)!).Select(file => Path.GetFileName(file)).Order(StringComparer.Ordinal));
        Assert.Equal([.. beside[2..], .. beside[..2]], _runs.Output.Split('\n', StringSplitOptions.RemoveEmptyEntries).Skip(1).Select(file => Path.GetFileName(file)));
    }

    [Fact]
    public void A_table_of_runs_is_enough()
    {
        _runs.MakeAll();
        string table = _runs.Beside("comparison.csv");
        new CsvTable<ComparisonRow>(table).Write(RunComparison.Read([_runs.Path]).Rows);
        XElement page = ReportedRuns.Read(_runs.Write(runs: [table], baseline: Dense));
        Assert.Equal(["Figure 1. Accuracy against bytes and FLOPs", "Figure 2. Communication by method"], page.Descendants("figure").Select(figure => figure.Element("h3")!.Value));
        Assert.Equal("loft, 2 ranks | 4.000 (3.000 to 5.000) | 1.000 (1.000 to 1.000)", ReportedRuns.Table(page, "Sent in pre-training (MB)")[2]);
        Assert.Contains("The runs are rows of a table", page.Value, StringComparison.Ordinal);
    }

    [Fact]
    public void Names_are_text_whatever_is_in_them()
    {
        const string name = "<script>alert(1)&\"'\u0007-1-1";
        RunFolder run = _runs.Add(name.Replace("\u0007", "", StringComparison.Ordinal), 1, PretrainMethod.Dense, 1, [0.5], 0.5, 0);
        RunManifest.Begin(run.Manifest, RunManifest.Read(run.Manifest).Launches[0] with { Libtorch = "2.10 <b>\u0007" });
        _runs.Add("loft-2-1", 2, PretrainMethod.Loft, 1, [0.5], 0.5, 7);
        string page = _runs.Write(), text = File.ReadAllText(page);
        XElement read = ReportedRuns.Read(page);
        Assert.Empty(read.Descendants("script"));
        Assert.Empty(read.Descendants("b"));
        Assert.DoesNotContain("<script", text, StringComparison.OrdinalIgnoreCase);
        Assert.Contains(read.Descendants("dd"), fact => fact.Value == "2.10 <b>\\x07");
        // Between elements, in an attribute, and in a figure.
        Assert.Contains(read.Descendants("li"), item => item.Value.EndsWith("<script>alert(1)&\"', 1 rank", StringComparison.Ordinal));
        Assert.Contains(read.Descendants("svg"), svg => svg.Attribute("aria-label")?.Value.Contains("<script>alert(1)&\"', 1 rank", StringComparison.Ordinal) == true);
        Assert.Contains(read.Descendants("text"), label => label.Value == "<script>alert(1)&\"', 1 rank");
    }

    [Fact]
    public void The_page_needs_nothing_but_itself_and_its_colours_follow_the_reader()
    {
        _runs.MakeAll();
        string page = _runs.Write(baseline: Dense), text = File.ReadAllText(page);
        XElement read = ReportedRuns.Read(page);
        Assert.DoesNotContain("http", text, StringComparison.OrdinalIgnoreCase);
        Assert.DoesNotContain("@import", text, StringComparison.Ordinal);
        Assert.DoesNotContain(read.Descendants(), element => element.Name.LocalName is "script" or "link" or "img" or "iframe" or "object");
        string[] ids = [.. read.Descendants().Attributes("id").Select(id => id.Value)];
        Assert.Equal(ids.Distinct(), ids);
        Assert.All(
            read.Descendants().Attributes().Where(attribute => attribute.Name.LocalName is "href" or "src"),
            link => Assert.True(link.Value.StartsWith("data:image/png;base64,", StringComparison.Ordinal) || ids.Contains(link.Value[1..]), link.Value));
        Assert.All(
            read.Descendants().Attributes("clip-path"), clip => Assert.Contains(clip.Value["url(#".Length..^1], ids));
        // No colour of a line or a text is one that only a light page shows.
        XElement[] drawn = [.. read.Descendants("svg").Descendants()];
        Assert.All(drawn.SelectMany(element => element.Attributes("fill").Concat(element.Attributes("stroke"))), color => Assert.Equal("none", color.Value));
        Assert.All(read.Descendants("svg").Descendants("text"), label => Assert.Contains("fill:var(--", label.Attribute("style")!.Value, StringComparison.Ordinal));
        foreach (string variable in drawn.Attributes("style").SelectMany(style => style.Value.Split(';', StringSplitOptions.RemoveEmptyEntries)).Select(rule => rule[rule.IndexOf("--", StringComparison.Ordinal)..^1]).Distinct())
            Assert.Equal(2, text.Split($"{variable}:#").Length - 1);
        Assert.All(read.Descendants("figure").Descendants("svg").Where(svg => svg.Attribute("aria-hidden") is null), svg => Assert.NotEmpty(svg.Attribute("aria-label")!.Value));

        // The same runs give the same bytes.
        string[] files = Directory.GetFiles(Path.GetDirectoryName(page)!);
        Assert.Equal(8, files.Length);
        byte[][] before = [.. files.Select(File.ReadAllBytes)];
        _runs.Write(baseline: Dense);
        Assert.Equal(before, files.Select(File.ReadAllBytes));
        using SKBitmap curves = SKBitmap.Decode(files.Single(file => file.EndsWith("-accuracy.png", StringComparison.Ordinal)));
        Assert.True(curves.Width >= 1000, $"{curves.Width}");
    }

    /// <summary>More groups than one panel or palette holds.</summary>
    [Fact]
    public void Many_groups_have_a_panel_a_family()
    {
        foreach (PretrainMethod method in (PretrainMethod[])[PretrainMethod.DataParallel, PretrainMethod.FilterParallel, PretrainMethod.LocalSgd, PretrainMethod.Loft])
        {
            foreach (int ranks in (int[])[2, 4]) _runs.Add($"{ConfigName.Of(method)}-{ranks}-1", ranks, method, 1, [0.5], 0.5, 1000 * ranks);
        }
        XElement page = ReportedRuns.Read(_runs.Write());
        XElement figure = ReportedRuns.Figure(page, "Accuracy against epoch");
        Assert.Equal(["data-parallel", "filter-parallel", "local-sgd", "loft"], figure.Descendants("h4").Select(title => title.Value));
        Assert.Equal(8, figure.Descendants("li").Count());
        Assert.Equal("local-sgd, 4 ranks", figure.Descendants("li").ElementAt(5).Value);
    }

    [Fact]
    public void The_command_needs_no_launcher_and_prints_errors_as_one_line()
    {
        _runs.MakeAll();
        // Dashed lines, and filled markers drawn after them: the plotting library has nothing to say of them either.
        foreach (int ranks in (int[])[2, 4]) _runs.Add($"local-sgd-{ranks}-1", ranks, PretrainMethod.LocalSgd, 1, [0.3, 0.4, 0.5], 0.6, 1_000_000);
        string program = Path.Combine(AppContext.BaseDirectory, "lofthpc"), page = _runs.Beside("new/a.html");
        (int exitCode, string output, string error) = Repository.Run(program, ["report", _runs.Path, "--baseline", "dense", "--metric", Retrained[0], "--output", page]);
        Assert.Equal((0, ""), (exitCode, error));
        Assert.StartsWith($"{page}\n{_runs.Beside("new/a-accuracy.png")}\n", output, StringComparison.Ordinal);
        Assert.Single(ReportedRuns.Read(page).Descendants("p"), title => title.Attribute("class")?.Value == "title" && title.Value.Contains("; difference to the baseline", StringComparison.Ordinal));

        void MustBe(int code, string line, params string[] arguments) =>
            Assert.Equal((code, "", $"lofthpc: error: {line}\n"), Repository.Run(program, ["report", .. arguments]));
        MustBe(ExitCodes.Configuration, "--output a.txt: expected the name of a page, which ends with .html", _runs.Path, "--output", "a.txt");
        MustBe(ExitCodes.Configuration, $"{_runs.Beside("absent")}: there is no such folder of runs, run folder or table", _runs.Beside("absent"), "--output", _runs.Beside("b.html"));
        Directory.CreateDirectory(_runs.Beside("c.html"));
        MustBe(ExitCodes.Configuration, $"{_runs.Beside("c.html")}: it is a folder, and only a regular file is written to or replaced", _runs.Path, "--output", _runs.Beside("c.html"));
        Assert.False(File.Exists(_runs.Beside("b.html")));
    }

    [Fact]
    public void A_table_that_is_wrong_is_an_error_before_anything_is_written()
    {
        _runs.MakeAll();
        string distances = RunFolder.At(_runs.File("dense-1-1")).FilterDistance.Path;
        File.WriteAllText(distances, "step,layer\n1,a\n");
        UserError error = Assert.Throws<UserError>(() => _runs.Write());
        Assert.StartsWith($"{distances}: ", error.Message, StringComparison.Ordinal);
        Assert.Empty(Directory.EnumerateFiles(_runs.Beside("out")));
    }

    private void MakeTicket(RunFolder source, string name, long seed, int kept, double ratio, FilterCriterion criterion, double accuracy)
    {
        RunFolder made = _runs.Make($"made-{name}", 1, new PretrainSection { Method = PretrainMethod.Dense, Epochs = 2, Samples = SampleScope.Shard }, seed, accuracy);
        Directory.CreateDirectory(source.Tickets);
        Directory.Move(made.Path, source.TicketFolder(name).Path);
        RunFolder ticket = source.TicketFolder(name);
        RunConfig config = RunConfigLoader.Load(ticket.Config);
        File.WriteAllText(ticket.Config, RunConfigLoader.ToYaml(config with { Extract = config.Extract with { Ratio = ratio, Criterion = criterion, From = source.Path } }));
        RunManifest.Begin(ticket.Manifest, RunManifest.Read(ticket.Manifest).Launches[0] with { Command = "tickets" });
        ticket.Ticket.Write(Enumerable.Range(0, 8).Select(filter => new TicketRow("layer1.1.conv1", filter, 1, filter + 1, filter < kept, 1)));
        foreach (string table in (string[])[ticket.FilterNorms.Path, ticket.FilterDistance.Path]) File.Delete(table);
    }

    /// <summary>Of a bar, whichever element the library has drawn it as.</summary>
    private static double Width(XElement bar)
    {
        if (bar.Attribute("width") is XAttribute width) return ReportedRuns.Number(width.Value);
        (double X, double Y)[] corners = ReportedRuns.Points(bar);
        return corners.Max(corner => corner.X) - corners.Min(corner => corner.X);
    }
}
