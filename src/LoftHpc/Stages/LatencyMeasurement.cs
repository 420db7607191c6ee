using System.Diagnostics;
using LoftHpc.Configuration;
using LoftHpc.Mpi;
using LoftHpc.Networks;
using LoftHpc.Results;
using LoftHpc.Training;
using MathNet.Numerics.Statistics;
using TorchSharp;
using static TorchSharp.torch;

namespace LoftHpc.Stages;

/// <summary>
/// How long one rank alone takes for a forward pass and for a training step of two networks, and what memory. Both have weights and images
/// of their own, drawn for this, since neither time nor memory depends on their values: nothing of a training is touched.
/// </summary>
public static class LatencyMeasurement
{
    private const double MostLookSeconds = 2;

    /// <summary>Rounds that are done of each pass and batch, whatever they take.</summary>
    public const int LeastRounds = 3;

    /// <summary>
    /// Rows of latency.csv: for each batch a forward pass (as in evaluation) and a step (forward, backward and update of the weights), of the
    /// dense network and of the ticket in turn, so that what else a machine does falls on both. Not collective.
    /// </summary>
    /// <param name="warn">Gets a line for each batch for which the memory does not suffice.</param>
    public static IReadOnlyList<LatencyRow> Measure(
        RankContext context, WeightsIdentity dense, WeightsIdentity ticket, OptimizerSection optimizer, LatencySection config, long seed, Action<string> warn)
    {
        if (config.Batches.Count == 0) return [];
        using Subject first = new(NetworkState.Dense, dense, context, optimizer, seed), second = new(NetworkState.Ticket, ticket, context, optimizer, seed);
        MeasuredPass[] passes = Enum.GetValues<MeasuredPass>();
        TimeSpan share = TimeSpan.FromSeconds(config.Seconds) / (config.Batches.Count * passes.Length);
        List<LatencyRow> rows = [];
        foreach (int batch in config.Batches)
        {
            try
            {
                rows.AddRange(passes.SelectMany(pass => Measure(context, [first, second], pass, batch, config.Rounds, share, seed)));
            }
            catch (Exception error) when (MpiJob.MemoryProblem(error) is string problem)
            {
                // The ticket is trained, and that is what counts.
                warn($"latency.batches: a batch of {batch} is left out: {problem}");
            }
        }
        return rows;
    }

    private static List<LatencyRow> Measure(RankContext context, Subject[] subjects, MeasuredPass pass, int batch, int rounds, TimeSpan share, long seed)
    {
        using DisposeScope scope = NewDisposeScope();
        using Generator generator = new(RandomStream.For(seed, "latency", batch).NextBits(), CPU);
        WeightsIdentity identity = subjects[0].Identity;
        Tensor images = rand([batch, identity.ImageChannels, identity.ImageSide, identity.ImageSide], context.Type, CPU, generator: generator).to(context.Device);
        Tensor labels = randint(identity.Classes, [batch], int64, CPU, generator: generator).to(context.Device);
        long done = 0;
        double Seconds(Subject subject, LayerObserver? observer = null)
        {
            // Whoever watches this rank sees it get on.
            context.Clock.Begin(done++);
            long start = Stopwatch.GetTimestamp();
            subject.Pass(pass, images, labels, observer);
            context.Wait();
            double seconds = Stopwatch.GetElapsedTime(start).TotalSeconds;
            context.Clock.End();
            return seconds;
        }

        // The first pass of a shape chooses its code and takes its memory.
        foreach (Subject subject in subjects) _ = Seconds(subject);
        List<double>[] seconds = [.. subjects.Select(_ => new List<double>())];
        Stopwatch clock = Stopwatch.StartNew();
        for (int round = 0; round < rounds && (round < LeastRounds || clock.Elapsed < share); round++)
        {
            for (int turn = 0; turn < subjects.Length; turn++)
            {
                // Neither is always the first.
                int which = (turn + round) % subjects.Length;
                seconds[which].Add(Seconds(subjects[which]));
            }
        }
        List<LatencyRow> rows = [];
        foreach ((Subject subject, List<double> times) in subjects.Zip(seconds))
        {
            // TorchSharp has no function for libtorch's account of a GPU's memory.
            long? grown = context.Device.type is DeviceType.CPU ? MostAllocated(observer => Seconds(subject, observer)) : null;
            double Quantile(double of) => times.QuantileCustom(of, QuantileDefinition.R7);
            rows.Add(new LatencyRow(
                subject.Network, pass, batch, Quantile(0.5), Quantile(0.25), Quantile(0.75), times.Count, grown + subject.HeldBytes(pass), subject.Flops, subject.Parameters));
        }
        return rows;
    }

    /// <summary>
    /// Most bytes that were allocated during a pass above those before it, looked at after each layer of the forward pass: at its end all is held
    /// that the backward pass needs. A look walks through all that is free in the heap, which after a training is much: they end when they
    /// have taken <see cref="MostLookSeconds"/>.
    /// </summary>
    /// <returns>Null: libtorch does not take its memory from glibc here, or there was no time to look.</returns>
    private static long? MostAllocated(Action<LayerObserver> pass)
    {
        GC.Collect();
        Stopwatch looking = Stopwatch.StartNew();
        long before = ProcessMemory.AllocatedBytes, most = before;
        looking.Stop();
        bool isWhole = true;
        pass((_, _, _, _) =>
        {
            isWhole = looking.Elapsed.TotalSeconds < MostLookSeconds;
            if (!isWhole) return;
            looking.Start();
            most = Math.Max(most, ProcessMemory.AllocatedBytes);
            looking.Stop();
        });
        return isWhole && most > before ? most - before : null;
    }

    /// <summary>A network that is measured.</summary>
    private sealed class Subject : IDisposable
    {
        private readonly OptimizerSection _optimizer;
        private readonly ModelState _state;
        private readonly ResidualNetwork _network;
        private readonly SerialExchange _exchange = new();

        public Subject(NetworkState stands, WeightsIdentity identity, RankContext context, OptimizerSection optimizer, long seed)
        {
            NetworkSpec spec = identity.Describe();
            (Network, Identity, _optimizer) = (stands, identity, optimizer);
            (Flops, Parameters) = (spec.Flops(identity.ImageSide), spec.ParameterCount);
            _state = ModelState.InitializeWhole(spec, seed, context.Type, context.Device);
            _network = new ResidualNetwork(spec, _state, _exchange, context.Layout);
        }

        public NetworkState Network { get; }

        public WeightsIdentity Identity { get; }

        public long Flops { get; }

        public long Parameters { get; }

        /// <summary>What a pass needs that stays between two of them.</summary>
        public long HeldBytes(MeasuredPass pass) => _state.WeightBytes + (pass is MeasuredPass.Step ? _state.GradientBytes + _state.MomentumBytes : 0);

        /// <param name="observer">Sees the layers of the forward pass; null: nobody does.</param>
        public void Pass(MeasuredPass pass, Tensor images, Tensor labels, LayerObserver? observer)
        {
            using DisposeScope scope = NewDisposeScope();
            ResidualNetwork network = observer is null ? _network : _network.Observed(observer);
            if (pass is MeasuredPass.Forward)
            {
                using IDisposable frozen = no_grad();
                network.Forward(images, training: false);
                return;
            }
            Tensor logits = network.Forward(images, training: true);
            Tensor lossSum = nn.functional.cross_entropy(logits, labels, reduction: nn.Reduction.Sum, label_smoothing: _optimizer.LabelSmoothing);
            _exchange.Backward(lossSum / (double)labels.shape[0]);
            // At a rate of zero as much is computed, and the same in every round.
            MomentumSgd.Step(_state, _optimizer, learningRate: 0);
        }

        public void Dispose() => _state.Dispose();
    }
}
