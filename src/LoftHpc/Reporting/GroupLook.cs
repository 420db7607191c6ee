using System.Globalization;
using LoftHpc.Comparing;
using LoftHpc.Results;
using ScottPlot;
using PlotStyle = LoftHpc.Results.PlotStyle;

namespace LoftHpc.Reporting;

/// <summary>A group of runs as figures show it.</summary>
/// <param name="Name">Short, and of no other group.</param>
/// <param name="Family">Groups of one family differ in numbers only, such as the ranks, and share a colour.</param>
internal sealed record GroupLook(RunGroup Group, string Name, string Family, Mark Mark)
{
    private static readonly MarkerShape[] Filled =
        [MarkerShape.FilledCircle, MarkerShape.FilledSquare, MarkerShape.FilledDiamond, MarkerShape.FilledTriangleUp, MarkerShape.FilledTriangleDown];

    private static readonly MarkerShape[] Open =
        [MarkerShape.OpenCircle, MarkerShape.OpenSquare, MarkerShape.OpenDiamond, MarkerShape.OpenTriangleUp, MarkerShape.OpenTriangleDown];

    private static readonly LinePattern[] Patterns = [LinePattern.Solid, LinePattern.Dashed, LinePattern.Dotted, LinePattern.DenselyDashed];

    /// <summary>All groups, in their order.</summary>
    public static IReadOnlyList<GroupLook> Of(RunComparison runs, RunGroup? baseline)
    {
        string[] names = Names(runs), families = Families(runs, names);
        string[] inOrder = [.. families.Distinct()];
        string? ofBaseline = baseline is null ? null : families[IndexOf(runs.Groups, baseline)];
        // The baseline's family has the colour of the text.
        string[] colored = [.. inOrder.Where(family => family != ofBaseline)];
        return
        [
            .. runs.Groups.Select((group, i) => new GroupLook(
                group, names[i], families[i],
                MarkOf(families[i] == ofBaseline ? -1 : Array.IndexOf(colored, families[i]), families.Take(i).Count(family => family == families[i])))),
        ];
    }

    /// <summary>The mark of a member of a family, both from 0; -1 is the family of the baseline.</summary>
    public static Mark MarkOf(int family, int member) => new(
        family < 0 ? PlotStyle.Ink : ReportColors.Series[family % ReportColors.Series.Count],
        (member == 0 ? Filled : Open)[(family + 1 + Math.Max(0, member - 1)) % Filled.Length],
        Patterns[member % Patterns.Length]);

    /// <summary>A setting in few words: a word stands for itself, a number needs its key.</summary>
    public static string Short(string key, string value)
    {
        string name = key[(key.LastIndexOf('.') + 1)..].Replace('_', ' ');
        if (name == ComparedRun.Ranks) return value == "1" ? "1 rank" : $"{value} ranks";
        return value.Length == 0 ? $"no {name}" : IsNumber(value) || value is "true" or "false" ? $"{name} {value}" : value;
    }

    public static bool IsNumber(string value) => double.TryParse(value, NumberStyles.Float, CultureInfo.InvariantCulture, out _);

    private static int IndexOf(IReadOnlyList<RunGroup> groups, RunGroup group) => groups.ToList().IndexOf(group);

    /// <summary>What the users have named them, where that tells them apart; else their settings.</summary>
    private static string[] Names(RunComparison runs)
    {
        bool ranksDiffer = runs.Runs.Select(run => run.Row.Ranks).Distinct().Skip(1).Any();
        string[] given =
        [
            .. runs.Groups.Select(group => group.Runs.Select(run => run.Row.Name).Distinct().ToArray() is [string name]
                ? name + (ranksDiffer ? $", {Short(ComparedRun.Ranks, group.Runs[0].Row.Ranks.ToString(CultureInfo.InvariantCulture))}" : "")
                : ""),
        ];
        string[] settings = [.. runs.Groups.Select(group => string.Join(", ", runs.Columns.Zip(group.Values, Short)))];
        string[] labels = [.. runs.Groups.Select(group => group.Label)];
        string[][] choices = [given, settings, labels];
        return [.. choices.First(names => (names == labels) || (names.All(name => name.Length > 0) && names.Distinct().Count() == names.Length)).Select(PlainText.Of)];
    }

    private static string[] Families(RunComparison runs, string[] names)
    {
        int[] words = [.. Enumerable.Range(0, runs.Columns.Count).Where(i => runs.Columns[i] is not (ComparedRun.NameOfRow or "extract.like") && !runs.Groups.All(group => IsNumber(group.Values[i])))];
        string[] keys = [.. runs.Groups.Select(group => string.Join(", ", words.Select(i => Short(runs.Columns[i], group.Values[i]))))];
        // Groups that all differ in numbers only are a family each.
        if (keys.Distinct().Count() == 1) return names;
        return [.. keys.Select((key, i) => keys.Count(other => other == key) == 1 ? names[i] : PlainText.Of(key))];
    }
}
