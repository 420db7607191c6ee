using LoftHpc.Communication;
using LoftHpc.Configuration;
using LoftHpc.Data;
using LoftHpc.Mpi;
using LoftHpc.Networks;
using LoftHpc.Training;
using static TorchSharp.torch;

namespace LoftHpc.Benchmarks;

/// <summary>Training of a PreActResNet-18 on synthetic 32 x 32 images by any method, as the program sets it up.</summary>
internal sealed class BenchmarkTraining : IDisposable
{
    public const double LearningRate = 0.01;
    private const long Seed = 1;

    private readonly TensorTransport _transport;
    private readonly ITrainingMethod _method;
    private int _steps;

    /// <param name="batches">Batches of an epoch.</param>
    /// <param name="precision">On the CPU, where <paramref name="like"/> is null.</param>
    /// <param name="like">What a launch computes with: its device, and how. Null: the CPU.</param>
    public BenchmarkTraining(
        ICommunicator communicator, int width, int batches, PretrainSection config, Precision precision = Precision.Float32, RankContext? like = null)
    {
        Device device = like?.Device ?? CPU;
        _transport = TensorTransport.For(device, direct: false);
        Optimizer = new OptimizerSection { LearningRate = LearningRate };
        Network = NetworkCatalog.Create(new NetworkSection { Width = width }, 3, 10);
        DataSection data = new() { Set = DataSetName.Synthetic, TrainImages = config.Batch * batches, TestImages = 1 };
        Images = new BatchLoader(ImageDataLoader.Load(data, Seed).Train, data, Seed);
        var ledger = new CommunicationLedger();
        var metered = new MeteredCommunicator(communicator, ledger);
        RankContext context = new(metered, ledger, new ChannelExchange(metered, _transport), device) { Precision = precision };
        Context = like is null ? context : like with { Communicator = metered, Ledger = ledger, Channels = context.Channels };
        _method = TrainingMethods.Create(Context, Network, config with { Optimizer = Optimizer, Epochs = 1000 }, Images, Seed);
    }

    public NetworkSpec Network { get; }

    public BatchLoader Images { get; }

    public RankContext Context { get; }

    public OptimizerSection Optimizer { get; }

    public ITrainingMethod Method => _method;

    public int StepsPerEpoch => _method.StepsPerEpoch;

    /// <summary>Mean loss of an image over the steps so far.</summary>
    public double Loss => _method.RunningTotals.Loss;

    /// <summary>Parameters and optimizer state held here: momentum is as large as what it belongs to.</summary>
    public long TrainedBytes => 2 * _method.Memory.Optimizer;

    /// <summary>The next steps; epoch after epoch. Returns when a GPU has done them too.</summary>
    public void Steps(int count)
    {
        for (int last = _steps + count; _steps < last; _steps++)
            _method.StepAndMeet(_steps / StepsPerEpoch, _steps % StepsPerEpoch, LearningRate);
        if (Context.Device.type is TorchSharp.DeviceType.CUDA) cuda.synchronize(Context.Device);
    }

    public void Dispose()
    {
        _method.Dispose();
        _transport.Dispose();
    }
}
