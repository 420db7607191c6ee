using System.Text.Json;
using System.Text.Json.Nodes;
using LoftHpc.Communication;
using LoftHpc.Results;
using Xunit;

namespace LoftHpc.Tests.Results;

public sealed class RunManifestTests : IDisposable
{
    private static readonly DateTimeOffset Start = new(2024, 5, 6, 7, 8, 9, TimeSpan.Zero);

    private readonly TemporaryFolder _folder = new();

    private string Path => _folder.File("manifest.json");

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void EachLaunchIsAddedAndEnded()
    {
        RunManifest.Begin(Path, Launch("pretrain"));
        LaunchRecord running = Assert.Single(RunManifest.Read(Path).Launches);
        Assert.Null(running.End);
        Assert.Null(running.ExitCode);
        RunManifest.End(Path, Start.AddMinutes(1), 0);
        RunManifest.Begin(Path, Launch("retrain"));
        RunManifest.End(Path, Start.AddMinutes(3), 2);
        IReadOnlyList<LaunchRecord> launches = RunManifest.Read(Path).Launches;
        Assert.Equal([("pretrain", 0), ("retrain", 2)], launches.Select(l => (l.Command, l.ExitCode!.Value)));
        Assert.Equal(Start.AddMinutes(1), launches[0].End);
        Assert.Equal("1.5", launches[0].Build.Packages["A"]);
        Assert.Equal(Launch("pretrain").Ranks, launches[0].Ranks);
        Assert.Equal([Path], Directory.GetFiles(_folder.Path));
    }

    [Fact]
    public void TheFileIsPlainJsonWithUtcTimes()
    {
        RunManifest.Begin(Path, Launch("run"));
        JsonElement launch = JsonDocument.Parse(File.ReadAllText(Path)).RootElement.GetProperty("launches")[0];
        Assert.Equal("2024-05-06T07:08:09+00:00", launch.GetProperty("start").GetString());
        Assert.Equal(JsonValueKind.Null, launch.GetProperty("exit_code").ValueKind);
        Assert.Equal("deadbeef", launch.GetProperty("build").GetProperty("git_commit").GetString());
        Assert.Equal("n2", launch.GetProperty("ranks")[1].GetProperty("host").GetString());
        Assert.Equal(["n1", "n2"], launch.GetProperty("hosts").EnumerateArray().Select(h => h.GetString()!));
        Assert.Equal(["cpu"], launch.GetProperty("devices").EnumerateArray().Select(h => h.GetString()!));
        Assert.Contains("Intel(R) Xeon(R) \u00b5 & <2>", File.ReadAllText(Path), StringComparison.Ordinal);
    }

    [Fact]
    public void AManifestFromBeforeThereWasAChoiceOfBindingsWasNative()
    {
        RunManifest.Begin(Path, Launch("run"));
        string text = File.ReadAllText(Path);
        Assert.Contains("\"binding\": \"mpi.net\"", text, StringComparison.Ordinal);
        Assert.Equal("mpi.net", RunManifest.Read(Path).Launches[0].Mpi.Binding);
        File.WriteAllText(Path, text.Replace(",\n        \"binding\": \"mpi.net\"", "", StringComparison.Ordinal));
        Assert.DoesNotContain("binding", File.ReadAllText(Path), StringComparison.Ordinal);
        Assert.Equal(new MpiRecord("MPICH", "4.0.2", "libmpich.so.12", "native"), RunManifest.Read(Path).Launches[0].Mpi);
    }

    [Fact]
    public void AManifestFromBeforePrecisionMemoryFormatAndDataWereWrittenSaysSo()
    {
        RunManifest.Begin(Path, Launch("run") with { Precision = "tf32", MemoryFormat = "channels-last", DataHash = "train" });
        string text = File.ReadAllText(Path);
        Assert.Equal(("tf32", "channels-last", "train"), Recorded());
        string before = System.Text.RegularExpressions.Regex.Replace(text, @",\s*""(precision|memory_format|data_hash)"": ""(tf32|channels-last|train)""", "");
        Assert.DoesNotContain("channels-last", before, StringComparison.Ordinal);
        File.WriteAllText(Path, before);
        Assert.Equal(("not recorded", "not recorded", "not recorded"), Recorded());

        (string, string, string) Recorded() => RunManifest.Read(Path).Launches[0] is var launch ? (launch.Precision, launch.MemoryFormat, launch.DataHash) : default;
    }

    [Theory]
    [InlineData("")]
    [InlineData("{}")]
    [InlineData("{\"launches\":[")]
    [InlineData("[1]")]
    [InlineData("null")]
    [InlineData("{\"launches\":null}")]
    [InlineData("{\"launches\":[null]}")]
    [InlineData("{\"launches\":[{}]}")]
    [InlineData("{\"launches\":[],\"launches\":[]}")]
    [InlineData("\0")]
    public void AWrongFileIsRefused(string text)
    {
        File.WriteAllText(Path, text);
        Assert.Contains(Path, Assert.Throws<UserError>(() => RunManifest.Read(Path)).Message, StringComparison.Ordinal);
    }

    /// <summary>Nothing is null that the code relies on, however deep it stands.</summary>
    [Fact]
    public void ANullIsRefusedWhereverItStandsButWhereItMayStand()
    {
        RunManifest.Begin(Path, Launch("run") with { Arithmetic = [new ArithmeticRecord(0, "none", 0, 19)] });
        string text = File.ReadAllText(Path);
        List<string> places = [];
        void Collect(JsonNode? node)
        {
            if (node is null) return;
            if (node.Parent is not null) places.Add(node.GetPath());
            foreach (JsonNode? child in node switch { JsonObject map => map.Select(pair => pair.Value), JsonArray list => list, _ => [] }) Collect(child);
        }
        Collect(JsonNode.Parse(text));
        List<string> taken = [];
        foreach (string place in places)
        {
            JsonNode root = JsonNode.Parse(text)!;
            Find(root, place).ReplaceWith<JsonNode?>(null);
            File.WriteAllText(Path, root.ToJsonString());
            try
            {
                RunManifest.Read(Path);
                taken.Add(place["$.launches[0].".Length..]);
            }
            catch (UserError error)
            {
                Assert.StartsWith($"{Path}: not a manifest: ", error.Message, StringComparison.Ordinal);
            }
        }
        // Hosts and devices are written for people, and are not read.
        Assert.Equal(["build.git_dirty", "arithmetic", "hosts", "hosts[0]", "hosts[1]", "devices", "devices[0]"], taken);

        JsonNode Find(JsonNode root, string place)
        {
            IEnumerable<JsonNode> All(JsonNode node) => [node, .. (node switch { JsonObject map => map.Select(pair => pair.Value), JsonArray list => list, _ => [] }).OfType<JsonNode>().SelectMany(All)];
            return All(root).Single(node => node.GetPath() == place);
        }
    }

    [Fact]
    public void APipeIsRefusedAtOnce()
    {
        System.Diagnostics.Process.Start("mkfifo", Path).WaitForExit();
        Assert.Equal($"{Path}: not a manifest: it is a pipe, not a regular file", Assert.Throws<UserError>(() => RunManifest.Read(Path)).Message);
    }

    [Fact]
    public void TheBuildIsKnown()
    {
        BuildRecord build = BuildRecord.Current;
        Assert.Matches(@"^\d+\.\d+\.\d+$", build.Version);
        Assert.Matches("^([0-9a-f]{40}|unknown)$", build.GitCommit);
        if (build.GitCommit == "unknown") Assert.Null(build.GitDirty);
        Assert.Contains("CsvHelper", build.Packages.Keys);
        Assert.StartsWith(".NET 10", build.Runtime, StringComparison.Ordinal);
    }

    private static LaunchRecord Launch(string command) => new(
        command, ["dist/lofthpc", command, "--config", "configs/quick.yaml"], 7, Start, null, null,
        new BuildRecord("0.1.0", "deadbeef", true, ".NET 10", "Linux", new Dictionary<string, string> { ["A"] = "1.5" }),
        "2.10.0", new MpiRecord("MPICH", "4.0.2", "libmpich.so.12", "mpi.net"), null,
        [new RankRecord(0, "n1", 0, "cpu", 2, "Intel(R) Xeon(R) \u00b5 & <2>"), new RankRecord(1, "n2", 0, "cpu", 2, "other")]);
}
