using System.Diagnostics;
using System.Globalization;
using LoftHpc.Comparing;
using LoftHpc.Configuration;
using LoftHpc.Mpi;
using LoftHpc.Output;
using LoftHpc.Planning;
using LoftHpc.Results;
using LoftHpc.Sweeping;

namespace LoftHpc.Commands;

/// <summary>What a sweep works with, besides its plan.</summary>
/// <param name="Launch">Starts a run on so many ranks with these arguments of the program, adds its output to a log, and returns the exit code.</param>
/// <param name="Compare">Writes the tables of the finished runs.</param>
public sealed record SweepTools(Func<SweepRun, IReadOnlyList<string>, string, int> Launch, Action<IReadOnlyList<string>, IReporter> Compare);

/// <summary>
/// Makes the runs of a sweep one after the other, each by a launch of its own, and writes the tables of compare anew after each. It keeps
/// runs that are finished, goes on with those that were stopped, and with the others where one fails. Needs no libtorch.
/// </summary>
public static class SweepCommand
{
    /// <summary>Reads the file, and refuses it where one of its runs could not start.</summary>
    /// <exception cref="UserError">One could not.</exception>
    public static SweepPlan Plan(string file, SweepChanges changes)
    {
        // Some sets are read to know their shape: once for all runs.
        Dictionary<string, ImageShape> shapes = [];
        return SweepPlan.Of(SweepFile.Load(file), changes, (config, ranks) =>
        {
            string data = RunConfigLoader.ToYaml(new RunConfig { Data = config.Data });
            if (!shapes.TryGetValue(data, out ImageShape? images)) shapes.Add(data, images = ImageShape.Of(config.Data));
            PlanSetting setting = PlanSetting.Of(config, ranks, images);
            RunCommands.CheckRun(config, setting.Network, images.Side, images.TrainImages, ranks);
        });
    }

    /// <summary>Writes lists for Slurm of the runs that are not finished.</summary>
    /// <exception cref="UserError">One has been begun with other settings.</exception>
    public static void List(SweepPlan plan, string path, IReporter reporter)
    {
        (SweepRun[] waiting, HashSet<SweepRun> anew) = Waiting(plan);
        if (waiting.FirstOrDefault(anew.Contains) is SweepRun other)
            throw new UserError($"{Path.Combine(plan.RunsFolder, other.Name)}: begun with other settings ({DifferencesOf(plan, other)}); remove it, or choose another folder (--folder)");
        reporter.Info(Counts(plan, waiting));
        foreach (string command in SweepList.Write(path, plan, waiting)) reporter.Result(command);
    }

    /// <summary>Makes the runs by a launcher.</summary>
    /// <param name="command">As <see cref="RunLauncher"/> takes it.</param>
    /// <exception cref="UserError">A run has failed, or none could begin.</exception>
    public static void Run(SweepPlan plan, string? command, IReporter reporter)
    {
        LaunchEnvironment own = LaunchEnvironment.Current;
        if (own.Launcher is not (Launcher.None or Launcher.Slurm) || own.IsParallel)
            throw new UserError("sweep: it starts the ranks of its runs itself; start it without mpiexec or srun, and choose the launcher of the runs by --launcher");
        RunLauncher launcher = new(command);
        FolderLock? taken = null;
        Signals.EndingAgain += launcher.End;
        Signals.Ending += _ =>
        {
            launcher.Stop(reporter.Info);
            taken?.Dispose();
        };
        MakeFolder(plan.RunsFolder);
        // A launch may outlive a sweep that is killed: no other is to begin beside it.
        using (taken = FolderLock.Take(plan.RunsFolder, tell: reporter.Info, lost: error =>
        {
            launcher.End();
            throw error;
        }))
        {
            taken.HandOn();
            Make(plan, new SweepTools((run, arguments, log) => launcher.Run(run.Ranks, arguments, log, run.Config.Run.Threads), (baseline, to) => Compare(plan, baseline, to)), reporter);
        }
    }

    /// <summary>Makes the runs that are not finished.</summary>
    /// <exception cref="UserError">A run has failed, or a finished one has other settings; then none is begun.</exception>
    internal static void Make(SweepPlan plan, SweepTools tools, IReporter reporter)
    {
        (SweepRun[] waiting, HashSet<SweepRun> anew) = Waiting(plan);
        reporter.Info(Counts(plan, waiting));
        IReporter silent = new SilentReporter(TextWriter.Null);
        SweepTimes times = new();
        Stopwatch all = Stopwatch.StartNew();
        List<string> failed = [];
        int done = plan.Runs.Count - waiting.Length;
        foreach ((int number, SweepRun run) in waiting.Index())
        {
            if (Signals.StopIsAsked) throw Stopped();
            string log = Path.Combine(plan.RunsFolder, $"{run.Name}.log");
            if (anew.Contains(run)) reporter.Info($"{run.Name} was begun with other settings ({DifferencesOf(plan, run)}) and is made anew");
            long before = anew.Contains(run) ? Empty(log) : LengthOf(log);
            Stopwatch clock = Stopwatch.StartNew();
            int exitCode = tools.Launch(
                run,
                [
                    "run", "--config", plan.ConfigFile, .. run.Settings, $"run.folder={plan.RunsFolder}", $"run.name={run.Name}",
                    anew.Contains(run) ? "run.overwrite=true" : "run.resume=auto",
                ],
                log);
            if (Signals.StopIsAsked && exitCode != ExitCodes.Done) throw Stopped();
            // By a limit, which the next run would reach too.
            if (exitCode == ExitCodes.Stopped)
                throw new UserError($"sweep: {run.Name} has stopped: {ReasonIn(log, before)}; the same command goes on from there", ExitCodes.Stopped);
            string result;
            SweepState? state = StateOf(plan, run);
            if (state is { IsFinished: true, Differences.Count: > 0 })
            {
                failed.Add(run.Name);
                result = $"was made with other settings, as {plan.ConfigFile} has changed meanwhile: {string.Join("; ", state.Differences)}";
            }
            // Not the exit code alone, which some launchers lose.
            else if (exitCode == ExitCodes.Done && state is { IsFinished: true })
            {
                done++;
                times.Add(run, clock.Elapsed);
                result = $"done in {SweepTimes.Text(clock.Elapsed)}";
                // What it prints is printed once, in the end.
                if (!Compared([], silent, $"the table after {run.Name}")) result += ", but no table could be written";
            }
            else
            {
                failed.Add(run.Name);
                result = string.Create(CultureInfo.InvariantCulture, $"FAILED with status {exitCode}, see {log}: {ReasonIn(log, before)}");
            }
            reporter.Info($"[{number + 1}/{waiting.Length}] {run.Name} {result}; {SweepTimes.Text(all.Elapsed)} elapsed, about {SweepTimes.Text(times.Of(waiting.Skip(number + 1)))} left");
        }
        // Any finished run of the first group stands for it.
        IReadOnlyList<string> baseline = plan.Baseline;
        if (baseline is [string first] && first == plan.Runs[0].Name)
            baseline = [.. plan.Runs.Where(run => run.Group == plan.Runs[0].Group && StateOf(plan, run) is { IsFinished: true }).Select(run => run.Name).Take(1)];
        // Without the baseline there is a table all the same.
        if (done > 0 && !Compared(baseline, reporter, "the table") && baseline.Count > 0) Compared([], reporter, "the table without a baseline");
        if (failed.Count > 0) throw new UserError($"sweep: failed: {string.Join(", ", failed)}", ExitCodes.Failure);

        bool Compared(IReadOnlyList<string> baseline, IReporter to, string what)
        {
            try
            {
                tools.Compare(baseline, to);
                return true;
            }
            catch (UserError error)
            {
                failed.Add($"{what} ({error.Message.Split('\n')[0]})");
                return false;
            }
        }
    }

    /// <summary>The runs that are not finished, and those of them that were begun with other settings.</summary>
    /// <exception cref="UserError">A finished one has other settings.</exception>
    private static (SweepRun[] Waiting, HashSet<SweepRun> Anew) Waiting(SweepPlan plan)
    {
        (SweepRun Run, SweepState State)[] all = [.. plan.Runs.Select(run => (run, SweepState.Of(run, plan.RunsFolder)))];
        (SweepRun Run, SweepState State)[] stale = [.. all.Where(one => one.State.IsFinished && one.State.Differences.Count > 0)];
        if (stale.Length > 0)
        {
            const int most = 10;
            string names = string.Join(", ", stale.Take(most).Select(one => one.Run.Name)) + (stale.Length > most ? $" and {stale.Length - most} more" : "");
            throw new UserError(
                $"{plan.RunsFolder}: finished with other settings than they would have now: {names} ({stale[0].Run.Name}: {string.Join("; ", stale[0].State.Differences)}); remove them, or choose another folder (--folder)");
        }
        return ([.. all.Where(one => !one.State.IsFinished).Select(one => one.Run)],
            [.. all.Where(one => !one.State.IsFinished && one.State.Differences.Count > 0).Select(one => one.Run)]);
    }

    /// <summary>Null: a file of the run cannot be read.</summary>
    private static SweepState? StateOf(SweepPlan plan, SweepRun run)
    {
        try
        {
            return SweepState.Of(run, plan.RunsFolder);
        }
        catch (UserError)
        {
            return null;
        }
    }

    private static void Compare(SweepPlan plan, IReadOnlyList<string> baseline, IReporter reporter)
    {
        string In(string file) => Path.Combine(plan.Folder, file);
        CompareCommand.Compare(
            [plan.RunsFolder], new ComparisonQuestions(baseline, [], []), new ComparisonFiles(In("comparison.csv"), In("statistics.csv"), In("comparison.md")), reporter);
    }

    private static string DifferencesOf(SweepPlan plan, SweepRun run) => string.Join("; ", SweepState.Of(run, plan.RunsFolder).Differences);

    private static string Counts(SweepPlan plan, SweepRun[] waiting) => $"{plan.Runs.Count} runs into {plan.RunsFolder}, {plan.Runs.Count - waiting.Length} of them finished already";

    private static UserError Stopped() => new("sweep: stopped on request; the same command goes on from there", ExitCodes.Stopped);

    /// <summary>What a launch says in its log of why it went wrong, in one line: the program's own message, and of a trace the first line too.</summary>
    /// <param name="begin">Where its part of the log begins.</param>
    internal static string ReasonIn(string log, long begin)
    {
        string[] lines;
        try
        {
            using FileStream file = new(log, FileMode.Open, FileAccess.Read, FileShare.ReadWrite);
            file.Position = begin;
            lines = new StreamReader(file).ReadToEnd().Split('\n', StringSplitOptions.RemoveEmptyEntries);
        }
        catch (Exception error) when (DurableFile.IsFailure(error))
        {
            lines = [];
        }
        int at = Array.FindIndex(lines, line => line.StartsWith("lofthpc: ", StringComparison.Ordinal));
        if (at < 0) return lines.Length == 0 ? "it says nothing" : PlainText.Of(lines[^1]);
        return PlainText.Visible(lines[at].EndsWith("failed:", StringComparison.Ordinal) && at + 1 < lines.Length ? $"{lines[at]} {lines[at + 1]}" : lines[at]);
    }

    private static long LengthOf(string log) => File.Exists(log) ? new FileInfo(log).Length : 0;

    private static long Empty(string log)
    {
        DurableFile.Remove(log);
        return LengthOf(log);
    }

    private static void MakeFolder(string path)
    {
        try
        {
            Directory.CreateDirectory(path);
        }
        catch (Exception error) when (DurableFile.IsFailure(error))
        {
            throw DurableFile.Failure(path, error);
        }
    }
}
