using System.Globalization;
using System.Text;
using CsvHelper;
using LoftHpc.Configuration;
using LoftHpc.Results;
using LoftHpc.Statistics;

namespace LoftHpc.Comparing;

/// <summary>What compare is asked for, as the command line has it.</summary>
/// <param name="Baseline">KEY=VALUE of columns, which must all hold, or one name of a run or its folder; empty: none.</param>
/// <param name="Metrics">Names; empty: the default ones.</param>
/// <param name="Margins">METRIC=X, or X for all accuracies that are shown.</param>
/// <param name="Regression">The metric in which no group may be worse than the baseline by more than <paramref name="Tolerance"/>.</param>
public sealed record ComparisonQuestions(
    IReadOnlyList<string> Baseline, IReadOnlyList<string> Metrics, IReadOnlyList<string> Margins, string? Regression = null, double? Tolerance = null);

/// <summary>Groups of runs, metric by metric, and what can be said of their differences to one of them.</summary>
/// <param name="Columns">Settings that tell the groups apart.</param>
/// <param name="Baseline">Null where none was named.</param>
/// <param name="Metrics">In the order of <see cref="Metric.All"/>; each has rows.</param>
/// <param name="Rows">For each metric, each group that has it.</param>
/// <param name="Regression">In one line, which groups are worse than the baseline by more than the tolerance; null: none is, or it was not asked.</param>
public sealed record GroupComparison(
    IReadOnlyList<string> Columns, RunGroup? Baseline, IReadOnlyList<Metric> Metrics,
    IReadOnlyList<(Metric Metric, RunGroup Group, StatisticsRow Row)> Rows, string? Regression)
{
    /// <summary>Of the two-sided test, after Holm's correction; half of it of the one-sided test against the margin.</summary>
    public const double Alpha = 0.05;

    /// <exception cref="UserError">A question does not fit the runs, or too few runs are left to answer it.</exception>
    public static GroupComparison Of(RunComparison runs, ComparisonQuestions asked)
    {
        if (asked.Tolerance is not null && asked.Regression is null) throw new UserError("--tolerance: --fail-on-regression METRIC says of what");
        if (asked.Regression is not null && asked.Tolerance is not (>= 0 and < double.PositiveInfinity))
            throw new UserError("--fail-on-regression: --tolerance X must be given, a number of 0 or more in the unit of the metric's column");
        if (asked.Baseline.Count == 0 && (asked.Margins.Count > 0 || asked.Regression is not null))
            throw new UserError($"{(asked.Margins.Count > 0 ? "--margin" : "--fail-on-regression")}: --baseline must name the group that the others are compared with");
        HashSet<Metric> chosen = [.. asked.Metrics.Select(name => Metric.Named(name, "--metric"))];
        if (chosen.Count == 0) chosen.UnionWith(Metric.Default);
        Metric? judged = asked.Regression is null ? null : Metric.Named(asked.Regression, "--fail-on-regression");
        if (judged is not null) chosen.Add(judged);
        Metric[] metrics = [.. Metric.All.Where(chosen.Contains)];
        Dictionary<Metric, double> margins = MarginsOf(asked.Margins, metrics);
        RunGroup? baseline = asked.Baseline.Count == 0 ? null : BaselineOf(runs, asked.Baseline);
        if (baseline is not null && !runs.Groups.Any(group => group != baseline && group.Runs.Any(run => baseline.Runs.Any(other => other.Row.Seed == run.Row.Seed))))
            throw new UserError($"--baseline: no other group has a seed of {PlainText.Of(baseline.Label)}, so there is nothing to compare ({runs.Groups.Count} group{(runs.Groups.Count == 1 ? "" : "s")} of runs)");

        Comparison[] all =
        [
            .. from metric in metrics
               from @group in runs.Groups
               let comparison = Comparison.Of(metric, @group, baseline, margins.TryGetValue(metric, out double margin) ? margin : null)
               where comparison is not null
               select comparison,
        ];
        if (metrics.FirstOrDefault(metric => !all.Any(comparison => comparison.Metric == metric)) is Metric absent)
        {
            if (asked.Metrics.Contains(absent.Name)) throw new UserError($"--metric: no run has {absent.Name}");
            metrics = [.. metrics.Where(metric => all.Any(comparison => comparison.Metric == metric))];
        }
        Correct(all, comparison => comparison.P, (comparison, p) => comparison.PHolm = p);
        Correct(all, comparison => comparison.PMargin, (comparison, p) => comparison.PMarginHolm = p);
        return new GroupComparison(
            runs.Columns, baseline, metrics, [.. all.Select(comparison => (comparison.Metric, comparison.Group, comparison.Row()))],
            judged is null ? null : RegressionOf(judged, runs, baseline!, all, asked.Tolerance!.Value));
    }

    /// <summary>Writes statistics.csv: its columns, and one for each setting that tells the groups apart.</summary>
    public void Write(string path) => DurableFile.Write(path, stream =>
    {
        using CsvWriter writer = CsvWriter.Create(stream, new CsvWriterOptions { NewLine = "\n", HasHeader = false }, leaveOpen: true);
        foreach (string column in (string[])[.. new CsvTable<StatisticsRow>(path).Columns, .. Columns]) writer.WriteField(column);
        writer.EndRecord();
        foreach ((Metric _, RunGroup group, StatisticsRow row) in Rows)
        {
            foreach (object? value in typeof(StatisticsRow).GetProperties().Select(property => property.GetValue(row))) writer.WriteField(Text(value));
            foreach (string value in group.Values) writer.WriteField(value);
            writer.EndRecord();
        }
    });

    private static string Text(object? value) => value switch
    {
        null => "",
        bool flag => flag ? "true" : "false",
        Enum word => ConfigName.Of(word),
        double number => number.ToString("R", CultureInfo.InvariantCulture),
        _ => Convert.ToString(value, CultureInfo.InvariantCulture)!,
    };

    private static void Correct(Comparison[] all, Func<Comparison, double?> of, Action<Comparison, double> set)
    {
        Comparison[] tested = [.. all.Where(comparison => of(comparison) is not null)];
        foreach ((Comparison comparison, double p) in tested.Zip(Holm.Adjust([.. tested.Select(comparison => of(comparison)!.Value)]))) set(comparison, p);
    }

    private static Dictionary<Metric, double> MarginsOf(IReadOnlyList<string> asked, Metric[] metrics)
    {
        Dictionary<Metric, double> margins = [];
        foreach (string text in asked)
        {
            int equals = text.IndexOf('=', StringComparison.Ordinal);
            if (!double.TryParse(text[(equals + 1)..], NumberStyles.Float, CultureInfo.InvariantCulture, out double margin) || margin is not (> 0 and < double.PositiveInfinity))
                throw new UserError($"--margin {PlainText.Of(text)}: expected METRIC=X, or X for the accuracies, with a number X above 0 in the unit of the metric's column (0.005: half a point of accuracy)");
            Metric[] meant = equals < 0 ? [.. metrics.Where(metric => metric.IsAccuracy)] : [Metric.Named(text[..equals], "--margin")];
            if (meant.Length == 0 || !meant.All(metrics.Contains)) throw new UserError($"--margin {PlainText.Of(text)}: it is for a metric that is not in the table; add it by --metric");
            foreach (Metric metric in meant) margins[metric] = margin;
        }
        return margins;
    }

    private static RunGroup BaselineOf(RunComparison runs, IReadOnlyList<string> asked)
    {
        string shown = PlainText.Of(string.Join(' ', asked));
        RunGroup[] found = [.. runs.Groups.Where(group => asked.All(word => Holds(runs, group, word)))];
        if (found.Length == 1) return found[0];
        string groups = string.Join(" | ", (found.Length == 0 ? runs.Groups : found).Take(10).Select(group => PlainText.Of(group.Label)));
        throw new UserError($"--baseline {shown}: {(found.Length == 0 ? "no group is" : $"{found.Length} groups are")} meant by it; give KEY=VALUE of a column (again for more than one), or a run of the group: {groups}");
    }

    /// <summary>Whether a word is a setting of a group, its whole label, the name or folder of one of its runs, or what all its runs' names have besides ranks and seed.</summary>
    private static bool Holds(RunComparison runs, RunGroup group, string word)
    {
        bool IsRun(ComparedRun run) => word == run.Name || (run.Path is not null && Path.Exists(word) && Path.TrimEndingDirectorySeparator(Path.GetFullPath(word)) == Path.GetFullPath(run.Path));
        return word == group.Label || group.Runs.Any(IsRun) || group.Runs.All(run => run.Row.Name == word)
            || runs.Columns.Zip(group.Values).Any(setting => word == $"{setting.First}={setting.Second}");
    }

    private static string? RegressionOf(Metric metric, RunComparison runs, RunGroup baseline, Comparison[] all, double tolerance)
    {
        // A sum of decimals differs from its limit by rounding.
        const double rounding = 1e-9, least = 1e-12;
        List<string> worse = [];
        foreach (RunGroup group in runs.Groups.Where(group => group != baseline))
        {
            double loss = -(all.FirstOrDefault(comparison => comparison.Metric == metric && comparison.Group == group)?.Gain
                ?? throw new UserError($"--fail-on-regression: {PlainText.Of(group.Label)} has no seed of the baseline with {metric.Name}, so it cannot be judged"));
            if (loss > (tolerance * (1 + rounding)) + least) worse.Add(string.Create(CultureInfo.InvariantCulture, $"{PlainText.Of(group.Label)} (by {loss:G6})"));
        }
        return worse.Count == 0 ? null : string.Create(CultureInfo.InvariantCulture, $"{metric.Name} is worse than the baseline's by more than {tolerance:G6}: {string.Join(", ", worse)}");
    }

    /// <summary>One metric of one group, while the whole table is being corrected.</summary>
    private sealed class Comparison
    {
        private readonly Sample _sample;
        private readonly PairedTest? _test;
        private readonly double? _margin;

        /// <summary>Whether there is a baseline, and it is another group.</summary>
        private readonly bool _isCompared;

        private Comparison(Metric metric, RunGroup group, RunGroup? baseline, Sample sample, PairedTest? test, double? margin)
        {
            (Metric, Group, _sample, _test) = (metric, group, sample, test);
            IsBaseline = group == baseline;
            _isCompared = baseline is not null && !IsBaseline;
            _margin = _isCompared ? margin : null;
        }

        public Metric Metric { get; }

        public RunGroup Group { get; }

        public bool IsBaseline { get; }

        public double? PHolm { get; set; }

        public double? PMarginHolm { get; set; }

        public double? P => _test?.P;

        public double? PMargin => _margin is not double margin ? null
            : Metric.Better == BetterSide.Higher ? _test?.PAbove(-margin) : _test?.PBelow(margin);

        /// <summary>By how much the group is better in the mean; null where nothing is compared.</summary>
        public double? Gain => _test is null ? null : Sign * _test.Mean;

        private int Sign => Metric.Better == BetterSide.Higher ? 1 : -1;

        /// <summary>Null where no run of the group has the metric.</summary>
        public static Comparison? Of(Metric metric, RunGroup group, RunGroup? baseline, double? margin)
        {
            Dictionary<long, double> Values(RunGroup of) => of.Runs.Select(run => (run.Row.Seed, Value: metric.Of(run))).Where(run => double.IsFinite(run.Value)).ToDictionary(run => run.Seed, run => run.Value);
            Dictionary<long, double> own = Values(group);
            if (own.Count == 0) return null;
            Dictionary<long, double> others = baseline is null || baseline == group ? [] : Values(baseline);
            long[] pairs = [.. own.Keys.Where(others.ContainsKey)];
            return new Comparison(
                metric, group, baseline, Sample.Of([.. own.Values]),
                pairs.Length == 0 ? null : new PairedTest([.. pairs.Select(seed => own[seed])], [.. pairs.Select(seed => others[seed])]), margin);
        }

        public StatisticsRow Row() => new(
            Group.Label, Metric.Name, Metric.Better, _sample.Count, _sample.Mean, _sample.Deviation, _sample.Interval?.Low, _sample.Interval?.High,
            IsBaseline, _test?.Differences.Count ?? 0, _test?.Mean, _test?.Interval?.Low, _test?.Interval?.High,
            P, PHolm, P is null ? null : SignPermutation.TwoSided(_test!.Differences), _margin, PMarginHolm, Judge());

        /// <summary>The rules of docs/comparing.md.</summary>
        private Verdict Judge()
        {
            if (!_isCompared) return Verdict.None;
            if (_test is null) return Verdict.Undecided;
            // What is counted, and differs by the same in all pairs, does not do so by chance.
            if (Metric.IsCounted && !_test.Varies && _test.Differences.Count > 1)
                return Gain > 0 ? Verdict.Better : Gain < 0 ? Verdict.Worse : Verdict.AsGood;
            return PHolm < Alpha ? (Gain > 0 ? Verdict.Better : Verdict.Worse) : PMarginHolm < Alpha / 2 ? Verdict.AsGood : Verdict.Undecided;
        }
    }
}
