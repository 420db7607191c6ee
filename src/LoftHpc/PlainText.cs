using System.Globalization;
using System.Text;

namespace LoftHpc;

/// <summary>Text of unknown origin as an error line can show it.</summary>
public static class PlainText
{
    private const int Longest = 200;

    /// <summary>The text with control characters made visible, cut where it is long.</summary>
    public static string Of(string text)
    {
        StringBuilder plain = new();
        foreach (Rune rune in text.EnumerateRunes())
        {
            if (plain.Length >= Longest) return plain.Append("...").ToString();
            bool hidden = Rune.GetUnicodeCategory(rune) is UnicodeCategory.Control or UnicodeCategory.Format
                or UnicodeCategory.LineSeparator or UnicodeCategory.ParagraphSeparator;
            if (hidden) plain.Append(CultureInfo.InvariantCulture, $"\\u{rune.Value:x4}");
            else plain.Append(rune.ToString());
        }
        return plain.ToString();
    }
}
