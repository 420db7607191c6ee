using LoftHpc.Configuration;
using LoftHpc.Results;

namespace LoftHpc.Comparing;

/// <summary>Holds the tables of a run against what its manifest and config say: a copy that lacks whole lines would give wrong figures.</summary>
internal static class RunTables
{
    /// <summary>Refuses tables that are a part of what one training wrote.</summary>
    /// <returns>The ranks that trained.</returns>
    /// <exception cref="UserError">The first row that is missing or too many.</exception>
    public static int Check(RunFolder folder, RunManifest manifest, TrainingPhase phase, int epochs, bool isValidated)
    {
        string name = ConfigName.Of(phase);
        // A training that was gone on with may have changed its ranks: its rows are those of one of the launches.
        string[] commands = phase is TrainingPhase.Pretrain ? [name, "import", "run"] : [name, "tickets", "extract", "run"];
        int[] allowed = [.. manifest.Launches.Where(launch => commands.Contains(launch.Command)).Select(launch => launch.Ranks.Count).Distinct()];
        if (allowed.Length == 0) throw new UserError($"{folder.Manifest}: there is no launch of {string.Join(", ", commands[..^1])} or {commands[^1]} in it");

        int[] ranks = [.. folder.Resources.Read().Where(row => row.Phase == phase).Select(row => row.Rank).Order()];
        if (!allowed.Any(count => ranks.SequenceEqual(Enumerable.Range(0, count))))
            throw new UserError($"{folder.Resources.Path}: phase {name} has {Rows(ranks)}; by manifest.json there were {string.Join(" or ", allowed)} ranks, with a row each");

        ILookup<(int Epoch, DataSplit Split), MetricsRow> metrics = folder.Metrics.Read().Where(row => row.Phase == phase).ToLookup(row => (row.Epoch, row.Split));
        foreach (int epoch in Enumerable.Range(1, epochs))
        {
            foreach (DataSplit split in Enum.GetValues<DataSplit>().Where(split => isValidated || split is not DataSplit.Validation))
            {
                if (metrics[(epoch, split)].Count() is var rows and not 1)
                    throw new UserError($"{folder.Metrics.Path}: phase {name} has {rows} rows of epoch {epoch}, split {ConfigName.Of(split)}; by {Path.GetFileName(folder.Config)} it had {epochs} epochs, with a row each");
            }
        }
        if (metrics.FirstOrDefault(rows => rows.Key.Epoch < 1 || rows.Key.Epoch > epochs) is { } more)
            throw new UserError($"{folder.Metrics.Path}: phase {name} has a row of epoch {more.Key.Epoch}; by {Path.GetFileName(folder.Config)} it had {epochs} epochs");

        CommunicationRow[] sent = [.. folder.Communication.Read().Where(row => row.Phase == name)];
        int[] senders = [.. sent.Select(row => row.Rank).Distinct().Order()];
        if (!senders.SequenceEqual(ranks)) throw new UserError($"{folder.Communication.Path}: phase {name} has {Rows(senders)}; by manifest.json there were {ranks.Length} ranks");
        // Ranks send to each other alone.
        if ((sent.Sum(row => row.BytesSent), sent.Sum(row => row.BytesReceived)) is var (all, arrived) && all != arrived)
            throw new UserError($"{folder.Communication.Path}: phase {name} has {all} bytes that were sent and {arrived} that were received; rows are missing");
        return ranks.Length;
    }

    private static string Rows(int[] ranks) => ranks.Length switch
    {
        0 => "no rows",
        1 => $"rows of rank {ranks[0]} only",
        _ => $"rows of ranks {string.Join(", ", ranks)}",
    };
}
