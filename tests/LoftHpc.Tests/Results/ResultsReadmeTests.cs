using System.Text.Json;
using System.Text.RegularExpressions;
using LoftHpc.Communication;
using LoftHpc.Results;
using TorchSharp;
using Xunit;

namespace LoftHpc.Tests.Results;

public sealed class ResultsReadmeTests : IDisposable
{
    private static readonly string Text = File.ReadAllText(Repository.File("results", "README.md"));

    private static readonly string[] Pythons = ["/usr/bin/python3", "python3"];

    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void EveryColumnIsExplained()
    {
        RunFolder run = RunFolder.Create(_folder.Path, "run", overwrite: false);
        AssertExplained(run.Metrics.Path, run.Metrics.Columns);
        AssertExplained(run.FilterNorms.Path, run.FilterNorms.Columns);
        AssertExplained(run.FilterDistance.Path, run.FilterDistance.Columns);
        AssertExplained(run.Communication.Path, run.Communication.Columns);
        AssertExplained(run.Resources.Path, run.Resources.Columns);
        AssertExplained("comparison.csv", new CsvTable<ComparisonRow>("comparison.csv").Columns);
        AssertExplained("statistics.csv", new CsvTable<StatisticsRow>("statistics.csv").Columns);
        AssertExplained(run.Ticket.Path, run.Ticket.Columns);
        AssertExplained(run.Summary.Path, run.Summary.Columns);
        AssertExplained(run.Latency.Path, run.Latency.Columns);
        AssertExplained(run.TicketsTable.Path, run.TicketsTable.Columns);
    }

    [Fact]
    public void EveryFileIsNamed()
    {
        RunFolder run = RunFolder.Create(_folder.Path, "run", overwrite: false);
        IEnumerable<string> files = typeof(RunFolder).GetProperties()
            .Where(p => p.Name is not (nameof(RunFolder.Path) or nameof(RunFolder.Name) or nameof(RunFolder.Tables) or nameof(RunFolder.IsBegun)))
            .Select(p => p.GetValue(run)!)
            .Select(v => Path.GetFileName(v as string ?? (string)v.GetType().GetProperty("Path")!.GetValue(v)!));
        Assert.All(files, file => Assert.Contains($"`{file}`", Text, StringComparison.Ordinal));
        Assert.Contains($"`{Path.GetFileName(run.SnapshotWeights(1)).Replace('1', 'N')}`", Text, StringComparison.Ordinal);
    }

    [Fact]
    public void EveryFieldOfTheManifestIsExplained()
    {
        string path = _folder.File("manifest.json");
        RunManifest.Begin(path, new LaunchRecord(
            "run", [], 1, DateTimeOffset.UtcNow, null, null, BuildRecord.Current with { Packages = new Dictionary<string, string>() },
            "", new MpiRecord("", "", ""), null, [new RankRecord(0, "", 0, "", 1, "")], [new ArithmeticRecord(0, "none", 0, 1)]));
        string section = Section("manifest.json");
        Assert.All(Fields(JsonDocument.Parse(File.ReadAllText(path)).RootElement), f => Assert.Contains($"`{f}`", section, StringComparison.Ordinal));
    }

    [SkippableFact]
    public void TheSnippetLoadsWeightsIntoPyTorch()
    {
        string? python = Pythons
            .FirstOrDefault(p => (File.Exists(p) || Repository.HasProgram(p)) && Repository.Run(p, ["-c", "import torch"]).ExitCode == 0);
        Skip.If(python is null, "no python3 has PyTorch (Debian: python3-torch)");
        string path = _folder.File("weights.safetensors");
        using (SafetensorsWriter writer = new(path,
            [new TensorEntry("linear.weight", torch.ScalarType.Float32, [2, 3]), new TensorEntry("bn.num_batches_tracked", torch.ScalarType.Int64, []),
                new TensorEntry("linear.bias", torch.ScalarType.Float64, [2])],
            new Dictionary<string, string> { ["lofthpc.step"] = "7" }))
        {
            writer.Write("linear.weight", torch.tensor(new float[,] { { 1, 2, 3 }, { 4, 5, 0.1f } }));
            writer.Write("bn.num_batches_tracked", torch.tensor(7L));
            writer.Write("linear.bias", torch.tensor(new[] { 0.1, -1 }));
            writer.Complete();
        }
        string snippet = Regex.Match(Text, "```python\n(.*?)```", RegexOptions.Singleline).Groups[1].Value;
        Assert.InRange(snippet.Trim().Split('\n').Length, 5, 12);
        const string check = """
            state, metadata = load(__import__("sys").argv[1])
            assert metadata == {"lofthpc.step": "7"}, metadata
            assert sorted(state) == ["bn.num_batches_tracked", "linear.bias", "linear.weight"]
            assert torch.equal(state["linear.weight"], torch.tensor([[1, 2, 3], [4, 5, 0.1]]))
            assert torch.equal(state["linear.bias"], torch.tensor([0.1, -1], dtype=torch.float64))
            assert state["bn.num_batches_tracked"].shape == () and state["bn.num_batches_tracked"] == 7
            print("loaded")
            """;
        (int exitCode, string output, string error) = Repository.Run(python!, ["-c", snippet + check, path]);
        Assert.True(exitCode == 0 && output.Trim() == "loaded", error);
    }

    private static void AssertExplained(string file, IEnumerable<string> columns)
    {
        string section = Section(Path.GetFileName(file));
        string[] explained = [.. Regex.Matches(section, @"^\| `(\w+)` \|", RegexOptions.Multiline).Select(m => m.Groups[1].Value)];
        Assert.Equal(columns, explained);
    }

    private static string Section(string file)
    {
        Match section = Regex.Match(Text, $@"^## `{Regex.Escape(file)}`\n(.*?)(?=^## |\z)", RegexOptions.Multiline | RegexOptions.Singleline);
        Assert.True(section.Success, $"results/README.md has no section {file}");
        return section.Groups[1].Value;
    }

    private static IEnumerable<string> Fields(JsonElement element) => element.ValueKind switch
    {
        JsonValueKind.Object => element.EnumerateObject().SelectMany(p => Fields(p.Value).Prepend(p.Name)),
        JsonValueKind.Array => element.EnumerateArray().SelectMany(Fields),
        _ => [],
    };
}
