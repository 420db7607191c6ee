using LoftHpc.Arithmetic;
using LoftHpc.Communication;
using LoftHpc.Configuration;
using LoftHpc.Data;
using LoftHpc.Mpi;
using LoftHpc.Networks;
using LoftHpc.SelfTest;
using LoftHpc.Training;
using TorchSharp;
using static TorchSharp.torch;

namespace LoftHpc.RankProgram;

/// <summary>Training with activations in channels-last memory.</summary>
internal static class MemoryFormatScenarios
{
    private const MemoryFormat Format = MemoryFormat.ChannelsLast;

    /// <summary>
    /// Every method against one process that computes convolutions by their definition on contiguous tensors: values, gradients,
    /// evaluations. Filter counts that the ranks do not divide, and at 4 ranks fewer filters than ranks.
    /// </summary>
    public static void Methods(ICommunicator world, string[] arguments)
    {
        Findings findings = new();
        MethodChecks checks = new(world, CPU, direct: false, findings) { Steps64 = 2, Format = Format, Bits = true };
        (NetworkSpec network, BatchLoader data) = TrainingScenarios.Setting(["PreactResnet", "18", "3", "Cifar"]);
        checks.FilterParallel("filter-parallel", network, data, AssignmentKind.Random, BackwardKind.Exact);
        checks.FilterParallel("filter-parallel, local", network, data, AssignmentKind.Contiguous, BackwardKind.Local);
        // On one rank: the dense network.
        checks.DataParallel("data-parallel", network, data, BatchNormScope.Synchronised);
        checks.Gpipe("gpipe", network, data, new GpipeSection { MicroBatches = 3 });
        checks.Rounds("loft", network, data, MethodChecks.Pretrain(["method=loft", "epochs=1", "local_steps=2", "loft.momentum=travel"]));
        checks.Rounds("local-sgd", network, data, MethodChecks.Pretrain(["method=local-sgd", "epochs=1", "local_steps=2"]));
        (network, data) = TrainingScenarios.Setting(["Resnet", "18", "2", "Cifar"]);
        checks.FilterParallel("filter-parallel of resnet", network, data, AssignmentKind.Random, BackwardKind.Exact);
        checks.DataParallel("data-parallel of resnet, batch norm per rank", network, data, BatchNormScope.PerRank);
        checks.Gpipe("gpipe of resnet", network, data, new GpipeSection { MicroBatches = 2 });
        Check.Passed(findings);
    }

    /// <summary>
    /// All that goes into a convolution lies so when it comes, but for the images, and so does what comes out: nothing is copied
    /// on the way. In float32 and in bfloat16, with what ranks gather; and with a max pool.
    /// </summary>
    public static void NothingIsCopied(ICommunicator world, string[] arguments)
    {
        foreach (ScalarType type in (ScalarType[])[float32, bfloat16])
        {
            foreach (string form in (string[])["Cifar", "Imagenet"])
            {
                using DisposeScope scope = NewDisposeScope();
                (NetworkSpec network, BatchLoader data) = TrainingScenarios.Setting(["PreactResnet", "18", "8", form]);
                FilterAssignment assignment = FilterAssignment.Create(network, AssignmentKind.Contiguous, 3, world.Size);
                using ModelState state = ModelState.Initialize(assignment.Slices(network, world.Rank), 3, float32, CPU);
                using TensorTransport transport = TensorTransport.For(CPU, direct: false);
                INetworkExchange exchange = world.Size == 1
                    ? new SerialExchange()
                    : new FilterParallelExchange(new ChannelExchange(world, transport), assignment, BackwardKind.Exact, Format);
                int seen = 0;
                ResidualNetwork watched = new ResidualNetwork(network, state, exchange, new ActivationLayout(type, Format)).Observed((layer, input, _, output) =>
                {
                    if (layer != network.Stem.Name) Check.True(LiesSo(input), $"what goes into {layer} is not channels-last");
                    Check.True(layer == "linear" || LiesSo(output), $"what comes out of {layer} is not channels-last");
                    seen++;
                });
                Tensor images = rand(2, 3, data.ImageSide, data.ImageSide);
                exchange.Backward(watched.Forward(images, training: true).sum());
                Check.True(seen > 30, $"{seen} layers were seen");
                using (no_grad()) watched.Forward(images, training: false);
            }
        }
        static bool LiesSo(Tensor x) => ReferenceEquals(MemoryFormats.To(x, Format), x);
    }

    /// <summary>Live tensors do not grow with steps.</summary>
    public static void LiveTensors(ICommunicator world, string[] arguments)
    {
        (NetworkSpec network, BatchLoader data) = TrainingScenarios.Setting(["PreactResnet", "18", "3", "Cifar"]);
        Findings findings = new();
        MethodChecks checks = new(world, CPU, direct: false, findings) { Format = Format };
        foreach (string method in (string[])["filter-parallel", "gpipe"])
            checks.LiveTensors(method, network, data, MethodChecks.Pretrain([$"method={method}"]));
        Check.Passed(findings);
    }
}
