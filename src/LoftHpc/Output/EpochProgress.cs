using System.Diagnostics;
using System.Globalization;
using LoftHpc.Results;
using Spectre.Console;
using Spectre.Console.Rendering;

namespace LoftHpc.Output;

/// <summary>Counts the steps of a training and the time that they take, and words both.</summary>
internal sealed class EpochClock(TrainingPhase phase, int epochs, int stepsPerEpoch, long stepsDone)
{
    private readonly Stopwatch _watch = Stopwatch.StartNew();
    private readonly long _stepsBefore = stepsDone;

    public long Steps { get; private set; } = stepsDone;

    public long AllSteps { get; } = (long)epochs * stepsPerEpoch;

    public string Phase { get; } = phase == TrainingPhase.Pretrain ? "pretrain" : "retrain";

    /// <summary>"3/20", of the epoch under way.</summary>
    public string Epoch => Numbered((int)Math.Min(epochs, (Steps / Math.Max(1, stepsPerEpoch)) + 1));

    public void Step() => Steps++;

    /// <summary>From the mean speed of this launch, evaluations included; empty before the first step and after the last.</summary>
    public string TimeLeft()
    {
        long done = Steps - _stepsBefore;
        return done == 0 || Steps >= AllSteps ? "" : Duration(_watch.Elapsed * ((double)(AllSteps - Steps) / done)) + " left";
    }

    /// <summary>The line of an epoch that is done.</summary>
    public string Line(MetricsRow train, MetricsRow? test, MetricsRow? validation)
    {
        string tested = test is null ? "" : Invariant($"  test loss {Loss(test.Loss)} acc {Percent(test.Accuracy)}");
        string validated = validation is null ? "" : Invariant($"  validation acc {Percent(validation.Accuracy)}");
        double seconds = train.Seconds + (test?.Seconds ?? 0) + (validation?.Seconds ?? 0);
        return Invariant($"{Phase} epoch {Numbered(train.Epoch)}  train loss {Loss(train.Loss)} acc {Percent(train.Accuracy)}{validated}{tested}") +
            Invariant($"  lr {train.LearningRate:G4}  {train.ImagesPerSecond:F0} images/s  {seconds:F1} s");
    }

    /// <summary>"0.1234", and "5.9E+34" where that would be a row of digits.</summary>
    public static string Loss(double loss) => loss < 1e4 ? Invariant($"{loss:F4}") : Invariant($"{loss:G5}");

    /// <summary>"85.21 %" of a fraction.</summary>
    public static string Percent(double fraction) => Invariant($"{100 * fraction:F2} %");

    public static string Invariant(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);

    private static string Duration(TimeSpan time) => time.TotalHours >= 1
        ? Invariant($"{(long)time.TotalHours}:{time.Minutes:D2}:{time.Seconds:D2}")
        : Invariant($"{time.Minutes}:{time.Seconds:D2}");

    private string Numbered(int epoch)
    {
        string last = Invariant($"{epochs}");
        return Invariant($"{epoch}").PadLeft(last.Length) + "/" + last;
    }
}

/// <summary>One line an epoch.</summary>
internal sealed class EpochLines(EpochClock clock, Action<string> print) : IEpochProgress
{
    public void Step(Func<StepNumbers> numbers) => clock.Step();

    public void EpochDone(MetricsRow train, MetricsRow? test, MetricsRow? validation = null) => print($"{clock.Line(train, test, validation)}  {clock.TimeLeft()}".TrimEnd());

    public void Dispose()
    {
    }
}

/// <summary>
/// A progress bar under the lines of the epochs. It is drawn by the calling thread, at most twice a second, so that
/// no thread of its own takes time from the training.
/// </summary>
internal sealed class EpochBar : IEpochProgress
{
    private static readonly TimeSpan RefreshInterval = TimeSpan.FromMilliseconds(500);

    private readonly EpochClock _clock;
    private readonly Action<string> _print;
    private readonly Action _ended;
    private readonly TaskCompletionSource _done = new();
    private readonly Task _running;
    private readonly Stopwatch _sinceRefresh = Stopwatch.StartNew();
    private ProgressContext _context = null!;
    private ProgressTask _task = null!;
    private string _numbers = "";

    public EpochBar(EpochClock clock, IAnsiConsole console, Action<string> print, Action ended)
    {
        _clock = clock;
        _print = print;
        _ended = ended;
        int columns = console.Profile.Width;
        List<ProgressColumn> parts = [new TextColumn(() => $"{_clock.Phase} {_clock.Epoch}")];
        // The texts come first; 58 columns take "loss 0.1234  acc 12.34 %  12345 images/s  12:34:56 left" and the gaps.
        int room = columns - 58 - $"{clock.Phase} {clock.Epoch}".Length;
        if (room >= 4) parts.Add(new ProgressBarColumn { Width = Math.Min(room, 40) });
        parts.Add(new TextColumn(() => _numbers));
        _running = new Progress(console)
            .AutoRefresh(false).AutoClear(true).ExcludeVerticalPadding().Columns([.. parts])
            .StartAsync(context =>
            {
                _context = context;
                _task = context.AddTask(clock.Phase, maxValue: Math.Max(1, clock.AllSteps));
                _task.Value = clock.Steps;
                return _done.Task;
            });
    }

    public void Step(Func<StepNumbers> numbers)
    {
        _clock.Step();
        if (_sinceRefresh.Elapsed < RefreshInterval || _done.Task.IsCompleted) return;
        _sinceRefresh.Restart();
        (double loss, double accuracy, double imagesPerSecond) = numbers();
        string quality = double.IsNaN(loss) || double.IsNaN(accuracy) ? "" : EpochClock.Invariant($"loss {EpochClock.Loss(loss)}  acc {EpochClock.Percent(accuracy)}  ");
        _numbers = EpochClock.Invariant($"{quality}{imagesPerSecond:F0} images/s  {_clock.TimeLeft()}");
        _task.Value = _clock.Steps;
        _context.Refresh();
    }

    public void EpochDone(MetricsRow train, MetricsRow? test, MetricsRow? validation = null) => _print(_clock.Line(train, test, validation));

    public void Dispose()
    {
        if (_done.Task.IsCompleted) return;
        _done.SetResult();
        _running.GetAwaiter().GetResult();
        _ended();
    }

    private sealed class TextColumn(Func<string> text) : ProgressColumn
    {
        protected override bool NoWrap => true;

        public override IRenderable Render(RenderOptions options, ProgressTask task, TimeSpan deltaTime) =>
            new Text(text()) { Overflow = Overflow.Crop };
    }
}
