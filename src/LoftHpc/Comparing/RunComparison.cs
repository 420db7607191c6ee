using LoftHpc.Configuration;
using LoftHpc.Results;

namespace LoftHpc.Comparing;

/// <summary>Runs that differ in nothing but their seed.</summary>
/// <param name="Values">What tells the group from the others, a value for each of <see cref="RunComparison.Columns"/>.</param>
/// <param name="Label">The same as one text.</param>
/// <param name="Runs">By seed; each seed once.</param>
public sealed record RunGroup(IReadOnlyList<string> Values, string Label, IReadOnlyList<ComparedRun> Runs);

/// <summary>Finished runs side by side, from the files of their run folders alone.</summary>
/// <param name="Runs">By method, schedule, ranks, seed and name.</param>
/// <param name="Columns">The settings in which the runs differ, seeds apart.</param>
/// <param name="Groups">In the order of their first runs.</param>
/// <param name="Unfinished">Names of folders that hold no trained ticket (yet).</param>
/// <param name="LeftOut">One line for each finished run that cannot be taken, with the reason.</param>
/// <param name="Differences">One line for each thing that all runs should have had alike, and had not.</param>
/// <param name="Environment">One line for each kind of processor, MPI library, libtorch and program that made the runs.</param>
public sealed record RunComparison(
    IReadOnlyList<ComparedRun> Runs, IReadOnlyList<string> Columns, IReadOnlyList<RunGroup> Groups,
    IReadOnlyList<string> Unfinished, IReadOnlyList<string> LeftOut, IReadOnlyList<string> Differences, IReadOnlyList<string> Environment)
{
    /// <summary>What all runs should have alike, from their launches; without a value where a launch has none. A difference that the settings of <c>Setting</c> explain is none.</summary>
    private static readonly (string Name, string? Setting, Func<LaunchRecord, IEnumerable<string>> Of)[] Alike =
    [
        ("version of the program", null, launch => [$"{launch.Build.Version}, commit {launch.Build.GitCommit}"]),
        ("sources", null, launch => [launch.Build.GitDirty switch { true => "changed since the commit", false => "as in the commit", null => "not known whether changed" }]),
        ("libtorch", null, launch => [launch.Libtorch]),
        ("data", "data.", launch => [launch.DataHash]),
        ("precision", "run.precision", launch => [launch.Precision]),
        ("memory format", "run.memory_format", launch => [launch.MemoryFormat]),
        ("MPI", "run.mpi", MpiOf),
        ("device", "run.device", launch => launch.Ranks.Select(rank => rank.Device.Split(':')[0])),
        ("processor", null, launch => launch.Ranks.Select(rank => rank.CpuModel)),
        ("arithmetic", null, launch => [ArithmeticOf([launch])]),
    ];

    /// <summary>The rows of comparison.csv.</summary>
    public IReadOnlyList<ComparisonRow> Rows => [.. Runs.Select(run => run.Row)];

    /// <summary>Reads runs.</summary>
    /// <param name="arguments">Run folders, folders of run folders, patterns with * and ?, tables of run folders, and files like comparison.csv.</param>
    /// <exception cref="UserError">An argument stands for nothing, or none of the runs can be taken.</exception>
    public static RunComparison Read(IReadOnlyList<string> arguments)
    {
        RunArguments found = RunArguments.Resolve(arguments);
        List<ComparedRun> runs = [];
        List<string> unfinished = [], leftOut = [.. found.Others.Select(path => $"{PlainText.Of(path)}: it is no run folder, and no table that holds runs")];
        foreach (RunFolder folder in found.Folders)
        {
            try
            {
                if (folder.Holds(NetworkState.Ticket)) runs.Add(ComparedRun.Read(folder));
                else unfinished.Add(PlainText.Of(folder.Name));
            }
            catch (UserError error)
            {
                string[] lines = error.Message.Split('\n');
                leftOut.Add(lines[0] + (lines.Length > 1 ? $" (and {lines.Length - 1} more)" : ""));
            }
        }
        if (runs.Count > 0 && found.Tables.Count > 0)
            throw new UserError($"{PlainText.Of(found.Tables[0].Path)}: a table of runs is not compared with run folders ({PlainText.Of(runs[0].Name)}), since it holds only some of their settings");
        runs.AddRange(found.Tables.SelectMany(ComparedRun.ReadRows));
        if (runs.Count == 0)
        {
            throw new UserError(
                $"{PlainText.Of(arguments[0])}: there is no finished run in it (one whose summary.csv has a line of its ticket)"
                + (leftOut.Count > 0 ? $" that can be taken: {leftOut[0]}{(leftOut.Count > 1 ? $"; and {leftOut.Count - 1} more" : "")}" : ""));
        }
        runs = [.. runs.OrderBy(run => run.Row.Method).ThenBy(run => run.Row.Schedule).ThenBy(run => run.Row.Ranks).ThenBy(run => run.Row.Seed).ThenBy(run => run.Name, StringComparer.Ordinal)];
        string[] columns = ColumnsOf(runs);
        List<RunGroup> groups = [];
        foreach (IGrouping<string, ComparedRun> alike in runs.GroupBy(run => Label(run, columns)))
        {
            foreach (IGrouping<long, ComparedRun> twice in alike.GroupBy(run => run.Row.Seed).Where(seed => seed.Count() > 1))
                leftOut.AddRange(twice.Skip(1).Select(run => $"{run.Path ?? run.Name}: it has the settings and the seed of {twice.First().Name}"));
            ComparedRun[] seeds = [.. alike.GroupBy(run => run.Row.Seed).Select(seed => seed.First()).OrderBy(run => run.Row.Seed)];
            groups.Add(new RunGroup([.. columns.Select(column => ValueOf(seeds[0], column))], alike.Key, seeds));
        }
        HashSet<ComparedRun> taken = new(groups.SelectMany(group => group.Runs), ReferenceEqualityComparer.Instance);
        return new RunComparison(
            [.. runs.Where(taken.Contains)], columns, groups, unfinished, leftOut,
            [.. Alike.Select(what => Difference([.. runs.Where(taken.Contains)], columns, what.Name, what.Setting, what.Of)).Append(OneSource(groups)).OfType<string>()],
            EnvironmentOf([.. runs.Where(taken.Contains).SelectMany(run => run.Launches)]));
    }

    /// <summary>The value of one of a run's settings.</summary>
    public static string ValueOf(ComparedRun run, string column) => run.Settings.First(setting => setting.Key == column).Value;

    /// <summary>The settings of which there are several values. A name that says nothing more than the others is none, nor are ranks that are the same in both trainings.</summary>
    private static string[] ColumnsOf(List<ComparedRun> runs)
    {
        // All have the same keys.
        string[] columns = [.. runs[0].Settings.Select(setting => setting.Key).Where(key => runs.Select(run => ValueOf(run, key)).Distinct().Skip(1).Any())];
        if (columns.Contains(ComparedRun.RetrainRanks) && runs.All(run => ValueOf(run, ComparedRun.RetrainRanks) == ValueOf(run, ComparedRun.Ranks)))
            columns = [.. columns.Where(column => column != ComparedRun.RetrainRanks)];
        string[] others = [.. columns.Where(column => column != ComparedRun.NameOfRow)];
        bool namesTell = runs.GroupBy(run => Label(run, others)).Any(group => group.Select(run => Label(run, columns)).Distinct().Skip(1).Any());
        return namesTell ? columns : others;
    }

    private static string Label(ComparedRun run, string[] columns) =>
        columns.Length == 0 ? "all" : string.Join("; ", columns.Select(column => $"{column}={ValueOf(run, column)}"));

    /// <summary>In what runs differ, with the runs; null where they do not.</summary>
    private static string? Difference(List<ComparedRun> runs, string[] columns, string name, string? setting, Func<LaunchRecord, IEnumerable<string>> of)
    {
        if (setting is not null && columns.Any(column => setting == "data." ? IsOfImages(column) : column == setting)) return null;
        // Synthetic images are drawn by the seed.
        IEnumerable<ComparedRun> compared = setting == "data." ? runs.Where(run => run.Path is not null && ValueOf(run, "data.set") != ConfigName.Of(DataSetName.Synthetic)) : runs;
        IGrouping<string, string>[] kinds =
        [
            .. from run in compared
               let used = string.Join(", ", run.Launches.SelectMany(of).Distinct().Order(StringComparer.Ordinal))
               where used.Length > 0
               group run.Name by used,
        ];
        return kinds.Length < 2 ? null : $"runs differ in their {name}: {string.Join("; ", kinds.Select(kind => $"{PlainText.Of(kind.Key)} ({Names([.. kind])})"))}";
    }

    /// <summary>Whether a setting says which images there are.</summary>
    private static bool IsOfImages(string column) => column is "data.set" or "data.validation_images" or "data.validation_seed" or "data.classes" or "data.label_bytes" or "data.train_images" or "data.test_images" or "data.image_size" or "data.channels" or "data.broken_images" or "data.check_images" || column.StartsWith("data.synthetic.", StringComparison.Ordinal);

    /// <summary>Groups of which several runs have one pre-training, in one line; null: there are none.</summary>
    private static string? OneSource(List<RunGroup> groups)
    {
        string[] names = [.. groups.SelectMany(group => group.Runs.GroupBy(run => run.Source).Where(source => source.Key is not null && source.Count() > 1)).SelectMany(source => source).Select(run => run.Name)];
        return names.Length == 0 ? null : $"runs of one group were drawn from one pre-training, so their seeds say nothing of other pre-trainings: {Names(names)}";
    }

    private static string Names(string[] names)
    {
        const int most = 3;
        return string.Join(", ", names.Take(most).Select(PlainText.Of)) + (names.Length > most ? $" and {names.Length - most} more" : "");
    }

    private static IEnumerable<string> MpiOf(LaunchRecord launch) =>
        launch.Mpi.Version.Length == 0 ? [] : [launch.Mpi.Binding == "native" ? launch.Mpi.Version : $"{launch.Mpi.Version}, through {launch.Mpi.Binding}"];

    /// <summary>What was repaired in the arithmetic of launches, whichever ranks it was on.</summary>
    private static string ArithmeticOf(IReadOnlyList<LaunchRecord> launches)
    {
        string[] repairs = [.. launches.SelectMany(launch => launch.Arithmetic ?? []).Where(rank => rank.Convolutions > 0).Select(rank => rank.Repair).Distinct().Order(StringComparer.Ordinal)];
        return launches.Any(launch => launch.Arithmetic is null) ? "not checked" : repairs.Length == 0 ? "as libtorch has it" : $"repaired ({string.Join(", ", repairs)})";
    }

    private static IReadOnlyList<string> EnvironmentOf(LaunchRecord[] all)
    {
        IEnumerable<string> Kinds(string what, IEnumerable<string> kinds) => kinds.Distinct().Order(StringComparer.Ordinal).Select(kind => $"{what}: {kind}");
        return
        [
            .. Kinds("processor", all.SelectMany(launch => launch.Ranks).Select(rank => rank.CpuModel)),
            .. Kinds("MPI", all.SelectMany(MpiOf)),
            .. Kinds("libtorch", all.Select(launch => launch.Libtorch)),
            .. Kinds("precision", all.Select(launch => launch.Precision)),
            .. Kinds("memory format", all.Select(launch => launch.MemoryFormat)),
            .. Kinds("arithmetic", all.Select(launch => ArithmeticOf([launch]))),
            .. Kinds("data", all.Select(launch => launch.DataHash)),
            .. Kinds("program", all.Select(launch =>
                $"lofthpc {launch.Build.Version}, commit {launch.Build.GitCommit}{(launch.Build.GitDirty == true ? " (changed)" : "")}, {launch.Build.Runtime}")),
        ];
    }
}
