using CsvHelper;
using LoftHpc.Arithmetic;
using LoftHpc.Communication;
using LoftHpc.Configuration;
using LoftHpc.Results;

[assembly: CsvConverter(typeof(KebabCase<TrainingPhase>))]
[assembly: CsvConverter(typeof(KebabCase<DataSplit>))]
[assembly: CsvConverter(typeof(KebabCase<CommunicationPurpose>))]
[assembly: CsvConverter(typeof(KebabCase<NetworkState>))]
[assembly: CsvConverter(typeof(KebabCase<ComparedMethod>))]
[assembly: CsvConverter(typeof(KebabCase<SampleSchedule>))]
[assembly: CsvConverter(typeof(KebabCase<ArithmeticRepair>))]
[assembly: CsvConverter(typeof(KebabCase<BetterSide>))]
[assembly: CsvConverter(typeof(KebabCase<Verdict>))]
[assembly: CsvConverter(typeof(KebabCase<FilterCriterion>))]
[assembly: CsvConverter(typeof(KebabCase<RetrainStart>))]

namespace LoftHpc.Results;

// One record for each CSV file: its properties, in order, in lower snake case, are the file's columns
// (CsvTable). results/README.md explains every one; a test compares the two.

/// <summary>The two trainings of a run.</summary>
public enum TrainingPhase { Pretrain, Retrain }

/// <summary>The network that a result belongs to: before pruning, pruned and not retrained, pruned and retrained.</summary>
public enum NetworkState { Dense, Pruned, Ticket }

/// <summary>A row of metrics.csv: one epoch on one split.</summary>
/// <param name="Epoch">Epochs done; 1 is the first.</param>
/// <param name="Loss">Mean cross-entropy an image, in nats; for the train split the mean while the epoch was trained.</param>
/// <param name="Accuracy">Fraction of images classified rightly, 0 to 1.</param>
/// <param name="LearningRate">Of the epoch's last step.</param>
/// <param name="ImagesPerSecond">Over all ranks.</param>
/// <param name="Seconds">Wall-clock time of this epoch on this split.</param>
/// <param name="Images">Of this epoch on this split, over all ranks; an image that several ranks train on counts once for each, unless they train on it together.</param>
[CsvRecord]
public sealed partial record MetricsRow(
    TrainingPhase Phase, int Epoch, DataSplit Split, double Loss, double Accuracy, double LearningRate,
    double ImagesPerSecond, double Seconds, long Images);

/// <summary>A row of filter_norms.csv: one filter at one measurement.</summary>
/// <param name="Step">Optimizer steps done; 0 is the initial network.</param>
/// <param name="Epoch">The same time in epochs, a decimal.</param>
/// <param name="Layer">Name of the convolution's weight without ".weight".</param>
/// <param name="Filter">From 0, in the order of the saved weights.</param>
/// <param name="Norm">l2 norm of the filter's weights, summed in float64.</param>
[CsvRecord]
public sealed partial record FilterNormRow(long Step, double Epoch, string Layer, int Filter, double Norm);

/// <summary>A row of filter_distance.csv: an ordered pair of measurements of one layer.</summary>
/// <param name="Step">Optimizer steps done when the ranking R of the formula was taken.</param>
/// <param name="ReferenceStep">The same of the ranking that R is compared with.</param>
/// <param name="Filters">Filters of the layer.</param>
/// <param name="Distance">Position-weighted footrule.</param>
/// <param name="NormalizedDistance">Divided by its mean over random permutations; null for a layer of one filter.</param>
[CsvRecord]
public sealed partial record FilterDistanceRow(
    long Step, long ReferenceStep, string Layer, int Filters, double Distance, double? NormalizedDistance);

/// <summary>A row of communication.csv: what one rank sent and received for one purpose through one collective.</summary>
/// <param name="Messages">Transfers from this rank to another.</param>
/// <param name="Seconds">Wall-clock time inside the calls, waiting included.</param>
[CsvRecord]
public sealed partial record CommunicationRow(
    int Rank, string Phase, CommunicationPurpose Purpose, string Collective, long Calls, long Messages,
    long BytesSent, long BytesReceived, double Seconds)
{
    public static CommunicationRow Of(int rank, CommunicationTotal total) => new(
        rank, total.Phase, total.Purpose, total.Collective, total.Calls, total.Messages,
        total.BytesSent, total.BytesReceived, total.Seconds);
}

/// <summary>A row of ticket.csv: one filter of a prunable layer.</summary>
/// <param name="Filter">Of the dense network, from 0, in the order of the saved weights.</param>
/// <param name="Norm">l2 norm of the filter's weights.</param>
/// <param name="Position">From 1, the largest score of the layer.</param>
/// <param name="Score">By which the filters were ranked (extract.criterion); null in tables of versions that knew the norm alone.</param>
[CsvRecord]
public sealed partial record TicketRow(string Layer, int Filter, double Norm, int Position, bool Kept, double? Score = null);

/// <summary>A row of summary.csv.</summary>
/// <param name="Parameters">Trainable numbers, batch norm and head included.</param>
/// <param name="TestAccuracy">After the last epoch, as the loss.</param>
/// <param name="Flops">Of one image, forward.</param>
/// <param name="ValidationAccuracy">After the last epoch, on the images that are held out; null: none are, or there was no epoch.</param>
/// <param name="ChosenEpoch">The first epoch after which the validation accuracy was highest.</param>
/// <param name="ChosenTestAccuracy">The test accuracy after it.</param>
/// <param name="BestEpoch">The first epoch after which the test accuracy was highest; null: there was no epoch.</param>
/// <param name="BestTestAccuracy">The test accuracy after it: chosen by the test images, as published, and so too good.</param>
[CsvRecord]
public sealed partial record SummaryRow(
    NetworkState Network, double TestAccuracy, double TestLoss, long Parameters, long Flops,
    double? ValidationAccuracy = null, int? ChosenEpoch = null, double? ChosenTestAccuracy = null, int? BestEpoch = null, double? BestTestAccuracy = null)
{
    /// <summary>With what the epochs of a training say.</summary>
    /// <param name="metrics">Of metrics.csv; rows of other trainings are left out.</param>
    public SummaryRow WithEpochs(IEnumerable<MetricsRow> metrics, TrainingPhase phase)
    {
        MetricsRow[] rows = [.. metrics.Where(row => row.Phase == phase).OrderBy(row => row.Epoch)];
        MetricsRow[] tested = [.. rows.Where(row => row.Split is DataSplit.Test)], validated = [.. rows.Where(row => row.Split is DataSplit.Validation)];
        // Of equal ones the first.
        MetricsRow? best = tested.MaxBy(row => row.Accuracy), chosen = validated.MaxBy(row => row.Accuracy);
        return this with
        {
            ValidationAccuracy = validated.LastOrDefault()?.Accuracy,
            ChosenEpoch = chosen?.Epoch,
            ChosenTestAccuracy = tested.FirstOrDefault(row => row.Epoch == chosen?.Epoch)?.Accuracy,
            BestEpoch = best?.Epoch,
            BestTestAccuracy = best?.Accuracy,
        };
    }
}

/// <summary>A row of tickets.csv: one finished ticket of a grid.</summary>
/// <param name="Ticket">Name of its folder.</param>
/// <param name="Ratio">extract.ratio; null where the widths came by none.</param>
/// <param name="Seed">run.seed of the ticket.</param>
/// <param name="ControlOf">Names of the tickets that it is a control of, with a space between two; empty: none.</param>
/// <param name="Filters">Kept, of all prunable layers.</param>
/// <param name="Flops">Of one image, forward.</param>
/// <param name="PrunedAccuracy">On the test set, 0 to 1, of the pre-trained ticket before retraining.</param>
/// <param name="RetrainedAccuracy">After it.</param>
/// <param name="ChosenAccuracy">After the epoch of retraining that validation chooses; null: no images are held out.</param>
/// <param name="BestAccuracy">After the epoch that is best on the test images, which is too good.</param>
[CsvRecord]
public sealed partial record TicketsRow(
    string Ticket, FilterCriterion Criterion, double? Ratio, RetrainStart Start, long Seed, string ControlOf,
    int Filters, long Parameters, long Flops, double PrunedAccuracy, double RetrainedAccuracy, double RetrainedLoss,
    double? ChosenAccuracy = null, double? BestAccuracy = null);

/// <summary>A row of resources.csv: what one rank spent in one training.</summary>
/// <param name="Images">That this rank trained on, or took part in training on.</param>
/// <param name="Flops">Of forward and backward of the layers held by this rank: three times the forward pass of each image.</param>
/// <param name="Seconds">Wall-clock time of the optimizer steps, exchanges included, evaluations not.</param>
/// <param name="WeightBytes">Parameters and running statistics held by this rank at the end.</param>
/// <param name="GradientBytes">Gradients of its parameters.</param>
/// <param name="OptimizerBytes">Momentum.</param>
/// <param name="ExchangeBytes">Buffers that are kept to exchange with other ranks.</param>
/// <param name="PeakMemoryBytes">Most memory that the process has had resident (VmHWM), from its start to the end of this training.</param>
/// <param name="Repair">What was done to convolutions that libtorch computes wrongly on the rank's machine. Launches of before there was a check did not write it.</param>
/// <param name="RepairedConvolutions">How many different ones needed it.</param>
/// <param name="DataSeconds">Of the seconds, those in which steps waited for their images. Earlier launches did not write it.</param>
[CsvRecord]
public sealed partial record ResourcesRow(
    int Rank, TrainingPhase Phase, long Images, long Flops, double Seconds,
    long WeightBytes, long GradientBytes, long OptimizerBytes, long ExchangeBytes, long PeakMemoryBytes,
    ArithmeticRepair Repair = ArithmeticRepair.None, int RepairedConvolutions = 0, double DataSeconds = 0);

/// <summary>The methods as comparison.csv tells them apart, in its order.</summary>
public enum ComparedMethod { Dense, DataParallel, FilterParallel, FilterParallelLocal, LocalSgd, Gpipe, Loft }

/// <summary>How many images pre-training took: as many as one rank would take, or as many on every rank, as LoFT was published.</summary>
public enum SampleSchedule { EqualSamples, Published }

/// <summary>A row of comparison.csv: one finished run. Costs are those of pre-training, without evaluations.</summary>
/// <param name="Ratio">Fraction of the filters of each prunable convolution that was removed.</param>
/// <param name="PretrainedAccuracy">On the test set, 0 to 1, as the two after it.</param>
/// <param name="Samples">Images trained on, over all ranks.</param>
/// <param name="Flops">Of forward and backward, over all ranks.</param>
/// <param name="Bytes">Sent by all ranks to train.</param>
/// <param name="MeasurementBytes">Sent by all ranks to evaluate, to measure distances and to save.</param>
/// <param name="Seconds">Wall-clock time of the optimizer steps.</param>
/// <param name="PeakMemoryBytes">Of the rank that had most.</param>
/// <param name="Name">The run's, without its ranks and seed; it tells apart what differs in other settings.</param>
[CsvRecord]
public sealed partial record ComparisonRow(
    ComparedMethod Method, SampleSchedule Schedule, int Ranks, long Seed, double Ratio,
    double PretrainedAccuracy, double PrunedAccuracy, double RetrainedAccuracy,
    long Samples, long Flops, long Bytes, long MeasurementBytes, double Seconds, double ImagesPerSecond, long PeakMemoryBytes, string Name);

/// <summary>Which values of a metric are the better ones.</summary>
public enum BetterSide { Higher, Lower }

/// <summary>What a comparison with the baseline says, by rule; none: the baseline itself, or no baseline was named.</summary>
public enum Verdict { None, Better, Worse, AsGood, Undecided }

/// <summary>A row of statistics.csv: one metric of one group of runs that differ in their seed alone.</summary>
/// <param name="Group">What tells the group from others, as KEY=VALUE; each key is a column of its own too, after these.</param>
/// <param name="Metric">A column of comparison.csv, or what summary.csv has of the ticket.</param>
/// <param name="Better">Whether higher or lower values are better.</param>
/// <param name="Seeds">Runs that have the metric.</param>
/// <param name="Deviation">Standard deviation over the seeds, n - 1 in the denominator; null for one seed.</param>
/// <param name="Low">Lower end of the mean's 95 % interval, by Student's t.</param>
/// <param name="Baseline">True for the group that the others are compared with.</param>
/// <param name="Pairs">Seeds that the group and the baseline both have.</param>
/// <param name="Difference">Mean over the pairs, group minus baseline.</param>
/// <param name="DifferenceLow">Lower end of its 95 % interval; null where the differences do not vary.</param>
/// <param name="P">Of the paired t test, two-sided; null where nothing is tested.</param>
/// <param name="PHolm">The same after Holm's correction over the whole table.</param>
/// <param name="PSigns">Of the exact permutation test of the signs, two-sided, not corrected; null for fewer than 6 pairs.</param>
/// <param name="Margin">By how much a group may be worse and still be as good; null: none was given.</param>
/// <param name="PMarginHolm">Of the paired t test against being worse by the margin or more, one-sided, after Holm's correction.</param>
[CsvRecord]
public sealed partial record StatisticsRow(
    string Group, string Metric, BetterSide Better, int Seeds, double Mean, double? Deviation, double? Low, double? High,
    bool Baseline, int Pairs, double? Difference, double? DifferenceLow, double? DifferenceHigh,
    double? P, double? PHolm, double? PSigns, double? Margin, double? PMarginHolm, Verdict Verdict);
