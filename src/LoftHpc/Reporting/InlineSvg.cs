using System.Globalization;
using System.Xml.Linq;
using LoftHpc.Results;
using ScottPlot;
using PlotStyle = LoftHpc.Results.PlotStyle;

namespace LoftHpc.Reporting;

/// <summary>
/// Makes of what the plotting library writes an element of the page: it scales with the page, has names of its own beside other
/// figures, colours by name (<see cref="ReportColors"/>), no background, and text that stays in its place in whatever font there is.
/// </summary>
internal static class InlineSvg
{
    /// <summary>A panel.</summary>
    /// <param name="id">Of no other element of the page.</param>
    public static XElement Of(Panel panel, string id) => Of(panel.Draw(), panel.Width, panel.Height, id, panel.Description);

    /// <summary>An entry of a legend, beside its text.</summary>
    public static XElement Of(Mark mark, string id)
    {
        const int width = 34, height = 14;
        Plot plot = PlotStyle.NewPlot();
        plot.Layout.Frameless();
        plot.HideGrid();
        plot.Axes.SetLimits(0, 2, 0, 2);
        // A line reaches from side to side, its marker stands in the middle.
        if (mark.HasLine) (mark with { HasMarker = false }).Add(plot, [(0.05, 1), (1.95, 1)], 0);
        if (mark.HasMarker) (mark with { HasLine = false }).Add(plot, [(1, 1)], 8);
        return Of(plot, width, height, id, "");
    }

    private static XElement Of(Plot plot, int width, int height, string id, string description)
    {
        XElement drawn = XDocument.Parse(PlotStyle.Svg(width, height, [(plot, new PixelRect(0, width, height, 0))], [])).Root!;
        // The library counts on from figure to figure, so its numbers depend on what was drawn before.
        Dictionary<string, string> ids = drawn.Descendants().Attributes("id").Select((own, i) => (own.Value, i)).ToDictionary(own => own.Value, own => FormattableString.Invariant($"{id}-{own.i}"));
        XElement svg = Plain(drawn, ids);
        string text = svg.ToString(SaveOptions.DisableFormatting);
        bool IsUsed(string own) => text.Contains($"url(#{own})", StringComparison.Ordinal) || text.Contains($"\"#{own}\"", StringComparison.Ordinal);
        svg.Descendants().Where(element => element.Attribute("id") is XAttribute own && !IsUsed(own.Value)).Remove();
        svg.RemoveAttributes();
        svg.Add(new XAttribute("viewBox", string.Create(CultureInfo.InvariantCulture, $"0 0 {width} {height}")));
        if (description.Length == 0) svg.SetAttributeValue("aria-hidden", "true");
        else svg.Add(new XAttribute("role", "img"), new XAttribute("aria-label", PlainText.Visible(description)));
        return svg;
    }

    private static XElement Plain(XElement drawn, Dictionary<string, string> ids)
    {
        XElement plain = new(drawn.Name.LocalName);
        foreach (XAttribute attribute in drawn.Attributes().Where(attribute => !attribute.IsNamespaceDeclaration)) Copy(attribute, plain, ids);
        if (drawn.Name.LocalName == "text") Centre(drawn, plain);
        XElement[] children = [.. drawn.Elements()];
        // The library draws some plots twice: what was there before the plot was cleared is not seen.
        int cleared = Array.FindLastIndex(children, IsBackground);
        for (int i = 0; i < children.Length; i++)
        {
            if (i > cleared || children[i].Name.LocalName is "clipPath" or "defs") plain.Add(Plain(children[i], ids));
        }
        return plain;
    }

    private static void Copy(XAttribute attribute, XElement to, Dictionary<string, string> ids)
    {
        string name = attribute.Name.LocalName, value = attribute.Value;
        switch (name)
        {
            case "font-family":
                return;
            case "id":
                value = ids[value];
                break;
            case "href" when value.StartsWith('#'):
                value = $"#{ids[value[1..]]}";
                break;
            case "clip-path":
                value = $"url(#{ids[value["url(#".Length..^1]]})";
                break;
            case "fill" or "stroke" when ReportColors.VariableOf(value) is string variable:
                (name, value) = ("style", $"{to.Attribute("style")?.Value}{name}:{variable};");
                break;
        }
        to.SetAttributeValue(name, value);
    }

    /// <summary>Letters are placed one by one, for one font: another one gets the text as a whole, around the same middle.</summary>
    private static void Centre(XElement drawn, XElement text)
    {
        string content = drawn.Value.Trim();
        float[] places = [.. Numbers(drawn.Attribute("x")!.Value)];
        // The font has none of its characters: there is nothing to place.
        if (places.Length == 0) return;
        float size = float.Parse(drawn.Attribute("font-size")!.Value, CultureInfo.InvariantCulture);
        float width = PlotStyle.TextWidth(content, size, drawn.Attribute("font-weight") is not null);
        text.SetAttributeValue("x", (places[0] + (width / 2)).ToString("0.##", CultureInfo.InvariantCulture));
        text.SetAttributeValue("y", Numbers(drawn.Attribute("y")!.Value).First().ToString("0.##", CultureInfo.InvariantCulture));
        text.SetAttributeValue("text-anchor", "middle");
        if (drawn.Attribute("fill") is null) text.SetAttributeValue("style", "fill:var(--ink);");
        text.Value = content;
    }

    private static IEnumerable<float> Numbers(string list) =>
        list.Split(',', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries).Select(number => float.Parse(number, CultureInfo.InvariantCulture));

    /// <summary>What a plot is cleared with: the page is its background.</summary>
    private static bool IsBackground(XElement element) =>
        element.Name.LocalName == "rect" && element.Parent!.Name.LocalName != "clipPath" && element.Attribute("fill")?.Value is null or "white" && element.Attribute("fill-opacity") is null;
}
