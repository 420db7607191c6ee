using System.Globalization;
using LoftHpc.Arithmetic;
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

/// <summary>Pipeline-parallel training against <see cref="SerialReference"/>, which does the same micro-batches one after the other.</summary>
internal static class GpipeScenarios
{
    /// <summary>
    /// Arguments: family, depth, width, form, micro-batches, side of the images, cuts (names with commas, or none), images
    /// of a batch. One step in float32, five in float64; then an evaluation.
    /// </summary>
    public static void Equality(ICommunicator world, string[] arguments) => Compare(world, arguments, tolerances: null, prepare: null);

    /// <summary>
    /// The same where a micro-batch has one value a channel. Batch norm then makes its bias of it, up to rounding; a bias of
    /// zero before a relu would let the sign of a rounding error decide about the gradient, so no bias is zero here. Its
    /// gradient is nothing but rounding errors, enlarged by 1/sqrt(epsilon) = 316, so the tolerances are wider.
    /// </summary>
    public static void SingleValues(ICommunicator world, string[] arguments) => Compare(world, arguments, (1e-3, 1e-6), state =>
    {
        using IDisposable frozen = no_grad();
        foreach (TensorSlice slice in state.Slices.Where(slice => slice.Spec.Role is TensorRole.NormBias))
            state[slice.Name].copy_(arange(slice.Count, dtype: state.Type).add(1).sin().sign().mul(0.2));
    });

    private static void Compare(ICommunicator world, string[] arguments, (double, double)? tolerances, Action<ModelState>? prepare)
    {
        (NetworkSpec network, BatchLoader data) = TrainingScenarios.Setting(arguments, Number(arguments[5]));
        string[] cuts = arguments[6] is "none" ? [] : arguments[6].Split(',');
        GpipeSection gpipe = new() { MicroBatches = Number(arguments[4]), Cuts = cuts };
        Findings findings = new();
        new MethodChecks(world, CPU, direct: false, findings).Gpipe("gpipe", network, data, gpipe, Number(arguments[7]), tolerances, prepare, (training, images) =>
        {
            if (cuts.Length > 0) MustBeginWith(training, world.Rank == 0 ? "conv1" : cuts[world.Rank - 1]);
            StepTotals running = training.RunningTotals;
            Check.True(running.Images == images, $"{running} of {images} images");
            Check.True(double.IsNaN(running.Loss) == (world.Rank != world.Size - 1), $"the loss that rank {world.Rank} sees: {running}");
            Check.True(training.Work == new TrainingWork(images, 3 * images * network.Flops(data.ImageSide, training.State.Slices)), $"{training.Work}");
            Check.True(training.Memory.Gradients == training.State.MomentumBytes && training.Memory.ExchangeBuffers == (world.Size == 1 ? 0 : ExchangeCut.For(DeviceType.CPU, direct: false).BufferBytes(world.Size)), $"{training.Memory}");
        });
        Check.Passed(findings);
    }

    /// <summary>Messages and bytes of an epoch, an evaluation and a save against closed formulas; float32.</summary>
    public static void Communication(ICommunicator world, string[] arguments)
    {
        const int width = 2, side = 28, element = 4, images = 10;
        (NetworkSpec network, BatchLoader data) = TrainingScenarios.Setting(["PreactResnet", "18", "2", "Cifar"]);
        string[] cuts = [.. Enumerable.Range(2, world.Size - 1).Select(stage => $"layer{stage}.0")];
        CommunicationLedger ledger = new() { Phase = "pretrain" };
        using MeteredCommunicator metered = new(world, ledger);
        using TensorTransport transport = TensorTransport.For(CPU, direct: false);
        RankContext context = new(metered, ledger, new ChannelExchange(metered, transport), CPU);
        using GpipeTraining training = Create(context, network, data, microBatches: 3, cuts);
        for (int step = 0; step < 3; step++) training.Step(0, step, MethodChecks.LearningRate);
        training.Evaluate(data, 4);
        training.TakeTotals();
        training.Save(arguments[0], Identity, 3);

        // Before each cut ends a stage of the network; stages halve the side and double the channels.
        long Image(int boundary) => (long)(width << boundary) * (side >> boundary) * (side >> boundary) * element;
        int rank = world.Rank;
        long sentOn = rank < world.Size - 1 ? Image(rank) : 0, sentBack = rank > 0 ? Image(rank - 1) : 0;
        long on = sentOn > 0 ? 1 : 0, back = sentBack > 0 ? 1 : 0;
        // Batches of 4, 4 and 2 images in 3 micro-batches, the last one's third empty.
        const long microBatches = 3 + 3 + 2, batches = 3;
        List<CommunicationTotal> expected = [];
        void Add(CommunicationPurpose purpose, string collective, long calls, long messages, long sent, long received)
        {
            if (calls > 0) expected.Add(new("pretrain", purpose, collective, calls, messages, sent, received, 0));
        }
        Add(CommunicationPurpose.Step, "send", microBatches * (on + back), microBatches * (on + back), images * (sentOn + sentBack), 0);
        Add(CommunicationPurpose.Step, "receive", microBatches * (on + back), 0, 0, images * (sentOn + sentBack));
        Add(CommunicationPurpose.Evaluation, "send", batches * on, batches * on, images * sentOn, 0);
        Add(CommunicationPurpose.Evaluation, "receive", batches * back, 0, 0, images * sentBack);
        // Of an evaluation and of the steps loss, hits, images and whether it was left; and after each batch whether to leave.
        long agreements = world.Size > 1 ? batches : 0;
        Transfers allreduce = (2 * TransferCount.Allreduce(rank, world.Size, 4, sizeof(double))) + (agreements * TransferCount.Allreduce(rank, world.Size, 1, sizeof(int)));
        Add(CommunicationPurpose.Evaluation, "allreduce", 2 + agreements, allreduce.Messages, allreduce.BytesSent, allreduce.BytesReceived);
        int FirstUnit(int stage) => stage == 0 ? 0 : stage == world.Size ? network.UnitCount : 1 + (2 * stage);
        List<TensorSpec> Tensors(int from, int to) => [.. Enumerable.Range(from, to - from).SelectMany(network.TensorsOf)];
        List<TensorSpec> own = Tensors(FirstUnit(rank), FirstUnit(rank + 1)), others = Tensors(FirstUnit(1), network.UnitCount);
        if (rank > 0) Add(CommunicationPurpose.Save, "send", own.Count, own.Count, own.Sum(tensor => tensor.Count) * element, 0);
        else Add(CommunicationPurpose.Save, "receive", others.Count, 0, 0, others.Sum(tensor => tensor.Count) * element);
        string Lines(IEnumerable<CommunicationTotal> totals) => string.Join('\n', totals.Select(total => (total with { Seconds = 0 }).ToString()).Order());
        string counted = Lines(ledger.Totals), formula = Lines(expected);
        if (counted != formula) throw new InvalidOperationException($"counted\n{counted}\nbut the formula says\n{formula}");
    }

    /// <summary>Arguments: a file. What is saved is what the stages hold, to the last bit, and the norms measured are those of the file's filters.</summary>
    public static void Saved(ICommunicator world, string[] arguments)
    {
        using DisposeScope scope = NewDisposeScope();
        (NetworkSpec network, BatchLoader data) = TrainingScenarios.Setting(["Resnet", "18", "2", "Cifar"]);
        WeightsIdentity identity = Identity with { Network = Identity.Network with { Family = NetworkFamily.Resnet } };
        using TensorTransport transport = TensorTransport.For(CPU, direct: false);
        RankContext context = new(world, new CommunicationLedger(), new ChannelExchange(world, transport), CPU);
        using GpipeTraining training = Create(context, network, data, microBatches: 2, []);
        for (int step = 0; step < 3; step++) training.Step(0, step, MethodChecks.LearningRate);
        training.Save(arguments[0], identity, 3);
        using RankingTracker tracker = new(world);
        RankingMeasurement measured = tracker.Measure(3, training.MeasureNorms());
        world.Barrier();

        using SafetensorsFile file = SafetensorsFile.Open(arguments[0]);
        Check.True(WeightsIdentity.Of(file, arguments[0]) == identity && WeightsIdentity.StepOf(file, arguments[0]) == 3, "the file's identity");
        foreach (TensorSlice slice in training.State.Slices)
            Check.True(file.Read(slice.Name).equal(training.State[slice.Name]).all().item<bool>(), slice.Name);
        int held = world.Allreduce(training.State.Slices.Count, MpiOperation.Sum);
        Check.True(held == network.Tensors.Count, $"{held} tensors on all ranks together");
        if (world.Rank != 0) return;
        Check.True(measured.Norms.Select(layer => $"{layer.Layer}.weight").Order().SequenceEqual(
            network.Convolutions.Select(conv => $"{conv.Name}.weight").Order()), "the layers measured");
        foreach ((string layer, double[] norms) in measured.Norms)
        {
            double[] expected = [.. file.Read($"{layer}.weight").to(ScalarType.Float64).square().sum([1, 2, 3]).sqrt().data<double>()];
            Check.True(norms.Zip(expected).All(pair => Math.Abs(pair.First - pair.Second) <= 1e-12 * pair.Second), $"norms of {layer}");
        }
    }

    /// <summary>Tensors, the first ones large, come out of the other end of a ring in the order in which they went in, in either memory format. Arguments: device.</summary>
    public static void Ring(ICommunicator world, string[] arguments)
    {
        using DisposeScope scope = NewDisposeScope();
        Device device = new(arguments[0]);
        using TensorTransport transport = TensorTransport.For(device, direct: false);
        ChannelExchange exchange = new(world, transport);
        foreach (MemoryFormat format in Enum.GetValues<MemoryFormat>()) Ring(world, device, exchange, format);
    }

    private static void Ring(ICommunicator world, Device device, ChannelExchange exchange, MemoryFormat format)
    {
        using PendingSends sends = new(exchange, format);
        // 0 sends first and the last rank receives first, so that blocking sends of staged tensors work too.
        long[][] shapes = [[5, 40, 41, 42], [5, 40, 41, 42], [1, 3, 1, 1]];
        Tensor Of(int rank, int i) => full(shapes[i], (10 * rank) + i, float32, device).add(arange(42, dtype: float32, device: device).narrow(0, 0, shapes[i][3]));
        for (int turn = 0; turn < 2; turn++)
        {
            bool sending = world.Rank % 2 == turn;
            for (int i = 0; i < shapes.Length; i++)
            {
                if (sending && world.Rank + 1 < world.Size)
                {
                    // The caller's tensor is gone before it has arrived; a transposed one is sent as it reads.
                    using Tensor values = Of(world.Rank, i).transpose(2, 3).contiguous().transpose(2, 3);
                    sends.Start(values, world.Rank + 1);
                }
                if (sending || world.Rank == 0) continue;
                Tensor received = MemoryFormats.Empty(shapes[i], new ActivationLayout(float32, format), device);
                exchange.Receive(MemoryFormats.Rows(received, format), world.Rank - 1);
                Check.True(received.equal(Of(world.Rank - 1, i)).all().item<bool>(), $"tensor {i} of rank {world.Rank - 1}");
            }
        }
        sends.Wait();
    }

    private static WeightsIdentity Identity => new(
        new NetworkSection { Family = NetworkFamily.PreactResnet, Depth = 18, Width = 2 }, ImageChannels: 3, ImageSide: 28, Classes: 5);

    private static GpipeTraining Create(
        RankContext context, NetworkSpec network, BatchLoader data, int microBatches, string[] cuts, int batch = 4, OptimizerSection? optimizer = null) => new(
        context, network,
        new PretrainSection
        {
            Batch = batch,
            Gpipe = new GpipeSection { MicroBatches = microBatches, Cuts = cuts },
            Optimizer = optimizer ?? new OptimizerSection(),
        },
        data, seed: 3);

    private static void MustBeginWith(GpipeTraining training, string unit)
    {
        string first = training.State.Slices[0].Name;
        Check.True(first.StartsWith(unit == "linear" ? "bn." : $"{unit}.", StringComparison.Ordinal), $"the stage begins with {first}, not with {unit}");
    }

    private static int Number(string text) => int.Parse(text, CultureInfo.InvariantCulture);
}
