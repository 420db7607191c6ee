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
    /// <summary>Called on all ranks after each step in which they have met, and what ends with it: what they do before the next.</summary>
    public Func<Pause> Ask { get; set; } = () => Pause.None;

    /// <summary>Whether a checkpoint follows on so many steps; the same on all ranks.</summary>
    public Func<long, bool> IsCheckpointDue { get; set; } = _ => false;

    /// <summary>Called on all ranks, with the steps done: all that they have to know to go on is to be kept.</summary>
    public Action<long>? Checkpoint { get; set; }

    /// <summary>In words, what there is from before the stage goes wrong; empty: nothing.</summary>
    public Func<string> WhatIsKept { get; set; } = () => "";

    /// <summary>Called on all ranks after each step, with the steps and (a decimal) the epochs done: what is to be done there besides training; null: nothing.</summary>
    public Func<long, double, Action?> AfterStep { get; init; } = (_, _) => null;

    /// <summary>Called on all ranks after each epoch, with the epochs and the steps done.</summary>
    public Action<int, long> AfterEpoch { get; init; } = (_, _) => { };

    /// <summary>Called on all ranks with the two rows of each epoch.</summary>
    public Action<MetricsRow, MetricsRow> OnMetrics { get; init; } = (_, _) => { };

    private long _step;
    /// <summary>Runs while the steps of an epoch do.</summary>
    private readonly Stopwatch _clock = new();
    private double _secondsBefore;
    private StepTotals _tested;

    /// <summary>Wall-clock time of the steps so far, exchanges included, evaluations and measurements not.</summary>
    public double TrainSeconds { get; private set; }

    /// <summary>How far it is, times included.</summary>
    public void Archive(StateArchive archive)
    {
        archive.Number("loop/step", ref _step);
        double seconds = TrainSeconds;
        archive.Number("loop/train_seconds", ref seconds);
        TrainSeconds = seconds;
        seconds = EpochSeconds;
        archive.Number("loop/epoch_seconds", ref seconds);
        if (archive.IsReading) _secondsBefore = seconds;
        (double lossSum, long correct, long images) = _tested;
        archive.Number("loop/tested_loss_sum", ref lossSum);
        archive.Number("loop/tested_correct", ref correct);
        archive.Number("loop/tested_images", ref images);
        _tested = new StepTotals(lossSum, correct, images);
    }

    /// <summary>Trains to the end, from where it is, and returns the totals of the last evaluation (on the test set).</summary>
    /// <exception cref="UserError">The loss is no longer a finite number, or the ranks were asked to stop; on all ranks.</exception>
    public StepTotals Run(IReporter reporter)
    {
        var schedule = new LearningRateSchedule(optimizer, method.StepsPerEpoch);
        using IEpochProgress progress = reporter.BeginEpochs(phase, epochs, method.StepsPerEpoch, _step);
        Signals.CanGoOn = Checkpoint is not null;
        if (epochs == 0)
        {
            _tested = method.Evaluate(test, testBatch);
            _tested.MustBeFinite(Stage, "on the test images", context.Rank, found => Kept(method.Explain(found)));
        }
        long last = (long)epochs * method.StepsPerEpoch;
        while (_step < last)
        {
            (int epoch, int inEpoch) = ((int)(_step / method.StepsPerEpoch), (int)(_step % method.StepsPerEpoch));
            double learningRate = schedule.At(_step);
            _clock.Start();
            context.Clock.Begin(_step);
            Finite(epoch, inEpoch, () =>
            {
                method.Step(epoch, inEpoch, learningRate);
                if (inEpoch + 1 == method.StepsPerEpoch) method.Look();
            });
            _step++;
            context.Clock.End();
            progress.Step(() =>
            {
                StepTotals running = method.RunningTotals;
                return new StepNumbers(running.Loss, running.Accuracy, running.Images / EpochSeconds);
            });
            if (AfterStep(_step, (double)_step / method.StepsPerEpoch) is Action other) Besides(other);
            if (inEpoch + 1 == method.StepsPerEpoch) Besides(() => EndEpoch(epoch, learningRate, progress));

            Pause pause = method.HaveMet && _step < last ? Ask() : Pause.None;
            if (Checkpoint is not null && _step < last && (pause is not Pause.None || IsCheckpointDue(_step)))
            {
                // What is kept is finite.
                Finite(epoch, inEpoch, method.Look);
                Besides(() => Checkpoint(_step));
            }
            if (StopAgreement.IsStop(pause)) throw Stopped(pause, _step, last);
        }
        Signals.CanGoOn = false;
        return _tested;
    }

    /// <summary>Of the epoch under way.</summary>
    private double EpochSeconds => _secondsBefore + _clock.Elapsed.TotalSeconds;

    /// <summary>Does what is no training, when the device has done what it was given.</summary>
    private void Besides(Action action)
    {
        context.Wait();
        _clock.Stop();
        action();
        _clock.Start();
    }

    private void Finite(int epoch, int inEpoch, Action train)
    {
        try
        {
            train();
        }
        catch (NonFiniteException error)
        {
            throw Kept(error.Found).Error(Stage, $"in step {inEpoch + 1 - error.StepsAgo} of {method.StepsPerEpoch} of epoch {epoch + 1}", context.Rank);
        }
    }

    private NonFinite Kept(NonFinite found) => found with { Text = $"{found.Text}{WhatIsKept()}" };

    private void EndEpoch(int epoch, double learningRate, IEpochProgress progress)
    {
        double trainSeconds = EpochSeconds;
        TrainSeconds += trainSeconds;
        StepTotals trained = method.TakeTotals();
        var clock = Stopwatch.StartNew();
        _tested = method.Evaluate(test, testBatch);
        double testSeconds = clock.Elapsed.TotalSeconds;
        MetricsRow Row(DataSplit split, StepTotals totals, double seconds) =>
            new(phase, epoch + 1, split, totals.Loss, totals.Accuracy, learningRate, totals.Images / seconds, seconds, totals.Images);
        (MetricsRow train, MetricsRow test) rows = (Row(DataSplit.Train, trained, trainSeconds), Row(DataSplit.Test, _tested, testSeconds));
        OnMetrics(rows.train, rows.test);
        progress.EpochDone(rows.train, rows.test);
        _tested.MustBeFinite(Stage, $"on the test images after epoch {epoch + 1}", context.Rank, found => Kept(method.Explain(found)));
        AfterEpoch(epoch + 1, _step);
        _secondsBefore = 0;
        _clock.Reset();
    }

    private string Stage => phase.ToString().ToLowerInvariant();

    private UserError Stopped(Pause stop, long step, long steps) => new(
        $"{Stage}: stopped {StopAgreement.Why(stop)} after step {step} of {steps}; " +
        (Checkpoint is null ? "the tables written until then stay, and a new launch starts this stage anew" : "the same command with --resume auto goes on from there"),
        ExitCodes.Stopped);
}
