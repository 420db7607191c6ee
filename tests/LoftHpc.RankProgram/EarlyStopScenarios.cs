using System.Diagnostics;
using System.Text;
using System.Text.RegularExpressions;
using LoftHpc.Checkpoints;
using LoftHpc.Communication;
using LoftHpc.Configuration;
using LoftHpc.Data;
using LoftHpc.Mpi;
using LoftHpc.Networks;
using LoftHpc.Output;
using LoftHpc.Results;
using LoftHpc.SelfTest;
using LoftHpc.Training;
using static TorchSharp.torch;

namespace LoftHpc.RankProgram;

/// <summary>Ranks that work apart are stopped before they would meet, and go on as if nothing had been.</summary>
internal static class EarlyStopScenarios
{
    private static readonly NetworkSection Network = new() { Family = NetworkFamily.PreactResnet, Depth = 18, Width = 3 };

    /// <summary>Two epochs of ten steps; rounds end after 7, 14 and 20.</summary>
    private static readonly string[] Settings = ["epochs=2", "batch=1", "local_steps=7", "gpipe.micro_batches=1"];

    /// <summary>
    /// Arguments: a folder, methods. A rank is asked to stop while it waits at the end of the first round, one within that round, one within
    /// the second, and one after the last step.
    /// </summary>
    public static void InARound(ICommunicator world, string[] arguments) => Each(world, arguments, (ranks, config, folder) =>
    {
        int last = ranks.Size - 1;
        List<long> positions = [];
        MustEndAsUnbroken(ranks, config, folder, positions, [
            // While it waits for the last one at the end of the round; one rank alone waits for nobody.
            (training, done) => ranks.Size == 1 ? done == 3 : ranks.Rank == 0 && done == 7 && training.SinceStep.ElapsedMilliseconds > 150,
            (training, done) => ranks.Rank == last && done == 5,
            (training, done) => ranks.Rank == 0 && done == 12,
            (training, done) => ranks.Rank == last && done == 20]);
        string stopped = $"stopped at {string.Join(", ", positions)}";
        if (ranks.Rank == last) Check.True(positions[0] is 3 or 4 && positions[1] is 5 && positions[3] is 20, stopped);
        if (ranks.Rank == 0) Check.True(positions[0] == (ranks.Size == 1 ? 3 : 7) && positions[2] is 12, stopped);
    });

    /// <summary>Arguments: a folder, methods. One rank is asked to stop in the first evaluation, another one in the second.</summary>
    public static void InAnEvaluation(ICommunicator world, string[] arguments) => Each(world, arguments, (ranks, config, folder) =>
    {
        List<long> positions = [];
        MustEndAsUnbroken(ranks, config, folder, positions, [
            (training, done) => ranks.Rank == ranks.Size - 1 && training.Kept == 10,
            (training, done) => ranks.Rank == 0 && training.Kept == 20], "in the evaluation");
        Check.True(positions.SequenceEqual([10, 20]), $"stopped at {string.Join(", ", positions)}");
    });

    private static void Each(ICommunicator world, string[] arguments, Action<ICommunicator, PretrainSection, string> action)
    {
        foreach (string method in arguments[1..])
        {
            string folder = Path.Combine(arguments[0], method.Replace('/', '-'));
            if (world.Rank == 0) Directory.CreateDirectory(folder);
            world.Barrier();
            try
            {
                action(world, MethodChecks.Pretrain([.. Settings, .. method.Split('/')]), folder);
            }
            catch (Exception error)
            {
                throw new InvalidOperationException($"{method}: {error.Message}", error);
            }
        }
    }

    private static void MustEndAsUnbroken(
        ICommunicator ranks, PretrainSection config, string folder, List<long> positions, Func<Training, long, bool>[] asks, string where = "after step")
    {
        string At(string name) => Path.Combine(folder, $"{name}-{ranks.Rank}.safetensors");
        using (Training unbroken = new(ranks, config, At("none")))
        {
            Check.True(unbroken.Run((_, _) => false) is null, "nobody asked it to stop");
            unbroken.Write(At("unbroken"));
        }
        for (int launch = 0; launch <= asks.Length; launch++)
        {
            using Training training = new(ranks, config, At("kept"));
            if (launch > 0) training.Read();
            // The last launch is asked to stop before it has done anything: it gets further.
            UserError? stopped = training.Run(launch < asks.Length ? asks[launch] : (_, done) => done == 20);
            Check.True(
                launch == asks.Length ? stopped is null : stopped is { ExitCode: ExitCodes.Stopped } && stopped.Message.Contains($"stopped on request {where}", StringComparison.Ordinal),
                $"launch {launch}: {stopped?.Message ?? "not stopped"}");
            if (stopped is not null) positions.Add(training.Kept);
            else training.Write(At("stopped"));
        }
        // Weights, momentum, running statistics and all else of this rank; and what it has counted.
        Check.True(WithoutTimes(At("unbroken")) == WithoutTimes(At("stopped")), "it did not end as an unbroken one");
    }

    /// <summary>A file of safetensors without the length of its header, and without the time that training has waited for images.</summary>
    private static string WithoutTimes(string path) =>
        Regex.Replace(Encoding.Latin1.GetString(File.ReadAllBytes(path)[sizeof(long)..]), "\"data_seconds\":\"[^\"]*\"", "").Replace(" ", "", StringComparison.Ordinal);

    /// <summary>A training with checkpoints of one rank, and its account of communication.</summary>
    private sealed class Training : IDisposable
    {
        private readonly CommunicationLedger _ledger = new() { Phase = "pretrain" };
        private readonly TensorTransport _transport = TensorTransport.For(CPU, direct: false);
        private readonly RankContext _context;
        private readonly ITrainingMethod _method;
        private readonly TrainingLoop _loop;
        private readonly string _kept;
        private long _done;

        /// <param name="kept">File of this rank's checkpoint.</param>
        public Training(ICommunicator ranks, PretrainSection config, string kept)
        {
            _kept = kept;
            (NetworkSpec network, BatchLoader data) = MethodChecks.Setting(Network);
            MeteredCommunicator metered = new(ranks, _ledger);
            _context = new RankContext(metered, _ledger, new ChannelExchange(metered, _transport), CPU);
            _method = TrainingMethods.Create(_context, network, config, data, MethodChecks.Seed);
            _loop = new TrainingLoop(_context, TrainingPhase.Pretrain, _method, config.Epochs, config.Optimizer, data, testBatch: 1)
            {
                Stop = new StopAgreement(_context),
                LongEvaluation = TimeSpan.Zero,
                Checkpoint = done =>
                {
                    Kept = done;
                    StateFile.Write(_kept, Archive);
                },
                AfterStep = (done, _) =>
                {
                    _done = done;
                    // The others are to be further than the one that is asked to stop here.
                    SinceStep.Restart();
                    if (done == 3 && ranks.Size > 1 && ranks.Rank == ranks.Size - 1) Thread.Sleep(700);
                    return null;
                },
            };
            _context.EarlyStop.Patience = TimeSpan.Zero;
        }

        /// <summary>Runs since the last step.</summary>
        public Stopwatch SinceStep { get; } = new();

        /// <summary>The steps of the last checkpoint.</summary>
        public long Kept { get; private set; }

        public void Read() => StateFile.Read(_kept, Archive);

        /// <param name="asks">Whether this rank is asked to stop, after so many steps; once is enough.</param>
        /// <returns>Null: it came to its end.</returns>
        public UserError? Run(Func<Training, long, bool> asks)
        {
            bool asked = false;
            Func<Pause> before = _context.EarlyStop.Wanted;
            _context.EarlyStop.Wanted = () => (asked |= asks(this, _done)) ? Pause.StopBySignal : before();
            try
            {
                _loop.Run(new SilentReporter(TextWriter.Null));
                return null;
            }
            catch (UserError error)
            {
                return error;
            }
        }

        /// <summary>All that there is at the end, without times.</summary>
        public void Write(string path) => StateFile.Write(path, archive =>
        {
            string counted = string.Join('\n', _ledger.Totals.Where(total => total.Phase == "pretrain").Select(total => total with { Seconds = 0 }));
            archive.Text("counted", ref counted);
            _method.Archive(archive);
        });

        public void Dispose()
        {
            _method.Dispose();
            _transport.Dispose();
        }

        private void Archive(StateArchive archive)
        {
            _ledger.Archive(archive);
            _context.Channels.Archive(archive);
            _loop.Archive(archive);
            _method.Archive(archive);
        }
    }
}
