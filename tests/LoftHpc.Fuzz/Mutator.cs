using System.Buffers.Binary;
using System.Diagnostics;
using System.Text;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;

namespace LoftHpc.Fuzz;

/// <summary>Changes valid inputs into others, most of them invalid; a function of its seed.</summary>
public sealed partial class Mutator(int seed)
{
    private static readonly string[] Numbers =
    [
        "0", "-1", "1", "2", "10", "127", "255", "256", "1000", "46341", "65536", "2147483600", "2147483647", "2147483648", "-2147483648", "2000000002",
        "4294967295", "4294967296", "4611686018427387904", "9223372036854775807", "9223372036854775808", "-9223372036854775808", "18446744073709551615",
        "99999999999999999999999999999999999999999", "0.5", "-0.0", "1.0", "1e0", "1e30", "1e308", "1e309", "-1e309", "1e-400", "1e2147483648", "NaN", "Infinity",
        "-Infinity", ".inf", ".nan", "0x10", "0o7", "007", "+1", "1_000", "1,5", "null", "true", "\"1\"", "\u0661", "\uff11", "1 epoch", "5 steps",
    ];

    private static readonly string[] Tokens =
    [
        "\"", "'", "\\", "[", "]", "{", "}", "[]", "{}", ",", ":", ": ", "- ", "? ", "&a ", "*a", "<<: *a", "!!binary ", "!x ", "%YAML 9.9\n", "---\n", "...\n", "#", "|\n", ">-\n",
        "@", "`", "=", ".", "..", "/", "../", "../../../../etc/passwd", "/dev/zero", "/dev/stdin", "~", "*", "\t", "\n", "\r", "\r\n", "\0", "\u001b[31m", "\u0007", "\u007f", "\u0085",
        "\u00a0", "\u200b", "\u2028", "\u202e", "\ufeff", "\uffff", "\\u0000", "\\ud800", "\\u001b[2J", "\"\"", "\"\n\"", ";", "null", "__metadata__", "true", "//", "/*", "<!--", "sep=;\n",
        "\U0001f600", "%s%n", "${HOME}", "$(id)",
    ];

    /// <summary>Not valid as UTF-8.</summary>
    private static readonly byte[][] Invalid = [[0xff], [0xc0, 0x80], [0xed, 0xa0, 0x80], [0xf4, 0x90, 0x80, 0x80], [0xe2, 0x80], [0x80]];

    private readonly Random _random = new(seed);

    /// <summary>A number from 0, below <paramref name="end"/>.</summary>
    public int Below(int end) => _random.Next(end);

    /// <summary>True once in so many times.</summary>
    public bool OneIn(int times) => _random.Next(times) == 0;

    public T Pick<T>(IReadOnlyList<T> items) => items[_random.Next(items.Count)];

    /// <summary>A number at the limits of something, or a word that is none.</summary>
    public string Number() => Pick(Numbers);

    /// <summary>A count: mostly small, rarely large.</summary>
    public int Count(int most) => (int)Math.Pow(most, _random.NextDouble() * (OneIn(20) ? 1 : 0.5));

    /// <summary>A few mutations of text, or of bytes; rarely none.</summary>
    public byte[] Any(byte[] bytes, IReadOnlyList<byte[]> others) => OneIn(30) ? bytes : OneIn(3) ? Bytes(bytes, others) : Text(bytes, others);

    /// <summary>Changes bytes, whatever they mean.</summary>
    public byte[] Bytes(byte[] bytes, IReadOnlyList<byte[]> others)
    {
        for (int changes = 1 + Count(8); changes > 0; changes--) bytes = ChangeBytes(bytes, others);
        return bytes;
    }

    /// <summary>Changes text: words, numbers, lines, nesting and, rarely, its encoding.</summary>
    public byte[] Text(byte[] bytes, IReadOnlyList<byte[]> others)
    {
        // Latin-1 keeps every byte.
        string text = Encoding.Latin1.GetString(bytes);
        for (int changes = 1 + Count(8); changes > 0; changes--) text = ChangeText(text, others);
        byte[] changed = Encoding.Latin1.GetBytes(text);
        return OneIn(25) ? Reencode(changed) : changed;
    }

    /// <summary>Changes a JSON text where its structure is: another value, type, depth, or key.</summary>
    public string Json(string text)
    {
        JsonNode root = JsonNode.Parse(text)!;
        for (int changes = 1 + Count(4); changes > 0; changes--) ChangeJson(root);
        string changed = root.ToJsonString();
        // What a tree cannot hold: a key twice, numbers that are none.
        if (OneIn(8)) changed = Replace(KeyAndValue().Matches(changed), changed, match => $"{match.Value},{match.Value}");
        if (OneIn(6)) changed = Replace(DigitsOf().Matches(changed), changed, _ => Number());
        return changed;
    }

    /// <summary>Makes something else of a file than a file: a link, a folder, a pipe; or takes it away.</summary>
    public void Displace(string file)
    {
        File.Delete(file);
        switch (Below(7))
        {
            case 0: File.CreateSymbolicLink(file, file); break;
            case 1: File.CreateSymbolicLink(file, "/dev/zero"); break;
            case 2: File.CreateSymbolicLink(file, "../../nowhere"); break;
            case 3: Directory.CreateDirectory(file); break;
            case 4: File.WriteAllBytes(file, []); break;
            case 5: MakePipe(file); break;
        }
    }

    public static void MakePipe(string path)
    {
        using Process process = Process.Start("mkfifo", [path]);
        process.WaitForExit();
    }

    private byte[] ChangeBytes(byte[] bytes, IReadOnlyList<byte[]> others)
    {
        if (bytes.Length == 0) return [.. Pick(others)];
        int at = Below(bytes.Length), length = Math.Min(1 + Count(4096), bytes.Length - at);
        byte[] changed = [.. bytes];
        switch (Below(9))
        {
            case 0:
                changed[at] ^= (byte)(1 << Below(8));
                return changed;
            case 1:
                changed[at] = Pick<byte>([0, 1, 0x7f, 0x80, 0xff, (byte)Below(256)]);
                return changed;
            case 2: return bytes[..at];
            case 3: return [.. bytes[..at], .. bytes[(at + length)..]];
            case 4: return [.. bytes[..at], .. bytes[at..(at + length)], .. bytes[at..]];
            case 5: return [.. bytes[..at], .. Junk(1 + Count(4096)), .. bytes[at..]];
            case 6: return [.. bytes, .. Junk(1 + Count(65536))];
            case 7:
                ulong number = Pick<ulong>([0, 1, 0x7f, 0x7fff, 0x7fffffff, 0x80000000, 0xffffffff, 0x7fffffffffffffff, 0x8000000000000000, ulong.MaxValue, (ulong)bytes.Length, (ulong)_random.NextInt64()]);
                byte[] whole = new byte[8];
                if (OneIn(2)) BinaryPrimitives.WriteUInt64LittleEndian(whole, number);
                else BinaryPrimitives.WriteUInt64BigEndian(whole, number);
                int width = Math.Min(Pick([2, 4, 8]), bytes.Length - at);
                (OneIn(2) ? whole.AsSpan(0, width) : whole.AsSpan(8 - width)).CopyTo(changed.AsSpan(at));
                return changed;
            default:
                byte[] other = Pick(others);
                return [.. bytes[..at], .. other[(other.Length == 0 ? 0 : Below(other.Length))..]];
        }
    }

    private string ChangeText(string text, IReadOnlyList<byte[]> others)
    {
        int at = Below(text.Length + 1);
        switch (Below(14))
        {
            case 0 or 1 or 2: return Replace(NumberOf().Matches(text), text, _ => Raw(Number()));
            case 3: return Replace(Word().Matches(text), text, match => OneIn(3) ? match.Value.ToUpperInvariant() : Pick(Word().Matches(text)).Value);
            case 4: return Replace(Word().Matches(text), text, match => match.Value + new string('x', Count(200_000)));
            case 5: return Replace(Line().Matches(text), text, match => string.Concat(Enumerable.Repeat(match.Value, 2 + (match.Length > 1000 ? 0 : Count(2000)))));
            case 6: return Replace(Line().Matches(text), text, _ => "");
            case 7: return Replace(Line().Matches(text), text, _ => Pick(Line().Matches(Encoding.Latin1.GetString(Pick(others)))).Value);
            case 8: return text[..at] + string.Concat(Enumerable.Repeat(Pick(["[", "{", "[[", "{\"a\":", "{a: ", "- ", "? ", "(", "a:\n ", "\"", "&a [*a,"]), Count(100_000))) + text[at..];
            case 9: return text[..at] + Raw(Pick(Tokens)) + text[at..];
            case 10: return text[..at] + Encoding.Latin1.GetString(Pick(Invalid)) + text[at..];
            case 11: return text[..at];
            case 12: return OneIn(2) ? text.Replace("\n", "\r\n", StringComparison.Ordinal) : text.Replace('\n', OneIn(2) ? '\r' : ' ');
            default: return Replace(NumberOf().Matches(text), text, match => match.Value + Raw(Pick(Tokens)));
        }
    }

    private void ChangeJson(JsonNode root)
    {
        List<JsonNode> parents = [];
        void Collect(JsonNode? node)
        {
            if (node is JsonObject item)
            {
                if (item.Count > 0) parents.Add(item);
                foreach ((_, JsonNode? value) in item) Collect(value);
            }
            else if (node is JsonArray list)
            {
                if (list.Count > 0) parents.Add(list);
                foreach (JsonNode? value in list) Collect(value);
            }
        }
        Collect(root);
        if (parents.Count == 0) return;
        JsonNode parent = Pick(parents);
        if (parent is JsonObject map)
        {
            string key = Pick([.. map.Select(pair => pair.Key)]);
            switch (Below(6))
            {
                case 0: map.Remove(key); break;
                case 1: map[OneIn(2) ? key + "x" : Pick(Tokens)] = Value(map[key]); break;
                case 2:
                    JsonNode? value = map[key]?.DeepClone();
                    map.Remove(key);
                    map[Pick([key.ToUpperInvariant(), Pick(Tokens), key + "\u001b", new string('k', Count(100_000))])] = value;
                    break;
                default: map[key] = Value(map[key]); break;
            }
        }
        else if (parent is JsonArray array)
        {
            int index = Below(array.Count);
            switch (Below(5))
            {
                case 0: array.RemoveAt(index); break;
                case 1:
                    for (int count = 1 + Count(10_000); count > 0; count--) array.Add(array[index]?.DeepClone());
                    break;
                default: array[index] = Value(array[index]); break;
            }
        }
    }

    /// <summary>Another value in the place of one.</summary>
    private JsonNode? Value(JsonNode? before)
    {
        switch (Below(9))
        {
            case 0: return null;
            case 1: return JsonValue.Create(Pick<long>([0, -1, 1, 2, 255, int.MaxValue, 1L << 31, 1L << 32, 1L << 62, long.MaxValue, long.MinValue, _random.NextInt64()]));
            case 2: return JsonValue.Create(Pick([0.5, -0.0, 1e308, 1e-300]));
            case 3: return JsonValue.Create(Pick([.. Tokens, .. Numbers, "", new string('s', Count(100_000))]));
            case 4: return JsonValue.Create(OneIn(2));
            case 5: return new JsonArray();
            case 6: return new JsonObject();
            case 7:
                JsonNode? nested = before?.DeepClone();
                for (int depth = 1 + Count(200); depth > 0; depth--) nested = new JsonArray(nested);
                return nested;
            default: return before is JsonValue && long.TryParse(before.ToJsonString(), out long number) ? JsonValue.Create(number + Below(5) - 2) : new JsonArray(before?.DeepClone(), before?.DeepClone());
        }
    }

    private byte[] Reencode(byte[] utf8)
    {
        string text = Encoding.UTF8.GetString(utf8);
        Encoding encoding = Pick<Encoding>([new UTF8Encoding(true), new UnicodeEncoding(false, true), new UnicodeEncoding(true, true), new UTF32Encoding(false, true), new UTF32Encoding(true, true)]);
        byte[] bytes = encoding.GetBytes(text);
        return OneIn(4) ? bytes : [.. encoding.GetPreamble(), .. bytes];
    }

    private byte[] Junk(int count)
    {
        byte[] junk = new byte[count];
        if (OneIn(2)) _random.NextBytes(junk);
        return junk;
    }

    private string Replace(MatchCollection matches, string text, Func<Match, string> change)
    {
        if (matches.Count == 0) return text;
        Match match = Pick(matches);
        return string.Concat(text.AsSpan(0, match.Index), change(match), text.AsSpan(match.Index + match.Length));
    }

    /// <summary>The bytes of a text in UTF-8, as Latin-1.</summary>
    private static string Raw(string text) => Encoding.Latin1.GetString(Encoding.UTF8.GetBytes(text));

    [GeneratedRegex(@"-?\d+(\.\d+)?(e-?\d+)?")]
    private static partial Regex NumberOf();

    [GeneratedRegex(@"(?<=[\[:,])-?\d+")]
    private static partial Regex DigitsOf();

    [GeneratedRegex("[A-Za-z_][A-Za-z_-]*")]
    private static partial Regex Word();

    [GeneratedRegex(".*\n|.+$")]
    private static partial Regex Line();

    [GeneratedRegex("\"[^\"\\\\]*\":(\"[^\"\\\\]*\"|-?\\d+|\\[[^\\[\\]{}]*\\]|\\{[^{}]*\\})")]
    private static partial Regex KeyAndValue();
}
