using System.Diagnostics;
using LoftHpc.Configuration;
using LoftHpc.Data;
using LoftHpc.Output;
using LoftHpc.Results;

namespace LoftHpc.Training;

/// <summary>Runs a method for some epochs and reports every epoch; the same on all ranks.</summary>
public sealed class TrainingLoop(
    RankContext context, TrainingPhase phase, ITrainingMethod method, int epochs, OptimizerSection optimizer, BatchLoader test, int testBatch)
{
    /// <summary>Called on all ranks after each step in which they have met: whether all of them are to stop there.</summary>
    public Func<bool> MustStop { get; init; } = () => false;

    /// <summary>Called on all ranks after each step, with the steps and (a decimal) the epochs done: what is to be done there besides training; null: nothing.</summary>
    public Func<long, double, Action?> AfterStep { get; init; } = (_, _) => null;

    /// <summary>Called on all ranks after each epoch, with the epochs and the steps done.</summary>
    public Action<int, long> AfterEpoch { get; init; } = (_, _) => { };

    /// <summary>Called on all ranks with the two rows of each epoch.</summary>
    public Action<MetricsRow, MetricsRow> OnMetrics { get; init; } = (_, _) => { };

    /// <summary>Wall-clock time of the steps so far, exchanges included, evaluations and measurements not.</summary>
    public double TrainSeconds { get; private set; }

    /// <summary>Trains, and returns the totals of the last evaluation (on the test set).</summary>
    /// <exception cref="UserError">The loss is no longer a finite number, or the ranks were asked to stop; on all ranks.</exception>
    public StepTotals Run(IReporter reporter)
    {
        var schedule = new LearningRateSchedule(optimizer, method.StepsPerEpoch);
        using IEpochProgress progress = reporter.BeginEpochs(phase, epochs, method.StepsPerEpoch);
        StepTotals tested = epochs == 0 ? method.Evaluate(test, testBatch) : default;
        tested.MustBeFinite(Stage, "on the test images", context.Rank, method.Explain);
        long step = 0;
        for (int epoch = 0; epoch < epochs; epoch++)
        {
            double learningRate = schedule.At(step);
            var clock = Stopwatch.StartNew();
            TimeSpan besides = TimeSpan.Zero;
            StepNumbers Numbers()
            {
                StepTotals running = method.RunningTotals;
                return new StepNumbers(running.Loss, running.Accuracy, running.Images / (clock.Elapsed - besides).TotalSeconds);
            }
            for (int i = 0; i < method.StepsPerEpoch; i++)
            {
                learningRate = schedule.At(step);
                try
                {
                    method.Step(epoch, i, learningRate);
                    if (i + 1 == method.StepsPerEpoch) method.Look();
                }
                catch (NonFiniteException error)
                {
                    throw error.Found.Error(Stage, $"in step {i + 1 - error.StepsAgo} of {method.StepsPerEpoch} of epoch {epoch + 1}", context.Rank);
                }
                step++;
                progress.Step(Numbers);
                if (AfterStep(step, (double)step / method.StepsPerEpoch) is Action other)
                {
                    context.Wait();
                    TimeSpan before = clock.Elapsed;
                    other();
                    besides += clock.Elapsed - before;
                }
                if (method.HaveMet && step < (long)epochs * method.StepsPerEpoch && MustStop()) throw Stopped(step, (long)epochs * method.StepsPerEpoch);
            }
            context.Wait();
            double trainSeconds = (clock.Elapsed - besides).TotalSeconds;
            TrainSeconds += trainSeconds;
            StepTotals trained = method.TakeTotals();
            clock.Restart();
            tested = method.Evaluate(test, testBatch);
            double testSeconds = clock.Elapsed.TotalSeconds;
            MetricsRow Row(DataSplit split, StepTotals totals, double seconds) =>
                new(phase, epoch + 1, split, totals.Loss, totals.Accuracy, learningRate, totals.Images / seconds, seconds, totals.Images);
            (MetricsRow train, MetricsRow test) rows = (Row(DataSplit.Train, trained, trainSeconds), Row(DataSplit.Test, tested, testSeconds));
            OnMetrics(rows.train, rows.test);
            progress.EpochDone(rows.train, rows.test);
            tested.MustBeFinite(Stage, $"on the test images after epoch {epoch + 1}", context.Rank, method.Explain);
            AfterEpoch(epoch + 1, step);
        }
        return tested;
    }

    private string Stage => phase.ToString().ToLowerInvariant();

    private UserError Stopped(long step, long steps) => new(
        $"{Stage}: stopped by SIGUSR1 after step {step} of {steps}; the tables written until then stay, and a new launch starts this stage anew",
        ExitCodes.Stopped);
}
