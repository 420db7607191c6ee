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
    /// <summary>An evaluation that takes longer has a checkpoint before it, and may then be left.</summary>
    public TimeSpan LongEvaluation { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>Images held out of the training images, evaluated after each epoch too; null: none.</summary>
    public BatchLoader? Validation { get; init; }

    /// <summary>By which the ranks agree, wherever they meet, on what they do next; null: nothing stops them.</summary>
    public StopAgreement? Stop { get; set; }

    /// <summary>Whether a checkpoint is due by this rank's clock.</summary>
    public Func<bool> IsCheckpointDueByClock { get; set; } = () => false;

    /// <summary>Whether a checkpoint follows on so many steps; the same on all ranks.</summary>
    public Func<long, bool> IsCheckpointDue { get; set; } = _ => false;

    /// <summary>Called on all ranks, with the steps that this one has done: all that they have to know to go on is to be kept.</summary>
    public Action<long>? Checkpoint { get; set; }

    /// <summary>In words, what there is from before the stage goes wrong; empty: nothing.</summary>
    public Func<string> WhatIsKept { get; set; } = () => "";

    /// <summary>Called on all ranks after each step, with the steps and (a decimal) the epochs done: what is to be done there besides training; null: nothing.</summary>
    public Func<long, double, Action?> AfterStep { get; init; } = (_, _) => null;

    /// <summary>Called on all ranks after each epoch, with the epochs and the steps done.</summary>
    public Action<int, long> AfterEpoch { get; init; } = (_, _) => { };

    /// <summary>Called on all ranks with the rows of each epoch, one for each split.</summary>
    public Action<IReadOnlyList<MetricsRow>> OnMetrics { get; init; } = _ => { };

    private long _step;
    /// <summary>Of the step that was done last: whether all that belongs to it is done, whether the ranks have met after it, and whether that was counted.</summary>
    private bool _isDone = true, _haveMet, _isCounted;
    /// <summary>Whether ranks do several steps without the others.</summary>
    private bool _isApart;
    /// <summary>Runs while the steps of an epoch do.</summary>
    private readonly Stopwatch _clock = new();
    private double _secondsBefore, _testSeconds;
    private StepTotals _tested;

    /// <summary>Wall-clock time of the steps so far, exchanges included, evaluations and measurements not.</summary>
    public double TrainSeconds { get; private set; }

    /// <summary>How far it is, times included.</summary>
    public void Archive(StateArchive archive)
    {
        archive.Number("loop/step", ref _step);
        long met = _haveMet ? 1 : 0, counted = _isCounted ? 1 : 0;
        archive.Number("loop/have_met", ref met);
        archive.Number("loop/meeting_is_counted", ref counted);
        // What is kept is kept before the last step's evaluation and measurement.
        if (archive.IsReading) (_haveMet, _isCounted, _isDone) = (met != 0, counted != 0, false);
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
        long last = (long)epochs * method.StepsPerEpoch;
        var schedule = new LearningRateSchedule(optimizer, method.StepsPerEpoch, last);
        using IEpochProgress progress = reporter.BeginEpochs(phase, epochs, method.StepsPerEpoch, _step);
        Signals.CanGoOn = Checkpoint is not null;
        if (epochs == 0)
        {
            _tested = method.Evaluate(test, testBatch);
            _tested.MustBeFinite(Stage, "on the test images", context.Rank, found => Kept(method.Explain(found)));
        }
        _isApart = last > 1 && !method.MeetsAfter(0);
        if (!_isDone) EndStep(last, schedule, progress, isFirst: true);
        while (_step < last)
        {
            (int epoch, int inEpoch) = Place(_step);
            double learningRate = schedule.At(_step);
            _clock.Start();
            context.Clock.Begin(_step);
            Finite(_step, () =>
            {
                method.Step(epoch, inEpoch, learningRate);
                if (inEpoch + 1 == method.StepsPerEpoch) method.Look();
            });
            _step++;
            (_isDone, _haveMet, _isCounted) = (false, false, false);
            context.Clock.End();
            progress.Step(() =>
            {
                StepTotals running = method.RunningTotals;
                return new StepNumbers(running.Loss, running.Accuracy, running.Images / EpochSeconds);
            });
            EndStep(last, schedule, progress);
        }
        Signals.CanGoOn = false;
        return _tested;
    }

    /// <summary>What follows on the step done last: the ranks agree, where they meet, and then do what is to be done besides training.</summary>
    /// <param name="isFirst">It is the first thing that this launch does, and is done even by one that is to stop: each launch gets further.</param>
    private void EndStep(long last, LearningRateSchedule schedule, IEpochProgress progress, bool isFirst = false)
    {
        (int epoch, int inEpoch) = Place(_step - 1);
        Action? other = AfterStep(_step, (double)_step / method.StepsPerEpoch);
        bool endsEpoch = inEpoch + 1 == method.StepsPerEpoch, isKept = Checkpoint is null;
        if (!_haveMet)
        {
            bool isDue = Checkpoint is not null && _step < last && IsCheckpointDue(_step), meets = method.MeetsAfter(_step - 1);
            // Ranks in a round meet nowhere before they have agreed on whether to stop: otherwise one would wait for another that has stopped.
            bool apart = !meets && !endsEpoch && other is null && !isDue;
            (Pause pause, bool allMeet) = (Pause.None, true);
            if (Stop is not null && (!apart || (!isFirst && context.EarlyStop.LeavesRound())))
            {
                bool counts = meets || endsEpoch || other is not null;
                bool keepsBefore = context.Rank == 0 && endsEpoch && TestTime > LongEvaluation;
                (pause, allMeet) = Stop.Ask((meets && IsCheckpointDueByClock()) || keepsBefore, apart, counts && !_isCounted, mayStop: !isFirst, waits: _isApart);
                _isCounted |= counts;
            }
            bool keeps = Checkpoint is not null && (pause is not Pause.None || isDue), stops = StopAgreement.IsStop(pause);
            // Other ranks go on from the end of a round, but a training that is given more epochs from within its last one.
            bool before = !allMeet || _step == last;
            if (keeps && before) Keep();
            if (!(before && stops))
            {
                if (meets) Finite(_step - 1, () => method.Meet(_step - 1));
                _haveMet = true;
            }
            if (keeps && !before) Keep();
            isKept |= keeps;
            if (stops) throw Stopped(pause, "", last);
        }
        if (other is not null) Besides(other);
        if (endsEpoch) Besides(() => EndEpoch(epoch, schedule.At(_step - 1), progress, isKept && !isFirst, last));
        _isDone = true;
    }

    private void Keep()
    {
        // What is kept is finite.
        Finite(_step - 1, method.Look);
        Besides(() => Checkpoint!(_step));
    }

    private (int Epoch, int InEpoch) Place(long step) => ((int)(step / method.StepsPerEpoch), (int)(step % method.StepsPerEpoch));

    /// <summary>What the next evaluation takes: as long as the longest so far, or as training on as many images.</summary>
    private TimeSpan TestTime => TimeSpan.FromSeconds(
        _testSeconds > 0 ? _testSeconds : method.RunningTotals is { Images: > 0 } trained ? EpochSeconds / trained.Images * (test.Count + (Validation?.Count ?? 0)) : 0);

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

    private void Finite(long step, Action train)
    {
        try
        {
            train();
        }
        catch (NonFiniteException error)
        {
            (int epoch, int inEpoch) = Place(step);
            throw Kept(error.Found).Error(Stage, $"in step {inEpoch + 1 - error.StepsAgo} of {method.StepsPerEpoch} of epoch {epoch + 1}", context.Rank);
        }
    }

    private NonFinite Kept(NonFinite found) => found with { Text = $"{found.Text}{WhatIsKept()}" };

    /// <param name="isKept">Whether there is a checkpoint from right before, or there are none at all: then the evaluation may be left.</param>
    private void EndEpoch(int epoch, double learningRate, IEpochProgress progress, bool isKept, long last)
    {
        double trainSeconds = EpochSeconds;
        TrainSeconds += trainSeconds;
        var clock = Stopwatch.StartNew();
        context.EarlyStop.MayLeaveEvaluation = isKept && Stop is not null;
        _tested = method.Evaluate(test, testBatch);
        double testSeconds = clock.Elapsed.TotalSeconds;
        StepTotals? validated = Validation is null || _tested.IsCut ? null : method.Evaluate(Validation, testBatch);
        double evaluationSeconds = clock.Elapsed.TotalSeconds;
        context.EarlyStop.MayLeaveEvaluation = false;
        if (_tested.IsCut || validated is { IsCut: true }) throw Stopped(Stop!.Ask(isCounted: false).Pause, "in the evaluation ", last);
        _testSeconds = Math.Max(_testSeconds, evaluationSeconds);
        StepTotals trained = method.TakeTotals();
        MetricsRow Row(DataSplit split, StepTotals totals, double seconds) =>
            new(phase, epoch + 1, split, totals.Loss, totals.Accuracy, learningRate, totals.Images / seconds, seconds, totals.Images);
        (MetricsRow train, MetricsRow test) rows = (Row(DataSplit.Train, trained, trainSeconds), Row(DataSplit.Test, _tested, testSeconds));
        MetricsRow? validation = validated is { } held ? Row(DataSplit.Validation, held, evaluationSeconds - testSeconds) : null;
        OnMetrics(validation is null ? [rows.train, rows.test] : [rows.train, validation, rows.test]);
        progress.EpochDone(rows.train, rows.test, validation);
        _tested.MustBeFinite(Stage, $"on the test images after epoch {epoch + 1}", context.Rank, found => Kept(method.Explain(found)));
        validated?.MustBeFinite(Stage, $"on the validation images after epoch {epoch + 1}", context.Rank, found => Kept(method.Explain(found)));
        AfterEpoch(epoch + 1, _step);
        _secondsBefore = 0;
        _clock.Reset();
    }

    private string Stage => phase.ToString().ToLowerInvariant();

    private UserError Stopped(Pause stop, string where, long steps) => new(
        $"{Stage}: stopped {StopAgreement.Why(stop)} {where}after step {_step} of {steps}; " +
        (Checkpoint is null ? "the tables written until then stay, and a new launch starts this stage anew" : "the same command with --resume auto goes on from there"),
        ExitCodes.Stopped);
}
