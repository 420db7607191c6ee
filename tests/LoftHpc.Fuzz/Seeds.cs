using LoftHpc.Arithmetic;
using LoftHpc.Communication;
using LoftHpc.Configuration;
using LoftHpc.Data;
using LoftHpc.Networks;
using LoftHpc.Results;
using LoftHpc.Tickets;
using LoftHpc.Training;
using static TorchSharp.torch;

namespace LoftHpc.Fuzz;

/// <summary>Valid inputs, from which mutated ones are made.</summary>
public static class Seeds
{
    /// <summary>The smallest network that there is.</summary>
    public static readonly WeightsIdentity Network = new(
        new NetworkSection { Family = NetworkFamily.WideResnet, Depth = 10, Width = 2 }, ImageChannels: 1, ImageSide: 28, Classes: 2);

    /// <summary>A config of this network.</summary>
    public static readonly RunConfig Config = new()
    {
        Run = new RunSection { Name = "dense-1-1" },
        Network = Network.Network,
        Data = new DataSection { Set = DataSetName.Synthetic, TrainImages = 8, TestImages = 8, Synthetic = new SyntheticSection { Channels = 1, Size = 28, Classes = 2 } },
        Pretrain = new PretrainSection { Method = PretrainMethod.Dense, Epochs = 2, Batch = 4 },
        Retrain = new RetrainSection { Epochs = 1, Batch = 4 },
        Extract = new ExtractSection { FirstBlocks = true },
    };

    /// <summary>Images of the config's shape; no pixels are needed.</summary>
    public static readonly ImageData Images = new(Set("train"), Set("test"));

    private const string Runs = "runs", Run = "dense-1-1";

    /// <summary>The folder of run folders that <see cref="MakeRunFolder"/> makes in a folder.</summary>
    public static string RunsIn(string folder) => Path.Combine(folder, Runs);

    /// <summary>The run folder in it.</summary>
    public static RunFolder RunIn(string folder) => RunFolder.At(Path.Combine(folder, Runs, Run));

    /// <summary>Every file of a finished run.</summary>
    public static RunFolder MakeRunFolder(string folder)
    {
        RunFolder run = RunFolder.Create(RunsIn(folder), Run, overwrite: false);
        File.WriteAllText(run.Config, RunConfigLoader.ToYaml(Config));
        File.WriteAllText(run.ConfigOf("retrain"), RunConfigLoader.ToYaml(Config));
        RunManifest.Begin(run.Manifest, Launch);
        RunManifest.End(run.Manifest, DateTimeOffset.UnixEpoch.AddMinutes(1), 0);
        MetricsRow train = new(TrainingPhase.Pretrain, 1, DataSplit.Train, 2.302585092994046, 0.1, 0.1, 1234.5, 1.5, 8);
        MetricsRow test = new(TrainingPhase.Pretrain, 1, DataSplit.Test, double.NaN, 0.5, 1e-300, double.PositiveInfinity, 0, 8);
        run.Metrics.Write([train, test, train with { Epoch = 2 }, test with { Epoch = 2 }, train with { Phase = TrainingPhase.Retrain }, test with { Phase = TrainingPhase.Retrain }]);
        run.FilterNorms.Write([new(0, 0, "conv1", 0, 1.25), new(long.MaxValue, 0.1, "layer1.0.conv1", 511, 1e-9)]);
        run.FilterDistance.Write([new(5, 0, "conv1", 64, 8.3, 1.0000000000000002), new(5, 5, "conv1", 1, 0, null)]);
        CommunicationRow first = new(0, "pretrain", CommunicationPurpose.Step, "allreduce", 1, 2, 3, 4, 0.5), second = first with { Rank = 1, BytesSent = 4, BytesReceived = 3 };
        run.Communication.Write([first, second, new(0, "a, \"b\"\nc", CommunicationPurpose.Save, "", 1, 2, 3, 4, 5), first with { Phase = "retrain" }, second with { Phase = "retrain" }]);
        run.Resources.Write(
            from phase in Enum.GetValues<TrainingPhase>()
            from rank in Enumerable.Range(0, 2)
            select new ResourcesRow(rank, phase, 16, 2_000_000_000, 4, 1, 2, 3, 4, 400_000_000, ArithmeticRepair.None, 0));
        run.Summary.Write([new(NetworkState.Dense, 0.875, 1, 1, 1), new(NetworkState.Pruned, 0.25, 1, 1, 1), new(NetworkState.Ticket, 0.75, 1, 1, 1)]);

        NetworkSpec dense = Network.Describe();
        using ModelState state = ModelState.Initialize([.. dense.Tensors.Select(TensorSlice.Whole)], 1, ScalarType.Float32, CPU);
        WeightsFile.Save(run.DenseWeights, Network, 4, dense, state);
        Ticket ticket = TicketSelector.Select(
            dense, Config.Extract, TicketWidths.Of(dense, Network.ImageSide, Config.Extract), new L2Criterion(), name => state[name].detach().clone());
        run.Ticket.Write(ticket.Rows);
        using ModelState pruned = ModelState.Load(ticket.Slices, tensor => state[tensor.Name].detach().clone(), ScalarType.Float32, CPU);
        foreach (string path in (string[])[run.PrunedWeights, run.TicketWeights])
            WeightsFile.Save(path, Network with { InnerCounts = ticket.InnerCounts }, 4, ticket.Pruned, pruned);
        return run;
    }

    private static LaunchRecord Launch => new(
        "run", ["lofthpc", "run"], 1, DateTimeOffset.UnixEpoch, null, null,
        new BuildRecord("0.1.0", "deadbeef", true, ".NET 10", "Linux", new Dictionary<string, string> { ["A"] = "1.5" }),
        "2.10", new MpiRecord("Mpich", "4.0.2", "libmpich.so.12", "native"), "12345",
        [new RankRecord(0, "host", 0, "cpu", 1, "Intel(R) \u00b5 & <2>"), new RankRecord(1, "host", 1, "cpu", 1, "other")], [new ArithmeticRecord(0, "none", 0, 19)]);

    private static ImageSet Set(string name) => new(name, Network.ImageChannels, Network.ImageSide, Network.ImageSide, Network.Classes, [], [], [0.5f], [0.5f]);
}
