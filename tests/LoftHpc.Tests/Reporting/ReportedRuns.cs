using System.Globalization;
using System.Xml.Linq;
using LoftHpc.Commands;
using LoftHpc.Communication;
using LoftHpc.Comparing;
using LoftHpc.Configuration;
using LoftHpc.Output;
using LoftHpc.Results;
using LoftHpc.Tests.Comparing;
using Xunit;

namespace LoftHpc.Tests.Reporting;

/// <summary>Made-up runs with all tables that a report reads, and the page that is written of them.</summary>
internal sealed class ReportedRuns : IDisposable
{
    private readonly MadeRuns _runs = new();
    private readonly StringWriter _output = new() { NewLine = "\n" };
    private readonly StringWriter _error = new() { NewLine = "\n" };

    public string Path => _runs.Path;

    public string Output => _output.ToString();

    public string Error => _error.ToString();

    public void Dispose()
    {
        _runs.Dispose();
        _output.Dispose();
        _error.Dispose();
    }

    public string File(string name) => _runs.File(name);

    public string Beside(string name) => _runs.Beside(name);

    /// <summary>A run of which a test sees to the tables itself.</summary>
    public RunFolder Make(string name, int ranks, PretrainSection pretrain, long seed = 1, double accuracy = 0.75) => _runs.Make(name, ranks, pretrain, seed, accuracy: accuracy);

    /// <summary>Two methods with two seeds each.</summary>
    public void MakeAll()
    {
        // Test accuracies of three epochs of pre-training, the ticket's, and the bytes of rounds.
        Add("dense-1-1", 1, PretrainMethod.Dense, 1, [0.5, 0.6, 0.8], 0.82, 0);
        Add("dense-1-2", 1, PretrainMethod.Dense, 2, [0.6, 0.7, 0.9], 0.86, 0);
        Add("loft-2-1", 2, PretrainMethod.Loft, 1, [0.4, 0.55, 0.75], 0.78, 1_500_000);
        Add("loft-2-2", 2, PretrainMethod.Loft, 2, [0.45, 0.65, 0.7], 0.8, 2_500_000);
    }

    /// <param name="rounds">Bytes that a rank sends in rounds.</param>
    public RunFolder Add(string name, int ranks, PretrainMethod method, long seed, double[] accuracies, double ticket, long rounds)
    {
        RunFolder run = _runs.Make(name, ranks, new PretrainSection { Method = method, Epochs = accuracies.Length, Samples = SampleScope.Shard }, seed, accuracy: ticket);
        run.Metrics.Write(run.Metrics.Read().Select(row => row with { Accuracy = row.Phase == TrainingPhase.Pretrain ? accuracies[row.Epoch - 1] : ticket }));
        run.Communication.Write(
            from rank in Enumerable.Range(0, ranks)
            from row in (CommunicationRow[])
            [
                new(rank, "pretrain", CommunicationPurpose.Round, "alltoallv", 1, 1, rounds, rounds, 1),
                new(rank, "pretrain", CommunicationPurpose.Evaluation, "allreduce", 1, 1, ranks == 1 ? 0 : 500_000, ranks == 1 ? 0 : 500_000, 1),
                new(rank, "retrain", CommunicationPurpose.Step, "allreduce", 1, 1, 100, 100, 1),
            ]
            select row);
        run.FilterNorms.Write(from step in Steps from filter in Enumerable.Range(0, 2) select new FilterNormRow(step, step / 10.0, "layer1.1.conv1", filter, 1));
        run.FilterDistance.Write(
            from layer in (string[])["layer1.1.conv1", "layer2.1.conv1"]
            from step in Steps
            from reference in Steps
            where step != reference
            // Of the second layer twice as far as of the first, and of seed 2 half as far as of seed 1.
            let distance = Math.Abs(step - reference) / 100.0 * (layer.StartsWith("layer2", StringComparison.Ordinal) ? 2 : 1) / seed
            select new FilterDistanceRow(step, reference, layer, 4, distance * 5, distance));
        run.Ticket.Write(
            from layer in (string[])["layer1.1.conv1", "layer2.1.conv1"]
            from filter in Enumerable.Range(0, 4)
            select new TicketRow(layer, filter, 1, filter + 1, filter < (layer.StartsWith("layer1", StringComparison.Ordinal) ? 1 : 3), 1));
        return run;
    }

    private static readonly long[] Steps = [0, 10, 20, 30];

    /// <summary>Writes the report of these arguments, or of all runs; the page's path.</summary>
    public string Write(string name = "report.html", IReadOnlyList<string>? runs = null, IReadOnlyList<string>? baseline = null, IReadOnlyList<string>? metrics = null, IReadOnlyList<string>? margins = null)
    {
        ConsoleReporter reporter = new(_output, _error, Verbosity.Normal, ProgressKind.Lines, unicode: false, colors: false, () => 80);
        string page = Beside(System.IO.Path.Combine("out", name));
        ReportCommand.Report(runs ?? [Path], new ComparisonQuestions(baseline ?? [], metrics ?? [], margins ?? []), page, reporter);
        return page;
    }

    /// <summary>The elements of a page, which is well-formed XML too.</summary>
    public static XElement Read(string page)
    {
        string text = System.IO.File.ReadAllText(page);
        Assert.StartsWith("<!DOCTYPE html>\n<html lang=\"en\">", text, StringComparison.Ordinal);
        return XElement.Parse(text[text.IndexOf('\n', StringComparison.Ordinal)..]);
    }

    public static XElement Figure(XElement page, string title) =>
        Assert.Single(page.Descendants("figure"), figure => figure.Element("h3")!.Value.EndsWith($". {title}", StringComparison.Ordinal));

    /// <summary>The lines of the table of this title, headers first, with | between cells.</summary>
    public static string[] Table(XElement of, string title)
    {
        XElement table = Assert.Single(of.DescendantsAndSelf("div"), div => div.Attribute("class")?.Value == "table" && (div.Element("p")?.Value ?? "").StartsWith(title, StringComparison.Ordinal));
        return [.. table.Descendants("tr").Select(row => string.Join(" | ", row.Elements().Select(cell => cell.Value)))];
    }

    /// <summary>The points of what is drawn by these path commands: M and L alone.</summary>
    public static (double X, double Y)[] Points(XElement path) =>
    [
        .. path.Attribute("d")!.Value.Split('M', 'L', 'Z').Where(point => point.Length > 0)
            .Select(point => point.Split(' ')).Select(point => (Number(point[0]), Number(point[1]))),
    ];

    public static double Number(string text) => double.Parse(text, CultureInfo.InvariantCulture);
}
