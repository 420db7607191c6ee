using System.Globalization;
using System.Text;
using ScottPlot;
using ScottPlot.TickGenerators;
using SkiaSharp;

namespace LoftHpc.Results;

/// <summary>What the plots share: fonts, colours, and how a figure of several plots is put together and saved.</summary>
internal static class PlotStyle
{
    private const string FontName = "LoftHpc Sans";

    private const float TickSize = 11;

    /// <summary>Pixels for each unit of a figure's size; 2 makes figures of the usual size sharp in print.</summary>
    private const float PixelsPerUnit = 2;

    /// <summary>Okabe and Ito's palette, told apart with any colour vision: blue, vermillion, green, purple, orange, sky blue.</summary>
    public static readonly Color[] Palette =
        [.. new[] { "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9" }.Select(Color.FromHex)];

    private static readonly double[] RoundFactors = [1, 2, 5, 10];

    public static readonly Color Ink = Color.FromHex("#222222");

    public static readonly Color Faint = Color.FromHex("#888888");

    public static readonly Color GridLine = Color.FromHex("#E4E4E4");

    /// <summary>By how much the plotting library sets text too high, for text of 11 units.</summary>
    private const float TextDrop = 1.5f;

    static PlotStyle()
    {
        // Fonts of our own: a compute node often has none, and then plots would have no text.
        Fonts.FontResolvers.Insert(0, new EmbeddedFonts());
        Fonts.Default = FontName;
    }

    /// <summary>An empty plot: a thin frame, a light grid, text of 11 units.</summary>
    public static Plot NewPlot()
    {
        Plot plot = new();
        plot.Axes.Color(Ink);
        plot.Axes.FrameWidth(1);
        plot.Grid.MajorLineColor = GridLine;
        foreach (IAxis axis in plot.Axes.GetAxes())
        {
            axis.TickLabelStyle.FontSize = TickSize;
            axis.TickLabelStyle.FontName = FontName;
            if (axis.Edge is Edge.Left or Edge.Right) axis.TickLabelStyle.OffsetY = TextDrop;
            axis.MinorTickStyle.Length = 0;
            if (axis is ScottPlot.AxisPanels.AxisBase labelled) StyleLabel(labelled.LabelStyle, 12, bold: false);
        }
        return plot;
    }

    /// <summary>Puts a legend of these entries below the plot.</summary>
    public static void AddLegend(Plot plot, IEnumerable<LegendItem> items)
    {
        ScottPlot.Panels.LegendPanel panel = plot.ShowLegend(Edge.Bottom);
        panel.Padding = new PixelPadding(0, 0, 0, 4);
        plot.Legend.Orientation = Orientation.Horizontal;
        plot.Legend.TightHorizontalWrapping = true;
        plot.Legend.OutlineWidth = 0;
        plot.Legend.ShadowColor = Colors.Transparent;
        plot.Legend.DisplayPlottableLegendItems = false;
        foreach (LegendItem item in items)
        {
            item.LabelFontName = FontName;
            item.LabelFontSize = 11;
            item.LabelFontColor = Ink;
            item.LabelOffsetY = TextDrop;
            plot.Legend.ManualItems.Add(item);
        }
    }

    public static LegendItem LineEntry(string text, Color color, float width) =>
        new() { LabelText = text, LineColor = color, LineWidth = width };

    public static LegendItem MarkerEntry(string text, MarkerShape shape, Color color) =>
        new() { LabelText = text, MarkerShape = shape, MarkerSize = 9, MarkerFillColor = color, MarkerLineColor = color };

    /// <summary>Sets the ticks of an axis: position and text.</summary>
    public static void SetTicks(IAxis axis, IEnumerable<(double Position, string Text)> ticks)
    {
        NumericManual generator = new();
        foreach ((double position, string text) in ticks) generator.AddMajor(position, text);
        axis.TickGenerator = generator;
    }

    /// <summary>The width of a number at an axis, in units; a little too large where it has a point, which is narrower than a digit.</summary>
    public static float TickWidth(string number) => 0.64f * TickSize * number.Length;

    /// <summary>The shortest text of a number of up to three decimals.</summary>
    public static string Text(double value) => value.ToString("0.###", CultureInfo.InvariantCulture);

    /// <summary>Round numbers (1, 2 or 5 times a power of ten apart), at most about <paramref name="count"/> of them, within a range.</summary>
    public static IEnumerable<double> RoundNumbers(double low, double high, int count)
    {
        double step = RoundStep(high - low, count);
        for (double i = Math.Ceiling((low / step) - 1e-6); i * step <= high + (1e-6 * step); i++) yield return (i * step) + 0.0; // never -0
    }

    /// <summary>The round step that divides <paramref name="length"/> into at most <paramref name="count"/> parts.</summary>
    public static double RoundStep(double length, int count)
    {
        double raw = Math.Max(length / count, 1e-9);
        double power = Math.Pow(10, Math.Floor(Math.Log10(raw)));
        return RoundFactors.Select(factor => factor * power).First(step => step >= raw * 0.999);
    }

    /// <summary>Draws a figure of one sign, into memory only.</summary>
    public static void DrawSign() => Draw(1, 1, [], [new FigureText("0", new Pixel(0, 0), 1)]).Dispose();

    /// <summary>Saves a PNG of plots, each in its rectangle, and of text; sizes in units.</summary>
    public static void Save(string path, int width, int height, IEnumerable<(Plot Plot, PixelRect Place)> plots, IEnumerable<FigureText> texts)
    {
        byte[] png = Png(width, height, plots, texts);
        DurableFile.Write(path, stream => stream.Write(png));
    }

    /// <summary>The bytes of such a PNG.</summary>
    public static byte[] Png(int width, int height, IEnumerable<(Plot Plot, PixelRect Place)> plots, IEnumerable<FigureText> texts)
    {
        using SKData png = Draw(width, height, plots, texts);
        return png.ToArray();
    }

    /// <summary>The same figure as an SVG document, a unit a pixel of it.</summary>
    public static string Svg(int width, int height, IEnumerable<(Plot Plot, PixelRect Place)> plots, IEnumerable<FigureText> texts)
    {
        using MemoryStream svg = new();
        using (SKManagedWStream stream = new(svg))
        using (SKCanvas canvas = SKSvgCanvas.Create(new SKRect(0, 0, width, height), stream))
        {
            Draw(canvas, plots, texts);
        }
        return Encoding.UTF8.GetString(svg.ToArray());
    }

    /// <summary>The width of text in a figure, in units.</summary>
    public static float TextWidth(string text, float size, bool bold = false)
    {
        using SKFont font = new(Fonts.GetTypeface(FontName, bold, italic: false), size);
        return font.MeasureText(text);
    }

    private static SKData Draw(int width, int height, IEnumerable<(Plot Plot, PixelRect Place)> plots, IEnumerable<FigureText> texts)
    {
        using SKSurface surface = SKSurface.Create(new SKImageInfo((int)(width * PixelsPerUnit), (int)(height * PixelsPerUnit)));
        surface.Canvas.Clear(SKColors.White);
        surface.Canvas.Scale(PixelsPerUnit);
        Draw(surface.Canvas, plots, texts);
        using SKImage image = surface.Snapshot();
        return image.Encode(SKEncodedImageFormat.Png, 100);
    }

    private static void Draw(SKCanvas canvas, IEnumerable<(Plot Plot, PixelRect Place)> plots, IEnumerable<FigureText> texts)
    {
        foreach ((Plot plot, PixelRect place) in plots)
        {
            // A plot begins by clearing all that it may draw on.
            canvas.Save();
            canvas.ClipRect(new SKRect(place.Left, place.Top, place.Right, place.Bottom));
            plot.Render(canvas, place);
            canvas.Restore();
            plot.Dispose();
        }
        using Paint paint = Paint.NewDisposablePaint();
        foreach (FigureText text in texts)
        {
            LabelStyle style = new() { Text = text.Text, Alignment = Alignment.MiddleCenter, Rotation = text.Rotation };
            StyleLabel(style, text.Size, text.Bold);
            style.Render(canvas, text.Place, paint);
        }
    }

    internal static void StyleLabel(LabelStyle style, float size, bool bold)
    {
        style.FontName = FontName;
        style.FontSize = size;
        style.Bold = bold;
        style.ForeColor = Ink;
    }

    /// <summary>The font that the program brings, in two weights.</summary>
    private sealed class EmbeddedFonts : IFontResolver
    {
        private static readonly SKTypeface Regular = Load("DejaVuSans.ttf");
        private static readonly SKTypeface Bold = Load("DejaVuSans-Bold.ttf");

        public SKTypeface? CreateTypeface(string fontName, FontWeight weight, FontSlant slant, FontSpacing spacing) =>
            fontName != FontName ? null : weight >= FontWeight.SemiBold ? Bold : Regular;

        public SKTypeface? CreateTypeface(string fontName, bool bold, bool italic) =>
            fontName != FontName ? null : bold ? Bold : Regular;

        private static SKTypeface Load(string file)
        {
            using Stream stream = typeof(PlotStyle).Assembly.GetManifestResourceStream(file)!;
            using SKData data = SKData.Create(stream);
            return SKTypeface.FromData(data);
        }
    }
}

/// <summary>Text of a figure that belongs to none of its plots, centred at <paramref name="Place"/>.</summary>
internal sealed record FigureText(string Text, Pixel Place, float Size = 12, bool Bold = false, float Rotation = 0);
