using System.Globalization;
using System.Text;

namespace LoftHpc.Configuration;

/// <summary>A broken rule between keys. The first of <paramref name="Keys"/> is the one that it is reported at.</summary>
internal sealed record BrokenRule(string Message, params string[] Keys);

/// <summary>What one key's type and range cannot say: rules on text, and between keys.</summary>
public static class RunConfigRules
{
    /// <summary>Bytes, or values, that one array of .NET holds: of a convolution, and of a split's synthetic images.</summary>
    private const long MostInAnArray = 0x7FFFFFC7;

    /// <summary>Weights of a network, and values of the patterns that synthetic images are made of.</summary>
    private const long MostWeights = 10_000_000_000, MostPatternValues = MostInAnArray / sizeof(float);

    /// <summary>Distances of pairs of measurements over all layers, which rank 0 holds at once.</summary>
    private const long MostDistances = 100_000_000;

    /// <summary>Tickets of a grid, each of which is a folder.</summary>
    private const long MostTickets = 10_000;

    /// <summary>The first thing that is wrong with a network's description, which need not come from a config file; null: nothing.</summary>
    public static string? ProblemOf(NetworkSection network) =>
        ConfigKey.Of(typeof(NetworkSection)).Select(key => key.ProblemWith(key.Get(network)) is string problem ? $"network.{key.Name}: {problem}" : null)
            .Concat(BrokenBy(network).Select(rule => $"{rule.Keys[0]}: {rule.Message}"))
            .FirstOrDefault(problem => problem is not null);

    internal static IEnumerable<BrokenRule> Broken(RunConfig config) =>
    [
        .. BrokenBy(config.Run), .. BrokenBy(config.Network), .. BrokenBy(config.Data), .. BrokenBy(config.Pretrain), .. BrokenBy(config.Distance, config.Network),
        .. BrokenBy(config.Extract, config.Network), .. BrokenBy(config.Tickets, config.Extract), .. BrokenBy(config.Latency), .. BrokenBy(config.Limits), .. BrokenBy("pretrain.optimizer", config.Pretrain.Optimizer), .. BrokenBy("retrain.optimizer", config.Retrain.Optimizer),
    ];

    private static IEnumerable<BrokenRule> BrokenBy(RunSection run)
    {
        // File systems take 255 bytes; what is written beside the folder for a moment has a longer name.
        if (run.Name is "." or ".." || run.Name.Contains('/', StringComparison.Ordinal) || Encoding.UTF8.GetByteCount(run.Name) > 200)
        {
            yield return new BrokenRule(
                $"{PlainText.Of(run.Name)} is not the plain name of a folder; allowed: a name without / (run.folder is its parent), of at most 200 bytes", "run.name");
        }
        if (run.Overwrite && run.Resume is ResumeChoice.Auto)
            yield return new BrokenRule("auto goes on with a run folder that run.overwrite would replace; allowed: one of the two", "run.resume", "run.overwrite");
    }

    private static IEnumerable<BrokenRule> BrokenBy(LatencySection latency)
    {
        if (latency.Batches.Distinct().Count() < latency.Batches.Count)
            yield return new BrokenRule($"{List(latency.Batches)}; allowed: each batch once", "latency.batches");
    }

    private static IEnumerable<BrokenRule> BrokenBy(LimitsSection limits)
    {
        // All files of a run folder have a dot, and none of them is to be taken for this one.
        if (limits.StopFile.AsSpan().ContainsAny('/', '.') || Encoding.UTF8.GetByteCount(limits.StopFile) > 200)
            yield return new BrokenRule($"{PlainText.Of(limits.StopFile)} is not the plain name of a file; allowed: a name without / and dots, of at most 200 bytes", "limits.stop_file");
    }

    private static IEnumerable<BrokenRule> BrokenBy(NetworkSection network)
    {
        string family = ConfigName.Of(network.Family);
        bool wide = network.Family == NetworkFamily.WideResnet;
        if (NetworkStages.Of(network).Count == 0)
        {
            string allowed = wide ? "6n + 4 (10, 16, 22, 28, 34, 40, ...)" : "18, 34";
            yield return new BrokenRule(Invariant($"{network.Depth} is not a depth of {family}; allowed: {allowed}"), "network.depth", "network.family");
        }
        if (!wide && network.WidenFactor != 1)
            yield return new BrokenRule($"{family} has no widen factor; allowed: 1, or network.family wide-resnet", "network.widen_factor", "network.family");
        if (network.Form == NetworkForm.Imagenet && (network.Family != NetworkFamily.PreactResnet || network.Depth != 18))
        {
            yield return new BrokenRule(
                Invariant($"imagenet is not a form of {family} of depth {network.Depth}; allowed: cifar, or preact-resnet of depth 18"),
                "network.form", "network.family", "network.depth");
        }
        (long largest, long all) = NetworkStages.ConvolutionWeights(network);
        if (largest > MostInAnArray || all > MostWeights)
        {
            yield return new BrokenRule(
                Invariant($"the largest convolution would have {largest} weights and all together {all}; allowed: {MostInAnArray} and {MostWeights} at most, by a smaller width, widen factor or depth"),
                "network.width", "network.widen_factor", "network.depth", "network.family");
        }
    }

    private static IEnumerable<BrokenRule> BrokenBy(DataSection data)
    {
        string set = ConfigName.Of(data.Set);
        bool folder = data.Set is DataSetName.ImageFolder, own = folder || data.Set is DataSetName.Idx or DataSetName.CifarBinary;
        string ownSets = string.Join(", ", new[] { DataSetName.ImageFolder, DataSetName.Idx, DataSetName.CifarBinary }.Select(name => ConfigName.Of(name)));
        if (own && data.Folder is null) yield return new BrokenRule($"null; allowed: the folder of the files of data.set {set}", "data.folder", "data.set");
        foreach ((string key, bool given) in new[]
        {
            ("image_size", data.ImageSize is not null), ("channels", data.Channels is not null), ("classes", data.Classes is not null),
            ("mean", data.Mean.Count > 0), ("standard_deviation", data.StandardDeviation.Count > 0),
        })
        {
            if (given && !own) yield return new BrokenRule($"{set} has its own; allowed: {(key is "mean" or "standard_deviation" ? "[]" : "auto")}, or data.set {ownSets}", $"data.{key}", "data.set");
        }
        if (folder && data.Channels is not (null or 1 or 3)) yield return new BrokenRule(Invariant($"{data.Channels} channels of {set}; allowed: 1, 3"), "data.channels", "data.set");
        if (data.Mean.Count != data.StandardDeviation.Count)
            yield return new BrokenRule(Invariant($"{data.StandardDeviation.Count} values; allowed: {data.Mean.Count}, as many as data.mean has"), "data.standard_deviation", "data.mean");
        // Of idx the files say how many there are.
        int channels = data.Channels ?? 3;
        if (own && data.Mean.Count > 0 && (data.Channels is not null || data.Set is not DataSetName.Idx) && data.Mean.Count != channels)
            yield return new BrokenRule(Invariant($"{data.Mean.Count} values; allowed: {channels}, one for each channel (data.channels), or []"), "data.mean", "data.channels", "data.set");
        if (data.Set is not DataSetName.Synthetic) yield break;
        SyntheticSection made = data.Synthetic;
        long bytes = (long)made.Channels * made.Size * made.Size;
        string[] shape = ["data.synthetic.size", "data.synthetic.channels"];
        foreach ((string key, int count) in new[]
        {
            ("data.train_images", data.TrainImages ?? SyntheticSection.AllTrainImages), ("data.test_images", data.TestImages ?? SyntheticSection.AllTestImages),
        })
        {
            if (count * bytes > MostInAnArray)
                yield return new BrokenRule(Invariant($"{count} synthetic images of {bytes} bytes; allowed: {MostInAnArray / bytes} at most"), [key, .. shape]);
        }
        if (made.Classes * bytes > MostPatternValues)
            yield return new BrokenRule(Invariant($"patterns of {made.Classes} classes of {bytes} values; allowed: {MostPatternValues / bytes} classes at most"), ["data.synthetic.classes", .. shape]);
    }

    private static IEnumerable<BrokenRule> BrokenBy(DistanceSection distance, NetworkSection network)
    {
        long pairs = (long)distance.PairsMax * distance.PairsMax, layers = NetworkStages.Convolutions(network);
        if (pairs * layers > MostDistances)
        {
            yield return new BrokenRule(
                Invariant($"{pairs} pairs of measurements of {layers} layers; allowed: {MostDistances} distances at most, so up to {(int)Math.Sqrt(MostDistances / layers)} measurements"),
                "distance.pairs_max", "network.depth", "network.family");
        }
    }

    private static IEnumerable<BrokenRule> BrokenBy(PretrainSection pretrain)
    {
        if (pretrain.Snapshots.Any(epoch => epoch > pretrain.Epochs) || !IsAscending(pretrain.Snapshots))
        {
            yield return new BrokenRule(
                pretrain.Epochs == 0
                    ? $"{List(pretrain.Snapshots)}; allowed: none ([]), since there is no epoch (pretrain.epochs is 0)"
                    : Invariant($"{List(pretrain.Snapshots)}; allowed: epochs from 1 to {pretrain.Epochs} (pretrain.epochs), each once, in ascending order"),
                "pretrain.snapshots", "pretrain.epochs");
        }
        if (!IsAscending(pretrain.SnapshotSteps))
            yield return new BrokenRule($"{List(pretrain.SnapshotSteps)}; allowed: steps, each once, in ascending order", "pretrain.snapshot_steps");
        if (pretrain.Method is PretrainMethod.Gpipe && pretrain.Gpipe.MicroBatches > pretrain.Batch)
        {
            yield return new BrokenRule(
                Invariant($"{pretrain.Gpipe.MicroBatches} parts of a batch of {pretrain.Batch}; allowed: from 1 to {pretrain.Batch} (pretrain.batch)"),
                "pretrain.gpipe.micro_batches", "pretrain.batch");
        }
    }

    private static IEnumerable<BrokenRule> BrokenBy(ExtractSection extract, NetworkSection network)
    {
        string[] blocks = [.. NetworkStages.Of(network).SelectMany((stage, number) =>
            Enumerable.Range(0, stage.Blocks).Where(block => extract.FirstBlocks || block > 0).Select(block => $"layer{number + 1}.{block}"))];
        if (extract.Scope is ExtractScope.LayerRatios && extract.LayerRatios.Count != blocks.Length)
        {
            yield return new BrokenRule(
                $"{extract.LayerRatios.Count} ratios; allowed: one for each prunable block, of which there are {blocks.Length} ({string.Join(", ", blocks)})",
                "extract.layer_ratios", "extract.scope", "extract.first_blocks", "network.depth", "network.family");
        }
        if (extract.Like is not null && extract.Scope is not ExtractScope.Layer)
            yield return new BrokenRule($"the widths of another ticket leave nothing to extract.scope {ConfigName.Of(extract.Scope)}; allowed: one of the two", "extract.like", "extract.scope");
        if (extract.Like is not null && extract.RoundTo != 1)
            yield return new BrokenRule($"the widths of another ticket are not rounded to multiples of {extract.RoundTo} (extract.round_to); allowed: one of the two", "extract.like", "extract.round_to");
        if (extract.Iterations == 1) yield break;
        if (extract.Like is not null)
            yield return new BrokenRule(Invariant($"the widths of another ticket are taken at once, and not in {extract.Iterations} iterations; allowed: one of the two"), "extract.like", "extract.iterations");
        if (extract.Criterion is FilterCriterion.RankStability)
            yield return new BrokenRule("of what is trained between iterations no rankings are measured; allowed: another criterion, or extract.iterations 1", "extract.criterion", "extract.iterations");
        if (extract.IterationStart is not (RetrainStart.Pretrained or RetrainStart.Rewind or RetrainStart.Initial))
            yield return new BrokenRule($"{ConfigName.Of(extract.IterationStart)}; allowed: pretrained, rewind, initial", "extract.iteration_start");
    }

    private static IEnumerable<BrokenRule> BrokenBy(TicketsSection tickets, ExtractSection extract)
    {
        if (tickets.Ratios.Count > 0 && (extract.Like is not null || extract.Scope is not (ExtractScope.Layer or ExtractScope.Global)))
        {
            string widths = extract.Like is null ? $"extract.scope {ConfigName.Of(extract.Scope)}" : "extract.like";
            yield return new BrokenRule($"with {widths} the widths come by no ratio; allowed: none ([]), or extract.scope layer or global", "tickets.ratios", "extract.scope", "extract.like");
        }
        if (extract.Iterations > 1 && tickets.Criteria.Contains(FilterCriterion.RankStability))
            yield return new BrokenRule("of what is trained between iterations no rankings are measured; allowed: criteria without rank-stability, or extract.iterations 1", "tickets.criteria", "extract.iterations");
        long[] lists = [tickets.Ratios.Count, tickets.Criteria.Count, tickets.Starts.Count, tickets.Seeds.Count];
        // With 1000 items each they multiply to 10^15 at most.
        long count = lists.Aggregate(1 + (long)tickets.Controls.Count, (product, items) => product * Math.Max(1, items));
        if (count > MostTickets)
        {
            yield return new BrokenRule(
                Invariant($"all lists together make {count} tickets with their controls; allowed: {MostTickets} at most"),
                "tickets.seeds", "tickets.ratios", "tickets.criteria", "tickets.starts", "tickets.controls");
        }
    }

    private static IEnumerable<BrokenRule> BrokenBy(string section, OptimizerSection optimizer)
    {
        // Milestones after the end of training are allowed: published schedules have some.
        if (optimizer.Milestones.Select(m => m.InEpochs).Distinct().Count() > 1 || !IsAscending(optimizer.Milestones.Select(m => m.Count)))
        {
            yield return new BrokenRule(
                $"{List(optimizer.Milestones)}; allowed: times that are all in epochs or all in steps, each once, in ascending order",
                $"{section}.milestones");
        }
        if (optimizer.Schedule is not ScheduleKind.Step && optimizer.Milestones.Count > 0)
            yield return new BrokenRule($"schedule {ConfigName.Of(optimizer.Schedule)} has none; allowed: [], or {section}.schedule step", $"{section}.milestones", $"{section}.schedule");
        if (optimizer.Schedule is ScheduleKind.OneCycle && optimizer.Warmup is not null)
            yield return new BrokenRule($"schedule one-cycle has its own; allowed: none, or {section}.schedule step or cosine", $"{section}.warmup", $"{section}.schedule");
        if (optimizer.Nesterov && optimizer.Momentum == 0)
            yield return new BrokenRule($"without momentum there is nothing to do by Nesterov; allowed: false, or {section}.momentum above 0", $"{section}.nesterov", $"{section}.momentum");
    }

    private static string List<T>(IEnumerable<T> items) => PlainText.Of($"[{string.Join(", ", items)}]");

    private static bool IsAscending(IEnumerable<int> numbers) => numbers.Zip(numbers.Skip(1)).All(pair => pair.First < pair.Second);

    private static string Invariant(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);

    /// <summary>What may differ between the launches of one run: where it is, what computes it, how it may be stopped, and what is shown of it.</summary>
    private static readonly HashSet<string> OfLaunches =
    [
        "run.name", "run.folder", "run.overwrite", "run.resume", "run.device", "run.threads", "run.mpi", "run.cuda_aware_mpi", "run.tensorboard",
        "pretrain.gpipe.cuts", "data.folder", "data.workers", "latency", "evaluate.weights", "evaluate.split", "checkpoint", "limits", "plot", "plan", "tickets",
    ];

    /// <summary>
    /// The keys in which the launches of one run must not differ and do, for example "network.width is 8 and 16". There may be more epochs
    /// than before, by schedule step: there what is done in a step does not depend on how many follow.
    /// </summary>
    public static IEnumerable<string> DifferencesOfRuns(RunConfig before, RunConfig now) => DifferencesBelow("", before, now with
    {
        Pretrain = now.Pretrain with { Epochs = FewestOf(now.Pretrain.Optimizer, before.Pretrain.Epochs, now.Pretrain.Epochs) },
        Retrain = now.Retrain with { Epochs = FewestOf(now.Retrain.Optimizer, before.Retrain.Epochs, now.Retrain.Epochs) },
    });

    /// <summary>The same of a ticket that lies in the folder of its run, wherever that lies by now.</summary>
    public static IEnumerable<string> DifferencesOfTickets(RunConfig before, RunConfig now)
    {
        return DifferencesOfRuns(WithoutPlace(before), WithoutPlace(now));

        static RunConfig WithoutPlace(RunConfig config) => config with
        {
            Extract = config.Extract with { From = null, Like = config.Extract.Like is string like ? Path.GetFileName(Path.TrimEndingDirectorySeparator(like)) : null },
        };
    }

    /// <summary>The same of a finished run, to which no epochs are added any more.</summary>
    public static IEnumerable<string> DifferencesOfFinished(RunConfig made, RunConfig now) => DifferencesBelow("", made, now);

    private static int FewestOf(OptimizerSection optimizer, int before, int now) => optimizer.Schedule is ScheduleKind.Step && now > before ? before : now;

    private static IEnumerable<string> DifferencesBelow(string prefix, object before, object now)
    {
        foreach (ConfigKey key in ConfigKey.Of(before.GetType()).Where(key => !OfLaunches.Contains(prefix + key.Name)))
        {
            (object? one, object? other) = (key.Get(before), key.Get(now));
            if (key.IsSection)
            {
                foreach (string difference in DifferencesBelow($"{prefix}{key.Name}.", one!, other!)) yield return difference;
                continue;
            }
            string Text(object? value) => key.IsList
                ? $"[{string.Join(", ", ((System.Collections.IEnumerable)value!).Cast<object?>().Select(item => key.Write(item).Text))}]" : key.Write(value).Text;
            if (Text(one) != Text(other)) yield return PlainText.Of($"{prefix}{key.Name} is {Text(one)} and {Text(other)}");
        }
    }

    /// <summary>The keys of a section in which two differ, for example "network.width is 8 and 16".</summary>
    public static IEnumerable<string> Differences<TSection>(string name, TSection one, TSection other) where TSection : notnull =>
        DifferencesBelow($"{name}.", one, other);
}
