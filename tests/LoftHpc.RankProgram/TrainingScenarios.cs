using System.Globalization;
using LoftHpc.Communication;
using LoftHpc.Configuration;
using LoftHpc.Data;
using LoftHpc.Mpi;
using LoftHpc.Networks;
using LoftHpc.Training;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace LoftHpc.RankProgram;

/// <summary>Parallel training against <see cref="SerialReference"/>, tensor by tensor.</summary>
internal static class TrainingScenarios
{
    private const double LearningRate = 0.05;
    private const int Batch = 4;

    /// <summary>Arguments: family, depth, width, form, assignment, backward. One step in float32, five in float64.</summary>
    public static void FilterParallel(ICommunicator world, string[] arguments)
    {
        (NetworkSpec network, BatchLoader data) = Setting(arguments);
        PretrainSection config = new()
        {
            Batch = Batch,
            Assignment = Enum.Parse<AssignmentKind>(arguments[4]),
            Backward = Enum.Parse<BackwardKind>(arguments[5]),
        };
        FilterAssignment assignment = FilterAssignment.Create(network, config.Assignment, seed: 3, world.Size);
        FilterAssignment? cut = config.Backward is BackwardKind.Local ? assignment : null;

        Compare(world, network, data, cut, Reference.WholeBatch, (context, optimizer) =>
        {
            FilterParallelTraining training = new(context, network, config with { Optimizer = optimizer }, data, seed: 3);
            return (training, training.State);
        });
    }

    /// <summary>Arguments: family, depth, width, form, batch norm scope.</summary>
    public static void DataParallel(ICommunicator world, string[] arguments)
    {
        (NetworkSpec network, BatchLoader data) = Setting(arguments);
        RetrainSection config = new() { Batch = Batch, BatchNorm = Enum.Parse<BatchNormScope>(arguments[4]) };
        Reference reference = config.BatchNorm is BatchNormScope.Synchronised ? Reference.WholeBatch : Reference.EachShard;
        Compare(world, network, data, null, reference, (context, optimizer) =>
        {
            DataParallelTraining training = new(context, network, WholeState(network, context.Type), config with { Optimizer = optimizer }, data);
            return (training, training.State);
        });
    }

    private enum Reference { WholeBatch, EachShard }

    private static (NetworkSpec, BatchLoader) Setting(string[] arguments)
    {
        set_num_threads(1);
        NetworkSection section = new()
        {
            Family = Enum.Parse<NetworkFamily>(arguments[0]),
            Depth = int.Parse(arguments[1], CultureInfo.InvariantCulture),
            Width = int.Parse(arguments[2], CultureInfo.InvariantCulture),
            WidenFactor = 2,
            Form = Enum.Parse<NetworkForm>(arguments[3]),
        };
        // 10 images in batches of 4: the last batch of an epoch is odd, and smaller than 3 or 4 ranks.
        DataSection images = new()
        {
            Set = DataSetName.Synthetic,
            TrainImages = 10,
            TestImages = 4,
            Synthetic = new SyntheticSection { Channels = 3, Size = section.Form is NetworkForm.Imagenet ? 64 : 28, Classes = 5 },
        };
        return (NetworkCatalog.Create(section, 3, 5), new BatchLoader(ImageDataLoader.Load(images, 3).Train, images, 3));
    }

    private static ModelState WholeState(NetworkSpec network, ScalarType type) => ModelState.Initialize(
        FilterAssignment.Create(network, AssignmentKind.Contiguous, 3, 1).Slices(network, 0), 3, type, CPU);

    private static void Compare(
        ICommunicator world, NetworkSpec network, BatchLoader data, FilterAssignment? cut, Reference reference,
        Func<RankContext, OptimizerSection, (ITrainingMethod, ModelState)> create)
    {
        // No weight decay in the single step: the velocity after it is the gradient.
        foreach ((ScalarType type, int steps, double tolerance, double decay) in
            new[] { (ScalarType.Float32, 1, 1e-4, 0.0), (ScalarType.Float64, 5, 1e-10, 5e-4) })
        {
            OptimizerSection optimizer = new() { LearningRate = LearningRate, Momentum = 0.9, WeightDecay = decay };
            using TensorTransport transport = TensorTransport.For(CPU, direct: false);
            RankContext context = new(world, new CommunicationLedger(), new ChannelExchange(world, transport), CPU, type);
            (ITrainingMethod method, ModelState state) = create(context, optimizer);
            using SerialReference serial = new(network, WholeState(network, type), cut);
            double loss = TrainSerially(serial, data, optimizer, steps, context, reference);

            for (int step = 0; step < steps; step++) method.Step(step / method.StepsPerEpoch, step % method.StepsPerEpoch, LearningRate);
            if (reference is Reference.EachShard) method.Evaluate(data, 10);
            StepTotals totals = method.TakeTotals();

            Report(world, $"{type} loss", Math.Abs(totals.Loss - loss) / loss, tolerance);
            foreach (TensorSlice slice in state.Slices)
            {
                Report(world, $"{type} {slice.Name}", RelativeError(world, slice, state[slice.Name], serial.Tensors[slice.Name]), tolerance);
                if (steps == 1 && slice.Spec.IsParameter)
                {
                    double error = RelativeError(world, slice, state.Momentum(slice.Name), serial.Tensors[slice.Name].grad!);
                    Report(world, $"{type} gradient of {slice.Name}", error, tolerance);
                }
            }
            method.Dispose();
        }
    }

    /// <summary>The mean loss of an image over all steps; the gradient of the last step stays in the tensors.</summary>
    private static double TrainSerially(
        SerialReference serial, BatchLoader data, OptimizerSection optimizer, int steps, RankContext context, Reference reference)
    {
        using DisposeScope scope = NewDisposeScope();
        EpochBatches batches = new(data, Batch);
        Shard[] shards = reference is Reference.WholeBatch
            ? [Shard.Whole]
            : [.. Enumerable.Range(0, context.Size).Select(rank => new Shard(rank, context.Size))];
        optim.Optimizer sgd = optim.SGD(
            serial.Tensors.Values.OfType<Parameter>().ToArray(),
            optimizer.LearningRate, optimizer.Momentum, weight_decay: optimizer.WeightDecay);
        string[] statistics = [.. serial.Tensors.Keys.Except(serial.ParameterNames)];
        Dictionary<string, Tensor[]> byShard = statistics.ToDictionary(name => name, name => shards.Select(_ => serial.Tensors[name].clone()).ToArray());
        long[] seen = new long[shards.Length];
        double lossSum = 0;
        for (int step = 0; step < steps; step++)
        {
            sgd.zero_grad();
            for (int s = 0; s < shards.Length; s++)
            {
                foreach (string name in statistics) serial.Tensors[name].copy_(byShard[name][s]);
                Batch shard = batches.Load(step / batches.StepsPerEpoch, step % batches.StepsPerEpoch, shards[s], context);
                if (shard.Count == 0) continue;
                Tensor loss = nn.functional.cross_entropy(serial.Forward(shard.Images), shard.Labels, reduction: nn.Reduction.Sum);
                (loss / batches.SizeOf(step % batches.StepsPerEpoch)).backward();
                lossSum += loss.to(float64).item<double>();
                seen[s] += shard.Count;
                foreach (string name in statistics) byShard[name][s].copy_(serial.Tensors[name]);
            }
            sgd.step();
        }
        foreach (string name in statistics)
        {
            serial.Tensors[name].zero_();
            for (int s = 0; s < shards.Length; s++) serial.Tensors[name].add_(byShard[name][s], alpha: (double)seen[s] / seen.Sum());
        }
        return lossSum / seen.Sum();
    }

    /// <summary>||difference|| / ||value|| over all ranks' parts of a tensor.</summary>
    private static double RelativeError(ICommunicator world, TensorSlice slice, Tensor part, Tensor whole)
    {
        using DisposeScope scope = NewDisposeScope();
        using IDisposable frozen = no_grad();
        Tensor expected = slice.Take(whole.detach());
        Span<double> sums =
        [
            (part.detach() - expected).to(float64).square().sum().item<double>(), expected.to(float64).square().sum().item<double>(),
        ];
        world.Allreduce(sums, MpiOperation.Sum);
        return sums[0] == 0 ? 0 : Math.Sqrt(sums[0] / sums[1]);
    }

    private static void Report(ICommunicator world, string what, double error, double tolerance)
    {
        if (world.Rank == 0) Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{what} {error:e1}"));
        if (!(error <= tolerance)) throw new InvalidOperationException($"{what}: relative error {error} is above {tolerance}");
    }
}
