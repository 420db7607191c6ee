using LoftHpc.Communication;
using LoftHpc.Configuration;
using LoftHpc.Mpi;
using LoftHpc.Networks;
using LoftHpc.Tests.Mpi;
using LoftHpc.Training;
using TorchSharp;
using Xunit;
using static TorchSharp.torch;

namespace LoftHpc.Tests.Training;

/// <summary>
/// Every parallel path against a serial one, under a real mpiexec: loss, gradients, weights and running statistics, to
/// 1e-4 after one step in float32 and to 1e-10 after five in float64 (the scenarios throw where a tensor is further off).
/// </summary>
public class ParallelTrainingTests
{
    [SkippableTheory]
    [AtOneToFourRanks]
    public void Filter_parallel_ranks_train_the_network_of_one_rank(int ranks) => Run(
        MpiFamily.OpenMpi, ranks,
        ["FilterParallel", NetworkFamily.PreactResnet, 18, 5, NetworkForm.Cifar, AssignmentKind.Contiguous, BackwardKind.Exact],
        ["FilterParallel", NetworkFamily.PreactResnet, 18, 4, NetworkForm.Cifar, AssignmentKind.Random, BackwardKind.Exact],
        ["FilterParallel", NetworkFamily.Resnet, 18, 5, NetworkForm.Cifar, AssignmentKind.Random, BackwardKind.Exact],
        ["FilterParallel", NetworkFamily.WideResnet, 10, 3, NetworkForm.Cifar, AssignmentKind.Contiguous, BackwardKind.Exact]);

    /// <summary>
    /// One under MPICH. The others not: its ranks keep a core while they wait, so that more of them than there are cores take many times as
    /// long; of MPICH with 3 and 4 ranks the tests of memory formats, bfloat16 and pipelines have enough.
    /// </summary>
    [SkippableFact]
    public void Other_networks()
    {
        Run(
            MpiFamily.OpenMpi, 3,
            ["FilterParallel", NetworkFamily.PreactResnet, 34, 3, NetworkForm.Cifar, AssignmentKind.Random, BackwardKind.Exact],
            ["FilterParallel", NetworkFamily.PreactResnet, 18, 5, NetworkForm.Imagenet, AssignmentKind.Random, BackwardKind.Exact]);
        Run(MpiFamily.OpenMpi, 4, ["FilterParallel", NetworkFamily.Resnet, 18, 3, NetworkForm.Cifar, AssignmentKind.Random, BackwardKind.Exact]);
        // More ranks than filters.
        Run(MpiFamily.Mpich, 4, ["FilterParallel", NetworkFamily.PreactResnet, 18, 2, NetworkForm.Imagenet, AssignmentKind.Random, BackwardKind.Exact]);
    }

    [SkippableTheory]
    [AtOneToFourRanks]
    public void With_nesterov_and_label_smoothing_every_method_trains_the_same(int ranks) => Run(MpiFamily.OpenMpi, ranks, ["OptimizerOptions"]);

    [SkippableTheory]
    [AtOneToFourRanks]
    public void Local_backward_has_the_gradient_of_a_graph_cut_between_the_ranks(int ranks) => Run(
        MpiFamily.OpenMpi, ranks,
        ["FilterParallel", NetworkFamily.PreactResnet, 18, 5, NetworkForm.Cifar, AssignmentKind.Random, BackwardKind.Local],
        ["FilterParallel", NetworkFamily.Resnet, 18, 3, NetworkForm.Cifar, AssignmentKind.Contiguous, BackwardKind.Local]);

    [SkippableTheory]
    [AtOneToFourRanks]
    public void Data_parallel_ranks_with_synchronised_batch_norm_train_the_network_of_one_rank(int ranks) => Run(
        MpiFamily.OpenMpi, ranks,
        ["DataParallel", NetworkFamily.PreactResnet, 18, 4, NetworkForm.Cifar, BatchNormScope.Synchronised],
        ["DataParallel", NetworkFamily.Resnet, 18, 4, NetworkForm.Cifar, BatchNormScope.Synchronised]);

    /// <summary>One value a channel over all ranks has no unbiased variance: the running variance stays as it is, and nothing becomes NaN.</summary>
    [Fact]
    public void Synchronised_batch_norm_of_one_value_leaves_the_running_variance()
    {
        using DisposeScope scope = NewDisposeScope();
        using SelfCommunicator self = new();
        using TensorTransport transport = TensorTransport.For(CPU, direct: false);
        SynchronisedBatchNormExchange exchange = new(new ChannelExchange(self, transport));
        NormTensors norm = new(ones(3).requires_grad_(true), tensor(new float[] { 1, 2, 3 }).requires_grad_(true), zeros(3), full([3], 0.7));
        Tensor x = tensor(new float[] { 4, 5, 6 }).view(1, 3, 1, 1).requires_grad_(true), y = exchange.BatchNorm(x, norm, training: true);
        exchange.Backward(y.square().sum());
        Assert.Equal([0.7f, 0.7f, 0.7f], norm.RunningVariance.data<float>().ToArray());
        Assert.Equal([0.4f, 0.5f, 0.6f], norm.RunningMean.data<float>().ToArray());
        Assert.Equal([2f, 4f, 6f], norm.Bias.grad!.data<float>().ToArray());
        Assert.Equal([0f, 0f, 0f], x.grad!.data<float>().ToArray());
        // With two values it moves.
        exchange.BatchNorm(tensor(new float[] { 0, 0, 0, 2, 2, 2 }).view(2, 3, 1, 1), norm, training: true);
        Assert.Equal((0.9 * 0.7) + (0.1 * 2), norm.RunningVariance[0].item<float>(), 1e-6);
    }

    [SkippableTheory]
    [AtOneToFourRanks]
    public void Data_parallel_ranks_with_batch_norm_per_rank_do_as_a_loop_over_the_shards(int ranks) =>
        Run(MpiFamily.Mpich, ranks, ["DataParallel", NetworkFamily.PreactResnet, 18, 4, NetworkForm.Cifar, BatchNormScope.PerRank]);

    [SkippableTheory]
    [AtOneToFourRanks]
    public void Tensors_larger_than_a_piece_are_gathered_and_reduced(int ranks) =>
        Run(ranks > 2 ? MpiFamily.OpenMpi : MpiFamily.Mpich, ranks, ["ExchangeInPieces", "cpu"]);

    /// <summary>Counted messages and bytes of a step against the closed formula, on every rank; and rankings and distances against those of one rank.</summary>
    [SkippableTheory]
    [AtOneToFourRanks]
    public void A_step_sends_what_the_formula_says_and_distances_are_those_of_one_rank(int ranks) => Run(
        MpiFamily.OpenMpi, ranks, ["StepCommunication", BackwardKind.Exact], ["StepCommunication", BackwardKind.Local], ["Distances"]);

    /// <summary>The code of GPUs, with copies done as late as they may be.</summary>
    [SkippableTheory]
    [AtOneToFourRanks(8000, MemoryFormat.Contiguous)]
    [InlineData(3, 8000, MemoryFormat.ChannelsLast)]
    public void Every_method_trains_the_network_of_one_rank_in_pieces_through_staging_memory(int ranks, int pieceBytes, MemoryFormat format) => MpiLauncher.Run(
        ranks == 2 ? MpiFamily.Mpich : MpiFamily.OpenMpi, ranks, [MpiLauncher.RankProgram, "TrainingScenarios.Staged", $"{format}"],
        environment: new Dictionary<string, string> { [ExchangeCut.TestVariable] = $"{pieceBytes}" }).MustSucceed();

    [SkippableFact]
    public void Tensors_on_a_GPU_are_gathered_and_reduced_through_pinned_memory()
    {
        Skip.IfNot(TorchSharp.torch.cuda.is_available(), "libtorch sees no GPU here");
        Run(MpiFamily.OpenMpi, 2, ["ExchangeInPieces", "cuda"]);
    }

    [SkippableFact]
    public void A_hundred_steps_leave_as_many_live_tensors_as_one()
    {
        Run(
            MpiFamily.OpenMpi, 1,
            ["LiveTensors", "method=filter-parallel"],
            ["LiveTensors", "method=loft", "local_steps=3"],
            ["LiveTensorsOfPreparedBatches", "method=gpipe", "gpipe.micro_batches=3"]);
        Run(
            MpiFamily.OpenMpi, 2,
            ["LiveTensors", "method=filter-parallel"],
            ["LiveTensors", "method=data-parallel"],
            ["LiveTensors", "method=data-parallel", "batch_norm=per-rank"],
            ["LiveTensors", "method=local-sgd"],
            ["LiveTensors", "method=loft", "local_steps=3", "loft.deal=norm", "epochs=100"],
            ["LiveTensors", "method=loft", "local_steps=3", "loft.momentum=travel", "loft.running_statistics=average", "epochs=100"],
            ["LiveTensorsOfPreparedBatches", "method=data-parallel"]);
        Run(MpiFamily.OpenMpi, 3, ["LiveTensors", "method=gpipe", "gpipe.micro_batches=3"]);
    }

    [SkippableTheory]
    [InlineData(2)]
    [InlineData(3)]
    public void However_images_are_loaded_the_saved_network_is_the_same(int ranks) => Run(MpiFamily.OpenMpi, ranks, ["ImagesByAllWays"]);

    private static void Run(MpiFamily family, int ranks, params object[][] scenarios) => MpiLauncher.RunScenarios(
        family, ranks, scenarios.Select(scenario => (string[])[$"TrainingScenarios.{scenario[0]}", .. scenario[1..].Select(argument => argument.ToString()!)])).MustSucceed();

    /// <summary>1, 2, 3 and 4 ranks, with the same arguments.</summary>
    [AttributeUsage(AttributeTargets.Method, AllowMultiple = true)]
    private sealed class AtOneToFourRanksAttribute(params object[] arguments) : Xunit.Sdk.DataAttribute
    {
        public override IEnumerable<object[]> GetData(System.Reflection.MethodInfo testMethod) =>
            Enumerable.Range(1, 4).Select(ranks => (object[])[ranks, .. arguments]);
    }
}
