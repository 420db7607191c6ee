using System.Buffers.Binary;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using LoftHpc.Mpi;
using TorchSharp;

namespace LoftHpc.Results;

/// <summary>Name, type and shape of one tensor of a file.</summary>
/// <param name="Type">Float32, Float64 or Int64.</param>
/// <param name="Shape">Empty for a scalar.</param>
public sealed record TensorEntry(string Name, torch.ScalarType Type, IReadOnlyList<long> Shape)
{
    public long Elements => Shape.Aggregate(1L, (product, size) => checked(product * size));

    public long Bytes => checked(Elements * Safetensors.ElementBytes(Type));

    public static TensorEntry Of(string name, torch.Tensor tensor) => new(name, tensor.dtype, tensor.shape);
}

/// <summary>
/// The safetensors format (https://github.com/huggingface/safetensors): 8 bytes little-endian length of the header, the
/// header (a JSON object, padded with spaces to a multiple of 8), then the tensors' bytes, little-endian and row-major.
/// </summary>
internal static class Safetensors
{
    public const string MetadataKey = "__metadata__";

    /// <summary>
    /// The longest header that is read. The format allows 100 MB, which would take a GB to read; networks of this program need
    /// far less than this.
    /// </summary>
    public const long MaxHeaderBytes = 16_000_000;

    /// <summary>The most dimensions that libtorch computes with.</summary>
    public const int MaxDimensions = 64;

    private static readonly (torch.ScalarType Type, string Name, int Bytes)[] Types =
    [
        (torch.ScalarType.Float32, "F32", 4),
        (torch.ScalarType.Float64, "F64", 8),
        (torch.ScalarType.Int64, "I64", 8),
    ];

    public static string NameOf(torch.ScalarType type) => Find(type).Name;

    public static int ElementBytes(torch.ScalarType type) => Find(type).Bytes;

    public static bool TryParse(string? name, out torch.ScalarType type)
    {
        int index = Array.FindIndex(Types, t => t.Name == name);
        type = index < 0 ? default : Types[index].Type;
        return index >= 0;
    }

    /// <summary>The memory of a contiguous CPU tensor in pieces that a span can hold.</summary>
    public static unsafe void ForEachPiece(torch.Tensor tensor, SpanAction action)
    {
        const int piece = 1 << 28;
        byte* address = (byte*)TensorMemory.Address(tensor);
        long bytes = tensor.numel() * ElementBytes(tensor.dtype);
        for (long done = 0; done < bytes; done += piece) action(new Span<byte>(address + done, (int)Math.Min(piece, bytes - done)));
        GC.KeepAlive(tensor);
    }

    public delegate void SpanAction(Span<byte> bytes);

    private static (torch.ScalarType Type, string Name, int Bytes) Find(torch.ScalarType type)
    {
        int index = Array.FindIndex(Types, t => t.Type == type);
        return index >= 0 ? Types[index] : throw new ArgumentException($"weights files hold no tensors of {type}", nameof(type));
    }
}

/// <summary>
/// Writes a safetensors file tensor by tensor, so that no more than one of them need be held. The file gets its name
/// when <see cref="Complete"/> has seen all of them and flushed them to the disk; disposed before, it leaves nothing.
/// </summary>
public sealed class SafetensorsWriter : IDisposable
{
    private readonly string _path;
    private readonly string _target;
    private readonly FileStream _stream;
    private readonly Dictionary<string, (TensorEntry Entry, long Offset)> _missing = [];
    private bool _completed;

    /// <param name="path">The file, replaced where it exists.</param>
    /// <param name="entries">All tensors that the file will hold.</param>
    /// <param name="metadata">Text that the header carries.</param>
    /// <exception cref="UserError">The file cannot be written.</exception>
    public SafetensorsWriter(string path, IEnumerable<TensorEntry> entries, IReadOnlyDictionary<string, string> metadata)
    {
        _path = path;
        long offset = 0;
        using MemoryStream header = new();
        using (Utf8JsonWriter json = new(header, new JsonWriterOptions { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping }))
        {
            json.WriteStartObject();
            if (metadata.Count > 0)
            {
                json.WriteStartObject(Safetensors.MetadataKey);
                foreach ((string key, string value) in metadata) json.WriteString(key, value);
                json.WriteEndObject();
            }
            // Wide elements first, so that every tensor is aligned to its own element.
            foreach (TensorEntry entry in entries.OrderByDescending(e => Safetensors.ElementBytes(e.Type)))
            {
                if (!_missing.TryAdd(entry.Name, (entry, offset)) || entry.Name == Safetensors.MetadataKey)
                    throw new ArgumentException($"tensor {entry.Name} stands twice", nameof(entries));
                json.WriteStartObject(entry.Name);
                json.WriteString("dtype", Safetensors.NameOf(entry.Type));
                json.WriteStartArray("shape");
                foreach (long size in entry.Shape) json.WriteNumberValue(size);
                json.WriteEndArray();
                json.WriteStartArray("data_offsets");
                json.WriteNumberValue(offset);
                json.WriteNumberValue(offset += entry.Bytes);
                json.WriteEndArray();
                json.WriteEndObject();
            }
            json.WriteEndObject();
        }
        while (header.Length % 8 != 0) header.WriteByte((byte)' ');
        foreach ((string name, (TensorEntry entry, long start)) in _missing) _missing[name] = (entry, start + 8 + header.Length);

        _target = DurableFile.Target(path);
        try
        {
            _stream = new FileStream(DurableFile.Aside(_target), FileMode.Create, FileAccess.Write, FileShare.None, bufferSize: 0);
        }
        catch (Exception error) when (DurableFile.IsFailure(error))
        {
            throw DurableFile.Failure(path, error);
        }
        Try(() =>
        {
            Span<byte> length = stackalloc byte[8];
            BinaryPrimitives.WriteInt64LittleEndian(length, header.Length);
            _stream.Write(length);
            _stream.Write(header.GetBuffer().AsSpan(0, (int)header.Length));
        });
    }

    /// <summary>Writes one tensor, from any device; each one once, in any order.</summary>
    /// <exception cref="ArgumentException">The file was not announced to hold it, or it was written already.</exception>
    /// <exception cref="UserError">The file cannot be written; nothing of it is left.</exception>
    public void Write(string name, torch.Tensor tensor)
    {
        if (!_missing.Remove(name, out (TensorEntry Entry, long Offset) place))
            throw new ArgumentException($"{_path} holds no tensor {name}, or it is written already", nameof(name));
        if (tensor.dtype != place.Entry.Type || !tensor.shape.SequenceEqual(place.Entry.Shape))
        {
            throw new ArgumentException($"{name} is {tensor.dtype} [{string.Join(", ", tensor.shape)}], " +
                $"not {place.Entry.Type} [{string.Join(", ", place.Entry.Shape)}]", nameof(tensor));
        }
        using DisposeScope scope = torch.NewDisposeScope();
        torch.Tensor memory = tensor.detach().cpu().contiguous();
        Try(() =>
        {
            _stream.Position = place.Offset;
            Safetensors.ForEachPiece(memory, piece => _stream.Write(piece));
        });
    }

    /// <summary>Flushes the file to the disk and gives it its name.</summary>
    /// <exception cref="InvalidOperationException">A tensor is missing.</exception>
    /// <exception cref="UserError">The file cannot be written; nothing of it is left.</exception>
    public void Complete()
    {
        if (_missing.Count > 0) throw new InvalidOperationException($"{_path}: {string.Join(", ", _missing.Keys)} not written");
        Try(() =>
        {
            _stream.Flush(flushToDisk: true);
            _stream.Dispose();
            DurableFile.Rename(_stream.Name, _target);
        });
        _completed = true;
    }

    public void Dispose()
    {
        _stream.Dispose();
        if (!_completed) DurableFile.Remove(_stream.Name);
    }

    private void Try(Action write)
    {
        try
        {
            write();
        }
        catch (Exception error)
        {
            Dispose();
            if (DurableFile.IsFailure(error)) throw DurableFile.Failure(_path, error);
            throw;
        }
    }
}

/// <summary>An open safetensors file. Its header is checked against the file's size before any tensor is read.</summary>
public sealed class SafetensorsFile : IDisposable
{
    private readonly FileStream _stream;
    private readonly string _path;
    private readonly Dictionary<string, (TensorEntry Entry, long Offset)> _tensors = [];
    private readonly Dictionary<string, string> _metadata = [];

    private SafetensorsFile(FileStream stream, string path) => (_stream, _path) = (stream, path);

    /// <summary>All tensors, in the order of their bytes.</summary>
    public IReadOnlyList<TensorEntry> Entries => [.. _tensors.Values.OrderBy(t => t.Offset).Select(t => t.Entry)];

    public IReadOnlyDictionary<string, string> Metadata => _metadata;

    /// <exception cref="UserError">The file is missing, cut, or not a safetensors file of F32, F64 and I64 tensors.</exception>
    public static SafetensorsFile Open(string path)
    {
        FileStream stream;
        try
        {
            stream = RegularFile.OpenRead(path, bufferSize: 0);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            string reason = e is FileNotFoundException or DirectoryNotFoundException ? "there is no such file" : e.Message;
            throw new UserError($"{path}: weights cannot be read: {reason}", e);
        }
        SafetensorsFile file = new(stream, path);
        try
        {
            file.ReadHeader();
            return file;
        }
        catch (Exception e)
        {
            stream.Dispose();
            // What JSON of the wrong kind throws (InvalidOperation, Format) is the file's fault as well.
            if (e is InvalidDataException or JsonException or InvalidOperationException or FormatException or IOException)
                throw new UserError($"{path}: not a whole safetensors file: {PlainText.Of(e.Message)}", e);
            throw;
        }
    }

    public bool Contains(string name) => _tensors.ContainsKey(name);

    /// <summary>A new tensor on the CPU.</summary>
    /// <exception cref="UserError">The file does not hold it, or cannot be read any more.</exception>
    public torch.Tensor Read(string name)
    {
        (TensorEntry entry, long offset) = Find(name);
        torch.Tensor tensor = torch.empty([.. entry.Shape], dtype: entry.Type);
        try
        {
            Safetensors.ForEachPiece(tensor, piece =>
            {
                ReadExactly(offset, piece);
                offset += piece.Length;
            });
            return tensor;
        }
        catch
        {
            tensor.Dispose();
            throw;
        }
    }

    /// <summary>The bytes of a tensor piece by piece, none of which divides an element: for looking at a file without its tensors in memory.</summary>
    /// <exception cref="UserError">The file does not hold it, or cannot be read any more.</exception>
    public void ReadPieces(string name, Action<ReadOnlySpan<byte>> look)
    {
        (TensorEntry entry, long offset) = Find(name);
        byte[] buffer = new byte[Math.Min(entry.Bytes, 1 << 20)];
        for (long left = entry.Bytes; left > 0;)
        {
            Span<byte> piece = buffer.AsSpan(0, (int)Math.Min(left, buffer.Length));
            ReadExactly(offset, piece);
            look(piece);
            (offset, left) = (offset + piece.Length, left - piece.Length);
        }
    }

    /// <summary>The same, of a tensor that must have this shape.</summary>
    /// <exception cref="UserError">There is no such tensor, or it has another shape.</exception>
    public torch.Tensor Read(string name, IReadOnlyList<long> shape)
    {
        MustHold(name, shape);
        return Read(name);
    }

    /// <summary>Refuses a file without this tensor of floating-point numbers.</summary>
    /// <exception cref="UserError">There is no such tensor, or it has another shape, or holds whole numbers.</exception>
    public void MustHold(string name, IReadOnlyList<long> shape)
    {
        TensorEntry entry = Find(name).Entry;
        if (!entry.Shape.SequenceEqual(shape))
            throw new UserError($"{_path}: {name} has shape [{string.Join(", ", entry.Shape)}], where its network has [{string.Join(", ", shape)}]");
        if (entry.Type is torch.ScalarType.Int64) throw new UserError($"{_path}: {name} holds whole numbers, where its network has floating-point numbers");
    }

    public void Dispose() => _stream.Dispose();

    private (TensorEntry Entry, long Offset) Find(string name) =>
        _tensors.TryGetValue(name, out (TensorEntry, long) place) ? place : throw new UserError($"{_path}: there is no tensor {PlainText.Of(name)}");

    /// <summary>The file may have become shorter since its header was read.</summary>
    private void ReadExactly(long offset, Span<byte> bytes)
    {
        try
        {
            _stream.Position = offset;
            _stream.ReadExactly(bytes);
        }
        catch (IOException e)
        {
            throw new UserError($"{_path}: weights cannot be read: {e.Message}", e);
        }
    }

    private void ReadHeader()
    {
        Span<byte> lengthBytes = stackalloc byte[8];
        if (_stream.Length < 8) throw new InvalidDataException($"it has {_stream.Length} bytes, fewer than the 8 of the header's length");
        _stream.ReadExactly(lengthBytes);
        ulong length = BinaryPrimitives.ReadUInt64LittleEndian(lengthBytes);
        if (length > (ulong)_stream.Length - 8) throw new InvalidDataException($"the header's length, {length}, is beyond the {_stream.Length} bytes of the file");
        if (length > Safetensors.MaxHeaderBytes) throw new InvalidDataException($"its header has {length} bytes; {Safetensors.MaxHeaderBytes} are read at most");
        byte[] header = new byte[length];
        _stream.ReadExactly(header);
        using JsonDocument json = JsonDocument.Parse(header);
        long data = 8 + (long)length;
        foreach (JsonProperty property in json.RootElement.EnumerateObject())
        {
            if (property.NameEquals(Safetensors.MetadataKey))
            {
                foreach (JsonProperty item in property.Value.EnumerateObject())
                {
                    if (!_metadata.TryAdd(item.Name, item.Value.GetString() ?? "")) throw new InvalidDataException($"metadata {item.Name} stand twice");
                }
            }
            else
            {
                (TensorEntry entry, long start) = ReadEntry(property);
                if (!_tensors.TryAdd(entry.Name, (entry, start))) throw new InvalidDataException($"tensor {entry.Name} stands twice");
            }
        }
        // The tensors fill the file without gap or overlap, so a cut or prolonged file shows here. Their ends are not beyond long.
        long end = 0;
        foreach ((TensorEntry entry, long start) in _tensors.Values.OrderBy(t => t.Offset).ThenBy(t => t.Entry.Bytes))
        {
            if (start != end) throw new InvalidDataException($"tensor {entry.Name} starts at byte {start} of the data, not at {end}");
            end = start + entry.Bytes;
        }
        if (end != _stream.Length - data) throw new InvalidDataException($"it has {_stream.Length} bytes, and its header describes {(decimal)data + end}");
        foreach ((string name, (TensorEntry entry, long start)) in _tensors) _tensors[name] = (entry, data + start);
    }

    private static (TensorEntry Entry, long Start) ReadEntry(JsonProperty property)
    {
        if (!property.Value.TryGetProperty("dtype", out JsonElement dtype) ||
            !property.Value.TryGetProperty("shape", out JsonElement shape) ||
            !property.Value.TryGetProperty("data_offsets", out JsonElement offsets) || offsets.GetArrayLength() != 2)
        {
            throw new InvalidDataException($"tensor {property.Name} has no dtype, shape and two data_offsets");
        }
        if (!Safetensors.TryParse(dtype.GetString(), out torch.ScalarType type))
            throw new InvalidDataException($"tensor {property.Name} is of type {dtype.GetString()}; F32, F64 and I64 are read");
        if (shape.GetArrayLength() > Safetensors.MaxDimensions)
            throw new InvalidDataException($"tensor {property.Name} has {shape.GetArrayLength()} dimensions; {Safetensors.MaxDimensions} are read at most");
        long[] sizes = [.. shape.EnumerateArray().Select(s => s.GetInt64())];
        (long start, long end) = (offsets[0].GetInt64(), offsets[1].GetInt64());
        // The same product without its zeros is that of the strides, which must not overflow either.
        if (sizes.Any(size => size < 0) || sizes.Aggregate((Int128)1, (product, size) => product > long.MaxValue ? product : product * long.Max(size, 1)) > long.MaxValue / 8)
            throw new InvalidDataException($"tensor {property.Name} has no possible shape: [{string.Join(", ", sizes)}]");
        TensorEntry entry = new(property.Name, type, sizes);
        if (start < 0 || end < start || end - start != entry.Bytes)
            throw new InvalidDataException($"tensor {property.Name} of shape [{string.Join(", ", sizes)}] does not take bytes {start} to {end}");
        return (entry, start);
    }
}
