using LoftHpc.Communication;
using LoftHpc.Configuration;
using LoftHpc.Data;
using LoftHpc.Mpi;
using LoftHpc.Networks;
using LoftHpc.Results;
using LoftHpc.Training;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace LoftHpc.SelfTest;

/// <summary>What a method is checked in.</summary>
internal enum CheckedIn
{
    Float32,
    Float64,
    Bfloat16,
}

/// <summary>How the images of a batch go through the serial reference.</summary>
/// <param name="Parts">Parts of a batch that go one after the other, their gradients added up.</param>
/// <param name="OwnStatistics">Whether each part has running statistics of its own, averaged in the end.</param>
internal readonly record struct SerialBatches(int Parts, bool OwnStatistics)
{
    public static SerialBatches Whole => new(1, false);
}

/// <summary>
/// Training methods on real ranks against one process that does the same by plain autograd (<see cref="SerialReference"/>)
/// or rank after rank (<see cref="SerialReplay"/>), tensor by tensor: in float32 after one step, in float64 after some. The
/// reference computes in float64 always. All members are collective.
/// </summary>
/// <param name="direct">Whether MPI takes addresses in the device's memory.</param>
/// <param name="tamper">Changes what this rank holds before it trains, to see that a fault is found; null: nothing.</param>
internal sealed class MethodChecks(ICommunicator world, Device device, bool direct, Findings findings, Action<ModelState>? tamper = null)
{
    internal const double LearningRate = 0.05;

    internal const long Seed = 3;

    /// <summary>Images of a step: 10 images are then two batches of 4 and one of 2, which is smaller than 3 or 4 ranks.</summary>
    internal const int Batch = 4;

    /// <summary>
    /// Images that batch norm must see at a time for a check in bfloat16. With relu away from its corner (<see cref="Bfloat16Error"/>)
    /// the last norm takes off all that one image's pixels have in common, which is all that the head sees: its gradient is zero.
    /// </summary>
    private const int LeastImages = 2;

    /// <summary>Relative error that is allowed in float64.</summary>
    internal const double Tolerance64 = 1e-10;

    /// <summary>The same in float32, after one step, or at the end of a round of two.</summary>
    internal const double Tolerance32 = 1e-4;

    /// <summary>Steps in float64; an epoch has 3.</summary>
    public int Steps64 { get; init; } = 5;

    /// <summary>
    /// Whether rounds of up to two ranks must have the bits of their replay, on the CPU: where all ranks' processors are alike,
    /// and are told to compute alike.
    /// </summary>
    public bool Bits { get; init; }

    /// <summary>What methods are checked in; bfloat16 only where it is asked for.</summary>
    public IReadOnlyList<CheckedIn> In { get; init; } = [CheckedIn.Float32, CheckedIn.Float64];

    /// <summary>Nesterov and label smoothing of the optimizer.</summary>
    public OptimizerSection Options { get; init; } = new();

    /// <summary>How activations lie in memory. The reference has its own.</summary>
    public MemoryFormat Format { get; init; }

    /// <summary>A network and synthetic images for it.</summary>
    internal static (NetworkSpec, BatchLoader) Setting(NetworkSection network, int? imageSide = null, int trainImages = 10, int classes = 5)
    {
        DataSection images = new()
        {
            Set = DataSetName.Synthetic,
            TrainImages = trainImages,
            TestImages = 4,
            Synthetic = new SyntheticSection { Channels = 3, Size = imageSide ?? (network.Form is NetworkForm.Imagenet ? 64 : 28), Classes = classes },
        };
        return (NetworkCatalog.Create(network, 3, classes), new BatchLoader(ImageDataLoader.Load(images, 3).Train, images, 3));
    }

    /// <summary>A pretrain section with some keys, given as name=value.</summary>
    internal static PretrainSection Pretrain(IEnumerable<string> keys)
    {
        OptimizerSection optimizer = new() { LearningRate = LearningRate, Momentum = 0.9, WeightDecay = 5e-4 };
        string yaml = RunConfigLoader.ToYaml(new RunConfig { Pretrain = new PretrainSection { Batch = Batch, Epochs = 3, Optimizer = optimizer } });
        return RunConfigLoader.Parse(yaml, "test", keys.Select(key => $"pretrain.{key}")).Pretrain;
    }

    /// <summary>
    /// Norms whose channels differ: with the initial ones, which are all alike, a rank could hold another rank's channels and
    /// nobody would see it.
    /// </summary>
    internal static void Vary(ModelState state)
    {
        using DisposeScope scope = NewDisposeScope();
        using IDisposable frozen = no_grad();
        foreach (TensorSlice slice in state.Slices)
        {
            if (slice.Spec.Role is not (TensorRole.NormWeight or TensorRole.NormBias)) continue;
            Tensor wave = arange(slice.Spec.Count, dtype: state.Type).add(1).sin().mul(0.2);
            state[slice.Name].copy_(slice.Take(slice.Spec.Role is TensorRole.NormWeight ? wave + 1 : wave));
        }
    }

    /// <summary>Filter-parallel training, with exact gradients or with local ones.</summary>
    public void FilterParallel(string name, NetworkSpec network, BatchLoader data, AssignmentKind assignment, BackwardKind backward)
    {
        PretrainSection config = new() { Batch = Batch, Assignment = assignment, Backward = backward };
        FilterAssignment? cut = backward is BackwardKind.Local ? FilterAssignment.Create(network, assignment, Seed, world.Size) : null;
        Compare(In, name, network, data, Batch, SerialBatches.Whole, cut, (context, optimizer) =>
        {
            FilterParallelTraining training = new(context, network, config with { Optimizer = optimizer }, data, Seed);
            return (training, training.State);
        });
    }

    /// <summary>Data-parallel training.</summary>
    public void DataParallel(string name, NetworkSpec network, BatchLoader data, BatchNormScope batchNorm) => Compare(
        batchNorm is BatchNormScope.Synchronised ? In : InWith(Batch / world.Size), name, network, data, Batch, batchNorm is BatchNormScope.Synchronised ? SerialBatches.Whole : new SerialBatches(world.Size, OwnStatistics: true), null, (context, optimizer) =>
        {
            DataParallelTraining training = new(
                context, network, ModelState.InitializeWhole(network, Seed, context.Type, context.Device), Batch, batchNorm, optimizer, data);
            return (training, training.State);
        });

    /// <summary>Pipeline-parallel training.</summary>
    /// <param name="tolerances">Null: the usual ones.</param>
    /// <param name="prepare">Changes the initial network; null: <see cref="Vary"/>.</param>
    /// <param name="inspect">Looks at the method after its steps, with the images that it trained on.</param>
    public void Gpipe(
        string name, NetworkSpec network, BatchLoader data, GpipeSection gpipe, int batch = Batch, (double Float32, double Float64)? tolerances = null,
        Action<ModelState>? prepare = null, Action<GpipeTraining, long>? inspect = null)
    {
        foreach (IGrouping<bool, CheckedIn> types in In.GroupBy(type => type is CheckedIn.Bfloat16))
        {
            GpipeSection parts = types.Key ? gpipe with { MicroBatches = Math.Min(gpipe.MicroBatches, batch / LeastImages) } : gpipe;
            Compare(
                [.. types], name, network, data, batch, new SerialBatches(parts.MicroBatches, OwnStatistics: false), null, (context, optimizer) =>
                {
                    GpipeTraining training = new(context, network, new PretrainSection { Batch = batch, Gpipe = parts, Optimizer = optimizer }, data, Seed);
                    return (training, training.State);
                },
                tolerances, prepare, (method, images) => inspect?.Invoke((GpipeTraining)method, images));
        }
    }

    /// <summary>
    /// LoFT or local SGD against the replay: weights, and running statistics where they are averaged, at the start, in the
    /// middle of rounds and at their ends. Of what is saved and measured at the same time: the norms, and the evaluation. The
    /// bytes of the rounds against the filters that moved. In float64 to the end; in float32, whose rounding the steps
    /// amplify, one round, but where <see cref="Bits"/> are asked for.
    /// </summary>
    public void Rounds(string name, NetworkSpec network, BatchLoader data, PretrainSection config)
    {
        bool perBatch = config.Loft.RunningStatistics is RunningStatisticsKind.PerBatch, bits = Bits && device.type is DeviceType.CPU && world.Size <= 2;
        foreach (CheckedIn type in config.Samples is SampleScope.Whole ? In : InWith(config.Batch / world.Size))
        {
            bool inBfloat16 = type is CheckedIn.Bfloat16, oneRound = type is not CheckedIn.Float64 && !bits;
            double ofBfloat16 = Bfloat16Error.OfOneTensor * Bfloat16Error.Of(network);
            double tolerance = bits ? 0 : inBfloat16 ? ofBfloat16 : oneRound ? Tolerance32 : Tolerance64;
            Action<ModelState> prepare = inBfloat16 ? Bfloat16Error.Prepare(network) : Vary;
            CommunicationLedger ledger = new();
            // Not disposed: that would free the world.
            MeteredCommunicator metered = new(world, ledger);
            using TensorTransport transport = TensorTransport.For(device, direct);
            RankContext context = new(metered, ledger, new ChannelExchange(metered, transport), device, TypeOf(type)) { Precision = PrecisionOf(type), MemoryFormat = Format };
            using ITrainingMethod method = TrainingMethods.Create(context, network, config, data, Seed);
            using SerialReplay replay = new(network, data, config, world.Size, context.Type, prepare, layout: context.Layout)
            {
                Cut = ExchangeCut.For(device.type, direct),
            };
            ModelState state = method is LoftTraining loft ? loft.State : ((LocalSgdTraining)method).State;
            prepare(state);
            foreach (TensorSlice slice in state.Slices)
                findings.True(Error(state[slice.Name], slice.Take(replay.Whole[slice.Name])) == 0, $"{name} {type}: initial {slice.Name} differs");
            tamper?.Invoke(state);
            string folder = world.Broadcast(world.Rank == 0 ? Directory.CreateTempSubdirectory("lofthpc-").FullName : "", 0), file = Path.Combine(folder, "network.safetensors");
            int steps = config.Epochs * method.StepsPerEpoch;
            for (int step = 0; step < steps; step++)
            {
                method.StepAndMeet(step / method.StepsPerEpoch, step % method.StepsPerEpoch, LearningRate);
                replay.Step(step, steps);
                if (step == 0 && config.LocalSteps > 1)
                    CompareGradients(
                        $"{name} {type}", state, network, data, config, prepare, inBfloat16 ? Bfloat16Error.Gradient : tensor => $"gradient of {tensor.Name}",
                        inBfloat16 ? ofBfloat16 : type is CheckedIn.Float32 ? Tolerance32 : Tolerance64);
                // Also in the middle of rounds, where it must change nothing.
                if (step % 2 != 0 && step + 1 != config.LocalSteps) continue;
                replay.AverageStatistics();
                Measure($"{name} {type}", method, data, network, file, TypeOf(type), perBatch, inBfloat16 ? ofBfloat16 : null);
                if (world.Rank == 0) CompareSaved($"in step {step + 1}", tensor => tensor.IsParameter || replay.HasStatistics ? replay.Now(tensor) : null);
                if (oneRound && step + 1 >= config.LocalSteps) break;
            }
            if (!oneRound)
            {
                replay.AverageStatistics();
                Measure($"{name} {type}", method, data, network, file, TypeOf(type), perBatch, inBfloat16 ? ofBfloat16 : null);
                if (world.Rank == 0) CompareSaved("at the end", tensor => tensor.IsParameter || replay.HasStatistics ? replay.Whole[tensor.Name] : replay.RecomputedStatistics[tensor.Name]);
                CheckBytes(name, ledger, replay.RoundTransfers(world.Rank));
            }
            if (world.Rank == 0) Directory.Delete(folder, recursive: true);

            void CompareSaved(string when, Func<TensorSpec, Tensor?> expected)
            {
                using SafetensorsFile saved = SafetensorsFile.Open(file);
                foreach (TensorSpec tensor in network.Tensors)
                {
                    using DisposeScope scope = NewDisposeScope();
                    if (expected(tensor) is not Tensor value) continue;
                    // Running statistics that are recomputed, or averaged by images, are rounded in another order.
                    double allowed = tensor.IsParameter || (config.Method is PretrainMethod.Loft && replay.HasStatistics) ? tolerance
                        : replay.HasStatistics ? Math.Max(tolerance, type is CheckedIn.Float64 ? 1e-14 : 1e-6)
                        : inBfloat16 ? ofBfloat16 : type is CheckedIn.Float32 ? 1e-5 : Tolerance64;
                    findings.Within($"{name} {type} {when}: {tensor.Name}", Error(saved.Read(tensor.Name), value), allowed);
                }
            }
        }
    }

    /// <summary>The momentum that the first step has left, which is its gradient with the weights' decay, against that of float64.</summary>
    private void CompareGradients(
        string what, ModelState state, NetworkSpec network, BatchLoader data, PretrainSection config, Action<ModelState> prepare,
        Func<TensorSpec, string> gradient, double tolerance)
    {
        using SerialReplay exact = new(network, data, config, world.Size, float64, prepare, byDefinition: true);
        exact.Step(0, int.MaxValue);
        ModelState expected = exact.Of(world.Rank);
        CutErrors errors = new();
        foreach (TensorSlice slice in state.Parameters)
            errors.Add($"{what}: {gradient(slice.Spec)}", state.Momentum(slice.Name), expected.Momentum(slice.Name), tolerance);
        errors.Note(world, findings);
    }

    /// <summary>Live tensors do not grow with steps, nor does the process.</summary>
    public void LiveTensors(string name, NetworkSpec network, BatchLoader data, PretrainSection config)
    {
        using TensorTransport transport = TensorTransport.For(device, direct);
        RankContext context = new(world, new CommunicationLedger(), new ChannelExchange(world, transport), device) { Precision = PrecisionOf(In[^1]), MemoryFormat = Format };
        using ITrainingMethod method = TrainingMethods.Create(context, network, config, data, Seed);
        method.StepAndMeet(0, 0, LearningRate);
        method.Evaluate(data, 4);
        long before = DisposeScopeManager.Statistics.ThreadTotalLiveCount, resident = Environment.WorkingSet;
        for (int step = 0; step < 100; step++) method.StepAndMeet(step / method.StepsPerEpoch, step % method.StepsPerEpoch, LearningRate);
        method.Evaluate(data, 4);
        long after = DisposeScopeManager.Statistics.ThreadTotalLiveCount, grown = Environment.WorkingSet - resident;
        findings.True(after == before && before > 0, $"{name}: {before} live tensors after one step, {after} after 101");
        // Native memory that no C# tensor stands for would show here; a step of this network makes some 10 MB.
        findings.True(grown < 200 << 20, $"{name}: the process has grown by {grown} bytes in 100 steps");
    }

    private static ScalarType TypeOf(CheckedIn type) => type is CheckedIn.Float64 ? ScalarType.Float64 : ScalarType.Float32;

    private static Precision PrecisionOf(CheckedIn type) => type is CheckedIn.Bfloat16 ? Precision.Bfloat16 : Precision.Float32;

    /// <summary>Relative error ||value - expected|| / ||expected||, on this rank.</summary>
    internal static double Error(Tensor value, Tensor expected)
    {
        using DisposeScope scope = NewDisposeScope();
        if (!value.shape.SequenceEqual(expected.shape)) return double.PositiveInfinity;
        Tensor exact = expected.detach().cpu().to(float64);
        double difference = (value.detach().cpu().to(float64) - exact).norm().item<double>();
        return difference == 0 ? 0 : difference / exact.norm().item<double>();
    }

    /// <summary>Relative errors of tensors that are cut over the ranks, found for all of them in one collective.</summary>
    private sealed class CutErrors
    {
        private readonly List<(string What, double Allowed)> _tensors = [];
        private readonly List<double> _squares = [];

        /// <summary>This rank's part of a tensor. What has the name of what was added just before belongs to that.</summary>
        public void Add(string what, Tensor part, Tensor expectedPart, double allowed)
        {
            using DisposeScope scope = NewDisposeScope();
            using IDisposable frozen = no_grad();
            Tensor expected = expectedPart.detach().cpu().to(float64);
            if (_tensors.Count == 0 || _tensors[^1].What != what)
            {
                _tensors.Add((what, allowed));
                _squares.AddRange([0, 0]);
            }
            _squares[^2] += (part.detach().cpu() - expected).square().sum().item<double>();
            _squares[^1] += expected.square().sum().item<double>();
        }

        /// <param name="together">What all tensors are together, and what is allowed of that; null: they are not looked at together.</param>
        public void Note(ICommunicator world, Findings findings, (string What, double Allowed)? together = null)
        {
            double[] squares = [.. _squares];
            world.Allreduce(squares.AsSpan(), MpiOperation.Sum);
            if (together is var (all, most))
                findings.Within(all, Math.Sqrt(squares.Where((_, i) => i % 2 == 0).Sum() / squares.Where((_, i) => i % 2 == 1).Sum()), most);
            for (int i = 0; i < _tensors.Count; i++)
                findings.Within(_tensors[i].What, squares[2 * i] == 0 ? 0 : Math.Sqrt(squares[2 * i] / squares[(2 * i) + 1]), _tensors[i].Allowed);
        }
    }

    /// <summary>What is checked where batch norm sees so few images at a time.</summary>
    private IReadOnlyList<CheckedIn> InWith(int images) => images < LeastImages ? [.. In.Where(type => type is not CheckedIn.Bfloat16)] : In;

    private void Compare(
        IReadOnlyList<CheckedIn> types, string name, NetworkSpec network, BatchLoader data, int batch, SerialBatches reference, FilterAssignment? cut,
        Func<RankContext, OptimizerSection, (ITrainingMethod, ModelState)> create,
        (double Float32, double Float64)? tolerances = null, Action<ModelState>? prepare = null, Action<ITrainingMethod, long>? inspect = null)
    {
        (double tolerance32, double tolerance64) = tolerances ?? (Tolerance32, Tolerance64);
        // No weight decay in the single step: the velocity after it is the gradient.
        foreach (CheckedIn type in types)
        {
            bool inBfloat16 = type is CheckedIn.Bfloat16;
            double together = Bfloat16Error.Of(network), tolerance = inBfloat16 ? Bfloat16Error.OfOneTensor * together : type is CheckedIn.Float32 ? tolerance32 : tolerance64;
            (int steps, double decay) = type is CheckedIn.Float64 ? (Steps64, 5e-4) : (1, 0.0);
            Action<ModelState> initial = inBfloat16 ? Bfloat16Error.Prepare(network) : prepare ?? Vary;
            using DisposeScope scope = NewDisposeScope();
            OptimizerSection optimizer = Options with { LearningRate = LearningRate, Momentum = 0.9, WeightDecay = decay };
            using TensorTransport transport = TensorTransport.For(device, direct);
            RankContext context = new(world, new CommunicationLedger(), new ChannelExchange(world, transport), device, TypeOf(type)) { Precision = PrecisionOf(type), MemoryFormat = Format };
            (ITrainingMethod method, ModelState state) = create(context, optimizer);
            using ITrainingMethod disposed = method;
            using ModelState whole = ModelState.InitializeWhole(network, Seed, float64, CPU);
            foreach (ModelState each in new[] { state, whole }) initial(each);
            tamper?.Invoke(state);
            using SerialReference serial = new(network, whole, cut);
            (double loss, double accuracy) = TrainSerially(serial, data, batch, optimizer, steps, context with { Type = float64, Precision = Precision.Float32, Device = CPU }, reference);
            for (int step = 0; step < steps; step++) method.StepAndMeet(step / method.StepsPerEpoch, step % method.StepsPerEpoch, LearningRate);

            inspect?.Invoke(method, Enumerable.Range(0, steps).Sum(step => (long)new EpochBatches(data, batch).SizeOf(step % method.StepsPerEpoch)));
            StepTotals totals = method.TakeTotals(), tested = method.Evaluate(data, 4);
            string what = $"{name} {type}";
            findings.Within($"{what}: loss", Math.Abs(totals.Loss - loss) / loss, inBfloat16 ? together : tolerance);
            // In bfloat16 two logits may be so near each other that their order is not sure.
            findings.True(totals.Accuracy == accuracy || inBfloat16, $"{what}: accuracy {totals.Accuracy} instead of {accuracy}");
            findings.True(method.TakeTotals() == default, $"{what}: totals do not start anew");

            // Every rank walks through all tensors, also those that it holds nothing of.
            CutErrors errors = new(), gradients = new();
            Dictionary<string, TensorSlice> held = state.Slices.ToDictionary(slice => slice.Name);
            foreach (TensorSpec tensor in network.Tensors)
            {
                Tensor expected = serial.Tensors[tensor.Name];
                TensorSlice slice = held.GetValueOrDefault(tensor.Name) ?? new TensorSlice(tensor, [], null);
                Tensor Part(Func<string, Tensor> of) => held.ContainsKey(tensor.Name) ? of(tensor.Name) : empty(slice.Shape, context.Type);
                errors.Add($"{what}: {tensor.Name}", Part(of => state[of]), slice.Take(expected.detach()), tolerance);
                if (steps == 1 && tensor.IsParameter) gradients.Add($"{what}: {(inBfloat16 ? Bfloat16Error.Gradient(tensor) : $"gradient of {tensor.Name}")}", Part(state.Momentum), slice.Take(expected.grad!), tolerance);
            }
            // What gradients are off by is why weights are.
            gradients.Note(world, findings, inBfloat16 ? ($"{what}: all gradients", together) : null);
            errors.Note(world, findings);
            if (inBfloat16 && cut is null && !reference.OwnStatistics) CompareWithOneRank(what, network, state, context, optimizer, create, together);

            using IDisposable frozen = no_grad();
            Batch all = data.Load([.. Enumerable.Range(0, data.Count)], 0, augment: false, CPU, float64);
            Tensor logits = serial.Forward(all.Images, training: false);
            StepTotals serially = StepTotals.Of(logits, all.Labels, nn.functional.cross_entropy(logits, all.Labels, reduction: nn.Reduction.Sum));
            findings.Within($"{what}: loss in evaluation", Math.Abs(tested.LossSum - serially.LossSum) / serially.LossSum, tolerance);
            findings.True((tested.Correct, tested.Images) == (inBfloat16 ? tested.Correct : serially.Correct, serially.Images), $"{what}: evaluation {tested} instead of {serially}");
        }
    }

    /// <summary>
    /// The gradients of the first step against those of one rank that computes in the same precision: each is off by its roundings,
    /// so the difference by the root of twice their squares.
    /// </summary>
    private void CompareWithOneRank(
        string what, NetworkSpec network, ModelState state, RankContext context, OptimizerSection optimizer,
        Func<RankContext, OptimizerSection, (ITrainingMethod, ModelState)> create, double together)
    {
        using SelfCommunicator self = new();
        using TensorTransport transport = TensorTransport.For(device, direct: false);
        CommunicationLedger ledger = new();
        (ITrainingMethod alone, ModelState whole) = create(
            context with { Communicator = self, Ledger = ledger, Channels = new ChannelExchange(self, transport), EarlyStop = new EarlyStop(self, ledger) }, optimizer);
        using (alone)
        {
            Bfloat16Error.Prepare(network)(whole);
            alone.StepAndMeet(0, 0, LearningRate);
            CutErrors gradients = new();
            Dictionary<string, TensorSlice> held = state.Slices.ToDictionary(slice => slice.Name);
            foreach (TensorSpec tensor in network.Tensors.Where(tensor => tensor.IsParameter))
            {
                using DisposeScope scope = NewDisposeScope();
                TensorSlice slice = held.GetValueOrDefault(tensor.Name) ?? new TensorSlice(tensor, [], null);
                gradients.Add(
                    $"{what}, one rank: {Bfloat16Error.Gradient(tensor)}", held.ContainsKey(tensor.Name) ? state.Momentum(tensor.Name) : empty(slice.Shape, context.Type),
                    slice.Take(whole.Momentum(tensor.Name)), Math.Sqrt(2) * Bfloat16Error.OfOneTensor * together);
            }
            gradients.Note(world, findings, ($"{what}, one rank: all gradients", Math.Sqrt(2) * together));
        }
    }

    /// <summary>The mean loss of an image and the accuracy over all steps; the gradient of the last step stays in the tensors.</summary>
    private static (double Loss, double Accuracy) TrainSerially(
        SerialReference serial, BatchLoader data, int batch, OptimizerSection optimizer, int steps, RankContext context, SerialBatches reference)
    {
        using DisposeScope scope = NewDisposeScope();
        EpochBatches batches = new(data, batch);
        Shard[] parts = [.. Enumerable.Range(0, reference.Parts).Select(part => new Shard(part, reference.Parts))];
        optim.Optimizer sgd = optim.SGD(
            serial.Tensors.Values.OfType<Parameter>().ToArray(),
            optimizer.LearningRate, optimizer.Momentum, weight_decay: optimizer.WeightDecay, nesterov: optimizer.Nesterov);
        string[] statistics = reference.OwnStatistics ? [.. serial.Tensors.Keys.Except(serial.ParameterNames)] : [];
        Dictionary<string, Tensor[]> byPart = statistics.ToDictionary(name => name, name => parts.Select(_ => serial.Tensors[name].clone()).ToArray());
        long[] seen = new long[parts.Length];
        (double lossSum, long correct) = (0, 0);
        for (int step = 0; step < steps; step++)
        {
            sgd.zero_grad();
            for (int p = 0; p < parts.Length; p++)
            {
                Batch part = batches.Load(step / batches.StepsPerEpoch, step % batches.StepsPerEpoch, parts[p], context);
                if (part.Count == 0) continue;
                foreach (string name in statistics) serial.Tensors[name].copy_(byPart[name][p]);
                Tensor logits = serial.Forward(part.Images), loss = nn.functional.cross_entropy(logits, part.Labels, reduction: nn.Reduction.Sum, label_smoothing: optimizer.LabelSmoothing);
                (loss / batches.SizeOf(step % batches.StepsPerEpoch)).backward();
                lossSum += loss.to(float64).item<double>();
                correct += logits.argmax(1).eq(part.Labels).sum().item<long>();
                seen[p] += part.Count;
                foreach (string name in statistics) byPart[name][p].copy_(serial.Tensors[name]);
            }
            sgd.step();
        }
        foreach (string name in statistics)
        {
            serial.Tensors[name].zero_();
            for (int p = 0; p < parts.Length; p++) serial.Tensors[name].add_(byPart[name][p], alpha: (double)seen[p] / seen.Sum());
        }
        return (lossSum / seen.Sum(), (double)correct / seen.Sum());
    }

    /// <summary>The norms and the evaluation are those of the network that is saved at the same time.</summary>
    /// <param name="ofBfloat16">What the evaluation may be off by where it is in bfloat16; else null.</param>
    private void Measure(
        string what, ITrainingMethod method, BatchLoader data, NetworkSpec network, string path, ScalarType type, bool perBatch, double? ofBfloat16)
    {
        IReadOnlyList<Distances.FilterNorms> own = method.MeasureNorms();
        StepTotals evaluated = method.Evaluate(data, Batch);
        method.Save(path, new WeightsIdentity(new NetworkSection(), network.ImageChannels, data.ImageSide, network.Classes), 1);
        using Distances.RankingTracker tracker = new(world);
        Distances.RankingMeasurement measured = tracker.Measure(0, own);
        if (world.Rank != 0) return;
        using SafetensorsFile file = SafetensorsFile.Open(path);
        foreach ((string layer, double[] norms) in measured.Norms)
        {
            using DisposeScope scope = NewDisposeScope();
            Tensor expected = file.Read($"{layer}.weight").to(float64).square().sum([1, 2, 3]).sqrt();
            findings.Within($"{what}: norms of {layer}", Error(tensor(norms), expected), 1e-12);
        }
        using ModelState state = ModelState.Load([.. network.Tensors.Select(TensorSlice.Whole)], tensor => file.Read(tensor.Name), type, CPU);
        (double lossSum, long correct) = (0, 0);
        foreach ((int start, int count) in Batches.Of(0, data.Count, Batch))
        {
            using DisposeScope scope = NewDisposeScope();
            using IDisposable frozen = no_grad();
            using SerialReference reference = new(network, state);
            Batch batch = data.Load([.. Enumerable.Range(start, count)], 0, augment: false, CPU, type);
            Tensor logits = reference.Forward(batch.Images, training: perBatch);
            lossSum += count * nn.functional.cross_entropy(logits, batch.Labels).to(float64).item<double>();
            correct += logits.argmax(1).eq(batch.Labels).sum().item<long>();
        }
        findings.Within($"{what}: evaluation of the saved network", Math.Abs(evaluated.LossSum - lossSum) / lossSum, ofBfloat16 ?? 1e-5);
        findings.True(
            (evaluated.Images, evaluated.Correct) == (data.Count, ofBfloat16 is null ? correct : evaluated.Correct),
            $"{what}: evaluated {evaluated}, of the saved network {correct} are right");
    }

    private void CheckBytes(string name, CommunicationLedger ledger, IReadOnlyDictionary<string, (long Calls, long Sent, long Received)> expected)
    {
        if (world.Size == 1) return;
        string Lines(IEnumerable<(string Name, long Calls, long Sent, long Received)> lines) => string.Join("; ", lines.Order());
        string counted = Lines(ledger.Totals.Where(total => total.Purpose is CommunicationPurpose.Round)
            .Select(total => (total.Collective, total.Calls, total.BytesSent, total.BytesReceived)));
        string formula = Lines(expected.Select(pair => (pair.Key, pair.Value.Calls, pair.Value.Sent, pair.Value.Received)));
        findings.True(counted == formula, $"{name}: counted {counted}, but the formula says {formula}");
    }
}
