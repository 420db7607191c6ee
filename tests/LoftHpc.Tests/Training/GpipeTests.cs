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
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(4)]
    public void Stages_on_ranks_train_the_network_of_one_rank(int ranks)
    {
        // At 3 ranks there are more micro-batches than images.
        (NetworkFamily Network, int MicroBatches) more = ranks switch
        {
            2 => (NetworkFamily.PreactResnet, 1),
            3 => (NetworkFamily.PreactResnet, 5),
            _ => (NetworkFamily.Resnet, 5),
        };
        Run(MpiFamily.OpenMpi, ranks, [.. from setting in ((NetworkFamily, int)[])[(NetworkFamily.PreactResnet, 3), (NetworkFamily.Resnet, 2), more]
                                          select Equality(setting.Item1, 18, 4, NetworkForm.Cifar, setting.Item2, 28, "none")]);
    }

    [SkippableFact]
    public void Other_networks_and_given_cuts_under_MPICH()
    {
        Run(MpiFamily.Mpich, 2, [Equality(NetworkFamily.PreactResnet, 34, 3, NetworkForm.Cifar, 3, 28, "linear")]);
        Run(
            MpiFamily.Mpich, 3,
            Equality(NetworkFamily.Resnet, 18, 3, NetworkForm.Cifar, 3, 28, "layer1.0,layer4.1"),
            Equality(NetworkFamily.WideResnet, 10, 3, NetworkForm.Cifar, 3, 28, "none"));
        // Images of 64 x 64 would end as 2 x 2: norms over the 4 values of a single image enlarge rounding errors 100-fold.
        Run(MpiFamily.Mpich, 4, [Equality(NetworkFamily.PreactResnet, 18, 3, NetworkForm.Imagenet, 3, 128, "layer1.0,layer2.0,layer3.1")]);
    }

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
        Run(MpiFamily.OpenMpi, ranks, ["SingleValues", NetworkFamily.PreactResnet, 18, 4, NetworkForm.Imagenet, microBatches, 28, "none", batch]);

    [SkippableTheory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(4)]
    public void Messages_and_bytes_are_those_of_the_formula_and_the_saved_file_holds_the_weights_of_the_stages(int ranks) => Run(
        ranks % 2 == 0 ? MpiFamily.Mpich : MpiFamily.OpenMpi, ranks, ["Communication", Weights], ["Saved", Weights]);

    [SkippableTheory]
    [InlineData(MpiFamily.OpenMpi, 3)]
    [InlineData(MpiFamily.Mpich, 2)]
    public void Tensors_arrive_in_order_after_their_sender_has_let_go_of_them(MpiFamily family, int ranks) => Run(family, ranks, ["Ring", "cpu"]);

    [SkippableFact]
    public void Tensors_on_a_GPU_arrive_through_pinned_memory()
    {
        Skip.IfNot(TorchSharp.torch.cuda.is_available(), "libtorch sees no GPU here");
        Run(MpiFamily.OpenMpi, 2, ["Ring", "cuda"]);
    }

    private string Weights => Path.Combine(_folder.Path, "weights.safetensors");

    private static object[] Equality(NetworkFamily network, int depth, int width, NetworkForm form, int microBatches, int side, string cuts) =>
        ["Equality", network, depth, width, form, microBatches, side, cuts, 4];

    private static void Run(MpiFamily family, int ranks, params object[][] scenarios) => MpiLauncher.RunScenarios(
        family, ranks, scenarios.Select(scenario => (string[])[$"GpipeScenarios.{scenario[0]}", .. scenario[1..].Select(argument => argument.ToString()!)])).MustSucceed();
}
