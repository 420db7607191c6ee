using System.Text;
using LoftHpc.Arithmetic;
using LoftHpc.Communication;
using LoftHpc.Configuration;
using LoftHpc.Results;

namespace LoftHpc.Fuzz;

/// <summary>Every CSV file of a run.</summary>
internal sealed class CsvFormat : FuzzFormat
{
    private static readonly Lazy<Table[]> Tables = new(() =>
    [
        Table.Of<MetricsRow>(
            "metrics", new(TrainingPhase.Pretrain, 1, DataSplit.Train, 0.1 + 0.2, 1 / 3.0, 1e-300, double.MaxValue, double.Epsilon, long.MaxValue),
            new(TrainingPhase.Retrain, 2, DataSplit.Test, double.NaN, 0.5, 0, double.PositiveInfinity, double.NegativeInfinity, 8)),
        Table.Of<FilterNormRow>("filter_norms", new(0, 0, "conv1", 0, 1.25), new(long.MaxValue, 0.1, "layer1.0.conv1", 511, 1e-9)),
        Table.Of<FilterDistanceRow>("filter_distance", new(5, 0, "conv1", 64, 8.3, 1.0000000000000002), new(5, 5, "conv1", 1, 0, null)),
        Table.Of<CommunicationRow>("communication", new(0, "pretrain", CommunicationPurpose.Step, "allreduce", 1, 2, 3, 4, 0.5), new(0, "a, \"b\"\nc", CommunicationPurpose.Save, "", 1, 2, 3, 4, 5)),
        Table.Of<TicketRow>("ticket", new("conv1", 0, 1.5, 1, true, 1.5), new("conv1", 1, -0.0, 2, false)),
        Table.Of<SummaryRow>("summary", new(NetworkState.Dense, 0.875, 1, 1, 1), new(NetworkState.Ticket, 0.75, 1, 1, 1)),
        Table.Of<ResourcesRow>("resources", new ResourcesRow(0, TrainingPhase.Pretrain, 16, 2_000_000_000, 4, 1, 2, 3, 4, 400_000_000, ArithmeticRepair.None, 0)),
        Table.Of<ComparisonRow>("comparison", new ComparisonRow(ComparedMethod.Loft, SampleSchedule.Published, 4, 3, 0.5, 0.1, 0.2, 0.3, 1, 2, 3, 4, 0.1, double.NaN, long.MaxValue, "loft-travel")),
    ]);

    public override string Name => "csv";

    public override void Make(Mutator mutator, string folder)
    {
        Table table = mutator.Pick(Tables.Value);
        string path = Path.Combine(folder, table.Name + ".csv");
        File.WriteAllBytes(path, mutator.OneIn(1000) ? Huge(mutator, table) : mutator.Any(table.Bytes, [.. Tables.Value.Select(other => other.Bytes)]));
        if (mutator.OneIn(100)) mutator.Displace(path);
    }

    protected override bool Read(string folder)
    {
        foreach (string path in Directory.EnumerateFileSystemEntries(folder))
        {
            Tables.Value.First(table => table.Name == Path.GetFileNameWithoutExtension(path)).Read(path);
            return true;
        }
        // The file was taken away.
        Tables.Value[0].Read(Path.Combine(folder, "metrics.csv"));
        return true;
    }

    private static byte[] Huge(Mutator mutator, Table table) => mutator.Below(4) switch
    {
        0 => [.. Encoding.ASCII.GetBytes(string.Join(',', Enumerable.Range(0, 1_000_000))), (byte)'\n'],
        1 => [.. table.Bytes, (byte)'"', .. new byte[20_000_000], (byte)'\n'],
        2 => [.. table.Bytes, .. Enumerable.Repeat((byte)'\n', 20_000_000)],
        _ => [.. table.Bytes, .. Enumerable.Repeat((byte)',', 20_000_000), (byte)'\n'],
    };

    private sealed record Table(string Name, byte[] Bytes, Action<string> Read)
    {
        public static Table Of<T>(string name, params T[] rows) where T : class
        {
            string path = Path.GetTempFileName();
            try
            {
                new CsvTable<T>(path).Write(rows);
                return new Table(name, File.ReadAllBytes(path), path => new CsvTable<T>(path).Read());
            }
            finally
            {
                File.Delete(path);
            }
        }
    }
}

/// <summary>The manifest.</summary>
internal sealed class JsonFormat : FuzzFormat
{
    private static readonly Lazy<byte[]> Seed = new(() =>
    {
        string folder = Directory.CreateTempSubdirectory("lofthpc-fuzz-seed-").FullName;
        byte[] manifest = File.ReadAllBytes(Seeds.MakeRunFolder(folder).Manifest);
        Directory.Delete(folder, recursive: true);
        return manifest;
    });

    public override string Name => "json";

    /// <summary>A mutated manifest.</summary>
    public static byte[] Change(Mutator mutator) => mutator.OneIn(2) ? Encoding.UTF8.GetBytes(mutator.Json(Encoding.UTF8.GetString(Seed.Value))) : mutator.Any(Seed.Value, [Seed.Value]);

    public override void Make(Mutator mutator, string folder)
    {
        string path = FileIn(folder);
        File.WriteAllBytes(path, Change(mutator));
        if (mutator.OneIn(100)) mutator.Displace(path);
    }

    protected override bool Read(string folder)
    {
        string path = FileIn(folder);
        // What is done with a manifest: a launch adds itself, and its end.
        RunManifest manifest = RunManifest.Read(path);
        if (manifest.Launches.Count == 0) return true;
        RunManifest.Begin(path, manifest.Launches[0]);
        RunManifest.End(path, DateTimeOffset.UnixEpoch, 0);
        return RunManifest.Read(path).Launches.Count == manifest.Launches.Count + 1 ? true : throw new UnclearException("a launch was lost");
    }

    private static string FileIn(string folder) => Path.Combine(folder, "manifest.json");
}
