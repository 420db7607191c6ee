using System.ComponentModel;
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
    public LatencySection Latency { get; init; } = new();
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
    [Description("Name of the run folder, inside run.folder. An existing one is refused.")]
    public string Name { get; init; } = "run";
    [Description("Parent of the run folder.")]
    public string Folder { get; init; } = "results";
    [Description("Replace an existing run folder of this name.")]
    public bool Overwrite { get; init; }
    [Description("auto: go on with an existing run folder of this name. --resume auto means the same.")]
    public ResumeChoice Resume { get; init; } = ResumeChoice.Never;
    [Description("Every random draw is a function of it, of its purpose and of an index.")]
    public long Seed { get; init; } = 1;
    [Description("What ranks compute on. auto: a GPU where the build and the host have one.")]
    public DeviceChoice Device { get; init; } = DeviceChoice.Auto;
    [Description("Threads of a rank. auto: OMP_NUM_THREADS where that is set, else the rank's share of its host's cores.")]
    [Range(1, 1024), WrittenAs("auto")]
    public int? Threads { get; init; }
    [Description("What convolutions are computed in. auto: float32 on the CPU, tf32 on a GPU.")]
    [WrittenAs("auto")]
    public Precision? Precision { get; init; }
    [Description("How activations lie in memory. auto: channels-last on a GPU in tf32 and bfloat16, else contiguous.")]
    [WrittenAs("auto")]
    public MemoryFormat? MemoryFormat { get; init; }
    [Description("What ranks communicate through: our own binding, or the package MPI.NET, under the MPICH family only.")]
    public MpiBinding Mpi { get; init; } = MpiBinding.Native;
    [Description("Hand GPU memory to MPI where the library says that it is CUDA-aware. Never to MPI.NET.")]
    public bool CudaAwareMpi { get; init; }
    [Description("Write event files for TensorBoard beside the tables.")]
    public bool Tensorboard { get; init; }
}

/// <summary>What is kept of a training that may be stopped.</summary>
public sealed record CheckpointSection
{
    [Description("Time between two checkpoints of a training.")]
    [Range(1, 1_000_000_000), WrittenAs("never")]
    public CheckpointInterval? Every { get; init; } = new CheckpointInterval(10, IntervalUnit.Minutes);
    [Description("Checkpoints of a training that are kept until it is finished.")]
    [Range(2, 1000)]
    public int Keep { get; init; } = 2;
}

/// <summary>When a launch stops by itself.</summary>
public sealed record LimitsSection
{
    [Description("Minutes after which a launch stops as by a signal.")]
    [Range(0.0, 1e6), WrittenAs("never")]
    public double? Minutes { get; init; }
    [Description("Minutes before the end of its Slurm job at which a launch stops. auto: what a checkpoint takes, and some more.")]
    [Range(0.0, 1e6), WrittenAs("auto")]
    public double? MinutesBeforeEnd { get; init; }
    [Description("A launch stops when a file of this name is in its run folder, and removes it.")]
    public string StopFile { get; init; } = "stop";
    [Description("Seconds for which ranks wait for one that does not come, before they end the job and name it; at least twice the longest step. A rank that still does steps, in a long round, is waited for.")]
    [Range(1, 1_000_000)]
    public int CollectiveSeconds { get; init; } = 600;
}

public enum NetworkFamily { PreactResnet, Resnet, WideResnet }

public enum NetworkForm { Cifar, Imagenet }

public sealed record NetworkSection
{
    [Description("Kind of residual network.")]
    public NetworkFamily Family { get; init; } = NetworkFamily.PreactResnet;
    [Description("18 or 34; of wide-resnet 6n+4.")]
    [Range(10, 1000)]
    public int Depth { get; init; } = 18;
    [Description("Filters of the stem, and of the first stage but for wide-resnet.")]
    [Range(1, 4096)]
    public int Width { get; init; } = 64;
    [Description("Of wide-resnet: its stages have width, 2 width and 4 width times this.")]
    [Range(1, 1000)]
    public int WidenFactor { get; init; } = 1;
    [Description("cifar: a stem of 3x3. imagenet: a stem of 7x7 and max pool.")]
    public NetworkForm Form { get; init; } = NetworkForm.Cifar;
}

public enum DataSetName
{
    FashionMnist,
    Mnist,
    Cifar10,
    Cifar100,
    Synthetic,

    /// <summary>JPEG and PNG files, a folder a class.</summary>
    ImageFolder,

    /// <summary>Files of MNIST's form, with images of any size.</summary>
    Idx,

    /// <summary>Files of the form of CIFAR's binary version, with images of any size.</summary>
    CifarBinary,
}

/// <summary>What becomes of files that are no images.</summary>
public enum BrokenImages { Refuse, Skip }

/// <summary>How much of a file is looked at before training.</summary>
public enum ImageCheck { Headers, Whole }

public sealed record DataSection
{
    /// <summary>What a network here takes, of sets of the user's own.</summary>
    public const int LeastSide = 8, MostSide = 1000, MostChannels = 1000, MostClasses = 100_000;

    [Description("Images. make cifar10 and make cifar100 fetch those files. Your own: image-folder, idx, cifar-binary (data.md).")]
    public DataSetName Set { get; init; } = DataSetName.FashionMnist;
    [Description("Where the files lie. null: where the set-up puts them (.data/); your own sets need it.")]
    public string? Folder { get; init; }
    [Description("Training images used, the first ones of the files; of your own sets spread evenly over them. all: the files must be whole.")]
    [Range(1, 10_000_000), WrittenAs("all")]
    public int? TrainImages { get; init; }
    [Description("Test images used, likewise.")]
    [Range(1, 10_000_000), WrittenAs("all")]
    public int? TestImages { get; init; }
    [Description("Of the training images so many are held out, by class in proportion: not trained on, evaluated after each epoch. 0: none.")]
    [Range(0, 10_000_000)]
    public int ValidationImages { get; init; }
    [Description("Draws the images that are held out.")]
    public long ValidationSeed { get; init; }
    [Description("Training images are padded by so many pixels on each side and cut at random. 0: not. Not of image-folder (crop_area).")]
    [Range(0, 28)]
    public int CropPadding { get; init; } = 4;
    [Description("Training images are mirrored at random.")]
    public bool Flip { get; init; } = true;
    [Description("Of image-folder: height and width to which images are brought, 224 where it is auto. Of cifar-binary: those of the images, 32 where it is auto. Of idx the files say it.")]
    [Range(LeastSide, MostSide), WrittenAs("auto")]
    public int? ImageSize { get; init; }
    [Description("Of image-folder: 1 (gray) or 3, which auto is. Of cifar-binary: those of the images, 3 where it is auto. Of idx the files say it.")]
    [Range(1, MostChannels), WrittenAs("auto")]
    public int? Channels { get; init; }
    [Description("Of your own sets. auto: the folders, or the largest label and one.")]
    [Range(2, MostClasses), WrittenAs("auto")]
    public int? Classes { get; init; }
    [Description("Of your own sets: what is subtracted from each channel of pixels in 0..1. []: of image-folder ImageNet's, of idx and cifar-binary that of the training images used.")]
    [Range(0.0, 1.0)]
    public IReadOnlyList<double> Mean { get; init; } = [];
    [Description("Of your own sets: by what each channel is divided after that. [] where mean is [].")]
    [Range(0.001, 1000.0)]
    public IReadOnlyList<double> StandardDeviation { get; init; } = [];
    [Description("Of cifar-binary: bytes of label before each image, of which the last is used.")]
    [Range(1, 2)]
    public int LabelBytes { get; init; } = 1;
    [Description("Of image-folder: the least share of an image's area that training sees of it, resized.")]
    [Range(0.0, 1.0, MinimumIsExclusive = true)]
    public double CropArea { get; init; } = 0.08;
    [Description("Of image-folder: whether files that are no images, or broken, end the launch, or are left out with a warning that names them.")]
    public BrokenImages BrokenImages { get; init; } = BrokenImages.Refuse;
    [Description("Of image-folder: what is read of each file before training. headers: its size in pixels. whole: it is decoded.")]
    public ImageCheck CheckImages { get; init; } = ImageCheck.Headers;
    [Description("Of image-folder: threads of each rank that decode. auto: one less than the rank's threads, but one at least.")]
    [Range(1, 1024), WrittenAs("auto")]
    public int? Workers { get; init; }
    /// <summary>Shape of synthetic images.</summary>
    public SyntheticSection Synthetic { get; init; } = new();
}

public sealed record SyntheticSection
{
    /// <summary>What <c>all</c> means of synthetic images, as for CIFAR.</summary>
    public const int AllTrainImages = 50_000, AllTestImages = 10_000;

    [Description("Of synthetic images.")]
    [Range(1, 1000)]
    public int Channels { get; init; } = 3;
    [Description("Height and width of synthetic images in pixels.")]
    [Range(28, 1000)]
    public int Size { get; init; } = 32;
    [Description("Of synthetic images.")]
    [Range(2, 256)]
    public int Classes { get; init; } = 10;
}

public enum ScheduleKind { Step, Cosine, OneCycle }

public sealed record OptimizerSection
{
    // So wide that a rate that destroys the weights is seen for what it is.
    [Description("Of SGD, before the first milestone.")]
    [Range(0.0, 1e28)]
    public double LearningRate { get; init; } = 0.1;
    [Description("Of SGD.")]
    [Range(0.0, 1.0, MaximumIsExclusive = true)]
    public double Momentum { get; init; } = 0.9;
    [Description("Of SGD, added to the gradient.")]
    [Range(0.0, 1e6)]
    public double WeightDecay { get; init; } = 5e-4;
    [Description("The learning rate is multiplied by decay when training reaches each of these times.")]
    [Range(1, 1_000_000_000)]
    public IReadOnlyList<TrainingTime> Milestones { get; init; } = [];
    [Description("See milestones.")]
    [Range(0.0, 1.0, MinimumIsExclusive = true)]
    public double Decay { get; init; } = 0.1;
    [Description("How the learning rate goes. step: by milestones. cosine: down to zero. one-cycle: up from a 25th in the first three tenths of the steps, and down to nearly nothing, as PyTorch's OneCycleLR with cycle_momentum=False.")]
    public ScheduleKind Schedule { get; init; } = ScheduleKind.Step;
    [Description("Of schedules step and cosine: the time in which the learning rate rises in a straight line.")]
    [Range(1, 1_000_000_000), WrittenAs("none")]
    public TrainingTime? Warmup { get; init; }
    [Description("Momentum by Nesterov, as in PyTorch's SGD.")]
    public bool Nesterov { get; init; }
    [Description("Share of the target that is spread over all classes, in the loss of training; that of an evaluation has none.")]
    [Range(0.0, 1.0, MaximumIsExclusive = true)]
    public double LabelSmoothing { get; init; }
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
    [Description("Stages whose blocks are partitioned. The default is the published one.")]
    [Range(1, 4)]
    public IReadOnlyList<int> Stages { get; init; } = [2, 3, 4];
    [Description("Partition the first block of these stages too.")]
    public bool FirstBlocks { get; init; }
    [Description("At the start of a round. restart: zero (published). travel: a filter's goes with it, a shared parameter's stays on its rank.")]
    public MomentumKind Momentum { get; init; } = MomentumKind.Restart;
    [Description("Of the full network. recompute: on training images, before every evaluation and save. average: with the shared parameters. per-batch: evaluation goes by each batch's own, and saved ones are recomputed.")]
    public RunningStatisticsKind RunningStatistics { get; init; } = RunningStatisticsKind.Recompute;
    [Description("Training images on which they are recomputed.")]
    [Range(1, 10_000_000)]
    public int StatisticsImages { get; init; } = 2000;
    [Description("How filters are dealt to the ranks in each round. norm: by norm, from the second partitioned round on.")]
    public DealKind Deal { get; init; } = DealKind.Random;
    [Description("First rounds, of local SGD on the full network.")]
    [Range(0, 1_000_000)]
    public int WarmupRounds { get; init; }
}

/// <summary>What method gpipe alone has.</summary>
public sealed record GpipeSection
{
    [Description("Parts into which a batch is cut.")]
    [Range(1, 1_000_000)]
    public int MicroBatches { get; init; } = 4;
    [Description("The first block (or linear, the head) of each stage but the first, as [layer2.0, layer4.0]. []: balanced by FLOPs.")]
    public IReadOnlyList<string> Cuts { get; init; } = [];
}

public sealed record PretrainSection
{
    [Description("How ranks train together (methods.md). dense is for one rank.")]
    public PretrainMethod Method { get; init; } = PretrainMethod.FilterParallel;
    [Description("Of filter-parallel: exact gradients, or those through the own filters alone (methods.md).")]
    public BackwardKind Backward { get; init; } = BackwardKind.Exact;
    [Description("Of filter-parallel: which rank owns which filters.")]
    public AssignmentKind Assignment { get; init; } = AssignmentKind.Contiguous;
    [Description("Of data-parallel: statistics of the whole batch, or of each rank's share.")]
    public BatchNormScope BatchNorm { get; init; } = BatchNormScope.Synchronised;
    [Description("Of loft and local-sgd: optimizer steps of a round, after which the ranks exchange.")]
    [Range(1, 1_000_000)]
    public int LocalSteps { get; init; } = 15;
    [Description("Of loft and local-sgd. whole: every rank walks the whole set in an order of its own, with batches of its own (published). shard: it takes its share of each batch.")]
    public SampleScope Samples { get; init; } = SampleScope.Whole;
    public LoftSection Loft { get; init; } = new();
    public GpipeSection Gpipe { get; init; } = new();
    [Description("Passes over the training images.")]
    [Range(0, 1_000_000)]
    public int Epochs { get; init; } = 20;
    [Description("Images of a step, over all ranks; of each rank with samples: whole.")]
    [Range(1, 1_000_000)]
    public int Batch { get; init; } = 128;
    public OptimizerSection Optimizer { get; init; } = new();
    [Description("Epochs after which the weights are saved as epoch-N.safetensors.")]
    [Range(1, 1_000_000)]
    public IReadOnlyList<int> Snapshots { get; init; } = [];
    [Description("Optimizer steps after which the weights are saved as step-N.safetensors.")]
    [Range(1, 1_000_000_000)]
    public IReadOnlyList<int> SnapshotSteps { get; init; } = [];
}

public sealed record DistanceSection
{
    [Description("Rankings are measured before the first step and then every so often.")]
    [Range(1, 1_000_000_000)]
    public TrainingTime Every { get; init; } = TrainingTime.Epochs(1);
    [Description("Most measurements that are compared pair by pair. Of more an evenly spaced part, with the first and the last.")]
    [Range(2, 1000)]
    public int PairsMax { get; init; } = 100;
}

public sealed record ExtractSection
{
    [Description("Fraction of the filters that goes: of each prunable convolution (scope layer), or of all together (global).")]
    [Range(0.0, 1.0, MaximumIsExclusive = true)]
    public double Ratio { get; init; } = 0.5;
    [Description("Prune the first block of every stage too.")]
    public bool FirstBlocks { get; init; }
    [Description("Run folder whose dense weights are read. null: this run's own.")]
    public string? From { get; init; }
    [Description("By what the filters of a layer are ranked (tickets.md). random and smallest are controls.")]
    public FilterCriterion Criterion { get; init; } = FilterCriterion.L2;
    [Description("Of criterion random.")]
    public long Seed { get; init; } = 1;
    [Description("Of criterion rank-stability: the last so many measurements count.")]
    [Range(1, 1_000_000)]
    public int StabilityMeasurements { get; init; } = 5;
    [Description("Of criterion taylor: training images whose gradients are taken.")]
    [Range(1, 10_000_000)]
    public int TaylorImages { get; init; } = 2000;
    [Description("Of criterion taylor: images of each gradient.")]
    [Range(1, 1_000_000)]
    public int TaylorBatch { get; init; } = 100;
    [Description("How many filters of each layer stay (tickets.md).")]
    public ExtractScope Scope { get; init; } = ExtractScope.Layer;
    [Description("Of scope global: the fraction of each layer's filters that stays whatever their scores.")]
    [Range(0.0, 1.0)]
    public double LayerFloor { get; init; } = 0.1;
    [Description("Of scopes flops and parameters: the fraction of the dense network's that is left.")]
    [Range(0.0, 1.0, MinimumIsExclusive = true)]
    public double Budget { get; init; } = 0.5;
    [Description("Of scope layer-ratios: what ratio is for all, for each prunable block in the order of the network.")]
    [Range(0.0, 1.0, MaximumIsExclusive = true)]
    public IReadOnlyList<double> LayerRatios { get; init; } = [];
    [Description("Weights, or the run folder, of a ticket whose widths are taken instead. null: those of scope.")]
    public string? Like { get; init; }
    [Description("Widths are rounded to multiples of this.")]
    [Range(1, 4096)]
    public int RoundTo { get; init; } = 1;
    [Description("In so many steps the ticket is drawn, with retraining in between (tickets.md). 1: at once, as published.")]
    [Range(1, 1000)]
    public int Iterations { get; init; } = 1;
    [Description("Epochs of the retraining between two iterations; all else is as in section retrain.")]
    [Range(0, 1_000_000)]
    public int IterationEpochs { get; init; } = 1;
    [Description("The weights that each retraining between two iterations starts from. pretrained: those that the iteration left; rewind, initial: as retrain.start.")]
    public RetrainStart IterationStart { get; init; } = RetrainStart.Pretrained;
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
    [Description("Passes over the training images.")]
    [Range(0, 1_000_000)]
    public int Epochs { get; init; } = 90;
    [Description("Images of a step, over all ranks.")]
    [Range(1, 1_000_000)]
    public int Batch { get; init; } = 128;
    public OptimizerSection Optimizer { get; init; } = new();
    [Description("Statistics of the whole batch, or of each rank's share.")]
    public BatchNormScope BatchNorm { get; init; } = BatchNormScope.Synchronised;
    [Description("The weights that retraining starts from, with the momentum at zero (tickets.md).")]
    public RetrainStart Start { get; init; } = RetrainStart.Pretrained;
    [Description("Of start rewind: the time of pre-training after which the weights were saved (pretrain.snapshots, snapshot_steps).")]
    [Range(1, 1_000_000_000)]
    public TrainingTime Rewind { get; init; } = TrainingTime.Epochs(1);
    [Description("Of starts reinitialised and shuffled.")]
    public long StartSeed { get; init; } = 1;
}

/// <summary>What is measured of the dense network and its ticket when the ticket is trained; by rank 0, while the others wait.</summary>
public sealed record LatencySection
{
    [Description("Images of a pass whose time and memory are measured, of the dense network and of the ticket, after retraining (tickets.md). []: nothing is measured.")]
    [Range(1, 65536), MaxLength(16)]
    public IReadOnlyList<int> Batches { get; init; } = [1, 32, 128];
    [Description("Passes of each kind, batch and network that are timed.")]
    [Range(1, 10_000)]
    public int Rounds { get; init; } = 11;
    [Description("After so many seconds in all there are no more rounds than 3 of each kind and batch.")]
    [Range(0.0, 1e6)]
    public double Seconds { get; init; } = 10;
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
    [Description("Of command tickets: in place of extract.ratio. Of these lists every combination is a ticket; an empty one stands for the one value that the other key has (tickets.md).")]
    [Range(0.0, 1.0, MaximumIsExclusive = true)]
    public IReadOnlyList<double> Ratios { get; init; } = [];
    [Description("Of command tickets: in place of extract.criterion.")]
    public IReadOnlyList<FilterCriterion> Criteria { get; init; } = [];
    [Description("Of command tickets: in place of retrain.start.")]
    public IReadOnlyList<RetrainStart> Starts { get; init; } = [];
    [Description("Of command tickets: in place of run.seed, for all that is drawn after pre-training.")]
    public IReadOnlyList<long> Seeds { get; init; } = [];
    [Description("Of command tickets: what is made beside each ticket, to be compared with it.")]
    public IReadOnlyList<TicketControl> Controls { get; init; } = [];
    [Description("Of command tickets: ranks that make a ticket together; groups of so many make tickets side by side. all: one after the other, on all ranks.")]
    [Range(1, 1_000_000), WrittenAs("all")]
    public int? RanksPerTicket { get; init; }
    [Description("Of command tickets. false: the weights of finished tickets are removed.")]
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

    /// <summary>The ticket, trained from its pre-trained weights permuted within each layer, whatever start the ticket has.</summary>
    Shuffled,

    /// <summary>The dense network, retrained as the ticket is.</summary>
    Unpruned,
}

/// <summary>Images that are trained on; that are held out of them, for choices; and that choose nothing.</summary>
public enum DataSplit { Train, Validation, Test }

public sealed record EvaluateSection
{
    [Description("Weights file that the command evaluate measures. null: the run folder's ticket.safetensors, else its dense.safetensors.")]
    public string? Weights { get; init; }
    [Description("On which images the command evaluate measures.")]
    public DataSplit Split { get; init; } = DataSplit.Test;
    [Description("Images of a forward pass in evaluation.")]
    [Range(1, 1_000_000)]
    public int Batch { get; init; } = 500;
}

public sealed record PlotSection
{
    [Description("Layers whose heat-map is drawn. []: all.")]
    public IReadOnlyList<string> Layers { get; init; } = [];
}

/// <summary>What command plan alone has.</summary>
public sealed record PlanSection
{
    [Description("Numbers of ranks that the command plan plans for.")]
    [Range(1, 1024), MaxLength(16)]
    public IReadOnlyList<int> Ranks { get; init; } = [1, 2, 4];
    [Description("Of command plan: microseconds that a message takes whatever its size.")]
    [Range(0.0, 1e9)]
    public double LatencyMicroseconds { get; init; } = 2;
    [Description("Of command plan: 10^9 bytes a second that a rank sends.")]
    [Range(1e-3, 1e6)]
    public double BandwidthGigabytesPerSecond { get; init; } = 10;
}
