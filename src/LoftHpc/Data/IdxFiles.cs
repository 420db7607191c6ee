using System.Buffers.Binary;
using System.IO.Compression;
using System.IO.Hashing;

namespace LoftHpc.Data;

/// <summary>
/// The IDX files of MNIST and its kin, gzip-compressed or plain: a magic number (0, 0, element type 8 for bytes, number
/// of dimensions), the dimensions, then the bytes. All numbers are big-endian. A compressed file is one gzip member.
/// </summary>
internal static class IdxFiles
{
    /// <summary>Deflate makes no more of a byte (1032), so that a header that promises more is wrong.</summary>
    private const long MostOfAByte = 1100;

    public static (byte[] Pixels, byte[] Labels) Read(ImageSplitRequest request)
    {
        string prefix = request.Train ? "train" : "t10k";
        string images = Find(request, $"{prefix}-images-idx3-ubyte"), labels = Find(request, $"{prefix}-labels-idx1-ubyte");
        (byte[] pixels, int[] shape) = Read(images, 3, found => Wanted(images, request, found));
        (byte[] classes, int[] counts) = Read(labels, 1, found => Wanted(labels, request, found));
        OneLabelEach(images, shape[0], labels, counts[0]);
        request.CheckLabels(classes, labels);
        return (pixels, classes);
    }

    /// <summary>
    /// A split of a set of the user's own: PREFIX-images-idx3-ubyte (one channel: images, rows, columns) or PREFIX-images-idx4-ubyte
    /// (images, channels, rows, columns) and PREFIX-labels-idx1-ubyte, each plain or with .gz. PREFIX is train; t10k or test.
    /// </summary>
    /// <exception cref="UserError">A file is missing, cut, or not what it should be.</exception>
    public static BinarySplit ReadOwn(string folder, bool train)
    {
        string[] prefixes = train ? ["train"] : ["t10k", "test"];
        string[] imageNames = [.. prefixes.SelectMany(prefix => (string[])[$"{prefix}-images-idx3-ubyte", $"{prefix}-images-idx4-ubyte"])];
        string images = FindOwn(folder, imageNames);
        bool hasChannels = Path.GetFileName(images).Contains("idx4", StringComparison.Ordinal);
        string labels = FindOwn(folder, [Path.GetFileName(images).Split("-images")[0] + "-labels-idx1-ubyte"]);
        (byte[] pixels, int[] shape) = Read(images, hasChannels ? 4 : 3, found =>
        {
            if (found.Any(size => size < 1)) throw new UserError($"{images}: found dimensions {string.Join(" x ", found)} in its header; expected numbers above zero");
            BinarySplit.CheckShape(images, hasChannels ? found[1] : 1, found[^2], found[^1], found[0]);
            return found[0];
        });
        (byte[] classes, int[] counts) = Read(labels, 1, found => found[0] >= 0 ? found[0] : throw new UserError($"{labels}: found {found[0]} items by its header"));
        OneLabelEach(images, shape[0], labels, counts[0]);
        return new BinarySplit(hasChannels ? shape[1] : 1, shape[^1], pixels, classes, images, labels);
    }

    private static void OneLabelEach(string images, int imageCount, string labels, int labelCount)
    {
        if (imageCount != labelCount)
            throw new UserError($"{labels}: found {labelCount} labels; expected {imageCount}, one for each image of {images}");
    }

    private static string Find(ImageSplitRequest request, string name) => Find(request.Folder, name) ?? throw request.Missing($"{name}[.gz]");

    private static string FindOwn(string folder, string[] names) => names.Select(name => Find(folder, name)).FirstOrDefault(path => path is not null)
        ?? throw new UserError($"{Path.Combine(folder, names[0])}[.gz]: the file is missing{(names.Length == 1 ? "" : $", and so are {string.Join(", ", names[1..])}")}; expected one of them (data.set idx)");

    private static string? Find(string folder, string name)
    {
        string plain = Path.Combine(folder, name);
        return File.Exists(plain) ? plain : File.Exists(plain + ".gz") ? plain + ".gz" : null;
    }

    /// <summary>How many items are read of a file that is one of a published set.</summary>
    /// <exception cref="UserError">It is of another shape, or has not as many as it must.</exception>
    private static int Wanted(string path, ImageSplitRequest request, int[] shape)
    {
        for (int i = 1; i < shape.Length; i++)
        {
            if (shape[i] != request.Set.Size) throw new UserError($"{path}: found {shape[i]} as dimension {i}; expected {request.Set.Size} ({request.Set.Title})");
        }
        int count = shape[0], published = request.Train ? request.Set.TrainImages : request.Set.TestImages;
        if (count < request.Count)
            throw new UserError($"{path}: found {count} items by its header; expected {request.Count} at least ({request.Set.Title})");
        if (count > published)
            throw new UserError($"{path}: found {count} items by its header; expected {published} at most ({request.Set.Title})");
        return request.Count;
    }

    /// <summary>
    /// The first items, and the dimensions by the header; all of the file is read, so that a cut one is found, but no more than its
    /// header says.
    /// </summary>
    /// <param name="wanted">How many items are wanted of a file of such dimensions, which it may refuse.</param>
    private static (byte[] Bytes, int[] Shape) Read(string path, int dimensions, Func<int[], int> wanted)
    {
        try
        {
            using FileStream file = RegularFile.OpenRead(path);
            bool compressed = path.EndsWith(".gz", StringComparison.Ordinal);
            using Stream stream = compressed ? new GZipStream(file, CompressionMode.Decompress, leaveOpen: true) : file;

            Span<byte> header = stackalloc byte[4 + (4 * dimensions)];
            if (stream.ReadAtLeast(header, header.Length, throwOnEndOfStream: false) < header.Length)
                throw new UserError($"{path}: found fewer bytes than the header of an IDX file has ({header.Length}); the file is cut");
            int magic = BinaryPrimitives.ReadInt32BigEndian(header), expectedMagic = 0x800 + dimensions;
            if (magic != expectedMagic)
            {
                throw new UserError(
                    $"{path}: found magic number 0x{magic:x8}; expected 0x{expectedMagic:x8} (an IDX file of bytes, {dimensions} dimension{(dimensions == 1 ? "" : "s")})");
            }
            int[] shape = new int[dimensions];
            for (int i = 0; i < dimensions; i++) shape[i] = BinaryPrimitives.ReadInt32BigEndian(header[(4 + (4 * i))..]);
            int count = shape[0], read = wanted(shape), itemBytes = shape[1..].Aggregate(1, (product, size) => product * size);

            long expected = (long)count * itemBytes;
            // Before memory is taken for what is not there.
            if (expected > (compressed ? MostOfAByte * file.Length : file.Length - header.Length))
            {
                string there = compressed ? $"{file.Length} compressed bytes" : $"{file.Length - header.Length} bytes after the header";
                throw new UserError($"{path}: found {there}; expected {expected} for {count} items; the file is cut");
            }
            byte[] bytes = new byte[read * itemBytes];
            long found = stream.ReadAtLeast(bytes, bytes.Length, throwOnEndOfStream: false);
            Crc32 checksum = new();
            checksum.Append(header);
            checksum.Append(bytes);
            byte[] rest = new byte[1 << 16];
            while (found <= expected && stream.Read(rest) is int more and > 0)
            {
                checksum.Append(rest.AsSpan(0, more));
                found += more;
            }
            if (found != expected)
            {
                (string orMore, string what) = found < expected ? ("", "the file is cut") : (" or more", "it has bytes too many");
                throw new UserError($"{path}: found {found}{orMore} bytes after the header; expected {expected} for {count} items; {what}");
            }
            if (compressed && !EndsWith(file, checksum.GetCurrentHashAsUInt32(), (uint)(header.Length + expected)))
                throw new UserError($"{path}: expected a whole gzip file of one member; its last 8 bytes are not the checksum and length of what it holds; it is cut or damaged");
            return (bytes, shape);
        }
        catch (InvalidDataException error)
        {
            throw new UserError($"{path}: expected a whole gzip file; it is cut or damaged ({error.Message})", error);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            throw new UserError($"{path}: cannot be read: {error.Message}", error);
        }
    }

    /// <summary>Whether a gzip file ends with its checksum and length: the decompressor does not miss them.</summary>
    private static bool EndsWith(FileStream file, uint checksum, uint length)
    {
        Span<byte> trailer = stackalloc byte[8];
        file.Position = Math.Max(0, file.Length - trailer.Length);
        file.ReadExactly(trailer);
        return BinaryPrimitives.ReadUInt32LittleEndian(trailer) == checksum && BinaryPrimitives.ReadUInt32LittleEndian(trailer[4..]) == length;
    }
}
