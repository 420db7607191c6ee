using System.Globalization;
using System.Text;

namespace LoftHpc;

/// <summary>Text of the input, made fit to be shown.</summary>
public static class PlainText
{
    private const int Longest = 200;

    /// <summary>The text with <see cref="Visible"/> characters only, and the middle of a long one left out.</summary>
    public static string Of(string text) => Visible(text.Length <= Longest ? text : $"{text[..(Longest / 2)]}...{text[^(Longest / 2)..]}");

    /// <summary>The text with what a terminal would obey written out, such as \x1b.</summary>
    public static string Visible(string text)
    {
        if (!text.Any(IsHidden)) return text;
        StringBuilder visible = new();
        foreach (char c in text)
        {
            if (!IsHidden(c)) visible.Append(c);
            else visible.Append(string.Create(CultureInfo.InvariantCulture, $"\\{(c < 256 ? "x" : "u")}{((int)c).ToString(c < 256 ? "x2" : "x4", CultureInfo.InvariantCulture)}"));
        }
        return visible.ToString();
    }

    private static bool IsHidden(char c) => char.IsControl(c)
        || char.GetUnicodeCategory(c) is UnicodeCategory.Format or UnicodeCategory.LineSeparator or UnicodeCategory.ParagraphSeparator;
}
