using System.Globalization;
using LoftHpc.Results;
using ScottPlot;
using PlotStyle = LoftHpc.Results.PlotStyle;

namespace LoftHpc.Reporting;

/// <summary>An axis of costs: logarithmic where they are powers apart. A cost of nothing then stands left of all others.</summary>
internal sealed class ValueAxis
{
    private static readonly double[] Mantissas = [1, 2, 5];

    private readonly bool _logarithmic;
    private readonly double _zero;
    private readonly double _low;
    private readonly double _high;
    private readonly bool _hasZero;

    /// <param name="values">All that is to be shown; not below 0.</param>
    public ValueAxis(IReadOnlyCollection<double> values)
    {
        double[] positive = [.. values.Where(value => value > 0)];
        _hasZero = positive.Length < values.Count;
        double low = positive.DefaultIfEmpty(1).Min(), high = positive.DefaultIfEmpty(1).Max();
        _logarithmic = high / low > 8;
        if (_logarithmic)
        {
            double air = 0.06 * Math.Log10(high / low);
            _zero = Math.Log10(low) - (3 * air);
            (_low, _high) = ((_hasZero ? _zero : Math.Log10(low)) - air, Math.Log10(high) + air);
        }
        else
        {
            if (_hasZero) low = 0;
            double air = high > low ? 0.08 * (high - low) : 0.1 * high;
            (_low, _high) = (Math.Max(low - air, _hasZero ? -air : 0), high + air);
        }
    }

    public double Place(double value) => !_logarithmic ? value : value > 0 ? Math.Log10(value) : _zero;

    /// <summary>Makes it the lower axis of a plot.</summary>
    public void Apply(Plot plot, string label, int most = 6)
    {
        plot.Axes.SetLimitsX(_low, _high);
        plot.XLabel(_logarithmic ? $"{label}, logarithmic" : label);
        PlotStyle.SetTicks(plot.Axes.Bottom, Ticks(most));
    }

    private IEnumerable<(double, string)> Ticks(int most)
    {
        if (!_logarithmic) return PlotStyle.RoundNumbers(Math.Max(0, _low), _high, most).Select(value => (value, Text(value)));
        double from = _hasZero ? _zero + (0.5 * (_zero - _low)) : _low;
        double[] fine = [.. Powers(Mantissas, 1).Where(power => Math.Log10(power) >= from && Math.Log10(power) <= _high)];
        double[] shown = fine;
        for (int step = 1; shown.Length > most; step++)
            shown = [.. Powers([1], step).Where(power => Math.Log10(power) >= from && Math.Log10(power) <= _high)];
        return [.. _hasZero ? [(_zero, "0")] : Array.Empty<(double, string)>(), .. shown.Select(power => (Math.Log10(power), Text(power)))];
    }

    private IEnumerable<double> Powers(double[] mantissas, int step)
    {
        int first = (int)Math.Floor(_low), last = (int)Math.Ceiling(_high);
        for (int exponent = first; exponent <= last; exponent++)
        {
            if (exponent % step != 0) continue;
            foreach (double mantissa in mantissas) yield return mantissa * Math.Pow(10, exponent);
        }
    }

    private static string Text(double value) => value.ToString(value >= 1000 ? "#,0" : "0.######", CultureInfo.InvariantCulture);
}
