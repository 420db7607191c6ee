using System.Text.Json;
using LoftHpc.Communication;

namespace LoftHpc.Results;

/// <summary>manifest.json: where every launch that wrote into a run folder ran, and with what.</summary>
/// <param name="Launches">In the order of their start; pretrain, extract and retrain may be launches of their own.</param>
public sealed record RunManifest(IReadOnlyList<LaunchRecord> Launches)
{
    /// <summary>A launch of a thousand ranks takes some hundred thousand bytes.</summary>
    private const long MaxBytes = 50_000_000;

    /// <summary>The manifest of a file; without launches where there is none yet.</summary>
    /// <exception cref="UserError">The file is not a manifest.</exception>
    public static RunManifest Read(string path)
    {
        if (!File.Exists(path)) return new RunManifest([]);
        try
        {
            using FileStream file = RegularFile.OpenRead(path);
            if (file.Length > MaxBytes) throw new IOException($"it has {file.Length} bytes; {MaxBytes} are read at most");
            RunManifest? manifest = JsonSerializer.Deserialize<RunManifest>(file, RecordJson.Format);
            return manifest is not null && !manifest.Launches.Any(HoldsNull) ? manifest : throw new JsonException("null stands where a value is expected");
        }
        catch (Exception e) when (e is JsonException or IOException or UnauthorizedAccessException)
        {
            throw new UserError($"{path}: not a manifest: {PlainText.Of(e.Message)}", e);
        }
    }

    /// <summary>Adds a launch to the file when it starts; its end and exit code are null.</summary>
    public static void Begin(string path, LaunchRecord launch) =>
        new RunManifest([.. Read(path).Launches, launch with { End = null, ExitCode = null }]).Write(path);

    /// <summary>Fills in the end of the launch that <see cref="Begin"/> added last.</summary>
    public static void End(string path, DateTimeOffset end, int exitCode)
    {
        IReadOnlyList<LaunchRecord> launches = Read(path).Launches;
        if (launches.Count == 0) throw new InvalidOperationException($"{path}: no launch has begun");
        new RunManifest([.. launches.SkipLast(1), launches[^1] with { End = end, ExitCode = exitCode }]).Write(path);
    }

    /// <summary>Null as an item: the reader refuses it elsewhere.</summary>
    private static bool HoldsNull(LaunchRecord? launch) =>
        launch is null || launch.CommandLine.Any(item => item is null) || launch.Build.Packages.Values.Any(version => version is null)
        || launch.Ranks.Any(rank => rank is null) || launch.Arithmetic?.Any(record => record is null) == true;

    private void Write(string path) => DurableFile.WriteText(path, JsonSerializer.Serialize(this, RecordJson.Format) + "\n");
}

/// <summary>One launch of the program.</summary>
/// <param name="Command">pretrain, import, extract, retrain, tickets or run.</param>
/// <param name="CommandLine">The program's arguments as given, its path first.</param>
/// <param name="Start">UTC.</param>
/// <param name="End">UTC; null while it runs, or if it was killed.</param>
/// <param name="ExitCode">Null likewise.</param>
/// <param name="SlurmJob">Null outside Slurm.</param>
/// <param name="Arithmetic">What each rank had to repair; null in manifests of versions that did not look.</param>
/// <param name="Precision">run.precision as it was resolved, the same on all ranks. Versions before there was a choice did not write it.</param>
/// <param name="MemoryFormat">run.memory_format, likewise.</param>
/// <param name="DataHash">Of the pixels and labels of either split, with the number of its images. Earlier versions did not write it.</param>
public sealed record LaunchRecord(
    string Command, IReadOnlyList<string> CommandLine, long Seed, DateTimeOffset Start, DateTimeOffset? End, int? ExitCode,
    BuildRecord Build, string Libtorch, MpiRecord Mpi, string? SlurmJob, IReadOnlyList<RankRecord> Ranks, IReadOnlyList<ArithmeticRecord>? Arithmetic = null,
    string Precision = LaunchRecord.NotRecorded, string MemoryFormat = LaunchRecord.NotRecorded, string DataHash = LaunchRecord.NotRecorded)
{
    /// <summary>What stands for something that an earlier version did not write.</summary>
    public const string NotRecorded = "not recorded";

    /// <summary>Every host once, in the order of its first rank.</summary>
    public IReadOnlyList<string> Hosts => [.. Ranks.Select(r => r.Host).Distinct()];

    /// <summary>Every kind of device once.</summary>
    public IReadOnlyList<string> Devices => [.. Ranks.Select(r => r.Device).Distinct()];
}

/// <summary>What the check of a rank's arithmetic at the start of a launch came to.</summary>
/// <param name="Repair">none, channels-padded or onednn-off.</param>
/// <param name="Convolutions">Different convolutions that were wrong before the repair.</param>
/// <param name="Checked">Different convolutions that were looked at.</param>
public sealed record ArithmeticRecord(int Rank, string Repair, int Convolutions, int Checked);

/// <summary>The MPI library that was loaded.</summary>
/// <param name="Family">OpenMpi, Mpich, or none (one process without a launcher).</param>
/// <param name="Version">The first line of MPI_Get_library_version.</param>
/// <param name="Library">Path or name of the loaded library.</param>
/// <param name="Binding">run.mpi as the config has it. Launches of before there was a choice, which did not write it, were native.</param>
public sealed record MpiRecord(string Family, string Version, string Library, string Binding = "native");
