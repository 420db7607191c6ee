using System.Text;
using LoftHpc.Checkpoints;
using LoftHpc.Communication;
using LoftHpc.Configuration;
using LoftHpc.Distances;
using LoftHpc.Mpi;
using LoftHpc.Networks;
using TorchSharp;

namespace LoftHpc.Fuzz;

/// <summary>Checkpoints: the record, or a rank's state whose checksum was not looked at.</summary>
internal sealed class CheckpointFormat : FuzzFormat
{
    private const string Phase = "pretrain";

    private static readonly Lazy<(byte[] Record, byte[] State)> Seed = new(() =>
    {
        string folder = Directory.CreateTempSubdirectory("lofthpc-fuzz-seed-").FullName;
        using State state = new(measured: true);
        StateFile.Write(StateIn(folder), state.Archive);
        new CheckpointRecord(
            CheckpointRecord.CurrentFormat, Phase, 12, RunConfigLoader.ToYaml(Seeds.Config), "train\ntest",
            [FileStamp.Of(StateIn(folder))], [new FileStamp("metrics.csv", 1234, new string('a', 64))]).Write(RecordIn(folder));
        (byte[], byte[]) files = (File.ReadAllBytes(RecordIn(folder)), File.ReadAllBytes(StateIn(folder)));
        Directory.Delete(folder, recursive: true);
        return files;
    });

    public override string Name => "checkpoint";

    public override void Make(Mutator mutator, string folder)
    {
        bool ofRecord = mutator.OneIn(3);
        string path = ofRecord ? RecordIn(folder) : StateIn(folder);
        byte[] seed = ofRecord ? Seed.Value.Record : Seed.Value.State;
        File.WriteAllBytes(path, ofRecord && mutator.OneIn(2) ? Encoding.UTF8.GetBytes(mutator.Json(Encoding.UTF8.GetString(seed)))
            : !ofRecord && mutator.OneIn(2) ? SafetensorsFormat.ChangeHeader(mutator, seed) : mutator.Any(seed, [seed]));
        if (mutator.OneIn(100)) mutator.Displace(path);
    }

    protected override bool Read(string folder)
    {
        if (Directory.EnumerateFileSystemEntries(folder, "commit.json").Any())
        {
            CheckpointRecord record = CheckpointRecord.Read(RecordIn(folder));
            foreach (FileStamp table in record.Tables) _ = table.Differs(Path.Combine(folder, "none.csv"), exactly: false);
            return true;
        }
        using State state = new(measured: false);
        StateFile.Read(StateIn(folder), state.Archive);
        return true;
    }

    private static string RecordIn(string folder) => Path.Combine(folder, "commit.json");

    private static string StateIn(string folder) => Path.Combine(folder, "rank-0.safetensors");

    /// <summary>What a stage keeps, of a small network.</summary>
    private sealed class State : IDisposable
    {
        private static readonly NetworkSpec Network = NetworkCatalog.Create(Seeds.Config.Network, 1, 3);

        private readonly IReadOnlyList<BlockSpec> _blocks = FilterPartition.BlocksOf(Network, [2, 3, 4], firstBlocks: true);
        private readonly ModelState _model = ModelState.InitializeWhole(Network, 1, torch.ScalarType.Float32, torch.CPU);
        private readonly SelfCommunicator _self = new();
        private readonly RankingTracker _rankings;
        private readonly CommunicationLedger _ledger = new() { Phase = Phase };
        private FilterPartition _partition;
        private long _step = 12;
        private double _seconds = 0.1 + 0.2;

        public State(bool measured)
        {
            _partition = FilterPartition.AtRandom(_blocks, 1, 0, 2);
            _rankings = new RankingTracker(_self);
            if (!measured) return;
            using MeteredCommunicator metered = new(new SelfCommunicator(), _ledger);
            metered.Allreduce(1.0, MpiOperation.Sum);
            _rankings.Measure(0, FilterNorms.Measure(_model));
            _rankings.Measure(2, FilterNorms.Measure(_model));
        }

        public void Archive(StateArchive archive)
        {
            archive.Number("step", ref _step);
            archive.Number("seconds", ref _seconds);
            _ledger.Archive(archive);
            _rankings.Archive(archive);
            _partition = _partition.Archived(archive, _blocks, 2);
            _model.Archive(archive);
        }

        public void Dispose()
        {
            _rankings.Dispose();
            _self.Dispose();
            _model.Dispose();
        }
    }
}
