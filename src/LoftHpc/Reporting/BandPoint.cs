using System.Globalization;

namespace LoftHpc.Reporting;

/// <summary>A figure at one place of an axis, over runs that differ in their seed alone.</summary>
/// <param name="Low">The smallest of them.</param>
/// <param name="High">The largest.</param>
/// <param name="Runs">How many have it.</param>
internal readonly record struct BandPoint(double X, double Mean, double Low, double High, int Runs)
{
    /// <summary>The points of several runs, place by place; what is no number is left out.</summary>
    public static IReadOnlyList<BandPoint> Of(IEnumerable<(double X, double Y)> points) =>
    [
        .. from point in points
           where double.IsFinite(point.Y)
           group point.Y by point.X into seeds
           orderby seeds.Key
           select new BandPoint(seeds.Key, seeds.Average(), seeds.Min(), seeds.Max(), seeds.Count()),
    ];

    /// <summary>Mean, and where there are several runs the smallest and the largest.</summary>
    public string Text(double scale = 1, int decimals = 2)
    {
        string Number(double value) => (scale * value).ToString($"N{decimals}", CultureInfo.InvariantCulture);
        return Runs == 1 ? Number(Mean) : $"{Number(Mean)} ({Number(Low)} to {Number(High)})";
    }
}
