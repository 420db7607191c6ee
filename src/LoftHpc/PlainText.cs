using System.Globalization;
using System.Text;

namespace LoftHpc;

/// <summary>Text that came from outside, made fit to stand in a line of a message.</summary>
public static class PlainText
{
    private const int MostCharacters = 200;

    /// <summary>
    /// The same text with every character that a terminal would obey, break the line at or not show (control characters, line
    /// separators, marks of direction and the like) written as <c>\x1b</c> or <c>\u202e</c>; of a long text its two ends.
    /// </summary>
    public static string Of(string text)
    {
        if (text.Length <= MostCharacters) return Visible(text);
        int head = MostCharacters / 2, tail = text.Length - head;
        // A pair of surrogates is one character.
        if (char.IsHighSurrogate(text[head - 1])) head--;
        if (char.IsLowSurrogate(text[tail])) tail++;
        return $"{Visible(text.AsSpan(0, head))}...{Visible(text.AsSpan(tail))}";
    }

    /// <summary>Whether nothing in a text would be escaped.</summary>
    public static bool IsPlain(string text) => Visible(text) == text;

    /// <summary>The same without leaving anything out.</summary>
    public static string Visible(ReadOnlySpan<char> text)
    {
        StringBuilder plain = new(text.Length);
        while (!text.IsEmpty)
        {
            bool whole = Rune.DecodeFromUtf16(text, out Rune rune, out int length) == System.Buffers.OperationStatus.Done;
            if (whole && IsShown(rune)) plain.Append(text[..length]);
            else Escape(plain, whole ? rune.Value : text[0]);
            text = text[length..];
        }
        return plain.ToString();
    }

    // The last two of each plane are no characters, and XML has none of them.
    private static bool IsShown(Rune rune) => (rune.Value & 0xFFFE) != 0xFFFE && Rune.GetUnicodeCategory(rune) is not
        (UnicodeCategory.Control or UnicodeCategory.Format or UnicodeCategory.LineSeparator or UnicodeCategory.ParagraphSeparator);

    private static void Escape(StringBuilder plain, int value)
    {
        string form = value < 0x100 ? "\\x{0:x2}" : value < 0x10000 ? "\\u{0:x4}" : "\\U{0:x8}";
        plain.AppendFormat(CultureInfo.InvariantCulture, form, value);
    }
}
