using LoftHpc.Mpi;
using LoftHpc.Results;
using LoftHpc.Tests.Mpi;
using LoftHpc.Tests.Results;

namespace LoftHpc.Tests.Commands;

/// <summary>Tests that start the program as its users do, on a small network and synthetic images, in a folder of their own.</summary>
public abstract class ProgramTests : IDisposable
{
    private const string Config = """
        run: {seed: 4, device: cpu, threads: 1}
        network: {family: preact-resnet, depth: 18, width: 3}
        data: {set: synthetic, train_images: 70, test_images: 30, synthetic: {channels: 1, size: 28, classes: 3}}
        pretrain: {epochs: 2, batch: 32, snapshots: [1], optimizer: {learning_rate: 0.05, weight_decay: 1.0e-4}}
        distance: {every: 2 steps}
        retrain: {epochs: 1, batch: 32, optimizer: {learning_rate: 0.01}}
        evaluate: {batch: 16}
        """;

    /// <summary>Columns that hold times, and the memory of a process.</summary>
    private static readonly string[] OfLaunches = ["seconds", "images_per_second", "data_seconds", "peak_memory_bytes"];

    private readonly TemporaryFolder _folder = new();

    protected ProgramTests()
    {
        ConfigFile = Path.Combine(_folder.Path, "test.yaml");
        File.WriteAllText(ConfigFile, Config);
    }

    protected string ConfigFile { get; }

    protected string TemporaryPath => _folder.Path;

    public void Dispose()
    {
        _folder.Dispose();
        GC.SuppressFinalize(this);
    }

    protected static int Occurrences(string text, string part) => text.Split(part).Length - 1;

    /// <summary>For a command line of a shell.</summary>
    protected static string Launcher(MpiFamily family, int ranks) => family == MpiFamily.OpenMpi
        ? $"mpiexec.openmpi --allow-run-as-root --oversubscribe --bind-to none -n {ranks}"
        : $"mpiexec.mpich -n {ranks}";

    protected RunFolder Folder(string name) => RunFolder.At(Path.Combine(_folder.Path, "results", name));

    protected LaunchResult Start(MpiFamily family, int ranks, string command, params string[] overrides) => Start(family, ranks, null, command, overrides);

    /// <param name="environment">Variables for the ranks.</param>
    protected LaunchResult Start(MpiFamily family, int ranks, IReadOnlyDictionary<string, string>? environment, string command, params string[] overrides) => MpiLauncher.Run(
        family, ranks, [MpiLauncher.LoftHpc, command, "--config", ConfigFile, $"run.folder={_folder.Path}/results", .. overrides], environment: environment);

    /// <summary>The program has said one thing, once, without a trace, and has left with this code; launchers may have added theirs.</summary>
    protected static void MustBeOneLine(LaunchResult result, int exitCode, params string[] parts)
    {
        string all = $"exit code {result.ExitCode}{(result.TimedOut ? ", killed on time-out" : "")}\n{result.Output}\n{result.Error}";
        Xunit.Assert.True(!result.TimedOut && result.ExitCode == exitCode, all);
        Xunit.Assert.True(Occurrences(result.Output + result.Error, "lofthpc: ") == 1, all);
        string line = result.Error.Split('\n').Single(l => l.StartsWith("lofthpc: error: ", StringComparison.Ordinal));
        Xunit.Assert.All(parts, part => Xunit.Assert.Contains(part, line, StringComparison.Ordinal));
        Xunit.Assert.DoesNotContain("   at ", result.Error, StringComparison.Ordinal);
    }

    /// <summary>Two runs have the same weights, rankings and summary, to the last bit.</summary>
    protected void MustBeAlike(string name, string other)
    {
        (RunFolder a, RunFolder b) = (Folder(name), Folder(other));
        foreach ((string one, string two) in new[]
        {
            (a.DenseWeights, b.DenseWeights), (a.TicketWeights, b.TicketWeights), (a.FilterNorms.Path, b.FilterNorms.Path),
            (a.FilterDistance.Path, b.FilterDistance.Path), (a.Ticket.Path, b.Ticket.Path), (a.Summary.Path, b.Summary.Path),
        }) Xunit.Assert.True(File.ReadAllBytes(one).SequenceEqual(File.ReadAllBytes(two)), one);
    }

    /// <summary>Two runs have left the same files with the same bytes, but for times and records of launches.</summary>
    protected void MustBeSame(string name, string other)
    {
        string[] files = [.. Files(name)];
        Xunit.Assert.Equal(files, Files(other));
        Xunit.Assert.Contains("summary.csv", files);
        foreach (string file in files.Where(file => !file.StartsWith("config", StringComparison.Ordinal) && file is not ("manifest.json" or "tickets" or "iterations")))
        {
            (string one, string two) = (Path.Combine(Folder(name).Path, file), Path.Combine(Folder(other).Path, file));
            if (file.EndsWith(".csv", StringComparison.Ordinal)) Xunit.Assert.Equal(WithoutTimes(one), WithoutTimes(two));
            else if (!file.EndsWith(".png", StringComparison.Ordinal)) Xunit.Assert.True(File.ReadAllBytes(one).SequenceEqual(File.ReadAllBytes(two)), file);
        }
    }

    protected IEnumerable<string> Files(string name) =>
        Directory.EnumerateFileSystemEntries(Folder(name).Path).Select(path => Path.GetFileName(path)!).Order(StringComparer.Ordinal);

    private static List<string> WithoutTimes(string table)
    {
        string[][] lines = [.. File.ReadLines(table).Select(line => line.Split(','))];
        int[] columns = [.. Enumerable.Range(0, lines[0].Length).Where(column => !OfLaunches.Contains(lines[0][column]))];
        return [.. lines.Select(line => $"{Path.GetFileName(table)}: {string.Join(',', columns.Select(column => line[column]))}")];
    }
}
