using LoftHpc.Configuration;
using LoftHpc.Results;

namespace LoftHpc.Sweeping;

/// <summary>What stands in the folder of one of a sweep's runs.</summary>
/// <param name="IsFinished">It holds a trained ticket, and the launch that trained it ended well.</param>
/// <param name="Differences">In which settings the folder's run is another one than the sweep's; what may differ between the launches of a run is none.</param>
public sealed record SweepState(bool IsFinished, IReadOnlyList<string> Differences)
{
    /// <exception cref="UserError">A file of the folder cannot be read.</exception>
    public static SweepState Of(SweepRun run, string runsFolder)
    {
        RunFolder folder = RunFolder.At(Path.Combine(runsFolder, run.Name));
        if (!folder.IsBegun) return new SweepState(false, []);
        RunConfig made = RunConfigLoader.Load(folder.Config);
        // What fails after the ticket's row, which is written last of the stages, is a plot.
        bool finished = folder.Holds(NetworkState.Ticket)
            && RunManifest.Read(folder.Manifest).Launches.LastOrDefault(launch => launch.Command is "run" or "retrain")?.ExitCode == ExitCodes.Done;
        return new SweepState(finished, [.. finished ? RunConfigRules.DifferencesOfFinished(made, run.Config) : RunConfigRules.DifferencesOfRuns(made, run.Config)]);
    }
}
