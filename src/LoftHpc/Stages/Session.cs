using System.Text.Json;
using LoftHpc.Arithmetic;
using LoftHpc.Communication;
using LoftHpc.Configuration;
using LoftHpc.Data;
using LoftHpc.Mpi;
using LoftHpc.Networks;
using LoftHpc.Output;
using LoftHpc.Planning;
using LoftHpc.Results;
using LoftHpc.Training;

namespace LoftHpc.Stages;

/// <summary>What a launch asks for, from the command line.</summary>
public sealed record LaunchOptions(string Command, string Config, IReadOnlyList<string> Overrides, Verbosity Verbosity);

/// <summary>One launch on one rank: the config, the other ranks, the device, and who prints.</summary>
public sealed class Session : IDisposable
{
    private readonly DateTimeOffset _start = DateTimeOffset.UtcNow;
    private readonly TensorTransport _transport;
    private readonly MpiRuntime _mpi;
    private readonly TorchLibraryInfo _torch;
    private readonly Placement _placement;
    private IReadOnlyList<ArithmeticRecord> _arithmetic = [];

    private Session(MpiRuntime mpi, LaunchOptions options)
    {
        (_mpi, Options) = (mpi, options);
        Config = ReadConfig(mpi.World, options);
        bool native = Config.Run.Mpi is MpiBinding.Native;
        World = native ? mpi.World : mpi.WorldThroughMpiNet();
        Data = Agree.OnAllRanks(World, () => ImageDataLoader.Load(Config.Data, Config.Run.Seed));
        _torch = Agree.OnAllRanks(World, TorchLibrary.Load);
        _placement = DeviceBinding.Bind(World, Config.Run.Device, Config.Run.Threads);
        Reporter = ConsoleReporter.Create(World.Rank, options.Verbosity);

        // MPI.NET's calls take arrays of .NET, not addresses in GPU memory.
        bool direct = Config.Run.CudaAwareMpi && mpi.IsCudaAware && native;
        _transport = TensorTransport.For(_placement.Device, direct);
        var ledger = new CommunicationLedger();
        var metered = new MeteredCommunicator(World, ledger);
        Context = new RankContext(metered, ledger, new ChannelExchange(metered, _transport), _placement.Device);

        Stop = new StopAgreement(Context);
        foreach (string warning in _placement.Warnings) Reporter.Warning(warning);
        if (Config.Run.CudaAwareMpi && !direct)
        {
            string reason = native ? "this MPI library does not say that it is CUDA-aware" : "MPI.NET does not take addresses in GPU memory";
            Reporter.Warning($"run.cuda_aware_mpi: {reason}; tensors go through host memory");
        }
        Reporter.Table(ResultTables.Ranks(_placement.Ranks));
    }

    public LaunchOptions Options { get; }

    /// <summary>The same on every rank: rank 0 reads the file.</summary>
    public RunConfig Config { get; }

    /// <summary>All ranks, through the binding that the config names, not metered: for agreements and bookkeeping outside training.</summary>
    public ICommunicator World { get; }

    /// <summary>What training computes and communicates with.</summary>
    public RankContext Context { get; }

    public IReporter Reporter { get; }

    /// <summary>Whether the ranks were asked to stop, from the start of the launch on.</summary>
    public StopAgreement Stop { get; }

    public bool IsRoot => World.Rank == 0;

    /// <summary>The images, on every rank.</summary>
    public ImageData Data { get; }

    public BatchLoader TrainImages => new(Data.Train, Config.Data, Config.Run.Seed);

    public BatchLoader TestImages => new(Data.Test, Config.Data, Config.Run.Seed);

    /// <summary>The dense network of the config, for the images of the config.</summary>
    public WeightsIdentity Dense => new(Config.Network, Data.Train.Channels, Data.Train.Height, Data.Train.Classes);

    /// <summary>Starts a launch on all ranks. Collective.</summary>
    /// <exception cref="UserError">The config, the environment or the libraries are not as they must be; on all ranks.</exception>
    public static Session Start(MpiRuntime mpi, LaunchOptions options) => new(mpi, options);

    /// <summary>Runs something on rank 0; if it is the user's mistake, all ranks throw it. Collective.</summary>
    public void OnRoot(Action action) => Agree.OnRoot(World, action);

    /// <summary>The record of this launch for the manifest.</summary>
    public LaunchRecord Record => new(
        Options.Command, Environment.GetCommandLineArgs(), Config.Run.Seed, _start, null, null, BuildRecord.Current, _torch.Version,
        new MpiRecord(_mpi.Family?.ToString() ?? "none", _mpi.LibraryVersion?.Split('\n')[0] ?? "", _mpi.LibraryPath ?? "", ConfigName.Of(Config.Run.Mpi)),
        Environment.GetEnvironmentVariable("SLURM_JOB_ID"), _placement.Ranks, _arithmetic);

    /// <summary>
    /// Proves the arithmetic of every rank on the layers that it will compute, before anything is written. Where a rank had
    /// to repair something, one warning says so. Collective.
    /// </summary>
    /// <param name="pretraining">Whether the config's pre-training is to be done.</param>
    /// <param name="whole">A network that every rank is to compute whole; null: none.</param>
    /// <exception cref="UserError">A rank computes something wrongly, and no repair helps; on all ranks.</exception>
    public void CheckArithmetic(bool pretraining, WeightsIdentity? whole)
    {
        LayerShapes layers = new();
        void Add(WeightsIdentity identity, IEnumerable<TensorSlice> held) =>
            layers.Add(identity.Describe(), identity.ImageSide, held, Context.Type, Context.Device.type);
        if (pretraining)
        {
            foreach (IEnumerable<TensorSlice> held in MethodPlan.Create(PlanSetting.Of(Config, World.Size)).Computed(World.Rank)) Add(Dense, held);
        }
        if (whole is not null) Add(whole, whole.Describe().Tensors.Select(TensorSlice.Whole));
        Agree.OnAllRanks(World, () => ArithmeticCheck.Run(layers, Context.Type, Context.Device));

        (ArithmeticRepair repair, int convolutions) = Convolution.Repairs;
        ArithmeticRecord own = new(World.Rank, ConfigName.Of(repair), convolutions, layers.Convolutions.Count());
        _arithmetic = [.. World.Allgather(JsonSerializer.Serialize(own)).Select(record => JsonSerializer.Deserialize<ArithmeticRecord>(record)!)];
        if (ResultTables.Repairs(_arithmetic) is string warning) Reporter.Warning(warning);
    }

    /// <summary>Adds what all ranks have communicated in the current phase to the folder's table. Collective.</summary>
    public void SaveCommunication(RunFolder folder)
    {
        CommunicationLedger ledger = Context.Ledger;
        CommunicationRow[] own = [.. ledger.Totals.Where(total => total.Phase == ledger.Phase).Select(total => CommunicationRow.Of(World.Rank, total))];
        string[] all = World.Allgather(JsonSerializer.Serialize(own));
        OnRoot(() => folder.Communication.Append(all.SelectMany(rows => JsonSerializer.Deserialize<CommunicationRow[]>(rows)!)));
    }

    /// <summary>Adds what a training has cost each rank to the folder's table. Collective.</summary>
    public void SaveResources(RunFolder folder, TrainingPhase phase, ITrainingMethod method, double seconds)
    {
        (TrainingWork work, TrainingMemory memory) = (method.Work, method.Memory);
        var own = new ResourcesRow(
            World.Rank, phase, work.Images, work.Flops, seconds,
            memory.Weights, memory.Gradients, memory.Optimizer, memory.ExchangeBuffers, ProcessMemory.PeakBytes,
            Convolution.Repairs.Repair, Convolution.Repairs.Convolutions);
        string[] all = World.Allgather(JsonSerializer.Serialize(own));
        OnRoot(() => folder.Resources.Append(all.Select(row => JsonSerializer.Deserialize<ResourcesRow>(row)!)));
    }

    /// <summary>Between two stages. Collective.</summary>
    /// <exception cref="UserError">The ranks were asked to stop; on all ranks.</exception>
    public void StopIfAsked()
    {
        if (Stop.IsAsked()) throw new UserError($"stopped by SIGUSR1 after {Context.Ledger.Phase}; what it has written stays", ExitCodes.Stopped);
    }

    public void Dispose()
    {
        Stop.Dispose();
        _transport.Dispose();
    }

    /// <summary>Rank 0 reads and checks the file; the others get what it resolved to, so that all ranks have the same.</summary>
    private static RunConfig ReadConfig(ICommunicator world, LaunchOptions options)
    {
        string yaml = "";
        Agree.OnRoot(world, () => yaml = RunConfigLoader.ToYaml(RunConfigLoader.Load(options.Config, options.Overrides)));
        return RunConfigLoader.Parse(world.Broadcast(yaml, 0), options.Config);
    }
}
