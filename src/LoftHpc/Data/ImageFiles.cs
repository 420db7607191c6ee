using System.Text;

namespace LoftHpc.Data;

/// <summary>
/// Files of images that are decoded as they are needed, one an image: their names in a folder and, once they are looked at, their sizes.
/// The names lie in one piece of memory, for there may be millions.
/// </summary>
internal sealed class ImageFiles
{
    private readonly byte[] _names;
    private readonly (int Start, int Length)[] _places;
    private readonly (int Width, int Height)[] _sizes;
    private readonly long[] _bytes;

    public ImageFiles(string folder, IReadOnlyList<string> names)
    {
        Folder = folder;
        _places = new (int, int)[names.Count];
        _sizes = new (int, int)[names.Count];
        _bytes = new long[names.Count];
        long bytes = names.Sum(name => (long)Encoding.UTF8.GetByteCount(name));
        if (bytes > Array.MaxLength) throw new UserError($"{folder}: the names of its {names.Count} files have {bytes} bytes; allowed: {Array.MaxLength} at most");
        _names = new byte[bytes];
        for (int i = 0, at = 0; i < names.Count; i++)
        {
            _places[i] = (at, Encoding.UTF8.GetBytes(names[i], _names.AsSpan(at)));
            at += _places[i].Length;
        }
    }

    private ImageFiles(ImageFiles whole, ReadOnlySpan<int> numbers)
    {
        (Folder, _names, _places, _sizes, _bytes) = (whole.Folder, whole._names, new (int, int)[numbers.Length], new (int, int)[numbers.Length], new long[numbers.Length]);
        for (int i = 0; i < numbers.Length; i++) (_places[i], _sizes[i], _bytes[i]) = (whole._places[numbers[i]], whole._sizes[numbers[i]], whole._bytes[numbers[i]]);
    }

    public string Folder { get; }

    public int Count => _places.Length;

    /// <summary>Some of these files, in this order.</summary>
    public ImageFiles Select(ReadOnlySpan<int> numbers) => new(this, numbers);

    /// <summary>UTF-8, in the folder.</summary>
    public ReadOnlySpan<byte> NameOf(int number) => _names.AsSpan(_places[number].Start, _places[number].Length);

    public string PathOf(int number) => Path.Combine(Folder, Encoding.UTF8.GetString(NameOf(number)));

    /// <summary>In pixels.</summary>
    public (int Width, int Height) SizeOf(int number) => _sizes[number];

    /// <summary>Of the file.</summary>
    public long BytesOf(int number) => _bytes[number];

    /// <summary>What was found by looking at a file.</summary>
    public void Found(int number, int width, int height, long bytes) => (_sizes[number], _bytes[number]) = ((width, height), bytes);
}
