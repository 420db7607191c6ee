using LoftHpc.Configuration;
using LoftHpc.Mpi;
using LoftHpc.Tests.Mpi;
using LoftHpc.Tests.Results;
using Xunit;

namespace LoftHpc.Tests.Training;

/// <summary>
/// Pipeline-parallel training under a real mpiexec against a serial loop over the same micro-batches: loss, gradients,
/// weights and running statistics, to 1e-4 after one step in float32 and to 1e-10 after five in float64 (the scenarios
/// throw where a tensor is further off). Batches of 4 out of 10 images, so the last one of an epoch has 2.
/// </summary>
public sealed class GpipeTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [SkippableTheory]
    [InlineData(1, NetworkFamily.PreactResnet, 3)]
    [InlineData(2, NetworkFamily.PreactResnet, 3)]
    [InlineData(3, NetworkFamily.PreactResnet, 3)]
    [InlineData(4, NetworkFamily.PreactResnet, 3)]
    [InlineData(1, NetworkFamily.Resnet, 2)]
    [InlineData(2, NetworkFamily.Resnet, 2)]
    [InlineData(3, NetworkFamily.Resnet, 2)]
    [InlineData(4, NetworkFamily.Resnet, 2)]
    [InlineData(2, NetworkFamily.PreactResnet, 1)]
    [InlineData(3, NetworkFamily.PreactResnet, 5)] // more micro-batches than images
    [InlineData(4, NetworkFamily.Resnet, 5)]
    public void Stages_on_ranks_train_the_network_of_one_rank(int ranks, NetworkFamily family, int microBatches) =>
        Equality(MpiFamily.OpenMpi, ranks, family, 18, 4, NetworkForm.Cifar, microBatches, 28, "none");

    [SkippableTheory]
    [InlineData(2, NetworkFamily.PreactResnet, 34, 28, NetworkForm.Cifar, "linear")]
    [InlineData(3, NetworkFamily.Resnet, 18, 28, NetworkForm.Cifar, "layer1.0,layer4.1")]
    // Images of 64 x 64 would end as 2 x 2: norms over the 4 values of a single image enlarge rounding errors 100-fold.
    [InlineData(4, NetworkFamily.PreactResnet, 18, 128, NetworkForm.Imagenet, "layer1.0,layer2.0,layer3.1")]
    [InlineData(3, NetworkFamily.WideResnet, 10, 28, NetworkForm.Cifar, "none")]
    public void Other_networks_and_given_cuts_under_MPICH(int ranks, NetworkFamily family, int depth, int side, NetworkForm form, string cuts) =>
        Equality(MpiFamily.Mpich, ranks, family, depth, 3, form, 3, side, cuts);

    /// <summary>
    /// 28 x 28 images end as 1 x 1 in the imagenet form, so a micro-batch of one image has one value a channel. (Of two
    /// values hardly more than rounding errors is left of the gradient, so none of these micro-batches has two images.)
    /// </summary>
    [SkippableTheory]
    [InlineData(1, 3, 9)] // 9 images, then 1
    [InlineData(2, 3, 9)]
    [InlineData(4, 3, 9)]
    [InlineData(2, 4, 4)]
    public void One_value_a_channel_in_a_micro_batch_is_no_hindrance(int ranks, int microBatches, int batch) =>
        Run(MpiFamily.OpenMpi, ranks, "SingleValues", NetworkFamily.PreactResnet, 18, 4, NetworkForm.Imagenet, microBatches, 28, "none", batch);

    [SkippableTheory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(4)]
    public void Messages_and_bytes_are_those_of_the_formula(int ranks) => Run(MpiFamily.OpenMpi, ranks, "Communication", Weights);

    [SkippableTheory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(4)]
    public void The_saved_file_holds_the_weights_of_the_stages(int ranks) => Run(MpiFamily.Mpich, ranks, "Saved", Weights);

    [SkippableTheory]
    [InlineData(MpiFamily.OpenMpi, 3)]
    [InlineData(MpiFamily.Mpich, 2)]
    public void Tensors_arrive_in_order_after_their_sender_has_let_go_of_them(MpiFamily family, int ranks) => Run(family, ranks, "Ring", "cpu");

    [SkippableFact]
    public void Tensors_on_a_GPU_arrive_through_pinned_memory()
    {
        Skip.IfNot(TorchSharp.torch.cuda.is_available(), "libtorch sees no GPU here");
        Run(MpiFamily.OpenMpi, 2, "Ring", "cuda");
    }

    private string Weights => Path.Combine(_folder.Path, "weights.safetensors");

    private static void Equality(
        MpiFamily family, int ranks, NetworkFamily network, int depth, int width, NetworkForm form, int microBatches, int side, string cuts) =>
        Run(family, ranks, "Equality", network, depth, width, form, microBatches, side, cuts, 4);

    private static void Run(MpiFamily family, int ranks, string scenario, params object[] arguments) => MpiLauncher.RunScenario(
        family, ranks, [$"GpipeScenarios.{scenario}", .. arguments.Select(argument => argument.ToString()!)]).MustSucceed();
}
