using System.Xml.Linq;
using LoftHpc.Comparing;
using LoftHpc.Results;

namespace LoftHpc.Reporting;

/// <summary>
/// A page on finished runs, with its figures beside it. It is made of the files of the runs alone, and the same runs give the same
/// bytes, so it says when the runs were made and not when the page was.
/// </summary>
public static class Report
{
    /// <summary>Draws the figures, then writes the page.</summary>
    /// <param name="path">Ends with .html; the figures go beside it.</param>
    /// <returns>Paths of what was written, the page first.</returns>
    /// <exception cref="UserError">A table of a run is not what it should be, or a file cannot be written.</exception>
    public static IReadOnlyList<string> Write(string path, RunComparison runs, GroupComparison groups)
    {
        IReadOnlyList<GroupLook> looks = GroupLook.Of(runs, groups.Baseline);
        ReportFigure[] figures = [.. Figures(runs, looks)];
        // What is wrong with a table shows here, before anything is written.
        XElement page = ReportPage.Of(runs, groups, looks, figures, Path.GetFileName(path));
        List<string> written = [path];
        foreach (ReportFigure figure in figures.Where(figure => figure.Absent is null))
        {
            string file = Path.Combine(Path.GetDirectoryName(path) ?? "", FigureFile.NameOf(Path.GetFileName(path), figure));
            FigureFile.Save(file, figure);
            written.Add(file);
        }
        DurableFile.WriteText(path, $"<!DOCTYPE html>\n{page.ToString(SaveOptions.DisableFormatting)}\n");
        return written;
    }

    private static IEnumerable<ReportFigure> Figures(RunComparison runs, IReadOnlyList<GroupLook> looks)
    {
        MeasuredDistances[] distances = [.. Pretraining.Of(looks).Select(MeasuredDistances.Read).OfType<MeasuredDistances>()];
        return
        [
            AccuracyCurves.Of(looks),
            CostFigures.OfBytesAndFlops(looks),
            CostFigures.OfLatency(looks),
            RatioFigure.Of(runs, looks),
            CommunicationFigure.Of(looks),
            DistanceCurves.Of(distances),
            DistanceMaps.OfMeasurements(distances),
            DistanceMaps.OfLayers(distances),
            TicketWidthsFigure.Of(looks),
        ];
    }
}
