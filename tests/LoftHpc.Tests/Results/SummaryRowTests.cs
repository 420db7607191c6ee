using LoftHpc.Configuration;
using LoftHpc.Results;
using Xunit;

namespace LoftHpc.Tests.Results;

public sealed class SummaryRowTests
{
    private static readonly double[] Validated = [0.5, 0.7, 0.7, 0.6], Tested = [0.6, 0.8, 0.9, 0.85];

    /// <summary>Of equal epochs the first is chosen; rows of the other training say nothing.</summary>
    [Fact]
    public void Validation_chooses_an_epoch_and_the_best_on_the_test_images_stands_beside_it()
    {
        MetricsRow[] tested = [.. Rows(DataSplit.Test, Tested), Row(TrainingPhase.Pretrain, DataSplit.Test, 1, 0.99)];
        SummaryRow last = new(NetworkState.Ticket, 0.85, 1, 2, 3);
        Assert.Equal(
            last with { ValidationAccuracy = 0.6, ChosenEpoch = 2, ChosenTestAccuracy = 0.8, BestEpoch = 3, BestTestAccuracy = 0.9 },
            last.WithEpochs([.. tested, .. Rows(DataSplit.Validation, Validated), Row(TrainingPhase.Pretrain, DataSplit.Validation, 4, 0.99)], TrainingPhase.Retrain));
        Assert.Equal(last with { BestEpoch = 3, BestTestAccuracy = 0.9 }, last.WithEpochs(tested, TrainingPhase.Retrain));
        Assert.Equal(last, last.WithEpochs([], TrainingPhase.Retrain));
    }

    private static IEnumerable<MetricsRow> Rows(DataSplit split, double[] accuracies) => accuracies.Select((accuracy, i) => Row(TrainingPhase.Retrain, split, i + 1, accuracy));

    private static MetricsRow Row(TrainingPhase phase, DataSplit split, int epoch, double accuracy) => new(phase, epoch, split, 1, accuracy, 0.1, 1, 1, 10);
}
