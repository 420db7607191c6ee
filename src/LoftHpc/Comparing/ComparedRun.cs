using System.Globalization;
using LoftHpc.Communication;
using LoftHpc.Configuration;
using LoftHpc.Results;

namespace LoftHpc.Comparing;

/// <summary>One finished run, from the files of its folder, or from a row of a comparison.csv.</summary>
/// <param name="Name">Of the folder; of a row the row's, with its ranks and seed.</param>
/// <param name="Path">Of the folder; null for a row.</param>
/// <param name="Settings">By name, in the order of the config, all that could tell it from others but the seed.</param>
/// <param name="Row">Its row of comparison.csv.</param>
/// <param name="Ticket">Of summary.csv; null for a row of a comparison.csv, which has no sizes.</param>
/// <param name="Launches">That wrote into the folder.</param>
public sealed record ComparedRun(
    string Name, string? Path, IReadOnlyList<(string Key, string Value)> Settings, ComparisonRow Row, SummaryRow? Ticket, IReadOnlyList<LaunchRecord> Launches)
{
    /// <summary>A setting that no config holds: how many ranks pre-trained.</summary>
    public const string Ranks = "ranks";

    /// <summary>How many retrained.</summary>
    public const string RetrainRanks = "retrain_ranks";

    /// <summary>Of a row of a comparison.csv: what its run's name had besides ranks and seed.</summary>
    public const string NameOfRow = "name";

    /// <summary>Sections, and keys, that say where things lie, what is kept or drawn and when a launch ends, and not what is computed.</summary>
    private static readonly string[] Besides =
        ["run.name", "run.folder", "run.overwrite", "run.resume", "run.seed", "run.tensorboard", "data.folder", "extract.from", "latency.", "evaluate.weights", "evaluate.split", "checkpoint.", "limits.", "plot.", "plan.", "tickets."];

    /// <summary>The folder of another run that has pre-trained the network; null: it is the run's own.</summary>
    public string? Source { get; init; }

    /// <summary>Of latency.csv: seconds of the ticket's forward pass at the largest batch; null: it was not measured.</summary>
    public double? LatencySeconds { get; init; }

    /// <summary>Reads a finished run, and holds its tables against its config and its manifest.</summary>
    /// <exception cref="UserError">A file is missing, wrong, or a part of what it was.</exception>
    public static ComparedRun Read(RunFolder path)
    {
        RunFolder folder = RunFolder.Open(path.Path);
        folder.RequireExisting("run", folder.Config, folder.Manifest);
        RunConfig config = LoadConfig(folder.Config);
        // What another run has pre-trained has cost what stands there.
        RunFolder source = config.Extract.From is string from && !File.Exists(folder.DenseWeights) ? SourceOf(folder, from) : folder;
        source.RequireExisting("pretrain", source.Config, source.Manifest, source.Metrics.Path, source.Resources.Path, source.Communication.Path);
        RunConfig pretrained = source == folder ? config : LoadConfig(source.Config);
        // extract and retrain may have been launches of their own.
        config = config with { Pretrain = pretrained.Pretrain, Distance = pretrained.Distance, Extract = ConfigOf("extract").Extract, Retrain = ConfigOf("retrain").Retrain };

        RunManifest manifest = RunManifest.Read(folder.Manifest);
        RunManifest ofSource = source == folder ? manifest : RunManifest.Read(source.Manifest);
        LaunchRecord[] pretrainings = source == folder ? [] : [.. ofSource.Launches.Where(launch => launch.Command is "pretrain" or "run" or "import")];
        RunTables.Check(source, ofSource, TrainingPhase.Pretrain, config.Pretrain.Epochs, pretrained.Data.ValidationImages > 0);
        int retrainRanks = RunTables.Check(folder, manifest, TrainingPhase.Retrain, config.Retrain.Epochs, config.Data.ValidationImages > 0);

        ResourcesRow[] resources = [.. source.Resources.Read().Where(row => row.Phase == TrainingPhase.Pretrain)];
        long samples = source.Metrics.Read().Where(row => row.Phase == TrainingPhase.Pretrain && row.Split == DataSplit.Train).Sum(row => row.Images);
        CommunicationRow[] sent = [.. source.Communication.Read().Where(row => row.Phase == "pretrain")];
        double seconds = resources.Max(row => row.Seconds);
        (ComparedMethod method, SampleSchedule schedule) = Classify(config.Pretrain, resources.Length);
        string seed = Text(config.Run.Seed), suffix = IsOfGrid(folder) ? $"-{seed}" : $"-{resources.Length}-{seed}";
        // Another ticket of a grid is meant by its name, which ends with the seed.
        if (config.Extract.Like is string like && IsOfGrid(RunFolder.At(like)) && like.EndsWith($"-{seed}", StringComparison.Ordinal))
            config = config with { Extract = config.Extract with { Like = System.IO.Path.GetFileName(like[..^(seed.Length + 1)]) } };
        IReadOnlyList<SummaryRow> networks = folder.Summary.Read();
        SummaryRow ticket = Network(NetworkState.Ticket);
        ComparisonRow row = new(
            method, schedule, resources.Length, config.Run.Seed, config.Extract.Ratio,
            Network(NetworkState.Dense).TestAccuracy, Network(NetworkState.Pruned).TestAccuracy, ticket.TestAccuracy,
            samples, resources.Sum(row => row.Flops),
            sent.Where(row => IsTraining(row.Purpose)).Sum(row => row.BytesSent),
            sent.Where(row => !IsTraining(row.Purpose)).Sum(row => row.BytesSent),
            seconds, samples / seconds, resources.Max(row => row.PeakMemoryBytes),
            folder.Name.EndsWith(suffix, StringComparison.Ordinal) ? folder.Name[..^suffix.Length] : folder.Name);
        return new ComparedRun(folder.Name, folder.Path, [.. SettingsOf(config), (Ranks, Text(resources.Length)), (RetrainRanks, Text(retrainRanks))], row, ticket, [.. manifest.Launches, .. pretrainings])
        {
            Source = source == folder ? null : System.IO.Path.GetFullPath(source.Path),
            LatencySeconds = folder.Latency.Exists
                ? folder.Latency.Read().Where(row => row is { Network: NetworkState.Ticket, Pass: MeasuredPass.Forward }).MaxBy(row => row.Batch)?.MedianSeconds : null,
        };

        RunConfig ConfigOf(string command) => File.Exists(folder.ConfigOf(command)) ? LoadConfig(folder.ConfigOf(command)) : config;

        SummaryRow Network(NetworkState network) => networks.LastOrDefault(row => row.Network == network)
            ?? throw new UserError($"{folder.Summary.Path}: there is no row of network {ConfigName.Of(network)}");
    }

    /// <summary>The runs of a comparison.csv, told apart by what it holds of their settings.</summary>
    /// <exception cref="UserError">It is no such table.</exception>
    public static IEnumerable<ComparedRun> ReadRows(CsvTable<ComparisonRow> table) => table.Read().Select(row => new ComparedRun(
        string.Create(CultureInfo.InvariantCulture, $"{row.Name}-{row.Ranks}-{row.Seed}"), null,
        [
            ("method", ConfigName.Of(row.Method)), ("schedule", ConfigName.Of(row.Schedule)), (Ranks, Text(row.Ranks)),
            ("ratio", row.Ratio.ToString(CultureInfo.InvariantCulture)), (NameOfRow, row.Name),
        ],
        row, null, []));

    private static string Text(long number) => number.ToString(CultureInfo.InvariantCulture);

    private static IEnumerable<(string, string)> SettingsOf(RunConfig config) => RunConfigLoader.Settings(config)
        .Where(setting => !Besides.Any(key => key.EndsWith('.') ? setting.Key.StartsWith(key, StringComparison.Ordinal) : setting.Key == key));

    /// <summary>Whether a ticket's folder lies in that of the run that it was drawn from.</summary>
    private static bool IsOfGrid(RunFolder folder) => folder.RunOfGrid() is not null;

    /// <summary>The run that a ticket was drawn from: the one in which it lies; else where the config says, as seen from here, else beside the ticket's folder.</summary>
    private static RunFolder SourceOf(RunFolder folder, string from)
    {
        if (folder.RunOfGrid() is RunFolder whole) return whole;
        string name = System.IO.Path.GetFileName(System.IO.Path.TrimEndingDirectorySeparator(from));
        string beside = System.IO.Path.Combine(System.IO.Path.GetDirectoryName(System.IO.Path.GetFullPath(folder.Path))!, name);
        string found = new[] { from, beside }.FirstOrDefault(RunFolder.IsRunFolder)
            ?? throw new UserError($"{folder.Path}: it was drawn from {from}, which is not there");
        return RunFolder.At(found);
    }

    private static (ComparedMethod, SampleSchedule) Classify(PretrainSection config, int ranks)
    {
        ComparedMethod method = config.Method switch
        {
            PretrainMethod.Dense => ComparedMethod.Dense,
            PretrainMethod.DataParallel => ComparedMethod.DataParallel,
            PretrainMethod.FilterParallel when config.Backward == BackwardKind.Local => ComparedMethod.FilterParallelLocal,
            PretrainMethod.FilterParallel => ComparedMethod.FilterParallel,
            PretrainMethod.LocalSgd => ComparedMethod.LocalSgd,
            PretrainMethod.Gpipe => ComparedMethod.Gpipe,
            PretrainMethod.Loft => ComparedMethod.Loft,
            _ => throw new InvalidOperationException($"no method {config.Method}"),
        };
        bool walksWhole = config.Method is PretrainMethod.Loft or PretrainMethod.LocalSgd && config.Samples == SampleScope.Whole;
        return (method, walksWhole && ranks > 1 ? SampleSchedule.Published : SampleSchedule.EqualSamples);
    }

    /// <summary>What a method needs; the rest is for what is measured and written on the way.</summary>
    private static bool IsTraining(CommunicationPurpose purpose) => purpose
        is CommunicationPurpose.Step or CommunicationPurpose.Round or CommunicationPurpose.RunningStatistics or CommunicationPurpose.Control;

    /// <summary>The config of a run. Only the config of a launch may come through a pipe.</summary>
    private static RunConfig LoadConfig(string path) =>
        RegularFile.WhatElse(path) is string other ? throw new UserError($"{path}: it is {other}, not a regular file") : RunConfigLoader.Load(path);
}
