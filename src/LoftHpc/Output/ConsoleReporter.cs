using System.Text;
using LoftHpc.Results;
using Spectre.Console;
using Spectre.Console.Rendering;

namespace LoftHpc.Output;

/// <summary>How the course of a training is shown.</summary>
public enum ProgressKind
{
    /// <summary>Not at all.</summary>
    None,

    /// <summary>One line an epoch, plain ASCII; for batch logs.</summary>
    Lines,

    /// <summary>A line an epoch and a bar below them; for terminals.</summary>
    Bar,
}

/// <summary>Rank 0's reporter.</summary>
public sealed class ConsoleReporter : IReporter
{
    /// <summary>Chooses how progress is shown: bar, lines or none; otherwise a bar where the launch has a terminal, else lines.</summary>
    public const string ProgressVariable = "LOFTHPC_PROGRESS";

    /// <summary>Room for any table; lines are never broken here, a terminal does that.</summary>
    private const int Unbroken = 1000;

    /// <summary>The first one that is set counts.</summary>
    private static readonly string[] LocaleVariables = ["LC_ALL", "LC_CTYPE", "LANG"];

    private readonly TextWriter _output;
    private readonly TextWriter _error;
    private readonly Verbosity _verbosity;
    private readonly ProgressKind _progress;
    private readonly IAnsiConsole _console;
    private Action? _endBar;

    internal ConsoleReporter(TextWriter output, TextWriter error, Verbosity verbosity, ProgressKind progress, bool unicode, bool colors, Func<int> columns)
    {
        _output = output;
        _error = error;
        _verbosity = verbosity;
        _progress = verbosity == Verbosity.Quiet ? ProgressKind.None : progress;
        bool terminal = progress == ProgressKind.Bar;
        _console = AnsiConsole.Create(new AnsiConsoleSettings
        {
            Ansi = terminal ? AnsiSupport.Yes : AnsiSupport.No,
            ColorSystem = terminal && colors ? ColorSystemSupport.Standard : ColorSystemSupport.NoColors,
            Interactive = terminal ? InteractionSupport.Yes : InteractionSupport.No,
            Enrichment = new ProfileEnrichment { UseDefaultEnrichers = false },
            Out = new ConsoleOutput(output, columns),
        });
        _console.Profile.Capabilities.Unicode = terminal && unicode;
    }

    /// <summary>The reporter of a rank: rank 0 prints, the others are silent but for their errors.</summary>
    /// <exception cref="UserError"><see cref="ProgressVariable"/> has a value that it cannot have.</exception>
    public static IReporter Create(int rank, Verbosity verbosity)
    {
        LauncherTerminal.KeepConsolePlain();
        if (rank != 0) return new SilentReporter(Console.Error);
        LauncherTerminal? terminal = LauncherTerminal.Current;
        ProgressKind progress = AskedProgress() ?? (terminal is not null ? ProgressKind.Bar : ProgressKind.Lines);
        string locale = LocaleVariables.Select(Environment.GetEnvironmentVariable).FirstOrDefault(v => v is not (null or "")) ?? "";
        bool unicode = locale.Replace("-", "", StringComparison.Ordinal).Contains("utf8", StringComparison.OrdinalIgnoreCase);
        bool colors = Environment.GetEnvironmentVariable("NO_COLOR") is null or "";
        return new ConsoleReporter(Console.Out, Console.Error, verbosity, progress, unicode, colors, terminal is null ? () => 80 : terminal.Columns);
    }

    /// <summary>The reporter of a rank of a group that works beside others: rank 0 of each prints, in lines.</summary>
    public static IReporter CreateForGroup(int rank, Verbosity verbosity) => rank != 0
        ? new SilentReporter(Console.Error)
        : new ConsoleReporter(
            Console.Out, Console.Error, verbosity, AskedProgress() is ProgressKind.None ? ProgressKind.None : ProgressKind.Lines, unicode: false, colors: false, () => 80);

    /// <summary>What <see cref="ProgressVariable"/> asks for; null where it is not set.</summary>
    /// <exception cref="UserError">It has a value that it cannot have.</exception>
    public static ProgressKind? AskedProgress() => Environment.GetEnvironmentVariable(ProgressVariable) switch
    {
        "none" => ProgressKind.None,
        "lines" => ProgressKind.Lines,
        "bar" => ProgressKind.Bar,
        null or "" => null,
        string other => throw new UserError($"{ProgressVariable}={PlainText.Of(other)}: allowed are bar, lines and none"),
    };

    /// <inheritdoc/>
    public string Prefix { get; set; } = "";

    public void Info(string line)
    {
        if (_verbosity >= Verbosity.Normal) Print(line);
    }

    public void Verbose(string line)
    {
        if (_verbosity >= Verbosity.Verbose) Print(line);
    }

    public void Result(string line) => Print(line);

    public void Warning(string line)
    {
        line = $"warning: {Prefix}{line}";
        if (_endBar is null) _error.WriteLine(line);
        else Print(line);
    }

    public void Error(string line)
    {
        if (_endBar is not null)
        {
            _endBar();
            // The two streams may meet out of order.
            _error.WriteLine();
        }
        _error.WriteLine(line);
    }

    public void Table(TextTable table, bool isResult = false)
    {
        if (_verbosity == Verbosity.Quiet && !isResult) return;
        Table grid = new Table().Border(_console.Profile.Capabilities.Unicode ? TableBorder.Simple : TableBorder.Markdown);
        for (int i = 0; i < table.Headers.Count; i++)
        {
            TableColumn column = new TableColumn(new Text(table.Headers[i])).NoWrap();
            grid.AddColumn(table.RightAligned.Contains(i) ? column.RightAligned() : column);
        }
        foreach (IReadOnlyList<string> row in table.Rows) grid.AddRow(row.Select(cell => new Text(cell)));
        if (table.Title.Length > 0) Print(table.Title);
        Print(grid);
    }

    public IEpochProgress BeginEpochs(TrainingPhase phase, int epochs, int stepsPerEpoch, long stepsDone = 0)
    {
        EpochClock clock = new(phase, epochs, stepsPerEpoch, stepsDone);
        if (_progress != ProgressKind.Bar) return new EpochLines(clock, _progress == ProgressKind.Lines ? line => Print(line) : _ => { });
        EpochBar bar = new(clock, _console, line => Print(line), ended: () => _endBar = null);
        _endBar = bar.Dispose;
        return bar;
    }

    private void Print(string line)
    {
        if (_endBar is null) _output.WriteLine(Prefix + line);
        else Print(new Text($"{Prefix}{line}\n"));
    }

    private void Print(IRenderable content) => _console.Write(new UnbrokenContent(content, eraseBar: _endBar is not null));

    /// <summary>Where Spectre writes, and how wide it is at the moment.</summary>
    private sealed class ConsoleOutput(TextWriter writer, Func<int> columns) : IAnsiConsoleOutput
    {
        public TextWriter Writer { get; } = new CursorKeepingWriter(writer);

        public bool IsTerminal => true;

        public int Width => columns();

        public int Height => 24;

        public void SetEncoding(Encoding encoding)
        {
        }
    }

    /// <summary>
    /// Content whose lines are not broken. Spectre writes above a bar without erasing it first, which would leave pieces
    /// of it at the ends of lines.
    /// </summary>
    private sealed class UnbrokenContent(IRenderable content, bool eraseBar) : IRenderable
    {
        private static readonly Segment EraseBelow = Segment.Control("\u001b[0J");

        public Measurement Measure(RenderOptions options, int maxWidth) => content.Measure(options, Unbroken);

        public IEnumerable<Segment> Render(RenderOptions options, int maxWidth)
        {
            IEnumerable<Segment> segments = content.Render(options, Unbroken);
            return eraseBar ? segments.Prepend(EraseBelow) : segments;
        }
    }

    /// <summary>Leaves the cursor visible: a launch that is interrupted could not show it again.</summary>
    private sealed class CursorKeepingWriter(TextWriter inner) : TextWriter
    {
        private const string HideCursor = "\u001b[?25l";

        public override Encoding Encoding => inner.Encoding;

        public override void Write(char value) => inner.Write(value);

        public override void Write(string? value) => inner.Write(value?.Replace(HideCursor, "", StringComparison.Ordinal));

        public override void Flush() => inner.Flush();
    }
}

/// <summary>The reporter of every rank but 0.</summary>
public sealed class SilentReporter(TextWriter error) : IReporter
{
    public string Prefix { get; set; } = "";

    public void Info(string line)
    {
    }

    public void Verbose(string line)
    {
    }

    public void Result(string line)
    {
    }

    public void Warning(string line)
    {
    }

    public void Error(string line) => error.WriteLine(line);

    public void Table(TextTable table, bool isResult = false)
    {
    }

    public IEpochProgress BeginEpochs(TrainingPhase phase, int epochs, int stepsPerEpoch, long stepsDone = 0) =>
        new EpochLines(new EpochClock(phase, epochs, stepsPerEpoch, stepsDone), _ => { });
}
