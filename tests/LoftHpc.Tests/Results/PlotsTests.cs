using LoftHpc.Configuration;
using LoftHpc.Results;
using SkiaSharp;
using Xunit;

namespace LoftHpc.Tests.Results;

public sealed class PlotsTests : IDisposable
{
    private readonly TemporaryFolder _parent = new();
    private readonly RunFolder _run;

    public PlotsTests() => _run = RunFolder.Create(_parent.Path, "run", overwrite: false);

    public void Dispose() => _parent.Dispose();

    [Fact]
    public void BothPlotsAreDrawnFromTheFilesAlone()
    {
        WriteMetrics(epochs: 3, retrain: true);
        WriteDistances(measurements: 4, layers: 20);
        Assert.Equal([_run.AccuracyPlot, _run.FilterDistancePlot], Plots.Draw(RunFolderAgain(), new PlotSection()));
        using SKBitmap accuracy = SKBitmap.Decode(_run.AccuracyPlot);
        Assert.True(accuracy.Width >= 1200 && accuracy.Height >= 700);
        // The curves of both splits, in their colours.
        Assert.True(CountPixels(accuracy, 0x00, 0x72, 0xb2) > 200);
        Assert.True(CountPixels(accuracy, 0xd5, 0x5e, 0x00) > 200);
        using SKBitmap distance = SKBitmap.Decode(_run.FilterDistancePlot);
        // The diagonals of the 20 heat-maps are dark, and the largest distance is yellow. A cell has about 5000 pixels.
        Assert.True(CountPixels(distance, 0x44, 0x01, 0x54) > 20 * 4 * 1000);
        Assert.True(CountPixels(distance, 0xfd, 0xe7, 0x24) > 1000);
        Assert.True(CountPixels(distance, 0xdd, 0xdd, 0xdd) < 2500);
        // Drawn again, they are the same.
        byte[] before = File.ReadAllBytes(_run.AccuracyPlot);
        Plots.Draw(_run, new PlotSection());
        Assert.Equal(before, File.ReadAllBytes(_run.AccuracyPlot));
    }

    [Fact]
    public void AMissingPairIsGrey()
    {
        WriteDistances(measurements: 4, layers: 20);
        _run.FilterDistance.Write([.. _run.FilterDistance.Read().Where(r => (r.Step, r.ReferenceStep, r.Layer) != (157, 314, "layer7"))]);
        Plots.Draw(_run, new PlotSection());
        using SKBitmap distance = SKBitmap.Decode(_run.FilterDistancePlot);
        Assert.True(CountPixels(distance, 0xdd, 0xdd, 0xdd) > 2500);
    }

    [Theory]
    [InlineData(2, 1)]
    [InlineData(3, 37)]
    [InlineData(100, 1)]
    public void AnyNumberOfLayersAndMeasurementsIsDrawn(int measurements, int layers)
    {
        WriteDistances(measurements, layers);
        Assert.Equal([_run.FilterDistancePlot], Plots.Draw(_run, new PlotSection()));
        using SKBitmap bitmap = SKBitmap.Decode(_run.FilterDistancePlot);
        Assert.InRange(bitmap.Height, 800, 2 * bitmap.Width);
    }

    [Fact]
    public void WhatIsNotThereIsNotDrawn()
    {
        Assert.Empty(Plots.Draw(_run, new PlotSection()));
        WriteMetrics(epochs: 1, retrain: false);
        // The only layer has one filter, and so no normalised distance.
        _run.FilterDistance.Write([new FilterDistanceRow(1, 0, "conv1", 1, 0, null)]);
        Assert.Equal([_run.AccuracyPlot], Plots.Draw(_run, new PlotSection()));
    }

    [Fact]
    public void LossesThatAreNoNumbersDoNotHinder()
    {
        _run.Metrics.Write([new MetricsRow(TrainingPhase.Pretrain, 1, DataSplit.Train, double.NaN, double.NaN, 0.1, 1, 1, 1)]);
        _run.FilterDistance.Write([new FilterDistanceRow(1, 0, "conv1", 4, double.NaN, double.NaN)]);
        Assert.Equal([_run.AccuracyPlot], Plots.Draw(_run, new PlotSection()));
    }

    [Fact]
    public void RankingsThatNeverChangeAreDrawn()
    {
        _run.FilterDistance.Write([new FilterDistanceRow(1, 0, "conv1", 4, 0, 0), new FilterDistanceRow(0, 1, "conv1", 4, 0, 0)]);
        Assert.Equal([_run.FilterDistancePlot], Plots.Draw(_run, new PlotSection()));
        using SKBitmap distance = SKBitmap.Decode(_run.FilterDistancePlot);
        Assert.True(CountPixels(distance, 0x44, 0x01, 0x54) > 100_000);
    }

    [Fact]
    public void ChosenLayersMustExist()
    {
        WriteDistances(measurements: 3, layers: 3);
        Assert.Equal([_run.FilterDistancePlot], Plots.Draw(_run, new PlotSection { Layers = ["layer1"] }));
        UserError error = Assert.Throws<UserError>(() => Plots.Draw(_run, new PlotSection { Layers = ["layer1", "conv9"] }));
        Assert.Contains("plot.layers", error.Message, StringComparison.Ordinal);
        Assert.Contains("conv9", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void TheProgramBringsAFontForItsText()
    {
        PlotStyle.NewPlot().Dispose();
        SKTypeface font = ScottPlot.Fonts.GetTypeface(ScottPlot.Fonts.Default, bold: false, italic: false);
        Assert.Equal("DejaVu Sans", font.FamilyName);
        Assert.True(font.ContainsGlyphs("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 %().,:=_-"));
    }

    /// <summary>Steps of the measurements, steps of an epoch (1: time is in steps), size of a heat-map, and the numbers at its axes.</summary>
    public static TheoryData<long[], int, float, string> MeasurementTimes
    {
        get
        {
            // configs/quick.yaml: every 100 steps, and at the end.
            long[] quick = [0, 100, 200, 300, 400, 500, 600, 700, 800, 900, 939];
            long[] twoHundredEpochs = [.. Enumerable.Range(0, 101).Select(i => i * 782L)];
            return new()
            {
                { quick, 313, 340, "0 1 2 3" },
                { quick, 313, 70, "0 1 2 3" },
                { quick, 1, 340, "0 200 400 600 800" },
                { quick, 1, 139, "0 500" },
                { [0, 100], 313, 340, "0 0.1 0.2 0.3" },
                { [0, 313], 313, 139, "0 0.5 1" },
                { [0, 900, 939], 313, 70, "0 2" },
                // Where 200 would stand the 0 of the next heat-map is too near.
                { twoHundredEpochs, 391, 139, "0 50 100 150" },
                { twoHundredEpochs, 391, 70, "0 100" },
                { twoHundredEpochs, 1, 139, "0 50000" },
            };
        }
    }

    [Theory]
    [MemberData(nameof(MeasurementTimes))]
    public void Numbers_at_the_axes_of_heat_maps_are_round_and_stay_apart(long[] steps, int stepsPerEpoch, float size, string expected)
    {
        double[] times = [.. steps.Select(step => (double)step / stepsPerEpoch)], places = [.. steps.Select((_, i) => (double)i)];
        (double Place, string Text)[] ticks = FilterDistancePlot.Ticks(times, places, 0.5, size);
        Assert.Equal(expected, string.Join(' ', ticks.Select(tick => tick.Text)));

        PlotStyle.NewPlot().Dispose();
        using SKFont font = new(ScottPlot.Fonts.GetTypeface(ScottPlot.Fonts.Default, bold: false, italic: false), 11);
        (double Start, double End)[] texts = [.. ticks.Select(tick => (
            Middle: (tick.Place + 0.5) / steps.Length * size, Half: font.MeasureText(tick.Text) / 2)).Select(t => (t.Middle - t.Half, t.Middle + t.Half))];
        // The next heat-map begins 12 units to the right.
        Assert.All(texts.Zip([.. texts.Skip(1), (size + 12 + texts[0].Start, 0)]), pair => Assert.InRange(pair.Second.Start - pair.First.End, 4, size));
    }

    [Fact]
    public void A_round_time_between_two_measurements_lies_between_their_places()
    {
        double[] times = [0, 0.5, 1.5, 2.5, 3.5];
        Assert.Equal([(0, "0"), (1.5, "1"), (2.5, "2"), (3.5, "3")], FilterDistancePlot.Ticks(times, [0, 1, 2, 3, 4], 0.5, 340));
        // The curves have an axis of time itself.
        Assert.Equal([(0, "0"), (1, "1"), (2, "2"), (3, "3")], FilterDistancePlot.Ticks(times, times, 0.09, 250));
    }

    private RunFolder RunFolderAgain()
    {
        File.WriteAllText(_run.Config, "");
        return RunFolder.Open(_run.Path);
    }

    private void WriteMetrics(int epochs, bool retrain)
    {
        List<MetricsRow> rows = [];
        foreach (TrainingPhase phase in retrain ? Enum.GetValues<TrainingPhase>() : [TrainingPhase.Pretrain])
        {
            for (int epoch = 1; epoch <= epochs; epoch++)
            {
                rows.Add(new MetricsRow(phase, epoch, DataSplit.Train, 1.0 / epoch, 1 - (0.4 / epoch), 0.1, 1000, 10, 10_000));
                rows.Add(new MetricsRow(phase, epoch, DataSplit.Test, 1.1 / epoch, 1 - (0.5 / epoch), 0.1, 3000, 1, 3000));
            }
        }
        _run.Metrics.Write(rows);
        _run.Summary.Write([new SummaryRow(NetworkState.Dense, 0.83, 0.4, 100, 1000), new SummaryRow(NetworkState.Pruned, 0.1, 2.4, 60, 500)]);
    }

    private void WriteDistances(int measurements, int layers)
    {
        long[] steps = [.. Enumerable.Range(0, measurements).Select(i => i * 157L)];
        _run.FilterNorms.Write(steps.Select((step, i) => new FilterNormRow(step, i, "layer0", 0, 1)));
        _run.FilterDistance.Write(
            from layer in Enumerable.Range(0, layers)
            from step in steps
            from reference in steps
            where step != reference
            select new FilterDistanceRow(step, reference, $"layer{layer}", 16, 4, Math.Abs(step - reference) / (double)steps[^1]));
    }

    private static int CountPixels(SKBitmap bitmap, byte red, byte green, byte blue) =>
        bitmap.Pixels.Count(p => Math.Abs(p.Red - red) < 3 && Math.Abs(p.Green - green) < 3 && Math.Abs(p.Blue - blue) < 3);
}
