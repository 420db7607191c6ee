using System.Globalization;
using System.Xml.Linq;
using LoftHpc.Comparing;
using LoftHpc.Results;

namespace LoftHpc.Reporting;

/// <summary>What made the runs: program, libraries, hosts and seeds, in all and run by run.</summary>
internal static class ReportOrigin
{
    public static IEnumerable<XElement> Of(RunComparison runs)
    {
        LaunchRecord[] launches = [.. runs.Runs.SelectMany(run => run.Launches)];
        if (launches.Length == 0)
        {
            yield return Html.Paragraph("The runs are rows of a table, which does not say what made them.");
            yield break;
        }
        // "what: which" of the comparison, and what it does not say.
        IEnumerable<(string What, string Which)> facts =
        [
            .. runs.Environment.Select(line => line.Split(": ", 2)).Select(parts => (parts[0], parts[1])),
            ("hosts", string.Join(", ", launches.SelectMany(launch => launch.Hosts).Distinct().Order(StringComparer.Ordinal))),
            ("devices", string.Join(", ", launches.SelectMany(launch => launch.Devices).Distinct().Order(StringComparer.Ordinal))),
            ("seeds", string.Join(", ", runs.Runs.Select(run => run.Row.Seed).Distinct().Order().Select(seed => seed.ToString(CultureInfo.InvariantCulture)))),
            ("launches", string.Create(CultureInfo.InvariantCulture, $"{launches.DistinctBy(launch => (launch.Start, launch.Command, launch.Seed)).Count()}, from {Time(launches.Min(launch => launch.Start))} to {Time(launches.Max(launch => launch.Start))}")),
        ];
        yield return Html.Element("dl", "facts", [.. facts.SelectMany(fact => new[] { Html.Element("dt", "", fact.What), Html.Element("dd", "", fact.Which) })]);
        yield return Html.Details("Run by run", Html.Table(
            "", ["run", "seed", "ranks", "commands", "program", "libtorch", "MPI", "hosts", "Slurm jobs", "last start"],
            runs.Runs.Select(run => (IEnumerable<object>)
            [
                run.Name, run.Row.Seed.ToString(CultureInfo.InvariantCulture), run.Row.Ranks.ToString(CultureInfo.InvariantCulture), Over(run, launch => launch.Command),
                Over(run, launch => $"{launch.Build.Version}, {launch.Build.GitCommit}{(launch.Build.GitDirty == true ? " (changed)" : "")}"),
                Over(run, launch => launch.Libtorch), Over(run, launch => launch.Mpi.Version), Over(run, launch => string.Join(", ", launch.Hosts)), Over(run, launch => launch.SlurmJob ?? ""),
                run.Launches.Count == 0 ? "" : Time(run.Launches.Max(launch => launch.Start)),
            ]),
            new HashSet<int> { 1, 2 }));
    }

    private static string Over(ComparedRun run, Func<LaunchRecord, string> of) => string.Join("; ", run.Launches.Select(of).Where(text => text.Length > 0).Distinct());

    private static string Time(DateTimeOffset time) => time.UtcDateTime.ToString("yyyy-MM-dd HH:mm 'UTC'", CultureInfo.InvariantCulture);
}
