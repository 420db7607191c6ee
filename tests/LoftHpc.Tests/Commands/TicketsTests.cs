using LoftHpc.Mpi;
using LoftHpc.Results;
using LoftHpc.Tests.Mpi;
using Xunit;

namespace LoftHpc.Tests.Commands;

/// <summary>Grids of tickets from one pre-training, by the program as its users start it.</summary>
public sealed class TicketsTests : ProgramTests
{
    private static readonly string[] Grid = ["tickets.controls=[reinitialised, unpruned]", "checkpoint.every=1 step"];

    private static readonly string[] Names = ["l2-0.5-pretrained-4", "l2-0.5-reinitialised-4", "unpruned-pretrained-4"];

    /// <summary>Killed in the first ticket, stopped by a limit, and killed in the last.</summary>
    [SkippableFact]
    public void Killed_again_and_again_a_grid_ends_with_the_bytes_of_one_that_was_not()
    {
        MpiLauncher.SkipIfAbsent(MpiFamily.OpenMpi);
        Start(MpiFamily.OpenMpi, 2, "pretrain", "run.name=whole").MustSucceed();
        Assert.Equal(0, MpiLauncher.RunAlone(["cp", "-r", Folder("whole").Path, Folder("cut").Path]).ExitCode);
        LaunchResult whole = Start(MpiFamily.OpenMpi, 2, "tickets", ["run.name=whole", .. Grid]).MustSucceed();
        Assert.Contains(Folder("whole").TicketsTable.Path, whole.Output, StringComparison.Ordinal);

        KillWhen($"{Names[0]}/checkpoints/retrain-000000001/commit.json");
        MustBeOneLine(Start(MpiFamily.OpenMpi, 2, "tickets", ["run.name=cut", "run.resume=auto", "limits.minutes=0", .. Grid]), ExitCodes.Stopped, "stopped by limits.minutes after ");
        KillWhen($"{Names[2]}/checkpoints/retrain-000000002/commit.json");
        string finished = File.ReadAllText(Folder("cut").TicketFolder(Names[0]).Manifest);
        LaunchResult last = Start(MpiFamily.OpenMpi, 2, "tickets", ["run.name=cut", "run.resume=auto", .. Grid]).MustSucceed();
        Assert.DoesNotContain($": {Names[0]}\n", last.Output, StringComparison.Ordinal);
        Assert.Equal(finished, File.ReadAllText(Folder("cut").TicketFolder(Names[0]).Manifest));
        MustBeSame("whole", "cut");
        Assert.Equal(Names, Files("cut/tickets"));
        foreach (string name in Names) MustBeSame($"whole/tickets/{name}", $"cut/tickets/{name}");
        Assert.Equal(["pretrain", "tickets", "tickets", "tickets", "tickets"], RunManifest.Read(Folder("cut").Manifest).Launches.Select(launch => launch.Command));

        // What a ticket is drawn and trained as by hand.
        Start(MpiFamily.OpenMpi, 2, "extract", "run.name=hand", $"extract.from={Folder("whole").Path}").MustSucceed();
        Start(MpiFamily.OpenMpi, 2, "retrain", ["run.name=hand", "retrain.start=reinitialised", Grid[1]]).MustSucceed();
        RunFolder hand = Folder("hand"), made = Folder("whole").TicketFolder(Names[1]);
        foreach ((string one, string other) in new[] { (hand.PrunedWeights, made.PrunedWeights), (hand.TicketWeights, made.TicketWeights), (hand.Ticket.Path, made.Ticket.Path), (hand.Summary.Path, made.Summary.Path) })
            Assert.True(File.ReadAllBytes(one).SequenceEqual(File.ReadAllBytes(other)), one);
        Assert.Equal(hand.Communication.Read().Select(row => row with { Seconds = 0 }), made.Communication.Read().Select(row => row with { Seconds = 0 }));
        IReadOnlyList<TicketsRow> rows = Folder("cut").TicketsTable.Read();
        Assert.Equal(Names, rows.Select(row => row.Ticket));
        Assert.Equal(["", Names[0], Names[0]], rows.Select(row => row.ControlOf));
        // Of 3, 6, 12 and 24 filters half go, or none.
        Assert.Equal([23, 23, 45], rows.Select(row => row.Filters));
        SummaryRow[] networks = [.. Folder("hand").Summary.Read()];
        Assert.Equal((networks[1].TestAccuracy, networks[2].TestAccuracy, networks[2].TestLoss, networks[2].Parameters), (rows[1].PrunedAccuracy, rows[1].RetrainedAccuracy, rows[1].RetrainedLoss, rows[1].Parameters));
        Assert.Equal((networks[0].TestAccuracy, networks[0].Parameters, networks[0].Flops), (rows[2].PrunedAccuracy, rows[2].Parameters, rows[2].Flops));
        LaunchResult compared = MpiLauncher.RunAlone([MpiLauncher.LoftHpc, "compare", Folder("cut").Tickets, "--baseline", Names[2]]).MustSucceed();
        Assert.Contains("baseline", compared.Output, StringComparison.Ordinal);
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
        LaunchResult grown = Tickets("run.resume=auto", "tickets.controls=[random]", "tickets.starts=[pretrained, shuffled]").MustSucceed();
        Assert.Contains("ticket 1 of 2: l2-global-0.5-shuffled-4\n", grown.Output, StringComparison.Ordinal);
        Assert.Equal(rows, Folder("a").TicketsTable.Read().Take(2));
        Assert.Equal([.. names, "l2-global-0.5-shuffled-4", "random-like-l2-global-0.5-shuffled-4"], Folder("a").TicketsTable.Read().Select(row => row.Ticket));
        Assert.True(File.Exists(Folder("a").TicketFolder("l2-global-0.5-shuffled-4").TicketWeights));
    }
}
