using LoftHpc.Comparing;
using LoftHpc.Mpi;
using LoftHpc.Results;
using LoftHpc.Tests.Mpi;
using TorchSharp;
using Xunit;
using static TorchSharp.torch;

namespace LoftHpc.Tests.Commands;

/// <summary>A network goes out and comes back, by the program as its users start it.</summary>
public sealed class ImportTests : ProgramTests
{
    [SkippableFact]
    public void A_network_that_was_exported_and_imported_makes_the_same_ticket()
    {
        MpiFamily family = MpiLauncher.AnyFamily();
        Alone("run", "run.name=a").MustSucceed();
        string target = Path.Combine(TemporaryPath, "out"), weights = Path.Combine(target, "model.safetensors");
        LaunchResult exported = MpiLauncher.RunAlone([MpiLauncher.LoftHpc, "export", Folder("a").Path, "--to", "pytorch", "--weights", "dense", "--output", target]).MustSucceed();
        Assert.Equal($"{target}/architecture.json\n{target}/model.py\n{weights}\n", exported.Output);
        MustBeOneLine(MpiLauncher.RunAlone([MpiLauncher.LoftHpc, "export", Folder("a").Path, "--to", "onnx"]), ExitCodes.Configuration, "--to: 'onnx' is not known; allowed: pytorch");

        string bare = Path.Combine(TemporaryPath, "bare.safetensors");
        WithoutIdentity(weights, bare);
        MustBeOneLine(Alone("import", bare, "run.name=b", "network.width=4"), ExitCodes.Configuration, $"{bare}: not the weights of the config's network", "conv1.weight [3, 1, 3, 3] for [4, 1, 3, 3]");
        Assert.False(Directory.Exists(Folder("b").Path));

        MpiLauncher.Run(
            family, 2,
            [MpiLauncher.LoftHpc, "import", bare, "--initial", Folder("a").InitialWeights, "--config", ConfigFile, "run.name=b", $"run.folder={TemporaryPath}/results"]).MustSucceed();
        Assert.Equal(
            ["communication.csv", "config.yaml", "dense.safetensors", "initial.safetensors", "manifest.json", "metrics.csv", "resources.csv", "summary.csv"], Files("b"));
        MustBeOneLine(Alone("import", bare, "run.name=b"), ExitCodes.Configuration, $"{Folder("b").Path} exists already");
        Alone("extract", "run.name=b").MustSucceed();
        Alone("retrain", "run.name=b").MustSucceed();
        foreach ((string own, string back) in new[]
        {
            (Folder("a").DenseWeights, Folder("b").DenseWeights), (Folder("a").Ticket.Path, Folder("b").Ticket.Path), (Folder("a").TicketWeights, Folder("b").TicketWeights),
        }) Assert.True(File.ReadAllBytes(own).SequenceEqual(File.ReadAllBytes(back)), back);
        Assert.Equal(Folder("a").Summary.Read().Skip(1), Folder("b").Summary.Read().Skip(1));

        ComparedRun compared = ComparedRun.Read(Folder("b"));
        Assert.Equal((0L, 2), (compared.Row.Samples, compared.Row.Ranks));
        Assert.Contains(("pretrain.epochs", "0"), compared.Settings);
    }

    private LaunchResult Alone(string command, params string[] arguments) =>
        MpiLauncher.RunAlone([MpiLauncher.LoftHpc, command, .. arguments, "--config", ConfigFile, $"run.folder={TemporaryPath}/results"]);

    /// <summary>The same tensors without what this program writes beside them.</summary>
    private static void WithoutIdentity(string from, string to)
    {
        using DisposeScope scope = NewDisposeScope();
        using SafetensorsFile file = SafetensorsFile.Open(from);
        using SafetensorsWriter writer = new(to, file.Entries, new Dictionary<string, string>());
        foreach (TensorEntry entry in file.Entries) writer.Write(entry.Name, file.Read(entry.Name));
        writer.Complete();
    }
}
