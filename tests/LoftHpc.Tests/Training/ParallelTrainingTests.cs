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
    [AtOneToFourRanks(NetworkFamily.PreactResnet, 18, 5, NetworkForm.Cifar, AssignmentKind.Contiguous)]
    [AtOneToFourRanks(NetworkFamily.PreactResnet, 18, 4, NetworkForm.Cifar, AssignmentKind.Random)]
    [AtOneToFourRanks(NetworkFamily.Resnet, 18, 5, NetworkForm.Cifar, AssignmentKind.Random)]
    [AtOneToFourRanks(NetworkFamily.WideResnet, 10, 3, NetworkForm.Cifar, AssignmentKind.Contiguous)]
    public void Filter_parallel_ranks_train_the_network_of_one_rank(
        int ranks, NetworkFamily family, int depth, int width, NetworkForm form, AssignmentKind assignment) =>
        Run(MpiFamily.OpenMpi, ranks, "FilterParallel", family, depth, width, form, assignment, BackwardKind.Exact);

    [SkippableTheory]
    [InlineData(3, NetworkFamily.PreactResnet, 34, 3, NetworkForm.Cifar)]
    [InlineData(3, NetworkFamily.PreactResnet, 18, 5, NetworkForm.Imagenet)]
    [InlineData(4, NetworkFamily.PreactResnet, 18, 2, NetworkForm.Imagenet)] // more ranks than filters
    [InlineData(4, NetworkFamily.Resnet, 18, 3, NetworkForm.Cifar)]
    public void Other_networks_under_MPICH(int ranks, NetworkFamily family, int depth, int width, NetworkForm form) =>
        Run(MpiFamily.Mpich, ranks, "FilterParallel", family, depth, width, form, AssignmentKind.Random, BackwardKind.Exact);

    [SkippableTheory]
    [AtOneToFourRanks(NetworkFamily.PreactResnet, 18, 5, NetworkForm.Cifar, AssignmentKind.Random)]
    [AtOneToFourRanks(NetworkFamily.Resnet, 18, 3, NetworkForm.Cifar, AssignmentKind.Contiguous)]
    public void Local_backward_has_the_gradient_of_a_graph_cut_between_the_ranks(
        int ranks, NetworkFamily family, int depth, int width, NetworkForm form, AssignmentKind assignment) =>
        Run(MpiFamily.OpenMpi, ranks, "FilterParallel", family, depth, width, form, assignment, BackwardKind.Local);

    [SkippableTheory]
    [AtOneToFourRanks(NetworkFamily.PreactResnet, 18, 4, NetworkForm.Cifar, BatchNormScope.Synchronised)]
    [AtOneToFourRanks(NetworkFamily.Resnet, 18, 4, NetworkForm.Cifar, BatchNormScope.Synchronised)]
    public void Data_parallel_ranks_with_synchronised_batch_norm_train_the_network_of_one_rank(
        int ranks, NetworkFamily family, int depth, int width, NetworkForm form, BatchNormScope batchNorm) =>
        Run(MpiFamily.OpenMpi, ranks, "DataParallel", family, depth, width, form, batchNorm);

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
    [AtOneToFourRanks(NetworkFamily.PreactResnet, 18, 4, NetworkForm.Cifar, BatchNormScope.PerRank)]
    public void Data_parallel_ranks_with_batch_norm_per_rank_do_as_a_loop_over_the_shards(
        int ranks, NetworkFamily family, int depth, int width, NetworkForm form, BatchNormScope batchNorm) =>
        Run(MpiFamily.Mpich, ranks, "DataParallel", family, depth, width, form, batchNorm);

    /// <summary>Counted messages and bytes of a step against the closed formula, on every rank.</summary>
    [SkippableTheory]
    [AtOneToFourRanks(BackwardKind.Exact)]
    [AtOneToFourRanks(BackwardKind.Local)]
    public void A_step_sends_what_the_formula_says(int ranks, BackwardKind backward) =>
        Run(MpiFamily.OpenMpi, ranks, "StepCommunication", backward);

    [SkippableTheory]
    [AtOneToFourRanks]
    public void Tensors_larger_than_a_piece_are_gathered_and_reduced(int ranks) => Run(MpiFamily.Mpich, ranks, "ExchangeInPieces", "cpu");

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
        Run(MpiFamily.OpenMpi, 2, "ExchangeInPieces", "cuda");
    }

    [SkippableTheory]
    [InlineData(1, "method=filter-parallel")]
    [InlineData(2, "method=filter-parallel")]
    [InlineData(2, "method=data-parallel")]
    [InlineData(2, "method=data-parallel", "batch_norm=per-rank")]
    [InlineData(2, "method=local-sgd")]
    [InlineData(3, "method=gpipe", "gpipe.micro_batches=3")]
    [InlineData(1, "method=loft", "local_steps=3")]
    [InlineData(2, "method=loft", "local_steps=3", "loft.deal=norm", "epochs=100")]
    [InlineData(2, "method=loft", "local_steps=3", "loft.momentum=travel", "loft.running_statistics=average", "epochs=100")]
    public void A_hundred_steps_leave_as_many_live_tensors_as_one(int ranks, params string[] method) =>
        Run(MpiFamily.OpenMpi, ranks, "LiveTensors", method);

    [SkippableTheory]
    [InlineData(2, "method=data-parallel")]
    [InlineData(1, "method=gpipe", "gpipe.micro_batches=3")]
    public void So_do_a_hundred_steps_on_batches_that_are_prepared_ahead(int ranks, params string[] method) =>
        Run(MpiFamily.OpenMpi, ranks, "LiveTensorsOfPreparedBatches", method);

    [SkippableTheory]
    [InlineData(2)]
    [InlineData(3)]
    public void However_images_are_loaded_the_saved_network_is_the_same(int ranks) => Run(MpiFamily.OpenMpi, ranks, "ImagesByAllWays");

    [SkippableTheory]
    [AtOneToFourRanks]
    public void Rankings_and_distances_are_those_of_one_rank(int ranks) => Run(MpiFamily.OpenMpi, ranks, "Distances");

    private static void Run(MpiFamily family, int ranks, string scenario, params object[] arguments) => MpiLauncher.RunScenario(
        family, ranks, [$"TrainingScenarios.{scenario}", .. arguments.Select(argument => argument.ToString()!)]).MustSucceed();

    /// <summary>The arguments at 1, 2, 3 and 4 ranks.</summary>
    [AttributeUsage(AttributeTargets.Method, AllowMultiple = true)]
    private sealed class AtOneToFourRanksAttribute(params object[] arguments) : Xunit.Sdk.DataAttribute
    {
        public override IEnumerable<object[]> GetData(System.Reflection.MethodInfo testMethod) =>
            Enumerable.Range(1, 4).Select(ranks => (object[])[ranks, .. arguments]);
    }
}
