using System.Text;
using System.Text.Json;
using CsvHelper;

namespace LoftHpc.Results;

/// <summary>
/// A CSV file whose columns are the properties of the record <typeparamref name="T"/>, in lower snake case and in
/// order. UTF-8, a comma, one header line, lines end in "\n". Floats are the shortest text that reads back as the same
/// bits; not-a-number and infinities are written NaN, Infinity, -Infinity; null is an empty cell; enums are in lower
/// kebab case; booleans are true and false.
/// <para>
/// A file appears whole (written aside, flushed, renamed). Rows appended later go to its end as whole lines in one
/// write, flushed to the disk before <see cref="Append(IEnumerable{T})"/> returns: rewriting a table that grows all
/// through a run would cost the square of its length. A crash in the middle of that write can at worst leave part of
/// the newest rows: a last line without an end is not read, and the next append removes it. So what was appended
/// before is never lost, and a reader never gets half a row.
/// </para>
/// </summary>
public sealed class CsvTable<T>(string path) where T : class
{
    private static readonly string[] Header =
        [.. typeof(T).GetProperties().Select(p => JsonNamingPolicy.SnakeCaseLower.ConvertName(p.Name))];

    private static readonly CsvWriterOptions WriterOptions = new() { NewLine = "\n", HasHeader = false, TrueValue = "true", FalseValue = "false" };

    private static readonly CsvReaderOptions ReaderOptions = new()
    {
        Separator = ',',
        // The columns' snake case meets the properties' names.
        NormalizeHeaderName = name => name.Replace("_", "", StringComparison.Ordinal),
        FieldCountMismatch = CsvFieldCountHandling.Throw,
        MalformedData = CsvMalformedDataHandling.Throw,
        MaxRecordSize = MaxLineBytes,
        TrackLineNumbers = true,
    };

    /// <summary>Far more than a line of any table has.</summary>
    private const int MaxLineBytes = 1 << 20;

    public string Path { get; } = path;

    public bool Exists => File.Exists(Path);

    /// <summary>The header, from the record's properties.</summary>
    public IReadOnlyList<string> Columns => Header;

    public void Append(T row) => Append([row]);

    /// <summary>Adds rows at the end, and first the header where the file does not exist. On return they are on the disk.</summary>
    /// <exception cref="UserError">The file exists with other columns, or cannot be written; then it is as it was.</exception>
    public void Append(IEnumerable<T> rows)
    {
        if (!Exists)
        {
            Write(rows);
            return;
        }
        byte[] lines = Serialize(rows, header: false);
        Change(stream =>
        {
            CheckHeader(stream);
            long end = EndOfLastLine(stream);
            stream.SetLength(end);
            stream.Position = end;
            try
            {
                stream.Write(lines);
                stream.Flush(flushToDisk: true);
            }
            catch (IOException)
            {
                // Part of the rows would take the last free bytes of a full disk.
                stream.SetLength(end);
                throw;
            }
        });
    }

    /// <summary>Makes the table with its header where it does not exist; refuses one that rows cannot be added to.</summary>
    /// <exception cref="UserError">It has other columns, or cannot be written.</exception>
    public void Begin()
    {
        if (Exists) MustTakeRows();
        else Write([]);
    }

    /// <summary>Refuses a table that rows cannot be added to; one that does not exist is none.</summary>
    /// <exception cref="UserError">It has other columns or line ends, is not such a table as a whole, or cannot be written.</exception>
    public void MustTakeRows() => Check(CheckHeader);

    /// <summary>Refuses a table from which rows cannot be removed; one that does not exist is none.</summary>
    /// <exception cref="UserError">It is not such a table as a whole, or cannot be written.</exception>
    public void MustGiveRows() => Check(_ => { });

    private void Check(Action<FileStream> check)
    {
        if (!Exists) return;
        Change(check);
        Read();
    }

    private void Change(Action<FileStream> change)
    {
        string file = DurableFile.Target(Path);
        try
        {
            using FileStream stream = new(file, FileMode.Open, FileAccess.ReadWrite, FileShare.Read, bufferSize: 0);
            change(stream);
        }
        catch (Exception error) when (DurableFile.IsFailure(error))
        {
            throw DurableFile.Failure(Path, error);
        }
    }

    /// <summary>Writes the whole table, whatever stood there before.</summary>
    public void Write(IEnumerable<T> rows) => DurableFile.Write(Path, stream => stream.Write(Serialize(rows, header: true)));

    /// <summary>Takes rows out of the table, if it exists. A table of an earlier version then has the columns of this one.</summary>
    public void Remove(Predicate<T> wanted)
    {
        if (!Exists) return;
        IReadOnlyList<T> rows = Read();
        bool headed = false;
        Change(stream => headed = HasHeader(stream));
        if (!headed || rows.Any(row => wanted(row))) Write(rows.Where(row => !wanted(row)));
    }

    /// <summary>All rows, in the order of the file. Columns that this version does not know are passed over.</summary>
    /// <exception cref="UserError">The file is missing, or is not such a table.</exception>
    public IReadOnlyList<T> Read()
    {
        try
        {
            byte[] bytes = ReadFile();
            int end = bytes.AsSpan().LastIndexOf((byte)'\n') + 1;
            if (end == 0) throw new UserError($"{Path}: the file holds no header line ({string.Join(',', Header)})");
            using CsvReader reader = CsvReader.Create(bytes.AsMemory(0, end), ReaderOptions);
            return Read(reader);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            string reason = e is FileNotFoundException or DirectoryNotFoundException ? "there is no such file" : $"cannot be read: {e.Message}";
            throw new UserError($"{Path}: {reason}", e);
        }
    }

    private byte[] ReadFile()
    {
        using FileStream file = RegularFile.OpenRead(Path, bufferSize: 0);
        if (file.Length > Array.MaxLength) throw new IOException($"it has {file.Length} bytes; {Array.MaxLength} are read at most");
        byte[] bytes = new byte[file.Length];
        file.ReadExactly(bytes);
        return bytes;
    }

    private List<T> Read(CsvReader reader)
    {
        try
        {
            reader.ReadHeader();
            string[] known = [.. reader.Headers.Select(ReaderOptions.NormalizeHeaderName!)];
            if (Header.FirstOrDefault(column => known.Count(name => name == ReaderOptions.NormalizeHeaderName!(column)) > 1) is string twice)
                throw new UserError($"{Path}: the header has column {twice} more than once");
            return [.. reader.GetRecords<T>()];
        }
        catch (KeyNotFoundException e)
        {
            throw new UserError($"{Path}: the header has no column {string.Join(", ", Header.Except([.. reader.Headers]))}", e);
        }
        catch (CsvFormatException e)
        {
            string place = e.LineNumber > 0 ? $"line {e.LineNumber}" : "the header";
            if (e.FieldIndex >= 0) place += $", column {PlainText.Of(reader.Headers[e.FieldIndex])}";
            throw new UserError($"{Path}: {place}: {PlainText.Of(e.InnerException?.Message ?? e.Message)}", e);
        }
    }

    private static byte[] Serialize(IEnumerable<T> rows, bool header)
    {
        using MemoryStream memory = new();
        using (CsvWriter writer = CsvWriter.Create(memory, WriterOptions, leaveOpen: true))
        {
            if (header) writer.WriteHeader(Header);
            writer.WriteRecords(rows);
        }
        return memory.ToArray();
    }

    private void CheckHeader(FileStream stream)
    {
        if (!HasHeader(stream))
            throw new UserError($"{Path}: rows cannot be added, since the first line is not {string.Join(',', Header)}, ended by \\n");
    }

    private static bool HasHeader(FileStream stream)
    {
        byte[] expected = Encoding.UTF8.GetBytes($"{string.Join(',', Header)}\n"), found = new byte[expected.Length];
        stream.Position = 0;
        return stream.ReadAtLeast(found, found.Length, throwOnEndOfStream: false) == found.Length && found.AsSpan().SequenceEqual(expected);
    }

    /// <summary>Length of the file up to and with its last line end.</summary>
    private static long EndOfLastLine(FileStream stream)
    {
        Span<byte> block = stackalloc byte[4096];
        for (long end = stream.Length; end > 0;)
        {
            int count = (int)Math.Min(block.Length, end);
            stream.Position = end - count;
            stream.ReadExactly(block[..count]);
            int last = block[..count].LastIndexOf((byte)'\n');
            if (last >= 0) return end - count + last + 1;
            end -= count;
        }
        return 0;
    }
}

/// <summary>Enum values of a table in lower kebab case, as they stand in the configuration.</summary>
internal sealed class KebabCase<TEnum> : ICsvConverter<TEnum> where TEnum : struct, Enum
{
    private static readonly Dictionary<TEnum, string> Names =
        Enum.GetValues<TEnum>().ToDictionary(v => v, v => JsonNamingPolicy.KebabCaseLower.ConvertName(v.ToString()));

    private static readonly Dictionary<string, TEnum> Values = Names.ToDictionary(n => n.Value, n => n.Key);

    public TEnum Read(CsvReader reader, int index)
    {
        string text = reader.GetString(index);
        return Values.TryGetValue(text, out TEnum value)
            ? value
            : throw new FormatException($"'{text}' is none of {string.Join(", ", Values.Keys)}");
    }

    public void Write(CsvWriter writer, TEnum value) => writer.WriteField(Names[value]);
}
