using LoftHpc.Communication;
using LoftHpc.Configuration;
using LoftHpc.Data;
using LoftHpc.Mpi;
using LoftHpc.Networks;
using LoftHpc.Tests.Mpi;
using LoftHpc.Tickets;
using LoftHpc.Training;
using Xunit;
using static TorchSharp.torch;

namespace LoftHpc.Tests.Tickets;

public sealed class TaylorCriterionTests
{
    private static readonly NetworkSpec Network = NetworkCatalog.Create(new NetworkSection { Family = NetworkFamily.WideResnet, Depth = 10, Width = 1 }, 1, 2);

    /// <summary>
    /// All convolutions are zero, but that the last one passes channel 0 of the last block on, once. The norm before it gives beta =
    /// 0.5 in channel 0 whatever comes in, so feature 0 is 0.5 and the logits are (0.5, -0.5). Image 0 is of class 0: its loss is
    /// ln(1 + e^(-2 beta)), and beta dL/dbeta = -2 beta / (1 + e^(2 beta)) = -1 / (1 + e) = -0.26894. Image 1 is of class 1: 2 beta /
    /// (1 + e^(-2 beta)) = 1 / (1 + 1/e) = 0.73106. In batches of one image the score is the mean of the squares, in one batch the square of
    /// the mean. Gamma takes no part, since the norm's input is zero, and the other channels are not seen.
    /// </summary>
    [Theory]
    [InlineData(1, ((0.2689414214 * 0.2689414214) + (0.7310585786 * 0.7310585786)) / 2)]
    [InlineData(2, 0.2310585786 * 0.2310585786)]
    public void The_score_is_the_mean_square_over_batches_of_what_the_loss_would_change_by(int batch, double expected)
    {
        using ModelState state = ModelState.InitializeWhole(Network, 1, ScalarType.Float64, CPU);
        using (no_grad())
        using (NewDisposeScope())
        {
            foreach (TensorSlice slice in state.Slices.Where(slice => slice.Spec.Role is TensorRole.ConvWeight or TensorRole.LinearWeight)) state[slice.Name].zero_();
            state["layer3.0.bn2.bias"][0] = 0.5;
            state["layer3.0.conv2.weight"][0, 0, 1, 1] = 1;
            state["bn.running_var"].fill_(1 - NormTensors.Epsilon);
            state["linear.weight"][0, 0] = 1;
            state["linear.weight"][1, 0] = -1;
        }
        ImageSet set = new("two", 1, 28, 28, 2, new byte[2 * 28 * 28], [0, 1], [0.5f], [0.5f]);
        using BatchLoader data = new(set, new DataSection(), 1);
        using SelfCommunicator self = new();
        using TensorTransport transport = TensorTransport.For(CPU, direct: false);
        RankContext context = new(self, new CommunicationLedger(), new ChannelExchange(self, transport), CPU, ScalarType.Float64);
        TaylorCriterion taylor = TaylorCriterion.Measure(context, Network, state, Network.Blocks, data, images: 5, batch, seed: 1);
        double[] last = taylor.Scores(Network, Network.Blocks[^1], _ => throw new InvalidOperationException("it reads weights"));
        Assert.Equal(expected, last[0], 1e-9);
        Assert.Equal([0, 0, 0], last[1..]);
        Assert.Equal([0], taylor.Scores(Network, Network.Blocks[0], _ => throw new InvalidOperationException("it reads weights")));
    }

    /// <summary>Real ranks, one, two and three of them in one launch: the bits are the same, and those of a network written otherwise up to rounding.</summary>
    [SkippableFact]
    public void Every_number_of_ranks_measures_what_one_process_computes_by_itself() =>
        MpiLauncher.Run(MpiLauncher.AnyFamily(), 3, [MpiLauncher.RankProgram, "TicketScenarios.Taylor"]).MustSucceed();
}
