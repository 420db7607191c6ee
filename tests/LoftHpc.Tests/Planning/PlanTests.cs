using LoftHpc.Communication;
using LoftHpc.Configuration;
using LoftHpc.Networks;
using LoftHpc.Planning;
using LoftHpc.Results;
using Xunit;

namespace LoftHpc.Tests.Planning;

/// <summary>The formulas, worked out by hand.</summary>
public class PlanTests
{
    private static readonly RunConfig Config = new()
    {
        Network = new NetworkSection { Depth = 18, Width = 4 },
        Data = new DataSection { Set = DataSetName.Synthetic, TrainImages = 40, TestImages = 10, Synthetic = new SyntheticSection { Size = 28, Classes = 3 } },
        Pretrain = new PretrainSection { Epochs = 1, Batch = 16, LocalSteps = 2 },
    };

    // PreActResNet-18 of width 4: all parameters, and running statistics. Convolutions: stem 3*4*9; stage 1 four of
    // 4*4*9; later stages of c channels (c/2)*c*9 + 3*c*c*9 + the shortcut's c/2*c. Norms: channels in stage 1 4*4, then
    // c/2 + 3c, and 32 before the head, each with two parameters. Head 32*3 + 3.
    private const long Statistics = 2 * ((4 * 4) + (4 + (3 * 8)) + (8 + (3 * 16)) + (16 + (3 * 32)) + 32);

    private const long Parameters = 108 + (4 * 144)
        + (288 + (3 * 576) + 32) + (1152 + (3 * 2304) + 128) + (4608 + (3 * 9216) + 512) + Statistics + 99;

    private static PretrainPlan Plan(PretrainMethod method, int ranks, Func<PretrainSection, PretrainSection>? change = null)
    {
        PretrainSection section = Config.Pretrain with { Method = method };
        return PretrainPlan.Of(PlanSetting.Of(Config with { Pretrain = change?.Invoke(section) ?? section }, ranks));
    }

    private static CommunicationRow Only(CommunicationPlan plan, int rank, CommunicationPurpose purpose, string collective) =>
        plan.Rows.Single(row => row.Rank == rank && row.Purpose == purpose && row.Collective == collective);

    [Theory]
    [InlineData(DataSetName.FashionMnist, 1, 28, 10, 60_000)]
    [InlineData(DataSetName.Cifar100, 3, 32, 100, 50_000)]
    [InlineData(DataSetName.Synthetic, 3, 32, 10, 50_000)]
    public void Images_are_known_without_files(DataSetName set, int channels, int side, int classes, int train)
    {
        Assert.Equal(new ImageShape(channels, side, classes, train, 10_000), ImageShape.Of(new DataSection { Set = set, Folder = "/nowhere" }));
        Assert.Equal(77, ImageShape.Of(new DataSection { Set = set, TrainImages = 77 }).TrainImages);
    }

    /// <summary>Only with run.device: cuda, where both sets lie on the GPU of each rank that loads images.</summary>
    [Theory]
    [InlineData(PretrainMethod.DataParallel)]
    [InlineData(PretrainMethod.Gpipe)]
    public void Images_on_a_GPU_take_their_bytes_and_the_tables_that_cut_them_out(PretrainMethod method)
    {
        // 40 and 10 images of 3 x 28 x 28; of each set 28 columns, 3 channels and 3 x 28 rows in int64, and 3 x 256 values in float32.
        const long images = (50 * 3 * 28 * 28) + (2 * ((8 * (28 + 3 + (3 * 28))) + (4 * 3 * 256)));
        RunConfig config = Config with { Run = Config.Run with { Device = DeviceChoice.Cuda }, Pretrain = Config.Pretrain with { Method = method } };
        PretrainPlan plan = PretrainPlan.Of(PlanSetting.Of(config, 2));
        Assert.Equal(images, ActivationPlan.ImageBytes(plan.Setting.Images));
        Assert.Equal((images, method is PretrainMethod.Gpipe ? 0 : images), (plan.ImageBytes(0), plan.ImageBytes(1)));
        string Columns(PretrainPlan of) => string.Join(' ', PlanTables.Resources([of]).Headers.Zip(PlanTables.Resources([of]).Rows[0]).TakeLast(2));
        Assert.StartsWith($"(images, {images:N0}) (sum, ", Columns(plan), StringComparison.Ordinal);

        PretrainPlan onCpu = PretrainPlan.Of(PlanSetting.Of(config with { Run = Config.Run }, 2));
        Assert.Equal(0, onCpu.ImageBytes(0));
        Assert.StartsWith("(activations, ", Columns(onCpu), StringComparison.Ordinal);
    }

    [Fact]
    public void Data_parallel_sums_all_gradients_and_averages_statistics_where_they_differ()
    {
        PretrainPlan plan = Plan(PretrainMethod.DataParallel, 2, section => section with { BatchNorm = BatchNormScope.PerRank });
        Assert.Equal(Parameters, plan.Setting.Network.ParameterCount);
        // 3 steps; an allreduce of n values on 2 ranks sends n values from each.
        Assert.Equal((3, 6, 3 * 4 * Parameters), Numbers(Only(plan.Whole, 1, CommunicationPurpose.Step, "allreduce")));
        Assert.Equal((1, 2, 4 * Parameters), Numbers(Only(plan.Step, 0, CommunicationPurpose.Step, "allreduce")));
        // Before the evaluation; when the weights are saved there has been no step since. One value more than all statistics: odd.
        Assert.Equal((1, 2, 8 * (Statistics + 1)), Numbers(Only(plan.Whole, 0, CommunicationPurpose.RunningStatistics, "allreduce")));
        // One number on 2 ranks, to the rank that sums, and back: after every step.
        Assert.Equal((3, 3, 3 * 4), Numbers(Only(plan.Whole, 0, CommunicationPurpose.Control, "allreduce")));
        Assert.Equal(4 * (Parameters + Statistics), plan.Memory(0).Weights);
        // Gradients are summed where they lie.
        Assert.Equal((4 * Parameters, 0), (plan.Memory(1).Gradients, plan.Memory(1).ExchangeBuffers));
        Assert.Equal(20, plan.Work(1).Images);
        Assert.Equal(3 * 20 * plan.Setting.Network.Flops(28), plan.Work(1).Flops);

        // Synchronised: two sums for each of the 17 norms besides.
        PretrainPlan synchronised = Plan(PretrainMethod.DataParallel, 2);
        Assert.Equal(1 + (2 * 17), Only(synchronised.Step, 0, CommunicationPurpose.Step, "allreduce").Calls);
        Assert.DoesNotContain(synchronised.Whole.Rows, row => row.Purpose == CommunicationPurpose.RunningStatistics);
    }

    [Fact]
    public void Local_sgd_averages_at_the_end_of_rounds_and_where_it_is_looked_at()
    {
        // Rounds of 2 of the 3 steps: one full, one short; distances before the first step, after step 1 and so on.
        PretrainPlan plan = PretrainPlan.Of(PlanSetting.Of(
            Config with
            {
                Pretrain = Config.Pretrain with { Method = PretrainMethod.LocalSgd },
                Distance = new DistanceSection { Every = TrainingTime.Steps(1) },
            }, 2));
        Assert.Equal((2, 4, 2 * 4 * Parameters), Numbers(Only(plan.Whole, 0, CommunicationPurpose.Round, "allreduce")));
        // Step 1 alone is in the middle of a round.
        Assert.Equal((1, 2, 4 * Parameters), Numbers(Only(plan.Whole, 0, CommunicationPurpose.Distance, "allreduce")));
        // Before each round's end and each measurement.
        Assert.Equal((3, 3, 3 * 4), Numbers(Only(plan.Whole, 0, CommunicationPurpose.Control, "allreduce")));
        Assert.Equal((1, 2, 4 * Parameters), Numbers(Only(plan.Round, 0, CommunicationPurpose.Round, "allreduce")));
        Assert.Empty(plan.Step.Rows);
        Assert.Equal(40, plan.Work(1).Images);
    }

    [Fact]
    public void A_filter_that_stays_is_not_sent_and_one_that_moves_goes_straight_to_its_new_owner()
    {
        // Blocks layer2.1, 3.1 and 4.1. Filters that change hands: one of layer2.1 from 0 to 1, two of layer3.1 back.
        int[] Alternate(int count) => [.. Enumerable.Range(0, count).Select(i => i % 2)];
        int[][] first = [Alternate(8), Alternate(16), Alternate(32)], second = [Alternate(8), Alternate(16), Alternate(32)];
        second[0][2] = 1;
        second[1][1] = second[1][5] = 0;
        PlanSetting setting = PlanSetting.Of(Config with { Pretrain = Config.Pretrain with { Method = PretrainMethod.Loft } }, 2);
        CommunicationPlan plan = new(2);
        LoftPlan loft = new(setting, round => round == 0 ? first : second);
        loft.Step(plan, 0);
        Assert.Empty(plan.Rows);
        loft.Step(new CommunicationPlan(2), 1);
        loft.DrawnRound(plan, 0);
        // Of a block of c channels a filter has 9c values in each convolution and two in the norm.
        Assert.Equal((1, 1, 4 * ((2 * 9 * 8) + 2)), Numbers(Only(plan, 0, CommunicationPurpose.Round, "alltoallv")));
        Assert.Equal((1, 1, 2 * 4 * ((2 * 9 * 16) + 2)), Numbers(Only(plan, 1, CommunicationPurpose.Round, "alltoallv")));
        long partitioned = (8 * ((2 * 9 * 8) + 2)) + (16 * ((2 * 9 * 16) + 2)) + (32 * ((2 * 9 * 32) + 2));
        Assert.Equal((1, 2, 4 * (Parameters - partitioned)), Numbers(Only(plan, 0, CommunicationPurpose.Round, "allreduce")));
        // The last round moves nothing.
        CommunicationPlan last = new(2);
        loft.Step(last, 2);
        Assert.Equal("allreduce", Assert.Single(last.Rows, row => row.Rank == 0).Collective);
        // Half of the partitioned values and all others, and buffers for half of the filters, twice; what is shared is summed where it is.
        Assert.Equal(4 * (Parameters - (partitioned / 2)), loft.Memory(0).Optimizer);
        Assert.Equal(2 * 4 * (partitioned / 2), loft.Memory(0).ExchangeBuffers);
        Assert.Equal(2 * setting.Network.Flops(28) - PartitionedFlops(setting.Network), 2 * (loft.Work(0).Flops / 3 / 40));
    }

    [Fact]
    public void Drawn_rounds_cost_what_they_cost_on_average()
    {
        PretrainPlan plan = Plan(PretrainMethod.Loft, 4, section => section with { Epochs = 200, LocalSteps = 1 });
        long average = Only(plan.Round, 0, CommunicationPurpose.Round, "alltoallv").BytesSent;
        CommunicationRow drawn = Only(plan.Whole, 0, CommunicationPurpose.Round, "alltoallv");
        Assert.Equal(599, drawn.Calls);
        Assert.InRange((double)drawn.BytesSent / drawn.Calls / average, 0.99, 1.01);
        Assert.NotNull(Plan(PretrainMethod.Loft, 4, section => section with { Loft = new LoftSection { Deal = DealKind.Norm } }).Remark);
    }

    [Fact]
    public void A_pipeline_sends_activations_on_and_their_gradients_back()
    {
        PretrainPlan plan = Plan(PretrainMethod.Gpipe, 3, section => section with
        {
            Gpipe = new GpipeSection { MicroBatches = 3, Cuts = ["layer2.0", "linear"] },
        });
        // Images of 28: behind stage 1 4 x 28 x 28, before the head 32 x 4 x 4. Batches of 16, 16 and 8: 9 micro-batches.
        const long first = 4 * 4 * 28 * 28, second = 4 * 32 * 4 * 4;
        Assert.Equal((9, 9, 40 * first), Numbers(Only(plan.Whole, 0, CommunicationPurpose.Step, "send")));
        Assert.Equal((18, 18, 40 * (first + second)), Numbers(Only(plan.Whole, 1, CommunicationPurpose.Step, "send")));
        Assert.Equal((9, 0, 0), Numbers(Only(plan.Whole, 2, CommunicationPurpose.Step, "receive")));
        Assert.Equal(40 * second, Only(plan.Whole, 2, CommunicationPurpose.Step, "receive").BytesReceived);
        Assert.Equal((1, 1, 10 * second), Numbers(Only(plan.Whole, 1, CommunicationPurpose.Evaluation, "send")));
        // The head alone.
        Assert.Equal(4 * (99 + (4 * 32)), plan.Memory(2).Weights);
        Assert.Equal(4 * (99 + (2 * 32)), plan.Memory(2).Optimizer);
        Assert.Equal(3 * 40 * 2 * 96, plan.Work(2).Flops);
    }

    [Theory]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(4)]
    public void Balanced_cuts_have_the_least_largest_stage(int ranks)
    {
        PretrainPlan plan = Plan(PretrainMethod.Gpipe, ranks);
        NetworkSpec network = plan.Setting.Network;
        long[] units = [.. Enumerable.Range(0, network.UnitCount).Select(unit => network.Flops(28, network.TensorsOf(unit).Select(TensorSlice.Whole)))];
        // Every way to cut.
        long Least(int from, int stages) => stages == 1 ? units[from..].Sum() : Enumerable.Range(from + 1, units.Length - from - stages + 1)
            .Min(cut => Math.Max(units[from..cut].Sum(), Least(cut, stages - 1)));
        Assert.Equal(Least(0, ranks), Enumerable.Range(0, ranks).Max(rank => plan.Work(rank).Flops / 3 / 40));
    }

    [Fact]
    public void Time_is_that_of_the_slowest_rank()
    {
        CommunicationPlan plan = new(3);
        plan.Send(CommunicationPurpose.Step, 0, 1, 100, 4);
        plan.Send(CommunicationPurpose.Step, 2, 1, 300, 4);
        plan.Broadcast(CommunicationPurpose.Evaluation, 10, 8);
        // Rank 0: 3 messages, 400 + 160 bytes. Rank 2: 1 message, 1200 bytes.
        Assert.Equal((3 * 1.0) + (560 / 1000.0), plan.Seconds(latency: 1, bandwidth: 1000), 12);
        Assert.Equal(0.1 + (1200 / 1000.0), plan.Seconds(latency: 0.1, bandwidth: 1000), 12);
        Assert.Equal(560 + 1200, plan.BytesSent);
    }

    [Fact]
    public void A_count_that_a_method_does_not_run_on_is_refused()
    {
        Assert.Contains("one rank", Assert.Throws<UserError>(() => Plan(PretrainMethod.Dense, 2)).Message, StringComparison.Ordinal);
        Assert.Contains("allowed: 1 to 10 ranks", Assert.Throws<UserError>(() => Plan(PretrainMethod.Gpipe, 11)).Message, StringComparison.Ordinal);
        Assert.Equal(0, Plan(PretrainMethod.Dense, 1).Whole.BytesSent);
    }

    private static long PartitionedFlops(NetworkSpec network) =>
        network.Flops(28, network.Tensors.Where(tensor => new LoftNetwork(network, new LoftSection()).IsPartitioned(tensor)).Select(TensorSlice.Whole));

    private static (long Calls, long Messages, long BytesSent) Numbers(CommunicationRow row) => (row.Calls, row.Messages, row.BytesSent);
}
