using System.Globalization;
using LoftHpc.Arithmetic;
using LoftHpc.Communication;
using LoftHpc.Configuration;
using LoftHpc.Data;
using LoftHpc.Mpi;
using LoftHpc.Networks;
using LoftHpc.Planning;
using LoftHpc.Training;
using TorchSharp;
using static TorchSharp.torch;

namespace LoftHpc.RankProgram;

/// <summary>Planned memory against what the process holds.</summary>
internal static class MemoryScenarios
{
    private const long Seed = 3;
    private const double LearningRate = 0.05;

    /// <summary>Greatest difference between planned and held activations, of the planned.</summary>
    private const double Tolerance = 0.05;

    /// <summary>A method by the name of a test's row.</summary>
    private static PretrainSection Method(string name, int batch)
    {
        PretrainSection config = name switch
        {
            "dense" => new() { Method = PretrainMethod.Dense },
            "data-parallel" => new() { Method = PretrainMethod.DataParallel, BatchNorm = BatchNormScope.Synchronised },
            "data-parallel-per-rank" => new() { Method = PretrainMethod.DataParallel, BatchNorm = BatchNormScope.PerRank },
            "filter-parallel" => new() { Method = PretrainMethod.FilterParallel, Backward = BackwardKind.Exact },
            "filter-parallel-local" => new() { Method = PretrainMethod.FilterParallel, Backward = BackwardKind.Local },
            "loft" => new() { Method = PretrainMethod.Loft, Samples = SampleScope.Whole },
            "loft-shard" => new() { Method = PretrainMethod.Loft, Samples = SampleScope.Shard },
            "local-sgd" => new() { Method = PretrainMethod.LocalSgd, Samples = SampleScope.Whole },
            "local-sgd-shard" => new() { Method = PretrainMethod.LocalSgd, Samples = SampleScope.Shard },
            "gpipe" => new() { Method = PretrainMethod.Gpipe },
            _ => throw new ArgumentException($"no method {name}"),
        };
        // Rounds of two steps: the steps of a scenario include an exchange.
        return config with { Batch = batch, LocalSteps = 2 };
    }

    /// <summary>The units of this rank's stage, where the method has stages.</summary>
    private static (int First, int End)? UnitsOf(PretrainSection config, NetworkSpec network, int imageSide, ICommunicator world)
    {
        if (config.Method is not PretrainMethod.Gpipe) return null;
        PipelineStage stage = PipelineStages.Create(network, imageSide, world.Size, config.Gpipe.Cuts)[world.Rank];
        return (stage.First, stage.End);
    }

    /// <summary>
    /// Arguments: method, family, depth, width, form, batch, precision, memory format. What a step holds after its forward pass, against the plan,
    /// on every rank.
    /// </summary>
    public static void Activations(ICommunicator world, string[] arguments)
    {
        int batch = int.Parse(arguments[5], CultureInfo.InvariantCulture);
        (NetworkSpec network, BatchLoader data) = Setting(arguments[1..], batch);
        PretrainSection config = Method(arguments[0], batch);
        long atForward = 0;
        using TensorTransport transport = TensorTransport.For(CPU, direct: false);
        RankContext context = new(world, new CommunicationLedger(), new ChannelExchange(world, transport), CPU)
        {
            AfterForward = () => atForward = ProcessMemory.AllocatedBytes,
            Precision = Enum.Parse<Precision>(arguments[6]),
            MemoryFormat = Enum.Parse<MemoryFormat>(arguments[7]),
        };
        using ITrainingMethod method = TrainingMethods.Create(context, network, config, data, Seed);
        // What is allocated once, by libraries and for exchanges, is there after the first step.
        method.StepAndMeet(0, 0, LearningRate);
        // The least of some steps: in single steps a library makes room for good, MPI for messages above all.
        long held = long.MaxValue;
        for (int step = 1; step < method.StepsPerEpoch; step++)
        {
            Collect();
            long before = ProcessMemory.AllocatedBytes;
            method.StepAndMeet(0, step, LearningRate);
            held = Math.Min(held, atForward - before);
        }
        long planned = ActivationPlan.Bytes(
            config, network, data.ImageSide, world.Size, world.Rank, context.Layout, UnitsOf(config, network, data.ImageSide, world), Convolution.ChannelsOf);
        Compare(world, arguments[0], planned, held);
    }

    /// <summary>
    /// Arguments: family, depth, width, form, batch, micro-batches. One process does in turn the forward pass of every
    /// stage of a pipeline cut in three, and that of the narrow network of a rank of four in loft.
    /// </summary>
    public static void PartsOfANetwork(ICommunicator world, string[] arguments)
    {
        int batch = int.Parse(arguments[4], CultureInfo.InvariantCulture), parts = int.Parse(arguments[5], CultureInfo.InvariantCulture);
        (NetworkSpec network, BatchLoader data) = Setting(arguments, batch);
        PretrainSection config = new() { Method = PretrainMethod.Gpipe, Batch = batch, Gpipe = new GpipeSection { MicroBatches = parts } };
        int[] bounds = [0, network.UnitCount / 3, 2 * network.UnitCount / 3, network.UnitCount];
        for (int stage = 0; stage < 3; stage++)
        {
            (int first, int end) = (bounds[stage], bounds[stage + 1]);
            IReadOnlyList<long> input = first == 0 ? [data.Channels, data.ImageSide, data.ImageSide] : network.UnitOutput(first - 1, data.ImageSide);
            int[] sizes = [.. Enumerable.Range(0, parts).Select(part => new Shard(part, parts).Of(batch)).Select(part => part.End - part.Start)];
            long held = Forward(network, first, end, [.. sizes.Select(images => (long[])[images, .. input])]);
            long planned = ActivationPlan.Bytes(config, network, data.ImageSide, 3, stage, units: (first, end), channels: Convolution.ChannelsOf);
            Compare(world, $"gpipe {first}-{end}", planned, held);
        }
        // Ranks 0 to 3 of loft have inner counts that differ by at most one.
        PretrainSection loft = new() { Method = PretrainMethod.Loft, Batch = batch };
        NetworkSpec narrow = network.WithInnerCounts(network.Blocks
            .Where(block => block.Stage >= 2 && block.Index > 0)
            .ToDictionary(block => block.Inner.Name, block => block.Inner.Count / 4));
        // First, since a convolution is repaired, where it must be, when it is first met.
        long narrowHeld = Forward(narrow, 0, narrow.UnitCount, [[batch, data.Channels, data.ImageSide, data.ImageSide]]);
        Compare(world, "loft", ActivationPlan.Bytes(loft, network, data.ImageSide, 4, 3, channels: Convolution.ChannelsOf), narrowHeld);
    }

    /// <summary>
    /// Bytes held after the forward passes of some micro-batches of these shapes. As for a step, the least of some times
    /// after the first.
    /// </summary>
    private static long Forward(NetworkSpec network, int first, int end, long[][] shapes)
    {
        using ModelState state = ModelState.InitializeWhole(network, Seed, ScalarType.Float32, CPU);
        ResidualNetwork part = new(network, state, new SerialExchange());
        long held = long.MaxValue;
        for (int time = 0; time < 4; time++)
        {
            Collect();
            long before = ProcessMemory.AllocatedBytes;
            using DisposeScope scope = NewDisposeScope();
            foreach (long[] shape in shapes)
            {
                Tensor output = part.Forward(rand(shape, requires_grad: first > 0), training: true, first, end);
                if (end == network.UnitCount) nn.functional.cross_entropy(output, zeros([shape[0]], ScalarType.Int64));
            }
            if (time > 0) held = Math.Min(held, ProcessMemory.AllocatedBytes - before);
        }
        return held;
    }

    /// <summary>
    /// Arguments: method, family, depth, width, form, batch, steps. Rank 0 prints, of the rank with the highest peak,
    /// "peak PEAK planned PLANNED": the most that was ever resident above what was after a step of a tiny network and the check
    /// of arithmetic, and the plan's sum.
    /// </summary>
    public static void Peak(ICommunicator world, string[] arguments)
    {
        int batch = int.Parse(arguments[5], CultureInfo.InvariantCulture), steps = int.Parse(arguments[6], CultureInfo.InvariantCulture);
        (NetworkSpec network, BatchLoader data) = Setting(arguments[1..], batch);
        (NetworkSpec tiny, BatchLoader few) = Setting([arguments[1], arguments[2], "2", arguments[4]], 2 * world.Size);
        Train(world, tiny, few, Method(arguments[0], 2 * world.Size), 1);
        PretrainSection config = Method(arguments[0], batch);
        // As a launch begins; what that takes for a moment is not of the training.
        LayerShapes layers = new();
        ActivationLayout layout = new(ScalarType.Float32, MemoryFormat.Contiguous);
        PlanSetting setting = new(new RunConfig { Pretrain = config }, network, new ImageShape(data.Channels, data.ImageSide, network.Classes, data.Count, 1), world.Size);
        foreach (IEnumerable<TensorSlice> held in MethodPlan.Create(setting).Computed(world.Rank)) layers.Add(network, data.ImageSide, held, layout, DeviceType.CPU);
        ArithmeticCheck.Run(layers, layout, CPU);
        Collect();
        ProcessMemory.RestartPeak();
        long resident = ProcessMemory.ResidentBytes;

        TrainingMemory memory = Train(world, network, data, config, steps);
        long peak = ProcessMemory.PeakBytes - resident;
        long planned = memory.Weights + memory.Gradients + memory.Optimizer + memory.ExchangeBuffers + ActivationPlan.Bytes(
            config, network, data.ImageSide, world.Size, world.Rank, units: UnitsOf(config, network, data.ImageSide, world), channels: Convolution.ChannelsOf);
        string[] all = world.Allgather(string.Create(CultureInfo.InvariantCulture, $"{peak:d15} planned {planned}"));
        if (world.Rank == 0) Console.WriteLine($"peak {all.Order(StringComparer.Ordinal).Last().TrimStart('0')}");
    }

    /// <summary>
    /// Arguments: file. The middle of a round of loft in which every stage is partitioned: while the full network is
    /// evaluated, and saved with statistics that are recomputed, every rank holds it. While norms are measured no rank ever holds half
    /// of it, and while it is saved as it is, none but rank 0.
    /// </summary>
    public static void FullNetwork(ICommunicator world, string[] arguments)
    {
        (NetworkSpec network, BatchLoader data) = Setting(["PreactResnet", "34", "64", "Cifar"], 2);
        PretrainSection config = Method("loft", 2) with { Loft = new LoftSection { Stages = [1, 2, 3, 4], FirstBlocks = true, StatisticsImages = 2 } };
        using TensorTransport transport = TensorTransport.For(CPU, direct: false);
        RankContext context = new(world, new CommunicationLedger(), new ChannelExchange(world, transport), CPU);
        using ITrainingMethod method = TrainingMethods.Create(context, network, config, data, Seed);
        WeightsIdentity identity = new(new NetworkSection(), 3, 32, network.Classes);
        (string, bool, Action)[] looks =
        [
            ("MeasureNorms", false, () => method.MeasureNorms()),
            ("Evaluate", true, () => method.Evaluate(data, 2)),
            ("Save", true, () => method.Save(arguments[0], identity, 1)),
            ("Save without statistics", world.Rank == 0, () => method.Save(arguments[0], identity, 0)),
        ];
        foreach ((string what, bool holdsAll, Action look) in looks)
        {
            // The first step of a round.
            method.StepAndMeet(0, 2, LearningRate);
            Collect();
            ProcessMemory.RestartPeak();
            long before = ProcessMemory.ResidentBytes;
            look();
            MustTake(what, ProcessMemory.PeakBytes - before, atLeast: holdsAll ? 1 : double.NegativeInfinity, atMost: holdsAll ? double.PositiveInfinity : 0.5);
        }

        void MustTake(string what, long bytes, double atLeast, double atMost)
        {
            double share = (double)bytes / (4 * network.ParameterCount);
            string[] all = world.Allgather(string.Create(CultureInfo.InvariantCulture, $"{what}: {share:f2} of the network on rank {world.Rank}"));
            if (world.Rank == 0) Console.WriteLine(string.Join('\n', all));
            Check.True(share >= atLeast && share <= atMost, $"{what} takes {share:f2} of the network's bytes on rank {world.Rank}");
        }
    }

    private static TrainingMemory Train(ICommunicator world, NetworkSpec network, BatchLoader data, PretrainSection config, int steps)
    {
        using TensorTransport transport = TensorTransport.For(CPU, direct: false);
        RankContext context = new(world, new CommunicationLedger(), new ChannelExchange(world, transport), CPU);
        using ITrainingMethod method = TrainingMethods.Create(context, network, config, data, Seed);
        for (int step = 0; step < steps; step++) method.StepAndMeet(step / method.StepsPerEpoch, step % method.StepsPerEpoch, LearningRate);
        return method.Memory;
    }

    private static void Compare(ICommunicator world, string what, long planned, long held)
    {
        double ratio = (double)held / planned;
        string[] all = world.Allgather(string.Create(
            CultureInfo.InvariantCulture, $"{what} rank {world.Rank}: planned {planned / 1e6:f2} MB, held {held / 1e6:f2} MB, ratio {ratio:f4}"));
        if (world.Rank == 0) Console.WriteLine(string.Join('\n', all));
        Check.True(Math.Abs(ratio - 1) <= Tolerance, $"{what}: {held} bytes are held and {planned} planned, ratio {ratio:f4}");
    }

    /// <summary>Four batches of synthetic images, and a network for them. Arguments: family, depth, width, form.</summary>
    private static (NetworkSpec, BatchLoader) Setting(string[] arguments, int batch) =>
        TrainingScenarios.Setting(arguments, arguments[3] == $"{NetworkForm.Imagenet}" ? 64 : 32, 4 * batch, classes: 10);

    private static void Collect()
    {
        GC.Collect();
        GC.WaitForPendingFinalizers();
    }
}
