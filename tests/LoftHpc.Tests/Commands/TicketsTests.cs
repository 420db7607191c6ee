using LoftHpc.Configuration;
using LoftHpc.Distances;
using LoftHpc.Mpi;
using LoftHpc.Results;
using LoftHpc.Tests.Mpi;
using Xunit;

namespace LoftHpc.Tests.Commands;

/// <summary>Grids of tickets from one pre-training, by the program as its users start it.</summary>
public sealed class TicketsTests : ProgramTests
{
    private static readonly string[] Grid = ["tickets.controls=[reinitialised, unpruned]", "checkpoint.every=1 step", HeldOut, InTwo];

    private const string HeldOut = "data.validation_images=20", InTwo = "extract.iterations=2";

    private static readonly string[] Names = ["l2-0.5-in-2-pretrained-4", "l2-0.5-in-2-reinitialised-4", "unpruned-pretrained-4"];

    /// <summary>Begun on two ranks and ended on four, in groups of two. Killed between the first ticket's iterations, stopped by a limit, and killed in the last ticket.</summary>
    [SkippableFact]
    public void Killed_again_and_again_a_grid_ends_with_the_bytes_of_one_that_was_not()
    {
        MpiLauncher.SkipIfAbsent(MpiFamily.OpenMpi);
        Start(MpiFamily.OpenMpi, 2, "pretrain", "run.name=whole", HeldOut).MustSucceed();
        Assert.Equal(0, MpiLauncher.RunAlone(["cp", "-r", Folder("whole").Path, Folder("cut").Path]).ExitCode);
        LaunchResult whole = Start(MpiFamily.OpenMpi, 2, "tickets", ["run.name=whole", .. Grid]).MustSucceed();
        Assert.Contains(Folder("whole").TicketsTable.Path, whole.Output, StringComparison.Ordinal);

        KillWhen($"{Names[0]}/iterations/1/checkpoints/retrain-000000001/commit.json");
        MustBeOneLine(Start(MpiFamily.OpenMpi, 2, "tickets", ["run.name=cut", "run.resume=auto", "limits.minutes=0", .. Grid]), ExitCodes.Stopped, "stopped by limits.minutes after ");
        KillWhen($"{Names[2]}/checkpoints/retrain-000000001/commit.json");
        string finished = File.ReadAllText(Folder("cut").TicketFolder(Names[0]).Manifest);
        LaunchResult last = Start(MpiFamily.OpenMpi, 4, "tickets", ["run.name=cut", "run.resume=auto", "tickets.ranks_per_ticket=2", .. Grid]).MustSucceed();
        Assert.DoesNotContain($": {Names[0]}\n", last.Output, StringComparison.Ordinal);
        Assert.Equal(finished, File.ReadAllText(Folder("cut").TicketFolder(Names[0]).Manifest));
        MustBeSame("whole", "cut");
        Assert.Equal(Names, Files("cut/tickets"));
        foreach (string name in Names) MustBeSame($"whole/tickets/{name}", $"cut/tickets/{name}");
        MustBeSame($"whole/tickets/{Names[1]}/iterations/1", $"cut/tickets/{Names[1]}/iterations/1");
        Assert.Equal(["pretrain", "tickets", "tickets", "tickets", "tickets"], RunManifest.Read(Folder("cut").Manifest).Launches.Select(launch => launch.Command));

        // What a ticket is drawn and trained as by hand.
        Start(MpiFamily.OpenMpi, 2, "extract", "run.name=hand", $"extract.from={Folder("whole").Path}", HeldOut, InTwo).MustSucceed();
        Start(MpiFamily.OpenMpi, 2, "retrain", ["run.name=hand", "retrain.start=reinitialised", .. Grid[1..]]).MustSucceed();
        RunFolder hand = Folder("hand"), made = Folder("whole").TicketFolder(Names[1]);
        foreach ((string one, string other) in new[] { (hand.PrunedWeights, made.PrunedWeights), (hand.TicketWeights, made.TicketWeights), (hand.Ticket.Path, made.Ticket.Path), (hand.Summary.Path, made.Summary.Path) })
            Assert.True(File.ReadAllBytes(one).SequenceEqual(File.ReadAllBytes(other)), one);
        Assert.Equal(hand.Communication.Read().Select(row => row with { Seconds = 0 }), made.Communication.Read().Select(row => row with { Seconds = 0 }));
        MustBeDrawnTwice(made);
        IReadOnlyList<TicketsRow> rows = Folder("cut").TicketsTable.Read();
        Assert.Equal(Names, rows.Select(row => row.Ticket));
        Assert.Equal(["", Names[0], Names[0]], rows.Select(row => row.ControlOf));
        // Of 3, 6, 12 and 24 filters half go, or none.
        Assert.Equal([23, 23, 45], rows.Select(row => row.Filters));
        SummaryRow[] networks = [.. Folder("hand").Summary.Read()];
        Assert.Equal((networks[1].TestAccuracy, networks[2].TestAccuracy, networks[2].TestLoss, networks[2].Parameters), (rows[1].PrunedAccuracy, rows[1].RetrainedAccuracy, rows[1].RetrainedLoss, rows[1].Parameters));
        Assert.Equal((networks[0].TestAccuracy, networks[0].Parameters, networks[0].Flops), (rows[2].PrunedAccuracy, rows[2].Parameters, rows[2].Flops));
        MetricsRow[] epochs = [.. hand.Metrics.Read()];
        Assert.All(epochs.GroupBy(row => row.Epoch), rows => Assert.Equal([DataSplit.Train, DataSplit.Validation, DataSplit.Test], rows.Select(row => row.Split)));
        double Of(DataSplit split, int epoch) => epochs.Single(row => row.Split == split && row.Epoch == epoch).Accuracy;
        Assert.Equal(20, epochs.First(row => row.Split is DataSplit.Validation).Images);
        Assert.All(Enumerable.Range(1, networks[2].ChosenEpoch!.Value - 1), epoch => Assert.True(Of(DataSplit.Validation, epoch) < Of(DataSplit.Validation, networks[2].ChosenEpoch!.Value)));
        Assert.Equal((Of(DataSplit.Test, networks[2].ChosenEpoch!.Value), epochs.Where(row => row.Split is DataSplit.Test).Max(row => row.Accuracy)), (networks[2].ChosenTestAccuracy, networks[2].BestTestAccuracy));
        Assert.Equal((networks[2].ChosenTestAccuracy, networks[2].BestTestAccuracy), (rows[1].ChosenAccuracy, rows[1].BestAccuracy));
        LaunchResult compared = MpiLauncher.RunAlone([MpiLauncher.LoftHpc, "compare", Folder("cut").Tickets, "--baseline", Names[2]]).MustSucceed();
        Assert.Contains("baseline", compared.Output, StringComparison.Ordinal);
    }

    /// <summary>
    /// Of 3, 6, 12 and 24 filters the first iteration leaves 1/sqrt(2), with what is left rounded up: 3, 5, 9 and 17. The second leaves half, of those of
    /// the largest norm in the weights that the first has become by retraining.
    /// </summary>
    private static void MustBeDrawnTwice(RunFolder ticket)
    {
        RunFolder first = ticket.Iteration(1);
        Assert.Equal(1, RunConfigLoader.Load(first.Config).Retrain.Epochs);
        Assert.Equal(1 - Math.Sqrt(0.5), RunConfigLoader.Load(first.Config).Extract.Ratio, 12);
        ILookup<string, TicketRow> before = first.Ticket.Read().ToLookup(row => row.Layer), after = ticket.Ticket.Read().ToLookup(row => row.Layer);
        Assert.Equal([3, 5, 9, 17], before.Select(layer => layer.Count(row => row.Kept)));
        using SafetensorsFile trained = SafetensorsFile.Open(first.TicketWeights), pruned = SafetensorsFile.Open(ticket.PrunedWeights);
        foreach (IGrouping<string, TicketRow> layer in before)
        {
            TicketRow[] kept = [.. layer.Where(row => row.Kept)], gone = [.. layer.Where(row => !row.Kept)], rows = [.. after[layer.Key]];
            double[] norms = FilterNorms.OfRows(trained.Read($"{layer.Key}.weight"), columns: null);
            (int filter, double norm)[] order = [.. kept.Select((row, i) => (row.Filter, norms[i])).OrderByDescending(filter => filter.Item2)];
            int[] stay = [.. order.Take((layer.Count() + 1) / 2).Select(filter => filter.filter).Order()];
            Assert.Equal(stay, rows.Where(row => row.Kept).Select(row => row.Filter));
            Assert.Equal(order.Select(filter => (filter.filter, filter.norm)), rows.OrderBy(row => row.Position).Take(kept.Length).Select(row => (row.Filter, row.Norm)));
            Assert.Equal(gone.OrderBy(row => row.Position), rows.OrderBy(row => row.Position).Skip(kept.Length));
            // Their weights are those that retraining has left.
            Assert.Equal(stay.Select(filter => norms[Array.FindIndex(kept, row => row.Filter == filter)]), FilterNorms.OfRows(pruned.Read($"{layer.Key}.weight"), columns: null));
        }
    }

    /// <summary>Starts the grid, or goes on with it, and kills its last rank as soon as a file of a ticket is there.</summary>
    private void KillWhen(string file)
    {
        LaunchResult killed = MpiLauncher.RunAlone(["bash", "-c", $"""
            {Launcher(MpiFamily.OpenMpi, 2)} {MpiLauncher.LoftHpc} tickets --config {ConfigFile} --resume auto run.folder={TemporaryPath}/results run.name=cut {string.Join(' ', Grid.Select(item => $"'{item}'"))} & job=$!
            until [ -e {Folder("cut").Tickets}/{file} ]; do kill -0 $job || exit 99; done
            kill -9 $(pgrep -P $job | tail -n 1)
            wait $job; exit $?
            """], TimeSpan.FromMinutes(2));
        Assert.True(killed.ExitCode is not (0 or 99), $"{file}: exit code {killed.ExitCode}\n{killed.Output}{killed.Error}");
    }

    [SkippableFact]
    public void A_grid_grows_keeps_what_is_finished_and_refuses_what_is_another()
    {
        MpiFamily family = MpiLauncher.AnyFamily();
        LaunchResult Tickets(params string[] overrides) => MpiLauncher.RunAlone([MpiLauncher.LoftHpc, "tickets", "--config", ConfigFile, $"run.folder={TemporaryPath}/results", "run.name=a", "extract.scope=global", .. overrides]);
        MustBeOneLine(Tickets(), ExitCodes.Configuration, $"{Folder("a").Path}: there is no such run folder");
        Start(family, 2, "pretrain", "run.name=a", "pretrain.snapshots=[]").MustSucceed();
        MustBeOneLine(Tickets("tickets.starts=[pretrained, rewind]"), ExitCodes.Configuration, "retrain.rewind: ", "has no weights after 1 epoch");
        Assert.False(Directory.Exists(Folder("a").Tickets));

        Start(family, 2, "tickets", "run.name=a", "extract.scope=global", "tickets.controls=[random]", "tickets.keep_weights=false").MustSucceed();
        string[] names = ["l2-global-0.5-pretrained-4", "random-like-l2-global-0.5-pretrained-4"];
        Assert.Equal(names, Files("a/tickets"));
        Assert.All(names, name => Assert.DoesNotContain(Files($"a/tickets/{name}"), file => file.EndsWith(".safetensors", StringComparison.Ordinal)));
        TicketsRow[] rows = [.. Folder("a").TicketsTable.Read()];
        Assert.Equal((23, rows[0].Parameters, 0.5), (rows[1].Filters, rows[1].Parameters, rows[1].Ratio));
        Assert.Equal(
            Folder("a").TicketFolder(names[0]).Ticket.Read().Where(row => row.Kept).CountBy(row => row.Layer), Folder("a").TicketFolder(names[1]).Ticket.Read().Where(row => row.Kept).CountBy(row => row.Layer));

        MustBeOneLine(Tickets(), ExitCodes.Configuration, $"{Folder("a").TicketFolder(names[0]).Path} exists already and is not overwritten; --resume auto keeps finished tickets and goes on with others");
        MustBeOneLine(Tickets("run.resume=auto", "retrain.batch=16"), ExitCodes.Configuration, "config.yaml: the run was begun with another config than this launch's: retrain.batch is 32 and 16");
        MustBeOneLine(Tickets("run.resume=auto", "tickets.controls=[inverted]"), ExitCodes.Configuration, "tickets.controls: ", "pruned.safetensors is not there any more");
        MustBeOneLine(Tickets("run.resume=auto", "tickets.ranks_per_ticket=2"), ExitCodes.Configuration, "tickets.ranks_per_ticket: 2 ranks do not divide the 1 ranks of this launch");
        // One of which nothing can come does not keep the others from being made.
        LaunchResult failed = Tickets("run.resume=auto", "tickets.seeds=[8, 9]", "retrain.optimizer.learning_rate=1e28");
        Assert.Equal(ExitCodes.NonFiniteLoss, failed.ExitCode);
        Assert.Contains("ticket 2 of 2: l2-global-0.5-pretrained-9\n", failed.Output, StringComparison.Ordinal);
        Assert.Contains("lofthpc: error: 2 of 2 tickets could not be made; l2-global-0.5-pretrained-8: retrain: ", failed.Error, StringComparison.Ordinal);
        Assert.Equal(rows, Folder("a").TicketsTable.Read());
        LaunchResult grown = Tickets("run.resume=auto", "tickets.controls=[random]", "tickets.starts=[pretrained, shuffled]").MustSucceed();
        Assert.Contains("ticket 1 of 2: l2-global-0.5-shuffled-4\n", grown.Output, StringComparison.Ordinal);
        Assert.Equal(rows, Folder("a").TicketsTable.Read().Take(2));
        Assert.Equal([.. names, "l2-global-0.5-shuffled-4", "random-like-l2-global-0.5-shuffled-4"], Folder("a").TicketsTable.Read().Select(row => row.Ticket));
        Assert.True(File.Exists(Folder("a").TicketFolder("l2-global-0.5-shuffled-4").TicketWeights));

        // The paths in its tickets' configs are not there any more.
        Directory.Move(Folder("a").Path, Folder("moved").Path);
        Start(family, 1, "tickets", "run.name=moved", "run.resume=auto", "extract.scope=global", "tickets.controls=[random]", "tickets.starts=[pretrained, shuffled]").MustSucceed();
    }
}
