using System.Diagnostics;
using System.Globalization;
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

/// <summary>A launch that trains, measures or evaluates: with images, and with records for what it writes.</summary>
public sealed class Session : Launch
{
    private readonly DateTimeOffset _start = DateTimeOffset.UtcNow;
    private IReadOnlyList<ArithmeticRecord> _arithmetic = [];
    private BatchLoader? _trainImages, _testImages, _validationImages;
    private bool? _imagesFit;
    /// <summary>A group of the same ranks, for errors alone; null: MPI's own of all ranks.</summary>
    private readonly ICommunicator? _failures;

    /// <summary>Starts a launch on all ranks. Collective.</summary>
    /// <exception cref="UserError">The config, the environment, the libraries or the images are not as they must be; on all ranks.</exception>
    public Session(MpiRuntime mpi, LaunchOptions options) : base(mpi, options)
    {
        Data = ImageDataLoader.Load(Config.Data, Config.Run.Seed, World);
        foreach (string warning in Data.Warnings) Reporter.Warning(warning);
        Agree.OnSame(World, "the data", Data.Fingerprint, "give all hosts the same files (data.folder)");
        Limits = new LaunchLimits(Config);
        WorksInGroups = options.Command is "tickets" && Config.Tickets.RanksPerTicket < World.Size;
        Stop = new StopAgreement(Context, Limits.Ask);
        ShowRanks();
    }

    private Session(Session whole, RunConfig config) : base(whole, config) =>
        (Data, Limits, Stop, _arithmetic, WorksInGroups, _failures) = (whole.Data, whole.Limits, whole.Stop, whole._arithmetic, whole.WorksInGroups, whole._failures);

    private Session(Session whole, int ranks) : base(whole, whole.World.Split(whole.World.Rank / ranks, whole.World.Rank), whole.World.Rank / ranks * ranks)
    {
        (Data, Limits, WorksInGroups) = (whole.Data, whole.Limits, true);
        Stop = new StopAgreement(Context, Limits.Ask);
        _failures = World.Split(0, World.Rank);
        _arithmetic = [.. whole._arithmetic.Skip(FirstRank).Take(ranks).Select(rank => rank with { Rank = rank.Rank - FirstRank })];
    }

    /// <summary>
    /// A part of this launch, on the same images, under a config of its own: what is computed with, when to stop, and the account of what is
    /// communicated are those of the whole. Not collective.
    /// </summary>
    public Session Under(RunConfig config) => new(this, config);

    /// <summary>
    /// This rank's group of so many ranks, which divide all ranks: it does work of its own, on the same images. Collective.
    /// </summary>
    public Session Group(int ranks) => new(this, ranks);

    /// <summary>Whether the ranks work in groups: then each group watches whether it gets on.</summary>
    public bool WorksInGroups { get; }

    /// <summary>Whether work in a run folder under this session is where the ranks are watched: not what is a part of such work.</summary>
    public bool IsWatched => Depth == (WorksInGroups ? 1 : 0);

    /// <summary>Whether all ranks of the session have come to the same error, and can go on together.</summary>
    public bool AllFailed() => MpiJob.AllCome(_failures ?? Mpi.FailureGroup);

    /// <summary>Waits for the other ranks, for long perhaps, without taking a processor from them. Collective.</summary>
    /// <param name="look">Called again and again meanwhile.</param>
    public void Meet(Action look)
    {
        IMpiRequest barrier = World.StartBarrier();
        while (!barrier.Test())
        {
            Thread.Sleep(10);
            look();
        }
    }

    /// <summary>When the launch is to stop by itself; asked on rank 0.</summary>
    public LaunchLimits Limits { get; }

    /// <summary>Whether the ranks were asked to stop, from the start of the launch on.</summary>
    public StopAgreement Stop { get; }

    /// <summary>Whether this launch goes on with what an earlier one has left.</summary>
    public bool Resumes => Config.Run.Resume is ResumeChoice.Auto;

    /// <summary>The images, on every rank.</summary>
    public ImageData Data { get; }

    public BatchLoader TrainImages => _trainImages ??= Loader(Data.Train);

    public BatchLoader TestImages => _testImages ??= Loader(Data.Test);

    /// <summary>What is held out of the training images; null: nothing.</summary>
    public BatchLoader? ValidationImages => Data.Validation is null ? null : _validationImages ??= Loader(Data.Validation);

    /// <summary>The images of a split.</summary>
    /// <exception cref="UserError">None are held out.</exception>
    public BatchLoader ImagesOf(DataSplit split) => split switch
    {
        DataSplit.Train => TrainImages,
        DataSplit.Test => TestImages,
        _ => ValidationImages ?? throw new UserError("evaluate.split: validation: the config holds no images out (data.validation_images is 0); allowed: train, test"),
    };

    /// <summary>The dense network of the config, for the images of the config.</summary>
    public WeightsIdentity Dense => new(Config.Network, Data.Train.Channels, Data.Train.Height, Data.Train.Classes);

    /// <summary>The record of this launch for the manifest.</summary>
    public LaunchRecord Record => new(
        Options.Command, Environment.GetCommandLineArgs(), Config.Run.Seed, _start, null, null, BuildRecord.Current, Torch.Description,
        new MpiRecord(Mpi.Family?.ToString() ?? "none", Mpi.LibraryVersion?.Split('\n')[0] ?? "", Mpi.LibraryPath ?? "", ConfigName.Of(Config.Run.Mpi)),
        Environment.GetEnvironmentVariable("SLURM_JOB_ID"), Placement.Ranks, _arithmetic, ConfigName.Of(Context.Precision), ConfigName.Of(Context.MemoryFormat),
        Data.Fingerprint.Replace("\n", "; ", StringComparison.Ordinal));

    /// <summary>
    /// Proves the arithmetic of every rank on the layers that it will compute, before anything is written. Where a rank had
    /// to repair something, one warning says so. Collective.
    /// </summary>
    /// <param name="pretraining">Whether the config's pre-training is to be done.</param>
    /// <param name="whole">Networks that every rank is to compute whole; null: none.</param>
    /// <exception cref="UserError">A rank computes something wrongly, and no repair helps; on all ranks.</exception>
    public void CheckArithmetic(bool pretraining, params ReadOnlySpan<WeightsIdentity?> whole)
    {
        LayerShapes layers = new();
        void Add(WeightsIdentity identity, IEnumerable<TensorSlice> held) =>
            layers.Add(identity.Describe(), identity.ImageSide, held, Context.Layout, Context.Device.type);
        if (pretraining)
        {
            foreach (IEnumerable<TensorSlice> held in MethodPlan.Create(PlanSetting.Of(Config, World.Size, ImageShape.Of(Data))).Computed(World.Rank)) Add(Dense, held);
        }
        foreach (WeightsIdentity? network in whole)
        {
            if (network is not null) Add(network, network.Describe().Tensors.Select(TensorSlice.Whole));
        }
        Stopwatch clock = Stopwatch.StartNew();
        Agree.OnAllRanks(World, () => ArithmeticCheck.Run(layers, Context.Layout, Context.Device));
        Reporter.Verbose(string.Create(
            CultureInfo.InvariantCulture, $"arithmetic checked in {clock.Elapsed.TotalSeconds:F2} s: {layers.Convolutions.Count()} different convolutions on rank 0"));

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
    public void SaveResources(RunFolder folder, TrainingPhase phase, ITrainingMethod method, double seconds) =>
        SaveResources(folder, phase, method.Work, method.Memory, seconds, method.DataSeconds);

    /// <inheritdoc cref="SaveResources(RunFolder, TrainingPhase, ITrainingMethod, double)"/>
    public void SaveResources(RunFolder folder, TrainingPhase phase, TrainingWork work, TrainingMemory memory, double seconds, double dataSeconds)
    {
        var own = new ResourcesRow(
            World.Rank, phase, work.Images, work.Flops, seconds,
            memory.Weights, memory.Gradients, memory.Optimizer, memory.ExchangeBuffers, ProcessMemory.PeakBytes,
            Convolution.Repairs.Repair, Convolution.Repairs.Convolutions, dataSeconds);
        string[] all = World.Allgather(JsonSerializer.Serialize(own));
        OnRoot(() => folder.Resources.Append(all.Select(row => JsonSerializer.Deserialize<ResourcesRow>(row)!)));
    }

    /// <summary>Between two stages. Collective.</summary>
    /// <exception cref="UserError">The ranks were asked to stop; on all ranks.</exception>
    public void StopIfAsked()
    {
        if (Stop.Ask().Pause is Pause stop && StopAgreement.IsStop(stop))
            throw new UserError($"stopped {StopAgreement.Why(stop)} after {Context.Ledger.Phase}; what it has written stays, and the same command with --resume auto goes on from there", ExitCodes.Stopped);
    }

    /// <summary>Ends the job on all ranks, with one line of this rank's. From any thread.</summary>
    public void EndJob(string message, int exitCode) => MpiJob.EndJob(Mpi, message, exitCode);

    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            _trainImages?.Dispose();
            _testImages?.Dispose();
            _validationImages?.Dispose();
            if (IsGroup)
            {
                _failures?.Dispose();
                World.Dispose();
            }
        }
        base.Dispose(disposing);
    }

    /// <summary>Both sets lie on the device, or none: what is free is asked for once, before training takes its part.</summary>
    private BatchLoader Loader(ImageSet set)
    {
        if (set.Files is not null) return new BatchLoader(set, Config.Data, Config.Run.Seed) { PreparesAhead = true };
        if (_imagesFit is null)
        {
            _imagesFit = DeviceImages.Fit(new[] { Data.Train, Data.Test, Data.Validation }.OfType<ImageSet>().Sum(DeviceImages.BytesOf), Context.Device);
            if (_imagesFit == false) Reporter.Verbose("the images would take more than a quarter of the GPU's free memory: batches are prepared ahead on the host");
        }
        return new BatchLoader(set, Config.Data, Config.Run.Seed) { PreparesAhead = _imagesFit == false };
    }
}
