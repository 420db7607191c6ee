using System.Globalization;

namespace LoftHpc.Configuration;

/// <summary>A broken rule between keys. The first of <paramref name="Keys"/> is the one that it is reported at.</summary>
internal sealed record BrokenRule(string Message, params string[] Keys);

/// <summary>What one key's type and range cannot say: rules on text, and between keys.</summary>
internal static class RunConfigRules
{
    public static IEnumerable<BrokenRule> Broken(RunConfig config) =>
    [
        .. BrokenBy(config.Run), .. BrokenBy(config.Network), .. BrokenBy(config.Pretrain),
        .. BrokenBy("pretrain.optimizer", config.Pretrain.Optimizer), .. BrokenBy("retrain.optimizer", config.Retrain.Optimizer),
    ];

    private static IEnumerable<BrokenRule> BrokenBy(RunSection run)
    {
        if (run.Name is "." or ".." || run.Name.Any(c => c == '/' || char.IsControl(c)))
            yield return new BrokenRule($"{run.Name} is not the plain name of a folder; allowed: a name without / (run.folder is its parent)", "run.name");
    }

    private static IEnumerable<BrokenRule> BrokenBy(NetworkSection network)
    {
        string family = ConfigName.Of(network.Family);
        bool wide = network.Family == NetworkFamily.WideResnet;
        if (wide ? network.Depth < 10 || (network.Depth - 4) % 6 != 0 : network.Depth is not (18 or 34))
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
    }

    private static IEnumerable<BrokenRule> BrokenBy(PretrainSection pretrain)
    {
        if (pretrain.Snapshots.Any(epoch => epoch > pretrain.Epochs) || !IsAscending(pretrain.Snapshots))
        {
            yield return new BrokenRule(
                Invariant($"[{string.Join(", ", pretrain.Snapshots)}]; allowed: epochs from 1 to {pretrain.Epochs} (pretrain.epochs), each once, in ascending order"),
                "pretrain.snapshots", "pretrain.epochs");
        }
        if (pretrain.Method is PretrainMethod.Gpipe && pretrain.Gpipe.MicroBatches > pretrain.Batch)
        {
            yield return new BrokenRule(
                Invariant($"{pretrain.Gpipe.MicroBatches} parts of a batch of {pretrain.Batch}; allowed: from 1 to {pretrain.Batch} (pretrain.batch)"),
                "pretrain.gpipe.micro_batches", "pretrain.batch");
        }
    }

    private static IEnumerable<BrokenRule> BrokenBy(string section, OptimizerSection optimizer)
    {
        // Milestones after the end of training are allowed: published schedules have some.
        if (optimizer.Milestones.Select(m => m.InEpochs).Distinct().Count() > 1 || !IsAscending(optimizer.Milestones.Select(m => m.Count)))
        {
            yield return new BrokenRule(
                $"[{string.Join(", ", optimizer.Milestones)}]; allowed: times that are all in epochs or all in steps, each once, in ascending order",
                $"{section}.milestones");
        }
    }

    private static bool IsAscending(IEnumerable<int> numbers) => numbers.Zip(numbers.Skip(1)).All(pair => pair.First < pair.Second);

    private static string Invariant(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);

    /// <summary>The keys of a section in which two differ, for example "network.width is 8 and 16".</summary>
    public static IEnumerable<string> Differences<TSection>(string name, TSection one, TSection other) =>
        from property in typeof(TSection).GetProperties()
        let values = (One: property.GetValue(one), Other: property.GetValue(other))
        where !Equals(values.One, values.Other)
        select $"{name}.{System.Text.Json.JsonNamingPolicy.SnakeCaseLower.ConvertName(property.Name)} is {values.One ?? "not set"} and {values.Other ?? "not set"}";
}
