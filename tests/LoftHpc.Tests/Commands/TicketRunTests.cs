using LoftHpc.Mpi;
using LoftHpc.Networks;
using LoftHpc.Results;
using LoftHpc.Tests.Mpi;
using LoftHpc.Tickets;
using LoftHpc.Training;
using Xunit;
using static TorchSharp.torch;

namespace LoftHpc.Tests.Commands;

/// <summary>Tickets by other criteria, widths and starts than the published ones, by the program as its users start it.</summary>
public sealed class TicketRunTests : ProgramTests
{
    [SkippableFact]
    public void Tickets_of_one_pretraining_differ_in_criterion_widths_and_start()
    {
        MpiFamily family = MpiLauncher.AnyFamily();
        Start(family, 2, "pretrain", "run.name=a", "pretrain.snapshot_steps=[4]").MustSucceed();
        string from = $"extract.from={Folder("a").Path}";
        Start(family, 2, "extract", "run.name=taylor", from, "extract.criterion=taylor", "extract.taylor_images=20", "extract.taylor_batch=8", "extract.scope=global").MustSucceed();
        Alone("extract", "run.name=random", from, "extract.criterion=random", $"extract.like={Folder("taylor").Path}").MustSucceed();
        IReadOnlyList<TicketRow> taylor = Folder("taylor").Ticket.Read(), random = Folder("random").Ticket.Read();
        // Of 3 + 6 + 12 + 24 filters floor(0.5 * 45) go, wherever they are.
        Assert.Equal((45, 23), (taylor.Count, taylor.Count(row => row.Kept)));
        Assert.All(taylor, row => Assert.True(row.Score >= 0));
        Assert.Equal(Widths(taylor), Widths(random));
        Assert.NotEqual(taylor.Select(row => row.Kept), random.Select(row => row.Kept));
        Assert.Equal(taylor.Select(row => row.Norm), random.Select(row => row.Norm));
        Assert.Equal(taylor.Select(row => row.Layer).Distinct(), Folder("a").FilterNorms.Read().Select(row => row.Layer).Distinct().Intersect(taylor.Select(row => row.Layer)));

        // Finished stages refuse another ticket.
        MustBeOneLine(Alone("extract", "run.name=random", from, "extract.criterion=l1", $"extract.like={Folder("taylor").Path}", "run.resume=auto"), ExitCodes.Configuration, "extract.criterion is random and l1");

        // Without an epoch of training the ticket is what it starts from.
        MustBeOneLine(Alone("retrain", "run.name=random", "retrain.start=rewind", "retrain.rewind=2 epochs"), ExitCodes.Configuration,
            $"retrain.rewind: {Folder("a").Path} has no weights after 2 epochs", "there are: epoch-1.safetensors (3 steps), step-4.safetensors (4 steps)");
        Start(family, 2, "retrain", "run.name=taylor", "retrain.start=initial", "retrain.epochs=0").MustSucceed();
        Alone("retrain", "run.name=random", "retrain.start=rewind", "retrain.rewind=4 steps", "retrain.epochs=0").MustSucceed();
        MustBePartOf(Folder("taylor"), Folder("a").InitialWeights, "0");
        MustBePartOf(Folder("random"), Folder("a").StepSnapshotWeights(4), "4");
        MustBeOneLine(Alone("retrain", "run.name=random", "retrain.start=shuffled", "retrain.epochs=0", "run.resume=auto"), ExitCodes.Configuration, "retrain.start is rewind and shuffled");

        // Of another run's weights the ticket is none.
        Folder("taylor").Summary.Remove(row => row.Network == NetworkState.Ticket);
        TicketRow[] other = [.. taylor.Select(row => row.Kept ? row : row with { Norm = row.Norm * 1.001 })];
        Folder("taylor").Ticket.Write(other);
        MustBeOneLine(Alone("retrain", "run.name=taylor", "retrain.start=initial"), ExitCodes.Configuration, Folder("a").DenseWeights, "the ticket was not drawn from this run");
    }

    [SkippableFact]
    public void A_run_draws_its_ticket_by_stability_to_a_budget_and_trains_it_from_new_weights()
    {
        string[] overrides = ["run.name=a", "extract.criterion=rank-stability", "extract.stability_measurements=2", "extract.scope=parameters", "extract.budget=0.7", "retrain.start=reinitialised"];
        Start(MpiLauncher.AnyFamily(), 2, "run", overrides).MustSucceed();
        RunFolder folder = Folder("a");
        SummaryRow[] networks = [.. folder.Summary.Read()];
        // A filter of the widest block has 18 * 24 + 2 parameters.
        Assert.InRange(networks[1].Parameters - (0.7 * networks[0].Parameters), -217.0, 217.0);
        // Of two measurements means are whole or half.
        Assert.All(folder.Ticket.Read(), row => Assert.Equal(0, (row.Score!.Value * 2) % 1));
        Assert.Contains("start: reinitialised", File.ReadAllText(folder.Config), StringComparison.Ordinal);
        // One epoch of 3 steps, from the beginning.
        using SafetensorsFile ticket = SafetensorsFile.Open(folder.TicketWeights);
        Assert.Equal("3", ticket.Metadata["lofthpc.step"]);
        Assert.Contains("retrain: is finished in ", Start(MpiLauncher.AnyFamily(), 2, "run", [.. overrides, "run.resume=auto"]).MustSucceed().Output, StringComparison.Ordinal);
    }

    private LaunchResult Alone(string command, params string[] overrides) =>
        MpiLauncher.RunAlone([MpiLauncher.LoftHpc, command, "--config", ConfigFile, $"run.folder={TemporaryPath}/results", .. overrides]);

    private static IEnumerable<(string, int)> Widths(IEnumerable<TicketRow> rows) =>
        rows.GroupBy(row => row.Layer).Select(layer => (layer.Key, layer.Count(row => row.Kept)));

    /// <summary>The ticket's weights are those of a dense network, without what its table has pruned.</summary>
    private static void MustBePartOf(RunFolder folder, string path, string steps)
    {
        using var scope = NewDisposeScope();
        using SafetensorsFile ticket = SafetensorsFile.Open(folder.TicketWeights), dense = SafetensorsFile.Open(path);
        Assert.Equal(steps, ticket.Metadata["lofthpc.step"]);
        ILookup<string, TicketRow> layers = folder.Ticket.Read().Where(row => row.Kept).ToLookup(row => row.Layer);
        int cut = 0;
        foreach (TensorSpec tensor in WeightsIdentity.Of(dense, path).Describe().Tensors)
        {
            // Of a pre-activation block: conv1's rows, bn2, conv2's columns.
            string block = tensor.Name[..tensor.Name.LastIndexOf('.')], conv1 = $"{block[..(block.LastIndexOf('.') + 1)]}conv1";
            Tensor expected = dense.Read(tensor.Name);
            int axis = block.EndsWith("conv1", StringComparison.Ordinal) || block.EndsWith("bn2", StringComparison.Ordinal) ? 0 : block.EndsWith("conv2", StringComparison.Ordinal) ? 1 : -1;
            if (axis >= 0 && layers.Contains(conv1))
            {
                expected = expected.index_select(axis, TorchSharp.torch.tensor(layers[conv1].Select(row => (long)row.Filter).ToArray()));
                cut++;
            }
            Assert.True(ticket.Read(tensor.Name).equal(expected).all().item<bool>(), tensor.Name);
        }
        // Four blocks, of which conv1, four tensors of bn2, and conv2.
        Assert.Equal(4 * 6, cut);
    }
}
