using LoftHpc.Communication;
using LoftHpc.Configuration;
using LoftHpc.Data;
using LoftHpc.Mpi;
using LoftHpc.Networks;
using LoftHpc.Training;
using static TorchSharp.torch;

namespace LoftHpc.Benchmarks;

/// <summary>Filter-parallel training of a PreActResNet-18 on synthetic 32 x 32 images, as the program sets it up.</summary>
internal sealed class BenchmarkTraining : IDisposable
{
    public const double LearningRate = 0.01;
    private const long Seed = 1;

    private readonly TensorTransport _transport = TensorTransport.For(CPU, direct: false);
    private readonly FilterParallelTraining _training;
    private int _steps;

    public BenchmarkTraining(ICommunicator communicator, int width, int batch, int batches)
    {
        Optimizer = new OptimizerSection { LearningRate = LearningRate };
        Network = NetworkCatalog.Create(new NetworkSection { Width = width }, 3, 10);
        DataSection data = new() { Set = DataSetName.Synthetic, TrainImages = batch * batches, TestImages = 1 };
        Images = new BatchLoader(ImageDataLoader.Load(data, Seed).Train, data, Seed);
        var ledger = new CommunicationLedger();
        var metered = new MeteredCommunicator(communicator, ledger);
        Context = new RankContext(metered, ledger, new ChannelExchange(metered, _transport), CPU);
        _training = new FilterParallelTraining(
            Context, Network, new PretrainSection { Batch = batch, Optimizer = Optimizer }, Images, Seed);
    }

    public NetworkSpec Network { get; }

    public BatchLoader Images { get; }

    public RankContext Context { get; }

    public OptimizerSection Optimizer { get; }

    public ModelState State => _training.State;

    public int StepsPerEpoch => _training.StepsPerEpoch;

    /// <summary>Mean loss of an image over the steps so far.</summary>
    public double Loss => _training.RunningTotals.Loss;

    /// <summary>Parameters and optimizer state held here.</summary>
    public long TrainedBytes => State.Parameters.Sum(slice =>
        (State[slice.Name].numel() * State[slice.Name].element_size())
        + (State.Momentum(slice.Name).numel() * State.Momentum(slice.Name).element_size()));

    /// <summary>The next steps; epoch after epoch.</summary>
    public void Steps(int count)
    {
        for (int last = _steps + count; _steps < last; _steps++)
            _training.Step(_steps / StepsPerEpoch, _steps % StepsPerEpoch, LearningRate);
    }

    public void Dispose()
    {
        _training.Dispose();
        _transport.Dispose();
    }
}
