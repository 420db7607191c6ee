using LoftHpc.Arithmetic;
using LoftHpc.Communication;
using LoftHpc.Configuration;
using LoftHpc.Results;
using LoftHpc.Tests.Results;

namespace LoftHpc.Tests.Comparing;

/// <summary>A folder of finished runs that are made up, each with whole tables.</summary>
internal sealed class MadeRuns : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public string Path => Beside("runs");

    public string File(string name) => System.IO.Path.Combine(Path, name);

    public string Beside(string name) => _folder.File(name);

    public void Dispose() => _folder.Dispose();

    /// <summary>A finished run; one epoch, where <paramref name="pretrain"/> has the default.</summary>
    /// <param name="accuracy">Of the ticket.</param>
    /// <param name="launch">Changes the record of its launch.</param>
    public RunFolder Make(
        string name, int ranks, PretrainSection pretrain, long seed = 1, double ratio = 0.5, double accuracy = 0.75, double seconds = 4,
        string command = "run", Func<LaunchRecord, LaunchRecord>? launch = null)
    {
        if (pretrain.Epochs == new PretrainSection().Epochs) pretrain = pretrain with { Epochs = 1 };
        RunFolder run = RunFolder.Create(Path, name, overwrite: false);
        RunConfig config = new()
        {
            Run = new RunSection { Name = name, Seed = seed },
            Pretrain = pretrain,
            Extract = new ExtractSection { Ratio = ratio },
            Retrain = new RetrainSection { Epochs = 1 },
        };
        System.IO.File.WriteAllText(run.Config, RunConfigLoader.ToYaml(config));
        LaunchRecord record = Launch(command, ranks, seed);
        RunManifest.Begin(run.Manifest, launch is null ? record : launch(record));
        run.Metrics.Write(
            from training in ((TrainingPhase Phase, int Epochs)[])[(TrainingPhase.Pretrain, pretrain.Epochs), (TrainingPhase.Retrain, 1)]
            from epoch in Enumerable.Range(1, training.Epochs)
            from split in Enum.GetValues<DataSplit>()
            select new MetricsRow(training.Phase, epoch, split, 1, 0.5, 0.1, 1, 1, 50 * ranks));
        run.Resources.Write(
            from phase in Enum.GetValues<TrainingPhase>()
            from rank in Enumerable.Range(0, ranks)
            select new ResourcesRow(rank, phase, 50, 2_000_000_000, seconds, 1, 2, 3, 4, 400_000_000, ArithmeticRepair.None, 0));
        run.Communication.Write(
            from phase in (string[])["pretrain", "retrain"]
            from rank in Enumerable.Range(0, ranks)
            select new CommunicationRow(rank, phase, CommunicationPurpose.Step, "allreduce", 1, 1, 2_500_000, 2_500_000, 1));
        run.Summary.Write([new(NetworkState.Dense, 0.875, 1, 100, 1000), new(NetworkState.Pruned, 0.25, 1, 60, 600), new(NetworkState.Ticket, accuracy, 1, 60, 600)]);
        return run;
    }

    /// <summary>The record of a launch that has not ended.</summary>
    public static LaunchRecord Launch(string command, int ranks, long seed) => new(
        command, [], seed, DateTimeOffset.UnixEpoch, null, null,
        new BuildRecord("9.8", "abc", false, ".NET", "Linux", new Dictionary<string, string>()), "2.10", new MpiRecord("OpenMpi", "Open MPI 4", ""), null,
        [.. Enumerable.Range(0, ranks).Select(rank => new RankRecord(rank, "host", rank, "cpu", 1, "Test CPU"))],
        [new ArithmeticRecord(0, "none", 0, 19)], "float32", "contiguous", "train, 60000 images, hash 1");
}
