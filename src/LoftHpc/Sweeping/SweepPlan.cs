using System.Globalization;
using LoftHpc.Configuration;

namespace LoftHpc.Sweeping;

/// <summary>What the command line of a sweep changes of its file; null, and an empty list, change nothing.</summary>
/// <param name="Overrides">section.key=value, of all runs; they win over the file's.</param>
/// <param name="Seeds">Whole numbers with commas between.</param>
/// <param name="Baseline">As compare takes it.</param>
public sealed record SweepChanges(IReadOnlyList<string> Overrides, string? Folder = null, string? Seeds = null, IReadOnlyList<string>? Baseline = null);

/// <summary>One run of a sweep.</summary>
/// <param name="Name">Of its folder: GROUP-SEED.</param>
/// <param name="Group">METHOD[-VALUE...]-RANKS: runs that differ in their seed alone.</param>
/// <param name="Settings">What it adds to the config, but for its name and folder.</param>
/// <param name="Config">As the run will resolve it.</param>
public sealed record SweepRun(string Name, string Group, int Ranks, IReadOnlyList<string> Settings, RunConfig Config);

/// <summary>All runs of a sweep, each of which could start.</summary>
/// <param name="ConfigFile">The config of all runs.</param>
/// <param name="Folder">Of the tables.</param>
/// <param name="Baseline">For compare; empty: none.</param>
/// <param name="Runs">In the order in which they are made: the first seed of all first, so that a table of all is there early.</param>
public sealed record SweepPlan(string ConfigFile, string Folder, IReadOnlyList<string> Baseline, IReadOnlyList<SweepRun> Runs)
{
    private const int MostRuns = 10_000;

    /// <summary>What every run of a sweep has of its own.</summary>
    private static readonly string[] OfRuns = ["run", "run.seed", "run.name", "run.folder", "run.overwrite", "run.resume"];

    /// <summary>Of the run folders, and of the logs beside them.</summary>
    public string RunsFolder => Path.Combine(Folder, "runs");

    /// <param name="check">Refuses a config that cannot work on so many ranks.</param>
    /// <exception cref="UserError">Of the first run that could not start, or of a change: one line.</exception>
    public static SweepPlan Of(SweepFile file, SweepChanges changes, Action<RunConfig, int> check)
    {
        (string config, string folder) = (file.Section.Config, changes.Folder ?? file.Section.Folder!);
        string text = ReadConfig(file);
        IReadOnlyList<long> seeds = changes.Seeds is null ? file.Section.Seeds : SeedsOf(changes.Seeds);
        foreach (string setting in file.Section.Overrides) MustBeOfAll(setting, file, $"{PlainText.Of(file.Path)}: ");
        foreach (string setting in changes.Overrides) MustBeOfAll(setting, file, "");
        foreach ((SweepMethod method, string place) in file.Methods)
        {
            if (method.Set.FirstOrDefault(setting => OfRuns.Contains(KeyOf(setting))) is string own) throw new UserError($"{place}: {PlainText.Of(own)}: {EachHasItsOwn}");
        }
        foreach (SweepAxis axis in file.Axes.Where(axis => OfRuns.Contains(axis.Key))) throw new UserError($"{PlainText.Of(file.Path)}: axes: {axis.Key}: {EachHasItsOwn}");

        IReadOnlyList<IReadOnlyList<(string Key, string Value)>> points = Points(file);
        long count = seeds.Count * points.Count * file.Methods.Sum(method => (long)RanksOf(method.Method).Count);
        if (count > MostRuns) throw new UserError(string.Create(CultureInfo.InvariantCulture, $"{PlainText.Of(file.Path)}: it makes {count} runs; allowed: {MostRuns} at most"));
        List<SweepRun> runs = [];
        HashSet<string> names = new(StringComparer.Ordinal);
        foreach (long seed in seeds)
        {
            foreach ((SweepMethod method, string place) in file.Methods)
            {
                foreach (IReadOnlyList<(string Key, string Value)> point in points)
                {
                    foreach (int ranks in RanksOf(method)) Add(seed, method, place, point, ranks);
                }
            }
        }
        string[] baseline = changes.Baseline is { Count: > 0 } named ? [.. named]
            : file.Section.Baseline is string chosen ? [chosen] : runs.Select(run => run.Group).Distinct().Skip(1).Any() ? [runs[0].Name] : [];
        // As compare will ask for it, after hours.
        string[] groups = [.. runs.SelectMany(run => new[] { run.Name, run.Group[..run.Group.LastIndexOf('-')] }).Distinct()];
        if (baseline.FirstOrDefault(name => name != SweepFile.NoBaseline && !name.Contains('=', StringComparison.Ordinal) && !name.Contains('/', StringComparison.Ordinal) && !groups.Contains(name)) is string unknown)
        {
            throw new UserError(
                $"{PlainText.Of(file.Path)}: baseline: no run is named {PlainText.Of(unknown)}, nor has a group that before its ranks and seed; allowed: first, none, KEY=VALUE, a run's name, or {string.Join(", ", runs.Select(run => run.Group[..run.Group.LastIndexOf('-')]).Distinct().Take(10))}");
        }
        return new SweepPlan(config, folder, baseline is [SweepFile.NoBaseline] ? [] : baseline, runs);

        IReadOnlyList<int> RanksOf(SweepMethod method) => method.Ranks.Count > 0 ? method.Ranks : file.Section.Ranks;

        void Add(long seed, SweepMethod method, string place, IReadOnlyList<(string Key, string Value)> point, int ranks)
        {
            string[] parts = [method.Name, .. point.Select(value => NameOf(value.Value)), Text(ranks)];
            string group = string.Join('-', parts), name = $"{group}-{Text(seed)}";
            if (!names.Add(name))
                throw new UserError($"{place}: two runs are named {name}; a name, number of ranks and seed may stand once in {PlainText.Of(file.Path)}{(changes.Seeds is null ? "" : " and --seeds")}");
            string[] settings = [$"run.seed={Text(seed)}", .. file.Section.Overrides, .. method.Set, .. point.Select(value => $"{value.Key}={value.Value}"), .. changes.Overrides];
            try
            {
                RunConfig resolved = RunConfigLoader.Parse(text, config, [.. settings, $"run.folder={Path.Combine(folder, "runs")}", $"run.name={name}"]);
                check(resolved, ranks);
                // How a run begins is the sweep's to say.
                RunSection run = resolved.Run;
                runs.Add(new SweepRun(
                    name, group, ranks, [.. settings, .. run.Overwrite ? (string[])["run.overwrite=false"] : [], .. run.Resume is ResumeChoice.Auto ? (string[])["run.resume=never"] : []], resolved));
            }
            catch (UserError error)
            {
                throw new UserError($"{place}: run {name}: {error.Message.Split('\n')[0]}", error, error.ExitCode);
            }
        }
    }

    private static string ReadConfig(SweepFile file)
    {
        string config = file.Section.Config;
        try
        {
            // Each launch reads it again.
            return RegularFile.WhatElse(config) is string other ? throw new UserError($"{PlainText.Of(config)}: it is {other}, not a regular file") : RunConfigLoader.ReadText(config);
        }
        catch (UserError error)
        {
            throw new UserError($"{PlainText.Of(file.Path)}: config: {error.Message}", error, error.ExitCode);
        }
    }

    private const string EachHasItsOwn = "every run has its own; seeds and folder choose seeds and the folder";

    private static void MustBeOfAll(string setting, SweepFile file, string where)
    {
        string key = KeyOf(setting);
        if (OfRuns.Contains(key)) throw new UserError($"{where}{PlainText.Of(setting)}: {EachHasItsOwn}");
        if (file.Axes.Any(axis => axis.Key == key || axis.Key.StartsWith($"{key}.", StringComparison.Ordinal))) throw new UserError($"{where}{PlainText.Of(setting)}: axes of {PlainText.Of(file.Path)} have values of {key}; allowed: one of the two");
    }

    private static string KeyOf(string setting) => setting.Split('=')[0];

    /// <summary>Every combination of the axes' values; the last axis changes first.</summary>
    private static IReadOnlyList<IReadOnlyList<(string Key, string Value)>> Points(SweepFile file)
    {
        IReadOnlyList<IReadOnlyList<(string, string)>> points = [[]];
        foreach (SweepAxis axis in file.Axes)
        {
            if ((long)points.Count * axis.Values.Count > MostRuns)
                throw new UserError(string.Create(CultureInfo.InvariantCulture, $"{PlainText.Of(file.Path)}: axes: they make {(long)points.Count * axis.Values.Count} combinations and more; allowed: {MostRuns} runs at most"));
            points = [.. points.SelectMany(point => axis.Values.Select(value => (IReadOnlyList<(string, string)>)[.. point, (axis.Key, value)]))];
        }
        return points;
    }

    /// <summary>A value as a part of a name: 500 steps is 500_steps.</summary>
    private static string NameOf(string value) => string.Concat(value.Select(c => SweepFile.IsOfName(c) ? c : '_'));

    private static long[] SeedsOf(string text)
    {
        string[] words = text.Split([',', ' '], StringSplitOptions.RemoveEmptyEntries);
        long[] seeds = [.. words.Select(word => long.TryParse(word, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out long seed) ? seed
            : throw new UserError($"--seeds: found {PlainText.Of(word)}; allowed: whole numbers with commas between, such as 1,2,3"))];
        return seeds.Length > 0 ? seeds : throw new UserError("--seeds: found nothing; allowed: whole numbers with commas between, such as 1,2,3");
    }

    private static string Text(long number) => number.ToString(CultureInfo.InvariantCulture);
}
