using System.CommandLine;
using LoftHpc.Communication;
using LoftHpc.Comparing;
using LoftHpc.Configuration;
using LoftHpc.Mpi;
using LoftHpc.Output;
using LoftHpc.PyTorch;
using LoftHpc.Results;
using LoftHpc.SelfTest;
using LoftHpc.Stages;
using LoftHpc.Sweeping;

namespace LoftHpc.Commands;

/// <summary>The program's commands: what each takes, and which stages it runs.</summary>
public sealed class CommandLine
{
    private const string DoctorName = "doctor";

    /// <summary>One line holds so many; each may be wrong for the same reason.</summary>
    private const int MostMistakes = 5;

    /// <summary>An argument @FILE stands for itself: what is in a file, a device or a pipe is not read for more arguments.</summary>
    private static readonly ParserConfiguration Parsing = new() { ResponseFileTokenReplacer = null };

    private MpiRuntime? _mpi;

    private CommandLine()
    {
    }

    /// <summary>MPI, once it has started; commands run only then.</summary>
    private MpiRuntime Mpi => _mpi ?? throw new InvalidOperationException("a command runs before MPI has started");

    /// <summary>Parses the arguments and runs the command on this rank.</summary>
    /// <returns>The exit code of this process.</returns>
    public static int Run(string[] arguments)
    {
        CommandLine line = new();
        RootCommand root = line.Root();
        ParseResult parsed = root.Parse(arguments, Parsing);
        string? mistake = Mistake(root, parsed);
        return MpiJob.Run(
            mpi =>
            {
                // Whatever this rank was asked for, it is to be what rank 0 was asked for: another command would have other
                // collectives, and all ranks would wait for ever.
                SameLaunch.Check(mpi, arguments);
                if (mistake is not null) throw new UserError(mistake);
                line._mpi = mpi;
                return parsed.Invoke(Invocation(mpi.World.Rank));
            },
            alone: error =>
            {
                if (mistake is null && parsed.CommandResult.Command.Name == DoctorName) return DoctorCommand.Alone(Console.Out, error);
                MpiJob.Print(mistake ?? error.Message);
                return mistake is null ? error.ExitCode : ExitCodes.Configuration;
            });
    }

    private RootCommand Root() => new("LoftHpc finds winning lottery tickets in convolutional networks by LoFT, over MPI ranks.")
    {
        Stage("pretrain", "Pre-train the dense network and follow the rankings of its filters.", RunCommands.Pretrain),
        Stage("extract", "Draw a ticket from a run's dense weights.", RunCommands.Extract),
        Stage("retrain", "Train a run's ticket.", RunCommands.Retrain),
        Stage("tickets", "Draw and retrain a grid of tickets, with their controls, from a run's dense weights (config section tickets).", TicketsCommand.Run),
        Stage("run", "pretrain, extract and retrain in one launch, and draw the plots.", RunCommands.Run),
        Stage("evaluate", "Measure weights or a ticket on a data set (evaluate.weights=FILE).", RunCommands.Evaluate),
        Import(),
        Export(),
        Compare(),
        Sweep(),
        ConfigText(),
        Plan(),
        CommunicationTable(),
        Doctor(),
        SelfTest(),
    };

    /// <summary>What is wrong with the arguments; null where nothing is.</summary>
    private static string? Mistake(RootCommand root, ParseResult parsed)
    {
        if (parsed.Errors.Count == 0) return null;
        string problem = parsed.CommandResult.Command == root && parsed.UnmatchedTokens.Count > 0
            ? $"unknown command '{PlainText.Of(parsed.UnmatchedTokens[0])}'; allowed are {string.Join(", ", root.Subcommands.Select(command => command.Name))}"
            : string.Join(" ", parsed.Errors.Take(MostMistakes).Select(error => PlainText.Of(error.Message)));
        return $"{problem} (see lofthpc --help)";
    }

    /// <summary>Help and version are rank 0's to print.</summary>
    private static InvocationConfiguration Invocation(int rank)
    {
        InvocationConfiguration invocation = new() { EnableDefaultExceptionHandler = false };
        if (rank != 0) (invocation.Output, invocation.Error) = (TextWriter.Null, TextWriter.Null);
        return invocation;
    }

    private Command Stage(string name, string description, Action<Session> run) => OnRanks(name, description, configRequired: true, (options, _) =>
    {
        using Session session = new(Mpi, options);
        run(session);
        return ExitCodes.Done;
    });

    private Command Import()
    {
        Argument<string> weights = new("FILE") { Description = "A state_dict of the config's dense network: .safetensors, or .pt, of which nothing is executed." };
        Option<string?> initial = new("--initial") { Description = "The same network's state_dict of before its training, for retrain.start=initial.", HelpName = "FILE" };
        Command command = OnRanks(
            "import", "Make a run folder of a network that was pre-trained in PyTorch, for extract, retrain and compare.", configRequired: true,
            (options, parsed) =>
            {
                // Nothing of it was trained here.
                using Session session = new(Mpi, options with { Overrides = [.. options.Overrides, "pretrain.epochs=0", "pretrain.snapshots=[]"] });
                RunCommands.Import(session, parsed.GetRequiredValue(weights), parsed.GetValue(initial));
                return ExitCodes.Done;
            });
        // Before the settings, which take all arguments that are left.
        command.Arguments.Insert(0, weights);
        command.Add(initial);
        return command;
    }

    private Command Export()
    {
        Argument<string> folder = new("FOLDER") { Description = "A run folder." };
        Argument<string[]> overrides = new("data.key=value") { Description = "For --images: where the data lie by now, or how many.", Arity = ArgumentArity.ZeroOrMore };
        Option<string> to = new("--to") { Description = "For what.", Required = true, HelpName = "pytorch" };
        Option<string> weights = new("--weights") { Description = "Which weights of the run: ticket, pruned, dense, initial or epoch-N.", HelpName = "NAME", DefaultValueFactory = _ => PyTorchExport.DefaultWeights };
        Option<string?> output = new("--output") { Description = "A new folder; default: pytorch-NAME in the run folder.", HelpName = "DIR" };
        Option<string?> images = new("--images") { Description = "Write the images and labels of this split too.", HelpName = "train|test" };
        Command command = new("export", "Write a network of a run for PyTorch: model.safetensors, architecture.json and a model.py that needs PyTorch alone.")
        {
            folder, to, weights, output, images, overrides,
        };
        command.SetAction(parsed => OnFirstRank(reporter => ExportCommand.Export(
            parsed.GetRequiredValue(folder), parsed.GetRequiredValue(to), parsed.GetRequiredValue(weights), parsed.GetValue(output), parsed.GetValue(images),
            parsed.GetValue(overrides) ?? [], reporter)));
        return command;
    }

    private Command SelfTest()
    {
        Option<string[]> parts = new("--part") { Description = "Do this part of the self-test alone; may be given again. Default: all.", HelpName = "NAME" };
        Command command = OnRanks(
            "selftest", "Prove this installation on the ranks, devices and MPI of a job: arithmetic, collectives, every method against one process; in two minutes at most. Needs no data.",
            configRequired: false, (options, parsed) =>
            {
                using Launch launch = new(Mpi, options);
                SelfTestRun test = new(launch.World, launch.Context.Device, launch.Direct, launch.Config);
                string[] chosen = parsed.GetValue(parts) ?? [];
                if (chosen.FirstOrDefault(name => !test.PartNames.Contains(name)) is string unknown)
                    throw new UserError($"selftest --part: no part '{PlainText.Of(unknown)}'; allowed are {string.Join("; ", test.PartNames)}");
                launch.ShowRanks();
                return test.Run(launch.Reporter, chosen.Length == 0 ? null : chosen.Contains) ? ExitCodes.Done : ExitCodes.Failure;
            });
        command.Add(parts);
        return command;
    }

    /// <summary>A command on all ranks with a config.</summary>
    private static Command OnRanks(string name, string description, bool configRequired, Func<LaunchOptions, ParseResult, int> run)
    {
        (Option<string> config, Argument<string[]> overrides) = Config(configRequired);
        Option<bool> quiet = new("--quiet") { Description = "Print errors, warnings and final results only." };
        Option<bool> verbose = new("--verbose") { Description = "Print more." };
        Option<string?> resume = new("--resume") { Description = "Go on with the run folder of this name where an earlier launch has stopped (run.resume).", HelpName = "auto|never" };
        Command command = new(name, description) { config, quiet, verbose, resume, overrides };
        command.SetAction(parsed =>
        {
            Verbosity verbosity = parsed.GetValue(quiet) ? Verbosity.Quiet : parsed.GetValue(verbose) ? Verbosity.Verbose : Verbosity.Normal;
            // The same key in another form, read and checked as such.
            IEnumerable<string> resumes = parsed.GetValue(resume) is string choice ? [$"run.resume={choice}"] : [];
            return run(new LaunchOptions(name, parsed.GetValue(config), [.. parsed.GetValue(overrides) ?? [], .. resumes], verbosity), parsed);
        });
        return command;
    }

    private Command Compare()
    {
        Argument<string[]> runs = new("RUN") { Description = "Run folders, folders of run folders, patterns with * and ?, tables of a run folder (summary.csv ...), or tables that --output wrote.", Arity = ArgumentArity.OneOrMore };
        Option<string[]> baseline = new("--baseline") { Description = "The group that the others are compared with: KEY=VALUE of a column (again for more than one), or a run of the group.", HelpName = "NAME" };
        Option<string[]> metrics = new("--metric") { Description = $"Show this metric; may be given again. Default: {string.Join(", ", Metric.Default.Select(metric => metric.Name))}. All: {string.Join(", ", Metric.All.Select(metric => metric.Name))}.", HelpName = "NAME" };
        Option<string[]> margins = new("--margin") { Description = "By how much a group may be worse than the baseline and still be 'as good': of a metric, or of all accuracies; 0.005 is half a point.", HelpName = "[METRIC=]X" };
        Option<string?> regression = new("--fail-on-regression") { Description = "Exit with code 1 where a group's mean difference to the baseline, over the seeds of both, is worse by more than --tolerance.", HelpName = "METRIC" };
        Option<double?> tolerance = new("--tolerance") { Description = "For --fail-on-regression, in the unit of the metric's column.", HelpName = "X" };
        Option<string?> output = new("--output") { Description = "Write a table with one row a run.", HelpName = "FILE.csv" };
        Option<string?> statistics = new("--statistics") { Description = "Write a table with one row for each group and metric.", HelpName = "FILE.csv" };
        Option<string?> summary = new("--summary") { Description = "Write the printed tables in Markdown.", HelpName = "FILE.md" };
        Command command = new("compare", "Put finished runs side by side, grouped by what differs in their configs: means over seeds with intervals, and whether the difference to a baseline could be chance.")
        {
            runs, baseline, metrics, margins, regression, tolerance, output, statistics, summary,
        };
        command.SetAction(parsed => OnFirstRank(reporter => CompareCommand.Compare(
            parsed.GetRequiredValue(runs),
            new ComparisonQuestions(
                parsed.GetValue(baseline) ?? [], parsed.GetValue(metrics) ?? [], parsed.GetValue(margins) ?? [], parsed.GetValue(regression), parsed.GetValue(tolerance)),
            new ComparisonFiles(parsed.GetValue(output), parsed.GetValue(statistics), parsed.GetValue(summary)), reporter)));
        return command;
    }

    private Command Sweep()
    {
        Argument<string> file = new("FILE") { Description = "A YAML file of the runs: config, folder, methods, ranks, seeds, overrides, axes." };
        Argument<string[]> overrides = new("section.key=value") { Description = "Settings of all runs that win over the file's.", Arity = ArgumentArity.ZeroOrMore };
        Option<string?> folder = new("--folder") { Description = "Where run folders and tables go.", HelpName = "FOLDER" };
        Option<string?> seeds = new("--seeds") { Description = "Other seeds than the file's.", HelpName = "1,2,3" };
        Option<string[]> baseline = new("--baseline") { Description = "As compare takes it; none: no baseline. Default: the group of the first run.", HelpName = "NAME" };
        Option<string?> launcher = new("--launcher") { Description = "What starts the ranks of a run, such as \"mpiexec -n {ranks}\"; {ranks} stands for their number. Default: mpiexec, or what MPIEXEC names.", HelpName = "COMMAND" };
        Option<string?> list = new("--list") { Description = "Start nothing: write the runs that are left into lists for slurm/array.sbatch, FILE-RANKS.txt for each number of ranks.", HelpName = "FILE.txt" };
        Command command = new("sweep", "Make all runs of a file of methods, ranks, seeds and overrides, one after the other, each by mpiexec; after a stop go on; and compare them.")
        {
            file, folder, seeds, baseline, launcher, list, overrides,
        };
        command.SetAction(parsed => OnFirstRank(reporter =>
        {
            SweepPlan plan = SweepCommand.Plan(
                parsed.GetRequiredValue(file), new SweepChanges(parsed.GetValue(overrides) ?? [], parsed.GetValue(folder), parsed.GetValue(seeds), parsed.GetValue(baseline)));
            if (parsed.GetValue(list) is string path) SweepCommand.List(plan, path, reporter);
            else SweepCommand.Run(plan, parsed.GetValue(launcher), reporter);
        }));
        return command;
    }

    /// <summary>Runs a command that needs no other ranks: of several, rank 0 alone does it.</summary>
    private void OnFirstRank(Action<IReporter> work) =>
        Agree.OnRoot(Mpi.World, () => work(ConsoleReporter.Create(0, Verbosity.Normal)));

    private static (Option<string>, Argument<string[]>) Config(bool required = true) => (
        new Option<string>("--config") { Description = required ? "The YAML file of the run." : "A YAML file of a run; defaults without.", Required = required, HelpName = "FILE" },
        new Argument<string[]>("section.key=value") { Description = "Settings that win over the file's.", Arity = ArgumentArity.ZeroOrMore });

    private Command ConfigText()
    {
        (Option<string> config, Argument<string[]> overrides) = Config(required: false);
        Option<bool> reference = new("--reference") { Description = "Print the table of all keys in Markdown instead." };
        Command command = new("config", "Print a config with every key: what it means, what is allowed, its default. Needs no ranks, MPI, GPU or data.") { config, reference, overrides };
        command.SetAction(parsed => OnFirstRank(reporter =>
        {
            string[] settings = parsed.GetValue(overrides) ?? [];
            RunConfig resolved = parsed.GetValue(config) is string path ? RunConfigLoader.Load(path, settings) : RunConfigLoader.Parse("", "no file", settings);
            reporter.Result((parsed.GetValue(reference) ? ConfigReference.Table() : ConfigReference.Commented(resolved)).TrimEnd('\n'));
        }));
        return command;
    }

    private Command Plan()
    {
        (Option<string> config, Argument<string[]> overrides) = Config();
        Command command = new(
            "plan", "Say what the pre-training of a config costs on each of plan.ranks: FLOPs, memory, communication. Needs no ranks, MPI, GPU or data.")
        {
            config, overrides,
        };
        command.SetAction(parsed => OnFirstRank(reporter =>
            PlanCommands.Plan(RunConfigLoader.Load(parsed.GetRequiredValue(config), parsed.GetValue(overrides) ?? []), reporter)));
        return command;
    }

    private Command CommunicationTable()
    {
        Command command = new("comm-table", "Print LoFT's published communication table, a model of it, and what the exchange of this program takes; under mpiexec, measure that on so many ranks.");
        command.SetAction(_ =>
        {
            if (Mpi.World.Size == 1) OnFirstRank(PlanCommands.CommunicationTable);
            else PlanCommands.MeasureRounds(Mpi.World, ConsoleReporter.Create(Mpi.World.Rank, Verbosity.Normal));
        });
        return command;
    }

    private Command Doctor()
    {
        Command command = new(DoctorName, "Say what every rank finds: MPI, libtorch and whether it computes rightly, libstdc++, device, CPU; and what is wrong.");
        command.SetAction(_ => DoctorCommand.Run(Mpi, Console.Out));
        return command;
    }
}
