using System.CommandLine;
using LoftHpc.Communication;
using LoftHpc.Configuration;
using LoftHpc.Mpi;
using LoftHpc.Output;
using LoftHpc.Results;
using LoftHpc.SelfTest;
using LoftHpc.Stages;

namespace LoftHpc.Commands;

/// <summary>The program's commands: what each takes, and which stages it runs.</summary>
public static class CommandLine
{
    /// <summary>Parses the arguments and runs the command on this rank.</summary>
    /// <returns>The exit code of this process.</returns>
    public static int Run(string[] arguments)
    {
        RootCommand root = new("LoftHpc finds winning lottery tickets in convolutional networks by LoFT, over MPI ranks.")
        {
            Stage("pretrain", "Pre-train the dense network and follow the rankings of its filters.", session => RunCommands.Pretrain(session)),
            Stage("extract", "Draw a ticket from a run's dense weights.", session => RunCommands.Extract(session)),
            Stage("retrain", "Train a run's ticket.", session => RunCommands.Retrain(session)),
            Stage("run", "pretrain, extract and retrain in one launch, and draw the plots.", session => RunCommands.Run(session)),
            Stage("evaluate", "Measure weights or a ticket on a data set (evaluate.weights=FILE).", session => RunCommands.Evaluate(session)),
            Compare(),
            Plan(),
            CommunicationTable(),
            Doctor(),
            SelfTest(),
        };
        // Every rank parses the same line; only the first says what is wrong with it.
        LaunchEnvironment launch = LaunchEnvironment.Current;
        bool first = launch.Rank == 0;
        InvocationConfiguration invocation = new() { EnableDefaultExceptionHandler = false };
        if (!first) (invocation.Output, invocation.Error) = (TextWriter.Null, TextWriter.Null);
        ParseResult parsed = root.Parse(arguments);
        if (parsed.Errors.Count > 0)
        {
            string problem = parsed.CommandResult.Command == root && parsed.UnmatchedTokens.Count > 0
                ? $"unknown command '{parsed.UnmatchedTokens[0]}'; allowed are {string.Join(", ", root.Subcommands.Select(command => command.Name))}"
                : string.Join(" ", parsed.Errors.Select(error => error.Message));
            invocation.Error.WriteLine($"lofthpc: error: {problem} (see lofthpc --help)");
            // Launchers kill the job when the first task leaves with an error: rank 0's line has to come out before.
            if (!first) Thread.Sleep(TimeSpan.FromSeconds(2));
            return ExitCodes.Configuration;
        }
        return parsed.Invoke(invocation);
    }

    private static Command Stage(string name, string description, Action<Session> run) => OnRanks(name, description, configRequired: true, (mpi, options) =>
    {
        using Session session = new(mpi, options);
        run(session);
        return ExitCodes.Done;
    });

    private static Command SelfTest() => OnRanks(
        "selftest", "Prove this installation on the ranks, devices and MPI of a job: arithmetic, collectives, every method against one process; in two minutes at most. Needs no data.",
        configRequired: false, (mpi, options) =>
        {
            using Launch launch = new(mpi, options);
            launch.ShowRanks();
            return new SelfTestRun(launch.World, launch.Context.Device, launch.Direct, launch.Config).Run(launch.Reporter) ? ExitCodes.Done : ExitCodes.Failure;
        });

    /// <summary>A command on all ranks with a config.</summary>
    private static Command OnRanks(string name, string description, bool configRequired, Func<MpiRuntime, LaunchOptions, int> run)
    {
        (Option<string> config, Argument<string[]> overrides) = Config(configRequired);
        Option<bool> quiet = new("--quiet") { Description = "Print errors, warnings and final results only." };
        Option<bool> verbose = new("--verbose") { Description = "Print more." };
        Command command = new(name, description) { config, quiet, verbose, overrides };
        command.SetAction(parsed => MpiJob.Run(mpi =>
        {
            Verbosity verbosity = parsed.GetValue(quiet) ? Verbosity.Quiet : parsed.GetValue(verbose) ? Verbosity.Verbose : Verbosity.Normal;
            return run(mpi, new LaunchOptions(name, parsed.GetValue(config), parsed.GetValue(overrides) ?? [], verbosity));
        }));
        return command;
    }

    private static Command Compare()
    {
        Option<string> runs = new("--runs") { Description = "The folder that holds the run folders.", Required = true, HelpName = "FOLDER" };
        Option<string> output = new("--output") { Description = "The table to write, one row a run.", Required = true, HelpName = "FILE.csv" };
        Option<string?> summary = new("--summary") { Description = "Write the means over seeds too, in Markdown.", HelpName = "FILE.md" };
        Command command = new("compare", "Put finished runs side by side: accuracies, and what pre-training cost.") { runs, output, summary };
        command.SetAction(parsed => CompareCommand.Run(parsed.GetRequiredValue(runs), parsed.GetRequiredValue(output), parsed.GetValue(summary)));
        return command;
    }

    private static (Option<string>, Argument<string[]>) Config(bool required = true) => (
        new Option<string>("--config") { Description = required ? "The YAML file of the run." : "A YAML file of a run; defaults without.", Required = required, HelpName = "FILE" },
        new Argument<string[]>("section.key=value") { Description = "Settings that win over the file's.", Arity = ArgumentArity.ZeroOrMore });

    private static Command Plan()
    {
        (Option<string> config, Argument<string[]> overrides) = Config();
        Command command = new(
            "plan", "Say what the pre-training of a config costs on each of plan.ranks: FLOPs, memory, communication. Needs no ranks, MPI, GPU or data.")
        {
            config, overrides,
        };
        command.SetAction(parsed => PlanCommands.Once(reporter =>
            PlanCommands.Plan(RunConfigLoader.Load(parsed.GetRequiredValue(config), parsed.GetValue(overrides) ?? []), reporter)));
        return command;
    }

    private static Command CommunicationTable()
    {
        Command command = new("comm-table", "Print LoFT's published communication table, a model of it, and what the exchange of this program takes; under mpiexec, measure that on so many ranks.");
        command.SetAction(_ => !LaunchEnvironment.Current.IsParallel
            ? PlanCommands.Once(PlanCommands.CommunicationTable)
            : MpiJob.Run(mpi =>
            {
                PlanCommands.MeasureRounds(mpi.World, ConsoleReporter.Create(mpi.World.Rank, Verbosity.Normal));
                return ExitCodes.Done;
            }));
        return command;
    }

    private static Command Doctor()
    {
        Command command = new("doctor", "Say what every rank finds: MPI, libtorch and whether it computes rightly, libstdc++, device, CPU; and what is wrong.");
        command.SetAction(_ => DoctorCommand.Run(Console.Out));
        return command;
    }
}
