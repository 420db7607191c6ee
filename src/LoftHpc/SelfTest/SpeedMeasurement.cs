using System.Diagnostics;
using LoftHpc.Arithmetic;
using LoftHpc.Communication;
using LoftHpc.Configuration;
using LoftHpc.Data;
using LoftHpc.Mpi;
using LoftHpc.Networks;
using LoftHpc.Planning;
using LoftHpc.Training;
using static TorchSharp.torch;

namespace LoftHpc.SelfTest;

/// <summary>How fast one rank trains a network by itself.</summary>
internal static class SpeedMeasurement
{
    /// <summary>Of a step.</summary>
    public const int Images = 32;

    private static readonly TimeSpan Enough = TimeSpan.FromSeconds(5);

    /// <summary>The config's network, and the side of its images in pixels.</summary>
    public static (NetworkSpec Network, int ImageSide) Network(RunConfig config)
    {
        ImageShape shape = ImageShape.Of(config.Data);
        return (NetworkCatalog.Create(config.Network, shape.Channels, shape.Classes), shape.Side);
    }

    /// <summary>Of the config's network on images of the shape of its data set, after a first step; not collective.</summary>
    public static double ImagesPerSecond(Device device, RunConfig config)
    {
        const int steps = 10;
        ImageShape shape = ImageShape.Of(config.Data);
        DataSection section = new()
        {
            Set = DataSetName.Synthetic,
            TrainImages = Images * (steps + 1),
            TestImages = 1,
            // Which classes there are changes no speed, and each has a pattern.
            Synthetic = new SyntheticSection { Channels = shape.Channels, Size = shape.Side, Classes = 2 },
        };
        BatchLoader data = new(ImageDataLoader.Load(section, config.Run.Seed).Train, section, config.Run.Seed);
        using SelfCommunicator self = new();
        using TensorTransport transport = TensorTransport.For(device, direct: false);
        RankContext context = new(self, new CommunicationLedger(), new ChannelExchange(self, transport), device)
        {
            Precision = config.Run.Precision is Precision.Bfloat16 ? Precision.Bfloat16 : Precision.Float32,
            MemoryFormat = MemoryFormats.Resolve(config.Run.MemoryFormat, Precisions.Resolve(config.Run.Precision, device), device.type),
        };
        (NetworkSpec network, _) = Network(config);
        using ITrainingMethod method = TrainingMethods.Create(
            context, network, new PretrainSection { Method = PretrainMethod.Dense, Batch = Images, Epochs = 1 }, data, config.Run.Seed);
        method.StepAndMeet(0, 0, learningRate: 0.1);
        Stopwatch clock = Stopwatch.StartNew();
        int done = 0;
        while (done < steps && clock.Elapsed < Enough) method.StepAndMeet(0, ++done, learningRate: 0.1);
        return Images * done / clock.Elapsed.TotalSeconds;
    }
}
