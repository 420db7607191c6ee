using System.Globalization;
using LoftHpc.Results;

namespace LoftHpc.Sweeping;

/// <summary>
/// Lists of runs for slurm/array.sbatch, which starts one for each line. All tasks of an array have as many ranks, so there is a list for
/// each number of ranks.
/// </summary>
public static class SweepList
{
    /// <summary>Writes runs.txt as runs-1.txt, runs-2.txt and so on.</summary>
    /// <returns>The commands that submit them.</returns>
    public static IReadOnlyList<string> Write(string path, SweepPlan plan, IEnumerable<SweepRun> runs)
    {
        List<string> commands = [];
        DurableFile.MakeFolderOf(path);
        foreach (IGrouping<int, SweepRun> alike in runs.GroupBy(run => run.Ranks).OrderBy(group => group.Key))
        {
            string file = Path.Combine(
                Path.GetDirectoryName(path) ?? "", string.Create(CultureInfo.InvariantCulture, $"{Path.GetFileNameWithoutExtension(path)}-{alike.Key}{Path.GetExtension(path)}"));
            string[] lines = [.. alike.Select(run => Line(plan, run))];
            DurableFile.WriteText(file, string.Concat(lines.Select(line => $"{line}\n")));
            commands.Add(string.Create(CultureInfo.InvariantCulture, $"sbatch --array=1-{lines.Length} --ntasks={alike.Key} slurm/array.sbatch --list={Word(file)}"));
        }
        return commands;
    }

    private static string Line(SweepPlan plan, SweepRun run) =>
        string.Join(' ', ((string[])[plan.ConfigFile, .. run.Settings, $"run.folder={plan.RunsFolder}", $"run.name={run.Name}"]).Select(Word));

    /// <summary>As xargs reads it, and a shell: in quotes where it must be.</summary>
    private static string Word(string word)
    {
        if (word.Length > 0 && word.All(c => SweepFile.IsOfName(c) || c is '/' or '=' or ',' or ':' or '@' or '%')) return word;
        // Between quotes of one kind all else stands for itself; nothing but these stands for the other kind.
        return string.Join("\"'\"", word.Split('\'').Select(part => $"'{part}'"));
    }
}
