using System.Globalization;
using System.Runtime.InteropServices;
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

/// <summary>Methods whose ranks run apart between exchanges, against a replay of all ranks in one process.</summary>
internal static partial class LoftScenarios
{
    private const double LearningRate = MethodChecks.LearningRate;
    private const long Seed = MethodChecks.Seed;

    /// <summary>Arguments: family, depth, width, form, then keys of the pretrain section as name=value. All steps of a training against the replay.</summary>
    public static void Replay(ICommunicator world, string[] arguments)
    {
        (NetworkSpec network, BatchLoader data) = TrainingScenarios.Setting(arguments[..4]);
        PretrainSection config = MethodChecks.Pretrain(arguments[4..]);
        Findings findings = new();
        new MethodChecks(world, CPU, direct: false, findings) { Bits = true }.Rounds("rounds", network, data, config);
        Check.Passed(findings);
    }

    /// <summary>
    /// Arguments: momentum (Restart, Travel), statistics. One rank against a plain loop of momentum SGD: the same bits.
    /// </summary>
    public static void OneRank(ICommunicator world, string[] arguments)
    {
        (NetworkSpec network, BatchLoader data) = TrainingScenarios.Setting(["PreactResnet", "18", "5", "Cifar"]);
        LoftSection loft = new() { Momentum = Enum.Parse<MomentumKind>(arguments[0]), RunningStatistics = Enum.Parse<RunningStatisticsKind>(arguments[1]) };
        PretrainSection config = new() { Method = PretrainMethod.Loft, Batch = 4, Epochs = 4, LocalSteps = 5, Loft = loft, Optimizer = Optimizer };
        using TensorTransport transport = TensorTransport.For(CPU, direct: false);
        RankContext context = new(world, new CommunicationLedger(), new ChannelExchange(world, transport), CPU);
        using LoftTraining method = new(context, network, config, data, Seed);

        using ModelState plain = ModelState.InitializeWhole(network, Seed, ScalarType.Float32, CPU);
        ResidualNetwork forward = new(network, plain, new SerialExchange());
        for (int step = 0; step < 12; step++)
        {
            method.StepAndMeet(step / 3, step % 3, LearningRate);

            using DisposeScope scope = NewDisposeScope();
            if (step % 5 == 0 && loft.Momentum is MomentumKind.Restart)
            {
                foreach (TensorSlice parameter in plain.Parameters) plain.Momentum(parameter.Name).zero_();
            }
            int[] order = data.EpochOrder(step / 3), images = order[(step % 3 * 4)..Math.Min(order.Length, (step % 3 * 4) + 4)];
            Batch batch = data.Load(images, step / 3, augment: true, CPU);
            nn.functional.cross_entropy(forward.Forward(batch.Images, training: true), batch.Labels).backward();
            using IDisposable frozen = no_grad();
            foreach (TensorSlice parameter in plain.Parameters)
            {
                Tensor weight = plain[parameter.Name], velocity = plain.Momentum(parameter.Name);
                velocity.mul_(Optimizer.Momentum).add_(plain.Gradient(parameter.Name)).add_(weight, alpha: Optimizer.WeightDecay);
                weight.add_(velocity, alpha: -LearningRate);
                plain.Gradient(parameter.Name).zero_();
            }
        }
        foreach (TensorSlice slice in method.State.Slices)
        {
            if (!slice.Spec.IsParameter && loft.RunningStatistics is not RunningStatisticsKind.Average) continue;
            if (!method.State[slice.Name].equal(plain[slice.Name]).all().item<bool>()) throw new InvalidOperationException($"{slice.Name} has other bits");
        }
    }

    /// <summary>
    /// Arguments: family, depth, width. A local step of every rank's narrow network against plain autograd on the same
    /// weights: loss, gradients and running statistics.
    /// </summary>
    public static void NarrowStep(ICommunicator world, string[] arguments)
    {
        (NetworkSpec network, BatchLoader data) = TrainingScenarios.Setting([arguments[0], arguments[1], arguments[2], "Cifar"]);
        using DisposeScope scope = NewDisposeScope();
        using TensorTransport transport = TensorTransport.For(CPU, direct: false);
        RankContext context = new(world, new CommunicationLedger(), new ChannelExchange(world, transport), CPU, ScalarType.Float64);
        PretrainSection config = new() { Method = PretrainMethod.Loft, Batch = 4, Epochs = 1, LocalSteps = 100, Optimizer = Optimizer with { WeightDecay = 0 } };
        using LoftTraining method = new(context, network, config, data, Seed);
        using SerialReference serial = new(network, method.State);
        Check.True(world.Size == 1 || method.State.Slices.Sum(slice => slice.Count) < network.Tensors.Sum(tensor => tensor.Count), "a narrow network");
        BatchLoader walk = data.Walk(world.Rank);
        Batch batch = walk.Load(walk.EpochOrder(0).AsSpan(0, 4), 0, augment: true, CPU, ScalarType.Float64);
        Tensor loss = nn.functional.cross_entropy(serial.Forward(batch.Images), batch.Labels);
        loss.backward();

        method.StepAndMeet(0, 0, LearningRate);
        Check.True(Math.Abs(method.RunningTotals.Loss - loss.item<double>()) <= 1e-12, "the loss");
        foreach (TensorSlice slice in method.State.Slices)
        {
            // Without weight decay the momentum after the first step is the gradient.
            (Tensor actual, Tensor expected) = slice.Spec.IsParameter
                ? (method.State.Momentum(slice.Name), serial.Tensors[slice.Name].grad!)
                : (method.State[slice.Name], serial.Tensors[slice.Name]);
            double error = MethodChecks.Error(actual, expected);
            Check.True(error <= 1e-10, $"{slice.Name} is off by {error}");
        }
    }

    /// <summary>
    /// Arguments: family, depth, width. A mark in every filter of every partitioned block, and another in its momentum:
    /// after a move they stand on the rank and at the place of the new partition, and in the saved network in their own
    /// place. Marks in shared filters are averaged in their place.
    /// </summary>
    public static void Marks(ICommunicator world, string[] arguments)
    {
        (NetworkSpec network, BatchLoader data) = TrainingScenarios.Setting([arguments[0], arguments[1], arguments[2], "Cifar"]);
        using TensorTransport transport = TensorTransport.For(CPU, direct: false);
        RankContext context = new(world, new CommunicationLedger(), new ChannelExchange(world, transport), CPU);
        LoftSection loft = new() { RunningStatistics = RunningStatisticsKind.Average, FirstBlocks = true, Stages = [1, 2, 3, 4], Momentum = MomentumKind.Travel };
        using LoftTraining method = new(context, network, new PretrainSection { Method = PretrainMethod.Loft, Batch = 4, Loft = loft }, data, Seed);
        IReadOnlyList<BlockSpec> blocks = FilterPartition.BlocksOf(network, loft.Stages, loft.FirstBlocks);
        using FilterExchange exchange = new(context, network, blocks, momentum: true, statistics: true);
        FilterPartition first = method.Partition, second = FilterPartition.AtRandom(blocks, Seed, 1, world.Size);
        if (world.Size > 1 && blocks.All(block => first.Of(block.Inner)!.Owned[world.Rank].SequenceEqual(second.Of(block.Inner)!.Owned[world.Rank])))
            throw new InvalidOperationException("the two partitions are equal: this test shows nothing");

        TensorSpec[] cut = [.. network.Tensors.Where(first.Cuts)];
        using (no_grad())
        {
            for (int i = 0; i < cut.Length; i++)
            {
                method.State[cut[i].Name].copy_(first.Slice(cut[i], world.Rank).Take(Marked(cut[i], i)));
                if (cut[i].IsParameter) method.State.Momentum(cut[i].Name).copy_(first.Slice(cut[i], world.Rank).Take(-Marked(cut[i], i)));
            }
        }
        exchange.Move(method.State, first, second);
        for (int i = 0; i < cut.Length; i++)
        {
            MustEqual(second.Slice(cut[i], world.Rank).Take(Marked(cut[i], i)), method.State[cut[i].Name], cut[i].Name);
            if (cut[i].IsParameter) MustEqual(second.Slice(cut[i], world.Rank).Take(-Marked(cut[i], i)), method.State.Momentum(cut[i].Name), $"momentum of {cut[i].Name}");
        }
        exchange.Move(method.State, second, first);

        // What is shared: each rank's copy gets its own multiple, and the mean of these is where the filter was.
        TensorSpec[] shared = [.. network.Tensors.Where(tensor => !first.Cuts(tensor))];
        using SharedAverage average = new(context, method.State);
        average.Share();
        using (no_grad())
        {
            foreach (TensorSpec tensor in shared) method.State[tensor.Name].copy_(Numbered(tensor) * (world.Rank + 1));
        }
        average.Invalidate();
        average.Refresh();
        foreach (TensorSpec tensor in shared)
        {
            MustEqual(Numbered(tensor) * (world.Rank + 1), method.State[tensor.Name], $"own copy of {tensor.Name}");
            if (world.Size > 1) MustEqual(Numbered(tensor) * ((world.Size + 1) / 2.0), average.Read(tensor.Name), $"mean of {tensor.Name}");
        }
        average.Apply();
        foreach (TensorSpec tensor in shared) MustEqual(Numbered(tensor) * ((world.Size + 1) / 2.0), method.State[tensor.Name], $"averaged {tensor.Name}");

        using Folder folder = new();
        method.Save(folder.File("w.safetensors"), Identity(network), 0);
        if (world.Rank != 0) return;
        using SafetensorsFile saved = SafetensorsFile.Open(folder.File("w.safetensors"));
        for (int i = 0; i < cut.Length; i++) MustEqual(Marked(cut[i], i), saved.Read(cut[i].Name), $"saved {cut[i].Name}");
    }

    /// <summary>Rank 1 is asked to stop in the middle of a round: every rank stops where they meet next: after a step of every epoch's end.</summary>
    public static void Stop(ICommunicator world, string[] arguments)
    {
        (NetworkSpec network, BatchLoader data) = TrainingScenarios.Setting(["PreactResnet", "18", "2", "Cifar"]);
        CommunicationLedger ledger = new();
        using MeteredCommunicator metered = new(world, ledger);
        using TensorTransport transport = TensorTransport.For(CPU, direct: false);
        RankContext context = new(metered, ledger, new ChannelExchange(metered, transport), CPU);
        PretrainSection config = new() { Method = Enum.Parse<PretrainMethod>(arguments[0]), Batch = 4, Epochs = 20, LocalSteps = 7 };
        using ITrainingMethod method = TrainingMethods.Create(context, network, config, data, Seed);
        Signals.Handle(() => null, _ => { });
        StopAgreement stop = new(context);
        long last = 0;
        TrainingLoop loop = new(context, TrainingPhase.Pretrain, method, config.Epochs, Optimizer, data, 10)
        {
            Stop = stop,
            AfterStep = (step, _) =>
            {
                last = step;
                if (world.Rank != 1 || step != 16) return null;
                _ = Kill(Environment.ProcessId, 10);
                // The handler runs on a thread of its own.
                Thread.Sleep(200);
                return null;
            },
        };
        UserError error = Check.Throws<UserError>(() => loop.Run(new Output.SilentReporter(TextWriter.Null)), "a stop");
        // Epochs end after every third step, rounds after every seventh.
        bool apart = config.Method is PretrainMethod.Loft or PretrainMethod.LocalSgd;
        long expected = apart ? 18 : 16;
        Check.True(last == expected && error.ExitCode == ExitCodes.Stopped, $"stopped after step {last}, expected {expected}: {error.Message}");
        CommunicationTotal control = ledger.Totals.Single(total => total.Purpose is CommunicationPurpose.Control && total.Phase != EarlyStop.Phase);
        Check.True(control.Calls == (apart ? 6 + 2 : 16), $"{control.Calls} agreements");
    }

    private static OptimizerSection Optimizer => new() { LearningRate = LearningRate, Momentum = 0.9, WeightDecay = 5e-4 };

    /// <summary>A value that says which tensor, which filter and which place in it.</summary>
    private static Tensor Marked(TensorSpec tensor, int number) =>
        (arange(tensor.Count, float32) + 1 + (number * 0.001f)).view([.. tensor.Shape]);

    /// <summary>Whole numbers, of which sums and means over a few ranks are exact.</summary>
    private static Tensor Numbered(TensorSpec tensor) => (arange(tensor.Count, float32) + 1).view([.. tensor.Shape]);

    private static void MustEqual(Tensor expected, Tensor actual, string what)
    {
        if (!expected.shape.SequenceEqual(actual.shape) || !expected.equal(actual).all().item<bool>()) throw new InvalidOperationException($"{what} is not as marked");
    }

    private static WeightsIdentity Identity(NetworkSpec network) => new(new NetworkSection(), network.ImageChannels, 28, network.Classes);

    [LibraryImport("libc", EntryPoint = "kill")]
    private static partial int Kill(int process, int signal);

    /// <summary>A folder that is gone with the test.</summary>
    private sealed class Folder : IDisposable
    {
        private readonly string _path = Directory.CreateTempSubdirectory("lofthpc-").FullName;

        public string File(string name) => Path.Combine(_path, name);

        public void Dispose() => Directory.Delete(_path, recursive: true);
    }
}
