using LoftHpc.Arithmetic;
using LoftHpc.Communication;
using LoftHpc.Configuration;
using LoftHpc.Mpi;
using LoftHpc.Networks;
using LoftHpc.Stages;
using LoftHpc.Training;
using TorchSharp;
using static TorchSharp.torch;

namespace LoftHpc.RankProgram;

/// <summary>The check of a launch's arithmetic.</summary>
public static class ArithmeticScenarios
{
    /// <summary>Arguments: command, config, settings. The command meets no convolution that its check at the start has not met.</summary>
    public static void NothingUnchecked(ICommunicator world, string[] arguments)
    {
        using Session session = CommandScenarios.Do(arguments);
        int known = session.Record.Arithmetic!.Single(record => record.Rank == world.Rank).Checked;
        Check.True(known > 5 && Convolution.Known == known, $"{known} convolutions checked at the start, {Convolution.Known} in the end");
    }

    /// <summary>Where all memory is filled with NaN, it is so after a check too, which fills memory itself.</summary>
    public static void MemoryStaysNaN(ICommunicator world, string[] arguments)
    {
        NetworkSpec network = NetworkCatalog.Create(new NetworkSection { Family = NetworkFamily.PreactResnet, Depth = 18, Width = 3 }, 3, 10);
        LayerShapes layers = new();
        ActivationLayout layout = new(float32, MemoryFormat.Contiguous);
        layers.Add(network, 32, network.Tensors.Select(TensorSlice.Whole), layout, DeviceType.CPU);
        ArithmeticCheck.Run(layers, layout, CPU);
        foreach (int size in new[] { 10, 1000, 1_000_000 })
        {
            using Tensor values = empty(size), wrong = values.isnan().all();
            Check.True(wrong.item<bool>(), $"{size} values that nobody has written are not all NaN");
        }
        if (world.Rank == 0) Console.WriteLine("NaN");
    }
}
