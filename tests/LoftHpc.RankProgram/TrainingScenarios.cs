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

/// <summary>Parallel training: against one process, its bytes, its memory, its distances.</summary>
internal static class TrainingScenarios
{
    /// <summary>Arguments: family, depth, width, form, assignment, backward.</summary>
    public static void FilterParallel(ICommunicator world, string[] arguments)
    {
        (NetworkSpec network, BatchLoader data) = Setting(arguments);
        Findings findings = new();
        new MethodChecks(world, CPU, direct: false, findings).FilterParallel("filter-parallel", network, data, Enum.Parse<AssignmentKind>(arguments[4]), Enum.Parse<BackwardKind>(arguments[5]));
        Check.Passed(findings);
    }

    /// <summary>Arguments: family, depth, width, form, batch norm scope.</summary>
    public static void DataParallel(ICommunicator world, string[] arguments)
    {
        (NetworkSpec network, BatchLoader data) = Setting(arguments);
        Findings findings = new();
        new MethodChecks(world, CPU, direct: false, findings).DataParallel("data-parallel", network, data, Enum.Parse<BatchNormScope>(arguments[4]));
        Check.Passed(findings);
    }

    /// <summary>Arguments: a folder of images, of some of which a file is none. What ranks decode ahead against one process.</summary>
    public static void ImageFolder(ICommunicator world, string[] arguments)
    {
        DataSection section = new() { Set = DataSetName.ImageFolder, Folder = arguments[0], ImageSize = 28, Workers = 2, BrokenImages = BrokenImages.Skip };
        ImageData images = ImageDataLoader.Load(section, 3, world);
        Check.True(images.Warnings.Count == 1, "the file that is no image is not known on every rank");
        Agree.OnSame(world, "the data", images.Fingerprint, "");
        using BatchLoader data = new(images.Train, section, 3) { PreparesAhead = true };
        NetworkSpec network = NetworkCatalog.Create(new NetworkSection { Width = 4 }, 3, images.Train.Classes);
        Findings findings = new();
        MethodChecks checks = new(world, CPU, direct: false, findings) { In = [CheckedIn.Float64] };
        checks.DataParallel("data-parallel", network, data, BatchNormScope.Synchronised);
        checks.FilterParallel("filter-parallel", network, data, AssignmentKind.Contiguous, BackwardKind.Exact);
        Check.Passed(findings);
    }

    /// <summary>Arguments: backward. One step's messages and bytes against the closed formula.</summary>
    public static void StepCommunication(ICommunicator world, string[] arguments)
    {
        BackwardKind backward = Enum.Parse<BackwardKind>(arguments[0]);
        const int width = 5, classes = 5, side = 28, element = 4;
        (NetworkSpec network, BatchLoader data) = Setting(["PreactResnet", "18", "5", "Cifar"]);
        CommunicationLedger ledger = new() { Phase = "pretrain" };
        using MeteredCommunicator metered = new(world, ledger);
        using TensorTransport transport = TensorTransport.For(CPU, direct: false);
        RankContext context = new(metered, ledger, new ChannelExchange(metered, transport), CPU);
        using FilterParallelTraining training = new(context, network, new PretrainSection { Batch = MethodChecks.Batch, Backward = backward }, data, 3);
        training.Step(0, 0, MethodChecks.LearningRate);

        // The inputs that are gathered, as (channels, side): of each block's first convolution (shared with its
        // shortcut) and of its second. Stages halve the side and double the channels.
        List<(int Channels, int Side)> gathered = [];
        for (int stage = 0; stage < 4; stage++)
        {
            (int Channels, int Side) inside = (width << stage, (side + (1 << stage) - 1) >> stage);
            (int Channels, int Side) before = stage == 0 ? inside : (width << (stage - 1), (side + (1 << (stage - 1)) - 1) >> (stage - 1));
            gathered.AddRange([before, inside, inside, inside]);
        }
        int ranks = world.Size, rank = world.Rank;
        long Own(long count, int of) => (count / ranks) + (of < count % ranks ? 1 : 0);
        long calls = 0, messages = 0, sent = 0, received = 0;
        foreach ((int channels, int imageSide) in gathered)
        {
            long image = (long)imageSide * imageSide * element, pieces = (MethodChecks.Batch + (int)Math.Max(1, (1 << 20) / (channels * image)) - 1) / (int)Math.Max(1, (1 << 20) / (channels * image));
            long own = MethodChecks.Batch * image * Own(channels, rank), all = MethodChecks.Batch * image * channels;
            calls += pieces;
            if (own > 0) messages += pieces * (ranks - 1);
            sent += own * (ranks - 1);
            received += all - own;
        }
        // Of the pieces of a reduce-scatter a rank sends to each other rank that owns something.
        long reduceMessages = gathered.Sum(g => Enumerable.Range(0, ranks).Count(r => r != rank && Own(g.Channels, r) > 0));
        // An allreduce of the logits: a reduce-scatter and an allgather over parts of (near) equal size.
        long logits = MethodChecks.Batch * classes, part = logits / ranks, larger = logits % ranks, mine = (part + (rank < larger ? 1 : 0)) * element;
        long otherwise = (logits * element) - mine;

        List<CommunicationTotal> expected = [];
        if (ranks > 1)
        {
            expected.Add(new("pretrain", CommunicationPurpose.Step, "allgatherv", calls, messages, sent, received, 0));
            if (backward is BackwardKind.Exact)
                expected.Add(new("pretrain", CommunicationPurpose.Step, "reduce_scatter", calls, reduceMessages, received, sent, 0));
            long allreduce = otherwise + (mine * (ranks - 1));
            expected.Add(new("pretrain", CommunicationPurpose.Step, "allreduce", 1, 2 * (ranks - 1), allreduce, allreduce, 0));
        }
        string Lines(IEnumerable<CommunicationTotal> totals) =>
            string.Join('\n', totals.Select(total => (total with { Seconds = 0 }).ToString()).Order());
        string counted = Lines(ledger.Totals), formula = Lines(expected);
        if (counted != formula) throw new InvalidOperationException($"counted\n{counted}\nbut the formula says\n{formula}");
    }

    /// <summary>
    /// Arguments: device. A gather and its adjoint, in either memory format, on tensors that go in several pieces, one of them
    /// odd, some ranks without channels; and a sum in place.
    /// </summary>
    public static void ExchangeInPieces(ICommunicator world, string[] arguments)
    {
        using DisposeScope scope = NewDisposeScope();
        Device device = new(arguments[0]);
        using TensorTransport transport = TensorTransport.For(device, direct: false);
        ChannelExchange exchange = new(world, transport);
        ExchangeCut cut = ExchangeCut.For(device.type, direct: false);
        int images = cut.ByImage || device.type is not DeviceType.CPU ? 70 : 3;
        int[] channels = [.. Enumerable.Range(0, world.Size).Select(rank => rank == 1 ? 0 : 11 + rank)];
        int start = channels.Take(world.Rank).Sum(), own = channels[world.Rank];
        Tensor Whole(int seed)
        {
            Generator generator = new((ulong)seed);
            return rand([images, channels.Sum(), 40, 41], generator: generator).to(device);
        }
        Tensor expected = Whole(1);
        long imageBytes = expected.numel() * 4 / images;
        if (cut.ByImage ? imageBytes * cut.ImagesPerPiece(imageBytes) > expected.numel() * 4 / 3 : cut.Pieces(expected.numel() * 4) < 2)
            throw new InvalidOperationException("the tensor is too small to go in several pieces");
        Tensor sum = zeros_like(expected);
        for (int rank = 0; rank < world.Size; rank++) sum += Whole(100 + rank);
        foreach (MemoryFormat format in Enum.GetValues<MemoryFormat>())
        {
            // A part that lies so already, one that does not, and one with gaps.
            Tensor gaps = expected.narrow(1, start, own), given = gaps.contiguous();
            foreach (Tensor each in new[] { MemoryFormats.To(given, MemoryFormat.ChannelsLast), given, gaps })
            {
                Tensor gathered = exchange.Gather(each, channels, format);
                if (!gathered.equal(expected).all().item<bool>()) throw new InvalidOperationException($"gathered wrongly, {format}");
                Check.True(world.Size == 1 || ReferenceEquals(MemoryFormats.To(gathered, format), gathered), $"gathered to another memory format than {format}");
            }
            foreach (MemoryFormat coming in Enum.GetValues<MemoryFormat>())
            {
                Tensor part = exchange.ReduceScatter(MemoryFormats.To(Whole(100 + world.Rank), coming), channels, format);
                if (own > 0 && (part - sum.narrow(1, start, own)).abs().max().item<float>() > 1e-5) throw new InvalidOperationException($"reduced wrongly, {format}");
                if (!part.shape.SequenceEqual([images, own, 40, 41])) throw new InvalidOperationException("reduced to another shape");
                Check.True(world.Size == 1 || ReferenceEquals(MemoryFormats.To(part, format), part), $"reduced to another memory format than {format}");
            }
        }
        Tensor ones = full([3, 5], world.Rank + 1, float32, device);
        exchange.AllreduceSum(ones);
        if (!ones.eq(world.Size * (world.Size + 1) / 2).all().item<bool>()) throw new InvalidOperationException("summed wrongly");
    }

    /// <summary>Nesterov and label smoothing in every method, against one process.</summary>
    public static void OptimizerOptions(ICommunicator world, string[] arguments)
    {
        (NetworkSpec network, BatchLoader data) = Setting(["PreactResnet", "18", "3", "Cifar"]);
        Findings findings = new();
        MethodChecks checks = new(world, CPU, direct: false, findings) { Options = new OptimizerSection { Nesterov = true, LabelSmoothing = 0.2 } };
        checks.FilterParallel("filter-parallel", network, data, AssignmentKind.Random, BackwardKind.Exact);
        checks.DataParallel("data-parallel", network, data, BatchNormScope.Synchronised);
        checks.Gpipe("gpipe", network, data, new GpipeSection { MicroBatches = 3 });
        string[] options = ["epochs=1", "local_steps=2", "optimizer.nesterov=true", "optimizer.label_smoothing=0.2"];
        checks.Rounds("loft", network, data, MethodChecks.Pretrain(["method=loft", .. options]));
        checks.Rounds("local-sgd", network, data, MethodChecks.Pretrain(["method=local-sgd", .. options]));
        Check.Passed(findings);
    }

    /// <summary>
    /// Arguments: memory format. Every method against one rank, where each exchange is made of many pieces of staging memory (the
    /// variable of <see cref="ExchangeCut.TestVariable"/> must be set), and tensors of odd shapes through all exchanges.
    /// </summary>
    public static void Staged(ICommunicator world, string[] arguments)
    {
        ExchangeCut cut = ExchangeCut.For(DeviceType.CPU, direct: false);
        Check.True(!cut.ByImage, $"{ExchangeCut.TestVariable} is not set");
        ExchangeInPieces(world, ["cpu"]);
        if (world.Size > 1) GpipeScenarios.Ring(world, ["cpu"]);
        (NetworkSpec network, BatchLoader data) = Setting(["PreactResnet", "18", "3", "Cifar"]);
        Check.True(cut.Pieces(4 * network.ParameterCount) > 10, "exchanges are to have many pieces");
        Findings findings = new();
        MethodChecks checks = new(world, CPU, direct: false, findings) { Steps64 = 2, Format = Enum.Parse<MemoryFormat>(arguments[0]) };
        checks.FilterParallel("filter-parallel", network, data, AssignmentKind.Random, BackwardKind.Exact);
        checks.DataParallel("data-parallel", network, data, BatchNormScope.Synchronised);
        checks.Gpipe("gpipe", network, data, new GpipeSection { MicroBatches = 3 });
        checks.Rounds("loft", network, data, MethodChecks.Pretrain(["method=loft", "epochs=1", "local_steps=2", "loft.momentum=travel"]));
        checks.Rounds("local-sgd", network, data, MethodChecks.Pretrain(["method=local-sgd", "epochs=1", "local_steps=2"]));
        Check.Passed(findings);
    }

    /// <summary>
    /// Every method trains two epochs with batches made when they are asked
    /// for, prepared ahead, and cut out on the device: the saved networks are the same to the last bit, and so are the evaluations.
    /// </summary>
    public static void ImagesByAllWays(ICommunicator world, string[] arguments)
    {
        DataSection section = new()
        {
            Set = DataSetName.Synthetic,
            TrainImages = 23,
            TestImages = 11,
            Synthetic = new SyntheticSection { Channels = 3, Size = 28, Classes = 5 },
        };
        ImageData images = ImageDataLoader.Load(section, MethodChecks.Seed);
        set_num_threads(1);
        NetworkSpec network = NetworkCatalog.Create(new NetworkSection { Width = 3 }, 3, 5);
        using DisposeScope scope = NewDisposeScope();
        using TensorTransport transport = TensorTransport.For(CPU, direct: false);
        RankContext context = new(world, new CommunicationLedger(), new ChannelExchange(world, transport), CPU);
        string folder = world.Broadcast(world.Rank == 0 ? Directory.CreateTempSubdirectory("lofthpc-").FullName : "", 0);
        string[][] methods =
        [
            ["method=data-parallel"], ["method=filter-parallel"], ["method=gpipe", "gpipe.micro_batches=3"], ["method=local-sgd", "samples=shard", "local_steps=2"],
            ["method=loft", "local_steps=2"],
        ];
        foreach (string[] keys in methods)
        {
            // Batches of 10, 10 and 3: three ranks or micro-batches divide none of the first.
            PretrainSection config = MethodChecks.Pretrain([.. keys, "batch=10", "epochs=2"]);
            (byte[] Saved, StepTotals Tested)[] results = [.. new[] { (false, false), (true, false), (false, true) }.Select(way => Train(config, way.Item1, way.Item2))];
            foreach ((byte[] saved, StepTotals tested) in results)
            {
                Check.True(saved.AsSpan().SequenceEqual(results[0].Saved), $"{keys[0]}: other weights");
                Check.True(tested == results[0].Tested, $"{keys[0]}: {tested} instead of {results[0].Tested}");
            }
        }
        if (world.Rank == 0) Directory.Delete(folder, recursive: true);

        (byte[] Saved, StepTotals Tested) Train(PretrainSection config, bool ahead, bool onDevice)
        {
            (BatchLoader train, BatchLoader test) = (Loader(images.Train), Loader(images.Test));
            BatchLoader Loader(ImageSet set) => new(set, section, MethodChecks.Seed) { PreparesAhead = ahead, CutsOutOnDevice = onDevice };
            using ITrainingMethod method = TrainingMethods.Create(context, network, config, train, MethodChecks.Seed);
            StepTotals tested = new TrainingLoop(context, TrainingPhase.Pretrain, method, config.Epochs, config.Optimizer, test, 2).Run(new Output.SilentReporter(TextWriter.Null));
            string file = Path.Combine(folder, "network.safetensors");
            method.Save(file, new WeightsIdentity(new NetworkSection(), 3, 28, 5), 1);
            bool loads = config.Method is not PretrainMethod.Gpipe || world.Rank == 0;
            Check.True((train.Prepared is not null) == (ahead && loads), "what prepares batches");
            // All but the first of the training, and the first after the training images were used for statistics.
            if (ahead && loads) Check.True(train.Prepared!.Taken >= 3 && test.Prepared!.Taken >= 2, $"{train.Prepared.Taken} and {test.Prepared?.Taken} batches were prepared");
            // What nobody disposes must not keep the process from its end.
            if (config.Method is PretrainMethod.DataParallel) return (world.Rank == 0 ? File.ReadAllBytes(file) : [], tested);
            train.Dispose();
            test.Dispose();
            return (world.Rank == 0 ? File.ReadAllBytes(file) : [], tested);
        }
    }

    /// <summary>Arguments: keys of the pretrain section as name=value. Live tensors do not grow with steps whose batches are prepared ahead.</summary>
    public static void LiveTensorsOfPreparedBatches(ICommunicator world, string[] arguments)
    {
        set_num_threads(1);
        DataSection section = new()
        {
            Set = DataSetName.Synthetic,
            TrainImages = 10,
            TestImages = 1,
            Synthetic = new SyntheticSection { Channels = 3, Size = 28, Classes = 5 },
        };
        using BatchLoader data = new(ImageDataLoader.Load(section, MethodChecks.Seed).Train, section, MethodChecks.Seed) { PreparesAhead = true };
        Findings findings = new();
        new MethodChecks(world, CPU, direct: false, findings).LiveTensors("method", NetworkCatalog.Create(new NetworkSection { Width = 3 }, 3, 5), data, MethodChecks.Pretrain(arguments));
        Check.Passed(findings);
        Check.True(data.Prepared!.Taken > 90, $"{data.Prepared.Taken} batches were prepared");
    }

    /// <summary>Arguments: keys of the pretrain section as name=value. Live tensors do not grow with steps.</summary>
    public static void LiveTensors(ICommunicator world, string[] arguments)
    {
        (NetworkSpec network, BatchLoader data) = Setting(["PreactResnet", "18", "3", "Cifar"]);
        Findings findings = new();
        new MethodChecks(world, CPU, direct: false, findings).LiveTensors("method", network, data, MethodChecks.Pretrain(arguments));
        Check.Passed(findings);
    }

    /// <summary>The distances of several measurements, with filters dealt at random, against one process's own computation.</summary>
    public static void Distances(ICommunicator world, string[] arguments)
    {
        (NetworkSpec network, _) = Setting(["PreactResnet", "18", "5", "Cifar"]);
        FilterAssignment assignment = FilterAssignment.Create(network, AssignmentKind.Random, seed: 9, world.Size);
        long[] steps = [0, 10, 20, 30];
        using RankingTracker tracker = new(world);
        List<LayerDistance> found = [];
        Dictionary<(string, long), double[]> norms = [];
        foreach (long step in steps)
        {
            // Weights that any rank can make: the initial ones of another seed.
            using ModelState whole = ModelState.Initialize(FilterAssignment.Create(network, AssignmentKind.Contiguous, 0, 1).Slices(network, 0), step, ScalarType.Float32, CPU);
            using ModelState own = ModelState.Initialize(assignment.Slices(network, world.Rank), step, ScalarType.Float32, CPU);
            RankingMeasurement measured = tracker.Measure(step, FilterNorms.Measure(own));
            found.AddRange(measured.Distances);
            foreach (ConvSpec conv in network.Convolutions)
            {
                double[] expected = [.. whole[$"{conv.Name}.weight"].to(ScalarType.Float64).square().sum([1, 2, 3]).sqrt().data<double>()];
                norms[(conv.Name, step)] = expected;
                if (world.Rank != 0) continue;
                double[] got = measured.Norms.Single(layer => layer.Layer == conv.Name).Norms;
                if (got.Zip(expected).Any(pair => Math.Abs(pair.First - pair.Second) > 1e-12 * pair.Second)) throw new InvalidOperationException($"norms of {conv.Name}");
            }
        }
        found.AddRange(tracker.RemainingPairs(measurementsMax: 100));
        if (world.Rank != 0) return;

        var keys = found.Select(d => (d.Step, d.ReferenceStep, d.Layer)).ToList();
        int pairs = steps.Length * (steps.Length - 1);
        if (keys.Distinct().Count() != keys.Count || keys.Count != pairs * network.Convolutions.Count()) throw new InvalidOperationException($"{keys.Count} pairs");
        foreach (LayerDistance distance in found)
        {
            // By the words of the definition: rank the filters, and look up each one's position in the other ranking.
            double[] at = norms[(distance.Layer, distance.Step)], reference = norms[(distance.Layer, distance.ReferenceStep)];
            List<int> ranking = [.. Enumerable.Range(0, at.Length).OrderByDescending(f => at[f])], other = [.. Enumerable.Range(0, at.Length).OrderByDescending(f => reference[f])];
            double sum = 0, chance = 0;
            for (int i = 1; i <= at.Length; i++)
            {
                sum += Math.Abs(Math.Log(i) - Math.Log(other.IndexOf(ranking[i - 1]) + 1)) / i;
                for (int j = 1; j <= at.Length; j++) chance += Math.Abs(Math.Log(i) - Math.Log(j)) / i / at.Length;
            }
            if (Math.Abs(sum - distance.Distance) > 1e-12 || Math.Abs((sum / chance) - distance.Normalized!.Value) > 1e-12)
                throw new InvalidOperationException($"{distance} instead of {sum}, {sum / chance}");
        }
    }

    /// <summary>A network and synthetic images for it. Arguments: family, depth, width, form.</summary>
    /// <param name="imageSide">Null: 64 in the imagenet form, else 28.</param>
    /// <param name="trainImages">10 in batches of 4: the last batch of an epoch is odd, and smaller than 3 or 4 ranks.</param>
    internal static (NetworkSpec, BatchLoader) Setting(string[] arguments, int? imageSide = null, int trainImages = 10, int classes = 5)
    {
        set_num_threads(1);
        return MethodChecks.Setting(
            new NetworkSection
            {
                Family = Enum.Parse<NetworkFamily>(arguments[0]),
                Depth = int.Parse(arguments[1], CultureInfo.InvariantCulture),
                Width = int.Parse(arguments[2], CultureInfo.InvariantCulture),
                WidenFactor = arguments[0] == nameof(NetworkFamily.WideResnet) ? 2 : 1,
                Form = Enum.Parse<NetworkForm>(arguments[3]),
            },
            imageSide, trainImages, classes);
    }
}
