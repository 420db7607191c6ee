using System.Xml.Linq;
using LoftHpc.Output;

namespace LoftHpc.Reporting;

/// <summary>Elements of a page. Text is escaped by the XML library, and what no document may hold is made visible first.</summary>
internal static class Html
{
    /// <summary>An element with a class, or without one where it is empty.</summary>
    public static XElement Element(string name, string style, params object?[] content)
    {
        XElement element = new(name);
        if (style.Length > 0) element.SetAttributeValue("class", style);
        foreach (object? item in content) element.Add(item is string text ? Text(text) : item);
        // An element that closes itself is none in HTML.
        if (element.IsEmpty) element.Add("");
        return element;
    }

    public static XElement Paragraph(params object?[] content) => Element("p", "", content);

    public static XElement List(IEnumerable<string> items) => Element("ul", "", [.. items.Select(item => Element("li", "", item))]);

    /// <summary>A heading with a target for links.</summary>
    public static XElement Section(string id, string title, params object?[] content)
    {
        XElement section = Element("section", "", [Element("h2", "", title), .. content]);
        section.SetAttributeValue("id", id);
        return section;
    }

    /// <summary>Something that is shown when it is asked for.</summary>
    public static XElement Details(string summary, params object?[] content) => Element("details", "", [Element("summary", "", summary), .. content]);

    /// <summary>A table with its title over it, in a box of its own in which it is scrolled where it is wider than the page.</summary>
    public static XElement Table(TextTable table) => Table(table.Title, table.Headers, table.Rows.Select(row => row.Select(cell => (object)cell)), table.RightAligned);

    /// <inheritdoc cref="Table(TextTable)"/>
    /// <param name="rows">Cells: text or elements.</param>
    public static XElement Table(string title, IReadOnlyList<string> headers, IEnumerable<IEnumerable<object>> rows, IReadOnlySet<int> right)
    {
        XElement Cell(string name, object content, int column)
        {
            XElement cell = Element(name, right.Contains(column) ? "number" : "", content);
            if (name == "th") cell.SetAttributeValue("scope", "col");
            return cell;
        }
        XElement box = Element(
            "div", "scroll",
            Element(
                "table", "",
                Element("thead", "", Element("tr", "", [.. headers.Select((header, i) => Cell("th", header, i))])),
                Element("tbody", "", [.. rows.Select(row => Element("tr", "", [.. row.Select((content, i) => Cell("td", content, i))]))])));
        // It can be scrolled with the keyboard, too.
        box.SetAttributeValue("tabindex", "0");
        box.SetAttributeValue("role", "region");
        box.SetAttributeValue("aria-label", Text(title.Length > 0 ? title : "table"));
        return Element("div", "table", title.Length > 0 ? Element("p", "title", title) : null, box);
    }

    private static string Text(string text) => PlainText.Visible(text);
}
