using System.ComponentModel.DataAnnotations;

namespace LoftHpc.Configuration;

/// <summary>
/// The whole of a run's input. Every key has a default that can be printed; unknown keys are errors. The keys of a
/// config file are these properties in snake_case, values of enums stand in kebab-case; <see cref="RunConfigLoader"/>
/// takes both, and the limits in the attributes, from here. Rules between keys are in <see cref="RunConfigRules"/>.
/// </summary>
public sealed record RunConfig
{
    public RunSection Run { get; init; } = new();
    public NetworkSection Network { get; init; } = new();
    public DataSection Data { get; init; } = new();
    public PretrainSection Pretrain { get; init; } = new();
    public DistanceSection Distance { get; init; } = new();
    public ExtractSection Extract { get; init; } = new();
    public RetrainSection Retrain { get; init; } = new();
    public TicketsSection Tickets { get; init; } = new();
    public EvaluateSection Evaluate { get; init; } = new();
    public CheckpointSection Checkpoint { get; init; } = new();
    public LimitsSection Limits { get; init; } = new();
    public PlotSection Plot { get; init; } = new();
    public PlanSection Plan { get; init; } = new();
}

public enum DeviceChoice { Auto, Cpu, Cuda }

/// <summary>What convolutions are computed in. Weights, gradients, momentum, the loss and all averages are float32 always.</summary>
public enum Precision
{
    Float32,

    /// <summary>Float32 whose factors a GPU cuts to 10 bits.</summary>
    Tf32,

    /// <summary>Activations and their gradients too.</summary>
    Bfloat16,
}

/// <summary>Whether a launch goes on where an earlier one of the same run has stopped.</summary>
public enum ResumeChoice { Never, Auto }

/// <summary>In which order the values of activations [N, C, H, W] lie in memory. Their shape, and what is computed, are the same.</summary>
public enum MemoryFormat
{
    /// <summary>One channel of an image after the other.</summary>
    Contiguous,

    /// <summary>All channels of a pixel together.</summary>
    ChannelsLast,
}

public enum MpiBinding { Native, [WrittenAs("mpi.net")] MpiNet }

public sealed record RunSection
{
    /// <summary>Name of the run folder, inside <see cref="Folder"/>.</summary>
    public string Name { get; init; } = "run";
    /// <summary>Parent of the run folder.</summary>
    public string Folder { get; init; } = "results";
    /// <summary>True: an existing run folder of this name is replaced.</summary>
    public bool Overwrite { get; init; }
    /// <summary>Auto: an existing run folder of this name is gone on with; --resume auto means the same.</summary>
    public ResumeChoice Resume { get; init; } = ResumeChoice.Never;
    public long Seed { get; init; } = 1;
    public DeviceChoice Device { get; init; } = DeviceChoice.Auto;
    /// <summary>Threads a rank; null (auto) shares out the host's cores over its ranks.</summary>
    [Range(1, 1024), WrittenAs("auto")]
    public int? Threads { get; init; }
    /// <summary>Null (auto): float32 on the CPU, tf32 on a GPU.</summary>
    [WrittenAs("auto")]
    public Precision? Precision { get; init; }
    /// <summary>Null (auto): channels-last on a GPU in tf32 and bfloat16, else contiguous.</summary>
    [WrittenAs("auto")]
    public MemoryFormat? MemoryFormat { get; init; }
    /// <summary>What the ranks communicate through: the program's own binding, or the MPI.NET package, under the MPICH family only.</summary>
    public MpiBinding Mpi { get; init; } = MpiBinding.Native;
    /// <summary>True: CUDA tensors go to MPI directly where the library says that it is CUDA-aware; never through MPI.NET.</summary>
    public bool CudaAwareMpi { get; init; }
}

/// <summary>What is kept of a training that may be stopped.</summary>
public sealed record CheckpointSection
{
    /// <summary>Time between two checkpoints of a training; null (never): there are none.</summary>
    [Range(1, 1_000_000_000), WrittenAs("never")]
    public CheckpointInterval? Every { get; init; } = new CheckpointInterval(10, IntervalUnit.Minutes);
    /// <summary>Checkpoints of a training that are kept until it is finished.</summary>
    [Range(2, 1000)]
    public int Keep { get; init; } = 2;
}

/// <summary>When a launch stops by itself.</summary>
public sealed record LimitsSection
{
    /// <summary>Minutes after which a launch stops as by a signal; null (never): it goes on to the end.</summary>
    [Range(0.0, 1e6), WrittenAs("never")]
    public double? Minutes { get; init; }
    /// <summary>Minutes before the end of its Slurm job at which a launch stops; null (auto): what a checkpoint takes, and some more.</summary>
    [Range(0.0, 1e6), WrittenAs("auto")]
    public double? MinutesBeforeEnd { get; init; }
    /// <summary>A launch stops when a file of this name is in its run folder, and removes it.</summary>
    public string StopFile { get; init; } = "stop";
    /// <summary>Seconds after which a rank that waits in MPI ends the job and says for whom it waits.</summary>
    [Range(1, 1_000_000)]
    public int CollectiveSeconds { get; init; } = 600;
}

public enum NetworkFamily { PreactResnet, Resnet, WideResnet }

public enum NetworkForm { Cifar, Imagenet }

public sealed record NetworkSection
{
    public NetworkFamily Family { get; init; } = NetworkFamily.PreactResnet;
    /// <summary>18 or 34; for wide-resnet 6n+4.</summary>
    [Range(10, 1000)]
    public int Depth { get; init; } = 18;
    /// <summary>Filters of the stem (and of the first stage, but for wide-resnet).</summary>
    [Range(1, 4096)]
    public int Width { get; init; } = 64;
    /// <summary>Stage widths of a wide-resnet are width, 2 width and 4 width times this.</summary>
    [Range(1, 1000)]
    public int WidenFactor { get; init; } = 1;
    public NetworkForm Form { get; init; } = NetworkForm.Cifar;
}

public enum DataSetName { FashionMnist, Mnist, Cifar10, Cifar100, Synthetic }

public sealed record DataSection
{
    public DataSetName Set { get; init; } = DataSetName.FashionMnist;
    /// <summary>Folder of the data files; null: where the set-up puts them.</summary>
    public string? Folder { get; init; }
    /// <summary>Number of training images used, the first ones of the files; null: all, and then the files must be whole.</summary>
    [Range(1, 10_000_000), WrittenAs("all")]
    public int? TrainImages { get; init; }
    /// <summary>Number of test images used, likewise.</summary>
    [Range(1, 10_000_000), WrittenAs("all")]
    public int? TestImages { get; init; }
    /// <summary>Random crop after padding by this many pixels on each side; 0: none.</summary>
    [Range(0, 28)]
    public int CropPadding { get; init; } = 4;
    /// <summary>Random horizontal flip.</summary>
    public bool Flip { get; init; } = true;
    /// <summary>Shape of synthetic images.</summary>
    public SyntheticSection Synthetic { get; init; } = new();
}

public sealed record SyntheticSection
{
    /// <summary>What <c>all</c> means of synthetic images, as for CIFAR.</summary>
    public const int AllTrainImages = 50_000, AllTestImages = 10_000;

    [Range(1, 1000)]
    public int Channels { get; init; } = 3;
    [Range(28, 1000)]
    public int Size { get; init; } = 32;
    [Range(2, 256)]
    public int Classes { get; init; } = 10;
}

public sealed record OptimizerSection
{
    // So wide that a rate that destroys the weights is seen for what it is.
    [Range(0.0, 1e28)]
    public double LearningRate { get; init; } = 0.1;
    [Range(0.0, 1.0, MaximumIsExclusive = true)]
    public double Momentum { get; init; } = 0.9;
    [Range(0.0, 1e6)]
    public double WeightDecay { get; init; } = 5e-4;
    /// <summary>The learning rate is multiplied by <see cref="Decay"/> when training reaches each of these times.</summary>
    [Range(1, 1_000_000_000)]
    public IReadOnlyList<TrainingTime> Milestones { get; init; } = [];
    [Range(0.0, 1.0, MinimumIsExclusive = true)]
    public double Decay { get; init; } = 0.1;
}

public enum PretrainMethod { FilterParallel, Loft, Dense, DataParallel, LocalSgd, Gpipe }

public enum BackwardKind { Exact, Local }

public enum AssignmentKind { Contiguous, Random }

public enum SampleScope { Whole, Shard }

public enum MomentumKind { Restart, Travel }

public enum RunningStatisticsKind { Recompute, Average, PerBatch }

public enum DealKind { Random, Norm }

/// <summary>What method loft alone has.</summary>
public sealed record LoftSection
{
    /// <summary>Stages (from 1) whose blocks are partitioned, as published.</summary>
    [Range(1, 4)]
    public IReadOnlyList<int> Stages { get; init; } = [2, 3, 4];
    /// <summary>True: the first block of these stages is partitioned too.</summary>
    public bool FirstBlocks { get; init; }
    /// <summary>Momentum at the start of a round: zero (published), or that of before; a filter's goes with it.</summary>
    public MomentumKind Momentum { get; init; } = MomentumKind.Restart;
    /// <summary>Where the full network's running statistics come from when it is evaluated or saved.</summary>
    public RunningStatisticsKind RunningStatistics { get; init; } = RunningStatisticsKind.Recompute;
    /// <summary>Training images on which they are recomputed.</summary>
    [Range(1, 10_000_000)]
    public int StatisticsImages { get; init; } = 2000;
    /// <summary>How filters are dealt to the ranks in each round.</summary>
    public DealKind Deal { get; init; } = DealKind.Random;
    /// <summary>First rounds in which every rank trains the full network (local SGD).</summary>
    [Range(0, 1_000_000)]
    public int WarmupRounds { get; init; }
}

/// <summary>What method gpipe alone has.</summary>
public sealed record GpipeSection
{
    /// <summary>Parts into which a batch is cut.</summary>
    [Range(1, 1_000_000)]
    public int MicroBatches { get; init; } = 4;
    /// <summary>The first block (or linear, the head) of each stage but the first; empty: balanced by FLOPs.</summary>
    public IReadOnlyList<string> Cuts { get; init; } = [];
}

public sealed record PretrainSection
{
    public PretrainMethod Method { get; init; } = PretrainMethod.FilterParallel;
    /// <summary>Of filter-parallel.</summary>
    public BackwardKind Backward { get; init; } = BackwardKind.Exact;
    /// <summary>Of filter-parallel.</summary>
    public AssignmentKind Assignment { get; init; } = AssignmentKind.Contiguous;
    /// <summary>Of data-parallel.</summary>
    public BatchNormScope BatchNorm { get; init; } = BatchNormScope.Synchronised;
    /// <summary>Of loft and local-sgd: optimizer steps of a round, after which the ranks exchange.</summary>
    [Range(1, 1_000_000)]
    public int LocalSteps { get; init; } = 15;
    /// <summary>
    /// Of loft and local-sgd: every rank walks the whole set in an order of its own, with batches of <see cref="Batch"/>
    /// (published); or takes its share of each batch.
    /// </summary>
    public SampleScope Samples { get; init; } = SampleScope.Whole;
    public LoftSection Loft { get; init; } = new();
    public GpipeSection Gpipe { get; init; } = new();
    [Range(0, 1_000_000)]
    public int Epochs { get; init; } = 20;
    /// <summary>Images a step, over all ranks; of each rank where every rank walks the whole set.</summary>
    [Range(1, 1_000_000)]
    public int Batch { get; init; } = 128;
    public OptimizerSection Optimizer { get; init; } = new();
    /// <summary>Epochs after which the weights are saved as epoch-N.safetensors.</summary>
    [Range(1, 1_000_000)]
    public IReadOnlyList<int> Snapshots { get; init; } = [];
}

public sealed record DistanceSection
{
    /// <summary>Filter distances are measured before the first step and then every so often.</summary>
    [Range(1, 1_000_000_000)]
    public TrainingTime Every { get; init; } = TrainingTime.Epochs(1);
    /// <summary>Most measurements that are compared pair by pair; above, an evenly spaced subset with the first and the last.</summary>
    [Range(2, 1000)]
    public int PairsMax { get; init; } = 100;
}

public sealed record ExtractSection
{
    /// <summary>Fraction of the filters of each prunable convolution that is removed, in [0, 1).</summary>
    [Range(0.0, 1.0, MaximumIsExclusive = true)]
    public double Ratio { get; init; } = 0.5;
    /// <summary>True: the first block of every stage is pruned too.</summary>
    public bool FirstBlocks { get; init; }
    /// <summary>Run folder whose dense weights are read; null: this run's own.</summary>
    public string? From { get; init; }
    /// <summary>By what the filters of a layer are ranked.</summary>
    public FilterCriterion Criterion { get; init; } = FilterCriterion.L2;
    /// <summary>Of criterion random.</summary>
    public long Seed { get; init; } = 1;
    /// <summary>Of criterion rank-stability: the last so many measurements count.</summary>
    [Range(1, 1_000_000)]
    public int StabilityMeasurements { get; init; } = 5;
    /// <summary>Of criterion taylor: training images whose gradients are taken.</summary>
    [Range(1, 10_000_000)]
    public int TaylorImages { get; init; } = 2000;
    /// <summary>Of criterion taylor: images of each gradient.</summary>
    [Range(1, 1_000_000)]
    public int TaylorBatch { get; init; } = 100;
    /// <summary>How many filters of each layer stay.</summary>
    public ExtractScope Scope { get; init; } = ExtractScope.Layer;
    /// <summary>Of scope global: the fraction of each layer's filters that stays whatever their scores.</summary>
    [Range(0.0, 1.0)]
    public double LayerFloor { get; init; } = 0.1;
    /// <summary>Of scopes flops and parameters: the fraction of the dense network's that is left.</summary>
    [Range(0.0, 1.0, MinimumIsExclusive = true)]
    public double Budget { get; init; } = 0.5;
    /// <summary>Of scope layer-ratios: what <see cref="Ratio"/> is for all, for each prunable block in the order of the network.</summary>
    [Range(0.0, 1.0, MaximumIsExclusive = true)]
    public IReadOnlyList<double> LayerRatios { get; init; } = [];
    /// <summary>Weights, or the run folder, of a ticket whose widths are taken instead; null: those of <see cref="Scope"/>.</summary>
    public string? Like { get; init; }
    /// <summary>Widths are rounded to multiples of this.</summary>
    [Range(1, 4096)]
    public int RoundTo { get; init; } = 1;
}

/// <summary>By what the filters of a layer are ranked; the first is the published one.</summary>
public enum FilterCriterion
{
    L2,
    L1,
    BatchNormScale,
    GeometricMedian,
    Lamp,
    RankStability,
    Taylor,

    /// <summary>A control.</summary>
    Random,

    /// <summary>A control: the inverse of the first.</summary>
    Smallest,
}

/// <summary>How it is found how many filters of each layer stay; the first is the published one.</summary>
public enum ExtractScope { Layer, Global, Flops, Parameters, LayerRatios }

public enum BatchNormScope { Synchronised, PerRank }

public sealed record RetrainSection
{
    [Range(0, 1_000_000)]
    public int Epochs { get; init; } = 90;
    [Range(1, 1_000_000)]
    public int Batch { get; init; } = 128;
    public OptimizerSection Optimizer { get; init; } = new();
    public BatchNormScope BatchNorm { get; init; } = BatchNormScope.Synchronised;
    /// <summary>The weights that retraining starts from.</summary>
    public RetrainStart Start { get; init; } = RetrainStart.Pretrained;
    /// <summary>Of start rewind: the time of pre-training after which the weights were saved (pretrain.snapshots).</summary>
    [Range(1, 1_000_000_000)]
    public TrainingTime Rewind { get; init; } = TrainingTime.Epochs(1);
    /// <summary>Of starts reinitialised and shuffled.</summary>
    public long StartSeed { get; init; } = 1;
}

/// <summary>What retraining starts from, always in the shape of the ticket and with the momentum at zero; the first is the published one.</summary>
public enum RetrainStart
{
    /// <summary>The weights at the end of pre-training.</summary>
    Pretrained,

    /// <summary>Those of a snapshot.</summary>
    Rewind,

    /// <summary>Those before the first step.</summary>
    Initial,

    /// <summary>Weights that are drawn anew.</summary>
    Reinitialised,

    /// <summary>The pre-trained weights, permuted within each layer.</summary>
    Shuffled,
}

/// <summary>Which tickets command tickets makes. An empty list stands for the one value that extract, retrain and run have.</summary>
public sealed record TicketsSection
{
    /// <summary>In place of extract.ratio.</summary>
    [Range(0.0, 1.0, MaximumIsExclusive = true)]
    public IReadOnlyList<double> Ratios { get; init; } = [];
    /// <summary>In place of extract.criterion.</summary>
    public IReadOnlyList<FilterCriterion> Criteria { get; init; } = [];
    /// <summary>In place of retrain.start.</summary>
    public IReadOnlyList<RetrainStart> Starts { get; init; } = [];
    /// <summary>In place of run.seed, for all that is drawn after pre-training.</summary>
    public IReadOnlyList<long> Seeds { get; init; } = [];
    /// <summary>What is made beside each ticket, to be compared with it.</summary>
    public IReadOnlyList<TicketControl> Controls { get; init; } = [];
    /// <summary>False: the weights of finished tickets are removed.</summary>
    public bool KeepWeights { get; init; } = true;
}

/// <summary>What a ticket is compared with; all else is as in the ticket.</summary>
public enum TicketControl
{
    /// <summary>The ticket's widths, with filters at random.</summary>
    Random,

    /// <summary>The ticket's widths, with the filters of the smallest norm.</summary>
    Inverted,

    /// <summary>The ticket, trained from new weights.</summary>
    Reinitialised,

    /// <summary>The ticket, trained from its weights permuted within each layer.</summary>
    Shuffled,

    /// <summary>The dense network, retrained as the ticket is.</summary>
    Unpruned,
}

public enum DataSplit { Train, Test }

public sealed record EvaluateSection
{
    /// <summary>Weights file; null: ticket.safetensors of the run folder, else its dense.safetensors.</summary>
    public string? Weights { get; init; }
    public DataSplit Split { get; init; } = DataSplit.Test;
    [Range(1, 1_000_000)]
    public int Batch { get; init; } = 500;
}

public sealed record PlotSection
{
    /// <summary>Layers whose heat-map is drawn; empty: all.</summary>
    public IReadOnlyList<string> Layers { get; init; } = [];
}

/// <summary>What command plan alone has.</summary>
public sealed record PlanSection
{
    /// <summary>Numbers of ranks that are planned for.</summary>
    [Range(1, 1024), MaxLength(16)]
    public IReadOnlyList<int> Ranks { get; init; } = [1, 2, 4];
    /// <summary>Time that a message takes whatever its size.</summary>
    [Range(0.0, 1e9)]
    public double LatencyMicroseconds { get; init; } = 2;
    /// <summary>10^9 bytes a second that a rank sends.</summary>
    [Range(1e-3, 1e6)]
    public double BandwidthGigabytesPerSecond { get; init; } = 10;
}
