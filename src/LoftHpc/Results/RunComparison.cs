using System.Globalization;
using LoftHpc.Communication;
using LoftHpc.Configuration;

namespace LoftHpc.Results;

/// <summary>Finished runs side by side, from the files of their run folders alone.</summary>
/// <param name="Rows">By method, schedule, ranks and seed.</param>
/// <param name="LeftOut">Names of the folders that hold no trained ticket (yet), or one of another run's network (extract.from).</param>
/// <param name="Differences">One line for each run that differs from the first one in what all should have alike, or from another seed in more than that.</param>
/// <param name="Environment">One line for each kind of processor, MPI library, libtorch and program that made the runs.</param>
public sealed record RunComparison(
    IReadOnlyList<ComparisonRow> Rows, IReadOnlyList<string> LeftOut, IReadOnlyList<string> Differences, IReadOnlyList<string> Environment)
{
    /// <summary>Reads all run folders in a folder.</summary>
    /// <exception cref="UserError">There is no such folder or no finished run in it, or a finished run lacks a file.</exception>
    public static RunComparison Read(string parent)
    {
        if (!Directory.Exists(parent)) throw new UserError($"{parent}: there is no such folder of runs");
        // A name with a dot in front is a folder that is being replaced.
        ILookup<bool, RunFolder> folders = Directory.EnumerateDirectories(parent)
            .Where(path => !Path.GetFileName(path).StartsWith('.'))
            .Order(StringComparer.Ordinal)
            .Select(RunFolder.At)
            .ToLookup(folder => folder.Holds(NetworkState.Ticket) && !IsDrawnFromAnother(folder));
        List<(RunConfig Config, ComparisonRow Row)> runs = [.. folders[true].Select(ReadRun)];
        (string Name, string Precision, string Format, string Arithmetic)[] arithmetic =
            [.. from folder in folders[true] let manifest = RunManifest.Read(folder.Manifest) select (folder.Name, Used(manifest, launch => launch.Precision), Used(manifest, launch => launch.MemoryFormat), ArithmeticOf(manifest))];
        if (runs.Count == 0) throw new UserError($"{parent}: there is no finished run in it (one whose summary.csv has a line of its ticket)");
        return new RunComparison(
            [.. runs.Select(run => run.Row).OrderBy(row => row.Method).ThenBy(row => row.Schedule).ThenBy(row => row.Ranks).ThenBy(row => row.Seed)
                .ThenBy(row => row.Name, StringComparer.Ordinal)],
            [.. folders[false].Select(folder => folder.Name)],
            [
                .. runs.Select(run => Difference(runs[0].Config, run.Config, Common, "differ in more than the method")
                    ?? Difference(
                        runs.First(other => AreOneLine(other.Row, run.Row)).Config, run.Config, Own, "are seeds of one line and differ in more than that"))
                    .OfType<string>(),
                .. from run in arithmetic
                   where run.Precision != arithmetic[0].Precision
                   select $"{arithmetic[0].Name} and {run.Name} differ in their precision: {arithmetic[0].Precision} and {run.Precision}",
                .. from run in arithmetic
                   where run.Format != arithmetic[0].Format
                   select $"{arithmetic[0].Name} and {run.Name} differ in their memory format: {arithmetic[0].Format} and {run.Format}",
                .. from run in arithmetic
                   where run.Arithmetic != arithmetic[0].Arithmetic
                   select $"{arithmetic[0].Name} and {run.Name} differ in their arithmetic: {arithmetic[0].Arithmetic} and {run.Arithmetic}",
            ],
            EnvironmentOf(folders[true].SelectMany(folder => RunManifest.Read(folder.Manifest).Launches)));
    }

    /// <summary>The name (<see cref="ComparisonRow.Name"/>) of runs that have no other settings of their own.</summary>
    public static string NameOf(ComparedMethod method, SampleSchedule schedule) =>
        ConfigName.Of(method) + (schedule == SampleSchedule.Published ? "-published" : "");

    private static (RunConfig, ComparisonRow) ReadRun(RunFolder path)
    {
        RunFolder folder = RunFolder.Open(path.Path);
        folder.RequireExisting("pretrain", folder.Config, folder.Metrics.Path, folder.Resources.Path, folder.Communication.Path);
        RunConfig config = LoadConfig(folder.Config);
        // extract and retrain may have been launches of their own.
        config = config with { Extract = ConfigOf("extract").Extract, Retrain = ConfigOf("retrain").Retrain };
        ResourcesRow[] resources = [.. folder.Resources.Read().Where(row => row.Phase == TrainingPhase.Pretrain)];
        if (resources.Length == 0) throw new UserError($"{folder.Resources.Path}: there is no row of phase pretrain; the command pretrain writes it");
        long samples = folder.Metrics.Read().Where(row => row.Phase == TrainingPhase.Pretrain && row.Split == DataSplit.Train).Sum(row => row.Images);
        CommunicationRow[] sent = [.. folder.Communication.Read().Where(row => row.Phase == "pretrain")];
        double seconds = resources.Max(row => row.Seconds);
        (ComparedMethod method, SampleSchedule schedule) = Classify(config.Pretrain, resources.Length);
        string suffix = string.Create(CultureInfo.InvariantCulture, $"-{resources.Length}-{config.Run.Seed}");
        IReadOnlyList<SummaryRow> networks = folder.Summary.Read();
        return (config, new ComparisonRow(
            method, schedule, resources.Length, config.Run.Seed, config.Extract.Ratio,
            Accuracy(NetworkState.Dense), Accuracy(NetworkState.Pruned), Accuracy(NetworkState.Ticket),
            samples, resources.Sum(row => row.Flops),
            sent.Where(row => IsTraining(row.Purpose)).Sum(row => row.BytesSent),
            sent.Where(row => !IsTraining(row.Purpose)).Sum(row => row.BytesSent),
            seconds, samples / seconds, resources.Max(row => row.PeakMemoryBytes),
            folder.Name.EndsWith(suffix, StringComparison.Ordinal) ? folder.Name[..^suffix.Length] : folder.Name));

        RunConfig ConfigOf(string command) => File.Exists(folder.ConfigOf(command)) ? LoadConfig(folder.ConfigOf(command)) : config;

        double Accuracy(NetworkState network) => networks.LastOrDefault(row => row.Network == network)?.TestAccuracy
            ?? throw new UserError($"{folder.Summary.Path}: there is no row of network {ConfigName.Of(network)}");
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

    /// <summary>A folder that extract made from another run's: what the pre-training has cost stands there.</summary>
    private static bool IsDrawnFromAnother(RunFolder folder) =>
        File.Exists(folder.Config) && !File.Exists(folder.DenseWeights) && LoadConfig(folder.Config).Extract.From is not null;

    /// <summary>Whether the summary takes two runs for seeds of one thing.</summary>
    private static bool AreOneLine(ComparisonRow one, ComparisonRow other) =>
        (one.Method, one.Schedule, one.Ranks, one.Ratio, one.Name) == (other.Method, other.Schedule, other.Ranks, other.Ratio, other.Name);

    /// <summary>The first one of some settings in which two runs differ; null where there is none.</summary>
    private static string? Difference(RunConfig one, RunConfig other, Func<RunConfig, RunConfig> settings, string what)
    {
        string[] Lines(RunConfig config) => RunConfigLoader.ToYaml(settings(config)).Split('\n');
        (string First, string Second) different = Lines(one).Zip(Lines(other)).FirstOrDefault(pair => pair.First != pair.Second);
        return different == default ? null : $"{one.Run.Name} and {other.Run.Name} {what}: {different.First.Trim()} and {different.Second.Trim()}";
    }

    /// <summary>What seeds of one line have alike.</summary>
    private static RunConfig Own(RunConfig config) => config with { Run = new RunSection(), Data = config.Data with { Folder = null }, Plot = new PlotSection(), Plan = new PlanSection() };

    /// <summary>What all methods have alike.</summary>
    private static RunConfig Common(RunConfig config) => new()
    {
        Network = config.Network,
        Data = config.Data with { Folder = null },
        Pretrain = new PretrainSection { Epochs = config.Pretrain.Epochs, Batch = config.Pretrain.Batch, Optimizer = config.Pretrain.Optimizer },
        Extract = config.Extract with { Ratio = 0, From = null },
        Retrain = config.Retrain,
    };

    /// <summary>What a run's launches used: once, where it was the same in all.</summary>
    private static string Used(RunManifest manifest, Func<LaunchRecord, string> what) => string.Join(", ", manifest.Launches.Select(what).Distinct());

    /// <summary>What was repaired in the arithmetic of a run's launches, whichever ranks it was on.</summary>
    private static string ArithmeticOf(RunManifest manifest)
    {
        LaunchRecord[] launches = [.. manifest.Launches];
        string[] repairs = [.. launches.SelectMany(launch => launch.Arithmetic ?? []).Where(rank => rank.Convolutions > 0).Select(rank => rank.Repair).Distinct().Order(StringComparer.Ordinal)];
        return launches.Any(launch => launch.Arithmetic is null) ? "not checked" : repairs.Length == 0 ? "as libtorch has it" : $"repaired ({string.Join(", ", repairs)})";
    }

    private static IReadOnlyList<string> EnvironmentOf(IEnumerable<LaunchRecord> launches)
    {
        LaunchRecord[] all = [.. launches];
        IEnumerable<string> Kinds(string what, IEnumerable<string> kinds) => kinds.Distinct().Order(StringComparer.Ordinal).Select(kind => $"{what}: {kind}");
        return
        [
            .. Kinds("processor", all.SelectMany(launch => launch.Ranks).Select(rank => rank.CpuModel)),
            .. Kinds("MPI", all.Select(launch => launch.Mpi).Where(mpi => mpi.Version.Length > 0)
                .Select(mpi => mpi.Binding == "native" ? mpi.Version : $"{mpi.Version}, through {mpi.Binding}")),
            .. Kinds("libtorch", all.Select(launch => launch.Libtorch)),
            .. Kinds("precision", all.Select(launch => launch.Precision)),
            .. Kinds("memory format", all.Select(launch => launch.MemoryFormat)),
            .. Kinds("arithmetic", all.Select(launch => ArithmeticOf(new RunManifest([launch])))),
            .. Kinds("program", all.Select(launch =>
                $"lofthpc {launch.Build.Version}, commit {launch.Build.GitCommit}{(launch.Build.GitDirty == true ? " (changed)" : "")}, {launch.Build.Runtime}")),
        ];
    }
}
