using LoftHpc.Communication;
using LoftHpc.Data;
using LoftHpc.Mpi;
using LoftHpc.Networks;
using LoftHpc.SelfTest;
using LoftHpc.Tickets;
using LoftHpc.Training;
using TorchSharp;
using static TorchSharp.torch;

namespace LoftHpc.RankProgram;

/// <summary>What ranks compute together to draw a ticket.</summary>
internal static class TicketScenarios
{
    private const int Images = 38, BatchSize = 7;

    private const long Seed = 3;

    /// <summary>
    /// On three ranks: by all of them, by two, and by one. Against a network written otherwise, in float64, differentiated by autograd
    /// and, for some channels, by the difference of two losses.
    /// </summary>
    public static void Taylor(ICommunicator world, string[] arguments)
    {
        (NetworkSpec network, BatchLoader data) = TrainingScenarios.Setting(["PreactResnet", "18", "3", "Cifar"], trainImages: 40);
        BlockSpec[] blocks = [.. TicketSelector.PrunableBlocks(network, firstBlocks: false)];
        using ModelState state = ModelState.InitializeWhole(network, Seed, ScalarType.Float64, CPU);
        using Generator generator = new(5, CPU);
        using (no_grad())
        {
            foreach (TensorSlice slice in state.Slices)
            {
                using DisposeScope scope = NewDisposeScope();
                Tensor noise = rand(slice.Shape, float64, generator: generator);
                if (slice.Spec.Role is TensorRole.NormWeight or TensorRole.RunningVariance) state[slice.Name].copy_(noise + 0.5);
                if (slice.Spec.Role is TensorRole.NormBias or TensorRole.RunningMean) state[slice.Name].copy_(noise - 0.5);
            }
        }
        long before = DisposeScopeManager.Statistics.ThreadTotalLiveCount;
        double[] all = Measure(world, network, state, blocks, data);
        Check.True(DisposeScopeManager.Statistics.ThreadTotalLiveCount == before && before > 0, "tensors are left");
        using (ICommunicator some = world.Split(world.Rank == 0 ? 0 : 1, world.Rank))
        {
            Check.True(some.Size == (world.Rank == 0 ? 1 : world.Size - 1), "ranks of the part");
            Check.Equal<double>(all, Measure(some, network, state, blocks, data), $"scores by {some.Size} ranks");
        }

        double[] expected = Reference(network, state, blocks, data);
        double largest = expected.Max();
        Check.True(expected.Length == 3 + 6 + 12 + 24 && largest > 0, "reference");
        for (int filter = 0; filter < expected.Length; filter++)
            Check.True(Math.Abs(all[filter] - expected[filter]) <= 1e-9 * largest, $"score {filter} is {all[filter]}, and by itself {expected[filter]}");
    }

    private static double[] Measure(ICommunicator communicator, NetworkSpec network, ModelState state, BlockSpec[] blocks, BatchLoader data)
    {
        using TensorTransport transport = TensorTransport.For(CPU, direct: false);
        RankContext context = new(communicator, new CommunicationLedger(), new ChannelExchange(communicator, transport), CPU, ScalarType.Float64);
        TaylorCriterion taylor = TaylorCriterion.Measure(context, network, state, blocks, data, Images, BatchSize, Seed);
        return [.. blocks.SelectMany(block => taylor.Scores(network, block, _ => throw new InvalidOperationException("it reads weights")))];
    }

    private static double[] Reference(NetworkSpec network, ModelState state, BlockSpec[] blocks, BatchLoader data)
    {
        int[] chosen = RandomStream.For(Seed, "extract/taylor").Permutation(data.Count)[..Images];
        double[] sums = new double[blocks.Sum(block => block.Inner.Count)];
        for (int start = 0; start < Images; start += BatchSize)
        {
            using DisposeScope scope = NewDisposeScope();
            int[] samples = chosen[start..Math.Min(Images, start + BatchSize)];
            Batch batch = data.Load(samples, 0, augment: false, CPU, ScalarType.Float64);
            using SerialReference reference = new(network, state);
            Tensor Loss() => nn.functional.cross_entropy(reference.Forward(batch.Images, training: false), batch.Labels);
            Loss().backward();
            int at = 0;
            foreach (string norm in blocks.Select(block => $"{block.Name}.bn2"))
            {
                (Tensor scale, Tensor shift) = (reference.Tensors[$"{norm}.weight"], reference.Tensors[$"{norm}.bias"]);
                double[] gates = [.. ((scale.detach() * scale.grad!) + (shift.detach() * shift.grad!)).data<double>()];
                // The channel a little larger and a little smaller after the norm.
                const double little = 1e-6;
                using (no_grad())
                {
                    double LossAt(int channel, double factor)
                    {
                        (double was, double moved) = (scale[channel].item<double>(), shift[channel].item<double>());
                        void Set(double by)
                        {
                            scale[channel].fill_(was * by);
                            shift[channel].fill_(moved * by);
                        }
                        Set(factor);
                        double loss = Loss().item<double>();
                        Set(1);
                        return loss;
                    }
                    double difference = (LossAt(1, 1 + little) - LossAt(1, 1 - little)) / (2 * little);
                    Check.True(Math.Abs(difference - gates[1]) <= 1e-6 * gates.Max(Math.Abs), $"{norm}: {difference} by a difference, {gates[1]} by autograd");
                }
                foreach (double gate in gates) sums[at++] += samples.Length * gate * gate;
            }
        }
        return [.. sums.Select(sum => sum / Images)];
    }
}
