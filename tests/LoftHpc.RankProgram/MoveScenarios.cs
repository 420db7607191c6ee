using LoftHpc.Checkpoints;
using LoftHpc.Communication;
using LoftHpc.Configuration;
using LoftHpc.Data;
using LoftHpc.Distances;
using LoftHpc.Mpi;
using LoftHpc.Networks;
using LoftHpc.Results;
using LoftHpc.SelfTest;
using LoftHpc.Training;
using TorchSharp;
using static TorchSharp.torch;

namespace LoftHpc.RankProgram;

/// <summary>Trainings that some ranks begin and another number of ranks goes on with.</summary>
internal static class MoveScenarios
{
    /// <summary>Steps before the move, which is in the middle of the second epoch of three steps, and for rounds of four steps at the end of one.</summary>
    private const int Steps = 4;

    private static readonly NetworkSection Network = new() { Family = NetworkFamily.PreactResnet, Depth = 18, Width = 3 };

    private static readonly (int From, int To)[] Moves = [(1, 3), (2, 3), (3, 2), (4, 1), (3, 4)];

    /// <summary>
    /// Arguments: a folder, what is said not to be carried over ("" for nothing), a method and its settings. The network that goes on
    /// is the one that was written, to the bit, and so are its rankings and the sums of what was counted; where the method's steps do not
    /// depend on the number of ranks, the next step is the same too.
    /// </summary>
    public static void Move(ICommunicator world, string[] arguments)
    {
        PretrainSection config = MethodChecks.Pretrain(["epochs=10", "local_steps=4", .. arguments[2..]]);
        bool isExact = config.Method is PretrainMethod.FilterParallel or PretrainMethod.DataParallel or PretrainMethod.Gpipe;
        foreach ((int from, int to) in Moves)
        {
            string folder = Path.Combine(arguments[0], $"{from}-{to}");
            if (world.Rank == 0) Directory.CreateDirectory(folder);
            world.Barrier();
            (IReadOnlyList<LayerDistance> Distances, long Bytes, long Images) written = ([], 0, 0), read = written;
            string? lost = null;
            On(world, from, ranks =>
            {
                using Training training = new(ranks, config);
                for (int step = 0; step < Steps; step++)
                {
                    if (step is 0 or 2) training.Measure(step);
                    training.Step(step);
                }
                StateFile.Write(Path.Combine(folder, $"rank-{ranks.Rank}.safetensors"), training.Archive);
                // What is counted up to here; and then what comes next.
                (long bytes, long images) = training.Counted(ranks);
                training.Save(Path.Combine(folder, "written.safetensors"));
                written = (training.Measure(Steps), bytes, images);
                training.Step(Steps);
                training.Save(Path.Combine(folder, "written-next.safetensors"));
            });
            world.Barrier();
            On(world, to, ranks =>
            {
                using Training training = new(ranks, config);
                lost = StateFile.Move([.. Enumerable.Range(0, from).Select(rank => Path.Combine(folder, $"rank-{rank}.safetensors"))], ranks.Rank, to, training.Archive);
                (long bytes, long images) = training.Counted(ranks);
                training.Save(Path.Combine(folder, "read.safetensors"));
                read = (training.Measure(Steps), bytes, images);
                training.Step(Steps);
                training.Save(Path.Combine(folder, "read-next.safetensors"));
            });
            world.Barrier();
            if (world.Rank != 0) continue;
            string what = $"{arguments[2]} from {from} to {to} ranks";
            // One rank's momentum is all there is.
            Check.True((lost ?? "") == (from == 1 ? "" : arguments[1]), $"{what}: lost: {lost}");
            Check.True(read.Bytes == written.Bytes && read.Images == written.Images, $"{what}: counted {read.Bytes} bytes and {read.Images} images, and {written.Bytes} and {written.Images} before");
            // Sums over ranks, in another order.
            Check.True(
                written.Distances.Count > 0 && read.Distances.Count == written.Distances.Count && read.Distances.Zip(written.Distances).All(pair =>
                    pair.First with { Distance = 0, Normalized = null } == pair.Second with { Distance = 0, Normalized = null }
                    && Math.Abs(pair.First.Distance - pair.Second.Distance) <= 1e-12 * pair.Second.Distance),
                $"{what}: distances");
            MustBeAlike(folder, "written", "read", isExact ? 0 : 1e-5, ofParameters: 0, what);
            if (isExact) MustBeAlike(folder, "written-next", "read-next", MethodChecks.Tolerance32, MethodChecks.Tolerance32, what);
        }
    }

    /// <summary>Arguments: a folder, a method. Ranks in the middle of a round cannot be replaced by others.</summary>
    public static void WithinRound(ICommunicator world, string[] arguments)
    {
        PretrainSection config = MethodChecks.Pretrain(["epochs=10", "local_steps=4", .. arguments[1..]]);
        string[] paths = [.. Enumerable.Range(0, 2).Select(rank => Path.Combine(arguments[0], $"rank-{rank}.safetensors"))];
        On(world, 2, ranks =>
        {
            using Training training = new(ranks, config);
            for (int step = 0; step < 3; step++) training.Step(step);
            StateFile.Write(paths[ranks.Rank], training.Archive);
        });
        world.Barrier();
        using Training other = new(world, config);
        UserError error = Check.Throws<UserError>(() => StateFile.Move(paths, world.Rank, world.Size, other.Archive), "a move within a round");
        Check.True(error.Message.Contains("it is of 2 ranks in the middle of a round", StringComparison.Ordinal), error.Message);
    }

    /// <summary>Does something on the first ranks.</summary>
    private static void On(ICommunicator world, int ranks, Action<ICommunicator> action)
    {
        using ICommunicator part = world.Split(world.Rank < ranks ? 0 : 1, world.Rank);
        if (world.Rank < ranks) action(part);
    }

    /// <param name="ofStatistics">Relative error that is allowed.</param>
    private static void MustBeAlike(string folder, string one, string other, double ofStatistics, double ofParameters, string what)
    {
        using SafetensorsFile a = SafetensorsFile.Open(Path.Combine(folder, $"{one}.safetensors")), b = SafetensorsFile.Open(Path.Combine(folder, $"{other}.safetensors"));
        foreach (TensorEntry entry in a.Entries)
        {
            using DisposeScope scope = NewDisposeScope();
            (Tensor x, Tensor y) = (a.Read(entry.Name).to(float64), b.Read(entry.Name).to(float64));
            double error = (x - y).abs().max().item<double>() / Math.Max(1e-30, x.abs().max().item<double>());
            double allowed = entry.Name.Contains("running_", StringComparison.Ordinal) ? ofStatistics : ofParameters;
            Check.True(error <= allowed, $"{what}: {entry.Name} of {other} is off by {error}");
        }
    }

    /// <summary>A training, its rankings and its account of communication on one rank.</summary>
    private sealed class Training : IDisposable
    {
        private readonly CommunicationLedger _ledger = new() { Phase = "pretrain" };
        private readonly MeteredCommunicator _metered;
        private readonly TensorTransport _transport = TensorTransport.For(CPU, direct: false);
        private readonly ChannelExchange _channels;
        private readonly ITrainingMethod _method;
        private readonly RankingTracker _rankings;

        public Training(ICommunicator ranks, PretrainSection config)
        {
            (NetworkSpec network, BatchLoader data) = MethodChecks.Setting(Network);
            _metered = new MeteredCommunicator(ranks, _ledger);
            _channels = new ChannelExchange(_metered, _transport);
            _method = TrainingMethods.Create(new RankContext(_metered, _ledger, _channels, CPU), network, config, data, MethodChecks.Seed);
            _rankings = new RankingTracker(_metered);
        }

        public void Step(int step) => _method.StepAndMeet(step / _method.StepsPerEpoch, step % _method.StepsPerEpoch, MethodChecks.LearningRate);

        public IReadOnlyList<LayerDistance> Measure(int step) => _rankings.Measure(step, _method.MeasureNorms()).Distances;

        public void Save(string path) => _method.Save(path, new WeightsIdentity(Network, _method.Network.ImageChannels, 28, _method.Network.Classes), Steps);

        /// <summary>Sums over the ranks: bytes of steps, and images.</summary>
        public (long Bytes, long Images) Counted(ICommunicator ranks) => (
            ranks.Allreduce(_ledger.Totals.Sum(total => total.BytesSent), MpiOperation.Sum), ranks.Allreduce(_method.Work.Images, MpiOperation.Sum));

        public void Archive(StateArchive archive)
        {
            _ledger.Archive(archive);
            _channels.Archive(archive);
            _method.Archive(archive);
            _rankings.Archive(archive);
        }

        public void Dispose()
        {
            _rankings.Dispose();
            _method.Dispose();
            _transport.Dispose();
        }
    }
}
