using LoftHpc.Comparing;
using LoftHpc.Results;
using ScottPlot;
using PlotStyle = LoftHpc.Results.PlotStyle;

namespace LoftHpc.Reporting;

/// <summary>The pre-training of a group of runs, or of several groups whose tickets were drawn from the same one.</summary>
/// <param name="Folders">A run folder a seed.</param>
/// <param name="Looks">The groups.</param>
internal sealed record Pretraining(string Name, string Family, Mark Mark, IReadOnlyList<RunFolder> Folders, IReadOnlyList<GroupLook> Looks)
{
    /// <summary>In the order of the groups; none of rows of a table, which have no folders.</summary>
    public static IReadOnlyList<Pretraining> Of(IReadOnlyList<GroupLook> looks)
    {
        IGrouping<string, GroupLook>[] alike =
        [
            .. looks.Where(look => look.Group.Runs[0].Path is not null)
                .GroupBy(look => string.Join('\n', FoldersOf(look).Select(folder => Path.GetFullPath(folder.Path)).Order(StringComparer.Ordinal))),
        ];
        return [.. alike.Select(group => Of([.. group], alike.Length))];
    }

    private static Pretraining Of(GroupLook[] looks, int pretrainings)
    {
        RunFolder[] folders = [.. FoldersOf(looks[0])];
        if (looks.Length == 1) return new Pretraining(looks[0].Name, looks[0].Family, looks[0].Mark, folders, looks);
        string name = PlainText.Of(folders[0].Name) + (folders.Length > 1 ? $" and {folders.Length - 1} more" : "");
        // A line of its own, since it is no group's alone.
        Mark mark = new(pretrainings == 1 ? PlotStyle.Faint : looks[0].Mark.Color, MarkerShape.FilledCircle, LinePattern.Solid);
        return new Pretraining($"{name} (of {looks.Length} groups)", looks[0].Family, mark, folders, looks);
    }

    private static IEnumerable<RunFolder> FoldersOf(GroupLook look) =>
        look.Group.Runs.Select(run => run.Source ?? run.Path!).DistinctBy(Path.GetFullPath).Select(RunFolder.At);
}
