using LoftHpc.Communication;
using LoftHpc.Mpi;
using LoftHpc.Networks;
using LoftHpc.Planning;
using LoftHpc.Training;
using static TorchSharp.torch;

namespace LoftHpc.Stages;

/// <summary>Bytes of a round of LoFT, summed over the ranks: as counted, as planned for the partitions drawn, and the plan's average over partitions.</summary>
public sealed record MeasuredRounds(int Rounds, double CountedBytes, double PlannedBytes, double AverageBytes);

/// <summary>The exchanges at the ends of some rounds of LoFT on real ranks, on a network of the published table, without the training between them.</summary>
public static class RoundMeasurement
{
    private const int Rounds = 5;

    /// <summary>On the CPU. Collective.</summary>
    public static MeasuredRounds Run(ICommunicator world, PublishedRow row)
    {
        PlanSetting setting = row.Setup(world.Size);
        NetworkSpec network = setting.Network;
        IReadOnlyList<BlockSpec> blocks = FilterPartition.BlocksOf(network, setting.Pretrain.Loft.Stages, setting.Pretrain.Loft.FirstBlocks);
        FilterPartition Of(int round) => FilterPartition.AtRandom(blocks, setting.Config.Run.Seed, round, world.Size);
        CommunicationLedger ledger = new();
        // Not disposed: that would free the world.
        MeteredCommunicator metered = new(world, ledger);
        using TensorTransport transport = TensorTransport.For(CPU, direct: false);
        RankContext context = new(metered, ledger, new ChannelExchange(metered, transport), CPU);
        FilterPartition partition = Of(0);
        using FilterExchange filters = new(context, network, blocks, momentum: false, statistics: false);
        using ModelState state = ModelState.Load(
            [.. network.Tensors.Select(tensor => partition.Slice(tensor, world.Rank))], tensor => zeros([.. tensor.Shape], context.Type), context.Type, CPU, filters.Copied(partition));
        using SharedAverage average = new(context, state);
        average.Share();

        CommunicationPlan planned = new(world.Size), mean = new(world.Size);
        LoftPlan plan = new(setting);
        plan.Round(mean);
        for (int round = 0; round < Rounds; round++)
        {
            average.Invalidate();
            average.Apply();
            filters.Move(state, partition, Of(round + 1));
            partition = Of(round + 1);
            plan.DrawnRound(planned, round);
        }
        double counted = world.Allreduce((double)ledger.Totals.Sum(total => total.BytesSent), MpiOperation.Sum);
        return new MeasuredRounds(Rounds, counted / Rounds, (double)planned.BytesSent / Rounds, mean.BytesSent);
    }
}
