using LoftHpc.Configuration;

namespace LoftHpc.Results;

/// <summary>The plots of a run folder, drawn from its CSV files alone, so that they can be drawn again at any time.</summary>
public static class Plots
{
    /// <summary>Checks a choice of layers, before a run does any work and where the plots are drawn.</summary>
    /// <exception cref="UserError">A chosen layer is none of <paramref name="layers"/>.</exception>
    public static void Check(PlotSection choice, IEnumerable<string> layers)
    {
        if (choice.Layers.Except(layers).ToArray() is [_, ..] unknown)
            throw new UserError($"plot.layers: there is no layer {string.Join(", ", unknown)}; allowed are {string.Join(", ", layers)}");
    }

    /// <summary>Sees to it that the library that draws is there, before a run works for days towards its figures.</summary>
    /// <exception cref="UserError">It cannot be loaded.</exception>
    public static void CheckLibrary()
    {
        try
        {
            PlotStyle.DrawSign();
        }
        catch (Exception error) when (error is DllNotFoundException or TypeInitializationException or BadImageFormatException or EntryPointNotFoundException)
        {
            throw new UserError($"figures cannot be drawn: {NativeEnvironment.LoaderText(error.GetBaseException())}; install the program as a whole (make build)", error, ExitCodes.Environment);
        }
    }

    /// <summary>Draws accuracy.png, and filter_distance.png once there are two measurements, over what stood there before.</summary>
    /// <returns>Paths of what was drawn.</returns>
    /// <exception cref="UserError">A file of the folder is not what it should be, or a layer is not in it.</exception>
    public static IReadOnlyList<string> Draw(RunFolder folder, PlotSection choice)
    {
        List<string> drawn = [];
        if (folder.Metrics.Exists)
        {
            AccuracyPlot.Draw(folder.AccuracyPlot, folder.Metrics.Read(), folder.Summary.Exists ? folder.Summary.Read() : []);
            drawn.Add(folder.AccuracyPlot);
        }
        if (FilterDistances(folder, choice) is byte[] distances)
        {
            DurableFile.Write(folder.FilterDistancePlot, stream => stream.Write(distances));
            drawn.Add(folder.FilterDistancePlot);
        }
        return drawn;
    }

    /// <summary>The bytes of filter_distance.png; null where there are no two measurements yet.</summary>
    /// <exception cref="UserError">A file of the folder is not what it should be, or a layer is not in it.</exception>
    internal static byte[]? FilterDistances(RunFolder folder, PlotSection choice)
    {
        if (!folder.FilterDistance.Exists) return null;
        Dictionary<long, double> epochs = [];
        if (folder.FilterNorms.Exists)
        {
            foreach (FilterNormRow row in folder.FilterNorms.Read()) epochs[row.Step] = row.Epoch;
        }
        IReadOnlyList<FilterDistanceRow> distances = folder.FilterDistance.Read();
        Check(choice, [.. distances.Select(row => row.Layer).Distinct()]);
        return FilterDistancePlot.Draw(distances, choice.Layers, epochs);
    }
}
