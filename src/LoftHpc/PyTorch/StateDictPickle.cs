using System.Buffers.Binary;
using System.IO.Compression;
using System.Text;
using LoftHpc.Results;
using TorchSharp;

namespace LoftHpc.PyTorch;

/// <summary>
/// A state_dict as torch.save writes it: a zip archive of a pickle (data.pkl) and of the bytes of each storage (data/KEY). A pickle is
/// a program for a machine with a stack, and may call any function of Python. Here nothing is called: of its instructions those are
/// followed that a dictionary of tensors takes, of functions the two that stand for a dictionary and a tensor are known by name, and
/// all else is refused.
/// </summary>
internal sealed class StateDictPickle
{
    /// <summary>Networks of this program need far less than this.</summary>
    private const int MaxBytes = 16_000_000;

    private static readonly Dictionary<string, torch.ScalarType> Storages = new()
    {
        ["torch.FloatStorage"] = torch.ScalarType.Float32,
        ["torch.DoubleStorage"] = torch.ScalarType.Float64,
        ["torch.LongStorage"] = torch.ScalarType.Int64,
    };

    private readonly byte[] _program;
    private readonly Stack<object?> _stack = [];
    private readonly Dictionary<int, object?> _memo = [];
    private int _at;

    private StateDictPickle(byte[] program) => _program = program;

    /// <summary>A name of Python's, which is looked up nowhere.</summary>
    private sealed record Name(string Full);

    private sealed record Storage(torch.ScalarType Type, string Key, long Elements);

    /// <summary>A view of a storage, in elements.</summary>
    private sealed record View(Storage Storage, long Offset, long[] Shape, long[] Strides);

    /// <summary>A dictionary of Python's; keys may be anything.</summary>
    private sealed record Pairs(List<(object? Key, object? Value)> Items);

    private sealed class Mark
    {
        public static readonly Mark Only = new();
    }

    /// <summary>Writes the tensors of such a file as a safetensors file.</summary>
    /// <exception cref="UserError">The file is damaged, or holds something else or more.</exception>
    public static void ToSafetensors(string path, string target)
    {
        try
        {
            using FileStream file = RegularFile.OpenRead(path);
            using ZipArchive archive = new(file, ZipArchiveMode.Read);
            ZipArchiveEntry pickle = archive.Entries.FirstOrDefault(entry => entry.FullName.EndsWith("/data.pkl", StringComparison.Ordinal))
                ?? throw new InvalidDataException("there is no data.pkl in it");
            string root = pickle.FullName[..^"data.pkl".Length];
            if (archive.GetEntry($"{root}byteorder") is ZipArchiveEntry order && Encoding.ASCII.GetString(Bytes(order, MaxBytes)) != "little")
                throw new InvalidDataException("its numbers are not little-endian");
            Dictionary<string, View> tensors = new StateDictPickle(Bytes(pickle, MaxBytes)).Run();
            using SafetensorsWriter writer = new(target, tensors.Select(pair => new TensorEntry(pair.Key, pair.Value.Storage.Type, pair.Value.Shape)), new Dictionary<string, string>());
            foreach ((string name, View view) in tensors)
            {
                using DisposeScope scope = torch.NewDisposeScope();
                ZipArchiveEntry data = archive.GetEntry($"{root}data/{view.Storage.Key}") ?? throw new InvalidDataException($"the numbers of {name} are not in it");
                // The archive's list may name any size.
                if (data.Length > file.Length) throw new InvalidDataException($"the numbers of {name} are cut");
                writer.Write(name, Read(data, view, name));
            }
            writer.Complete();
        }
        catch (Exception error) when (error is InvalidDataException or IOException or UnauthorizedAccessException or NotSupportedException or DecoderFallbackException)
        {
            throw new UserError($"{path}: not a plain state_dict as torch.save writes it: {PlainText.Of(error.Message)}; torch.save(model.state_dict(), 'model.pt') makes one", error);
        }
    }

    private static byte[] Bytes(ZipArchiveEntry entry, int most)
    {
        if (entry.Length > most) throw new InvalidDataException($"{entry.FullName} has {entry.Length} bytes; {most} are read at most");
        byte[] bytes = new byte[entry.Length];
        using Stream stream = entry.Open();
        stream.ReadExactly(bytes);
        return bytes;
    }

    private static torch.Tensor Read(ZipArchiveEntry entry, View view, string name)
    {
        long bytes = checked(view.Storage.Elements * Safetensors.ElementBytes(view.Storage.Type));
        if (entry.Length != bytes || entry.CompressedLength != bytes) throw new InvalidDataException($"the numbers of {name} have {entry.Length} bytes in it, not {bytes}");
        torch.Tensor storage = torch.empty([view.Storage.Elements], view.Storage.Type);
        using (Stream stream = entry.Open()) Safetensors.ForEachPiece(storage, stream.ReadExactly);
        return storage.as_strided(view.Shape, view.Strides, view.Offset).contiguous();
    }

    private Dictionary<string, View> Run()
    {
        while (true)
        {
            byte instruction = Take(1)[0];
            if (instruction == (byte)'.') break;
            Follow(instruction);
        }
        if (Pop() is not Pairs state) throw new InvalidDataException("it holds no dictionary");
        Dictionary<string, View> tensors = [];
        foreach ((object? key, object? value) in state.Items)
        {
            if (key is not string name) throw new InvalidDataException("a key is no text");
            if (value is not View view) throw new InvalidDataException($"{name} is no tensor");
            if (name == Safetensors.MetadataKey || !tensors.TryAdd(name, view)) throw new InvalidDataException($"{name} stands twice");
        }
        return tensors;
    }

    private void Follow(byte instruction)
    {
        switch (instruction)
        {
            case 0x80: // PROTO
                Take(1);
                break;
            case 0x95: // FRAME
                Take(8);
                break;
            case (byte)'(':
                _stack.Push(Mark.Only);
                break;
            case (byte)'N':
                _stack.Push(null);
                break;
            case 0x88 or 0x89: // NEWTRUE, NEWFALSE
                _stack.Push(instruction == 0x88);
                break;
            case (byte)'K':
                _stack.Push((long)Take(1)[0]);
                break;
            case (byte)'M':
                _stack.Push((long)BinaryPrimitives.ReadUInt16LittleEndian(Take(2)));
                break;
            case (byte)'J':
                _stack.Push((long)BinaryPrimitives.ReadInt32LittleEndian(Take(4)));
                break;
            case 0x8a: // LONG1
                _stack.Push(LongOf(Take(Take(1)[0])));
                break;
            case (byte)'X':
                _stack.Push(Text(Length()));
                break;
            case 0x8c: // SHORT_BINUNICODE
                _stack.Push(Text(Take(1)[0]));
                break;
            case (byte)'q':
                _memo[Take(1)[0]] = Top();
                break;
            case (byte)'r':
                _memo[Length()] = Top();
                break;
            case 0x94: // MEMOIZE
                _memo[_memo.Count] = Top();
                break;
            case (byte)'h':
                Recall(Take(1)[0]);
                break;
            case (byte)'j':
                Recall(Length());
                break;
            case (byte)'}':
                _stack.Push(new Pairs([]));
                break;
            case (byte)')':
                _stack.Push(Array.Empty<object?>());
                break;
            case (byte)'t':
                _stack.Push(ToMark());
                break;
            case >= 0x85 and <= 0x87: // TUPLE1, 2 and 3
                object?[] items = new object?[instruction - 0x84];
                for (int i = items.Length - 1; i >= 0; i--) items[i] = Pop();
                _stack.Push(items);
                break;
            case (byte)'c':
                string module = Line();
                _stack.Push(new Name($"{module}.{Line()}"));
                break;
            case 0x93: // STACK_GLOBAL
                object? last = Pop();
                _stack.Push(new Name($"{Pop() as string}.{last as string}"));
                break;
            case (byte)'Q':
                _stack.Push(StorageOf(Pop()));
                break;
            case (byte)'R':
                object? arguments = Pop();
                _stack.Push(Made(Pop(), arguments as object?[] ?? []));
                break;
            case (byte)'s':
                object? value = Pop();
                object? key = Pop();
                Dictionary().Items.Add((key, value));
                break;
            case (byte)'u':
                object?[] pairs = ToMark();
                if (pairs.Length % 2 != 0) throw new InvalidDataException("a key has no value");
                Dictionary().Items.AddRange(pairs.Chunk(2).Select(pair => (pair[0], pair[1])));
                break;
            case (byte)'b':
                // The versions of its modules, which a state_dict carries as an attribute.
                if (Pop() is not Pairs) throw new InvalidDataException("it sets up an object");
                _ = Dictionary();
                break;
            default:
                throw new InvalidDataException($"it holds more than a dictionary of tensors (instruction 0x{instruction:x2} at byte {_at - 1} of data.pkl)");
        }
    }

    /// <summary>What a call of a function with arguments would make, of the functions that are known.</summary>
    private static object Made(object? function, object?[] arguments)
    {
        switch ((function as Name)?.Full)
        {
            case "collections.OrderedDict" when arguments.Length == 0:
                return new Pairs([]);
            case "torch._utils._rebuild_tensor_v2" when arguments is [Storage storage, long offset, object?[] shape, object?[] strides, ..]:
                return ViewOf(storage, offset, shape, strides);
            case "torch._utils._rebuild_parameter" when arguments is [View view, ..]:
                return view;
            default:
                throw new InvalidDataException($"it calls {(function as Name)?.Full ?? "something"}, which is not done");
        }
    }

    private static View ViewOf(Storage storage, long offset, object?[] shape, object?[] strides)
    {
        long[] sizes = [.. shape.Select(size => size is long number and >= 0 ? number : -1)], steps = [.. strides.Select(step => step is long number and >= 0 ? number : -1)];
        // The last number, far below what overflows: sizes and steps are below the storage's elements.
        Int128 last = offset;
        bool possible = offset >= 0 && sizes.Length == steps.Length && sizes.Length <= Safetensors.MaxDimensions;
        Int128 count = 1;
        for (int i = 0; possible && i < sizes.Length; i++)
        {
            possible = sizes[i] >= 0 && steps[i] >= 0 && sizes[i] <= storage.Elements && steps[i] <= storage.Elements;
            (last, count) = (last + ((Int128)Math.Max(0, sizes[i] - 1) * Math.Max(0, steps[i])), count * sizes[i]);
            possible &= count <= storage.Elements;
        }
        if (!possible || last >= storage.Elements)
            throw new InvalidDataException($"a tensor [{string.Join(", ", sizes)}] of steps [{string.Join(", ", steps)}] from {offset} on does not lie in its {storage.Elements} numbers");
        return new View(storage, offset, sizes, steps);
    }

    private static Storage StorageOf(object? reference)
    {
        if (reference is not object?[] { Length: 5 } parts || parts is not ["storage", Name type, string key, string, long elements])
            throw new InvalidDataException("it refers to something that is no storage");
        if (!Storages.TryGetValue(type.Full, out torch.ScalarType scalar))
            throw new InvalidDataException($"it has numbers of {type.Full}; {string.Join(", ", Storages.Keys)} are read");
        return elements is >= 0 and <= long.MaxValue / 8 ? new Storage(scalar, key, elements) : throw new InvalidDataException($"a storage of {elements} numbers");
    }

    private Pairs Dictionary() => Top() as Pairs ?? throw new InvalidDataException("it changes something that is no dictionary");

    private object? Top() => _stack.TryPeek(out object? top) ? top : throw Ended;

    private object? Pop() => _stack.TryPop(out object? top) && top is not Mark ? top : throw Ended;

    private object?[] ToMark()
    {
        List<object?> items = [];
        while (true)
        {
            if (!_stack.TryPop(out object? top)) throw Ended;
            if (top is Mark) break;
            items.Add(top);
        }
        items.Reverse();
        return [.. items];
    }

    private void Recall(int number) => _stack.Push(_memo.TryGetValue(number, out object? value) ? value : throw Ended);

    private static long LongOf(ReadOnlySpan<byte> bytes) => bytes.Length <= 8 ? (long)new System.Numerics.BigInteger(bytes) : throw new InvalidDataException("a number of more than 8 bytes");

    private int Length() => BinaryPrimitives.ReadInt32LittleEndian(Take(4)) is var length and >= 0 ? length : throw Ended;

    private string Text(int length) => new UTF8Encoding(false, throwOnInvalidBytes: true).GetString(Take(length));

    private string Line()
    {
        int length = _program.AsSpan(_at).IndexOf((byte)'\n');
        if (length < 0) throw Ended;
        string line = Text(length);
        _at++;
        return line;
    }

    private ReadOnlySpan<byte> Take(int count)
    {
        if (count > _program.Length - _at) throw Ended;
        _at += count;
        return _program.AsSpan(_at - count, count);
    }

    private static InvalidDataException Ended => new("its data.pkl is no whole pickle");
}
