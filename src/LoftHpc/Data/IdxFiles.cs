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
    public static (byte[] Pixels, byte[] Labels) Read(ImageSplitRequest request)
    {
        string prefix = request.Train ? "train" : "t10k";
        string images = Find(request, $"{prefix}-images-idx3-ubyte"), labels = Find(request, $"{prefix}-labels-idx1-ubyte");
        (byte[] pixels, int imageCount) = Read(images, request, request.Set.Size, request.Set.Size);
        (byte[] classes, int labelCount) = Read(labels, request);
        if (imageCount != labelCount)
            throw new UserError($"{labels}: found {labelCount} labels; expected {imageCount}, one for each image of {images}");
        request.CheckLabels(classes, labels);
        return (pixels, classes);
    }

    private static string Find(ImageSplitRequest request, string name)
    {
        string plain = Path.Combine(request.Folder, name);
        return File.Exists(plain) ? plain : File.Exists(plain + ".gz") ? plain + ".gz" : throw request.Missing($"{name}[.gz]");
    }

    /// <summary>
    /// The first items that are asked for, and how many the file holds; all of it is read, so that a cut file is found, but
    /// no more than its header says.
    /// </summary>
    private static (byte[] Bytes, int Count) Read(string path, ImageSplitRequest request, params ReadOnlySpan<int> itemShape)
    {
        try
        {
            using FileStream file = RegularFile.OpenRead(path);
            bool compressed = path.EndsWith(".gz", StringComparison.Ordinal);
            using Stream stream = compressed ? new GZipStream(file, CompressionMode.Decompress, leaveOpen: true) : file;

            Span<byte> header = stackalloc byte[8 + (4 * itemShape.Length)];
            if (stream.ReadAtLeast(header, header.Length, throwOnEndOfStream: false) < header.Length)
                throw new UserError($"{path}: found fewer bytes than the header of an IDX file has ({header.Length}); the file is cut");
            int magic = BinaryPrimitives.ReadInt32BigEndian(header), expectedMagic = 0x801 + itemShape.Length;
            if (magic != expectedMagic)
            {
                throw new UserError(
                    $"{path}: found magic number 0x{magic:x8}; expected 0x{expectedMagic:x8} (an IDX file of bytes, {1 + itemShape.Length} dimensions)");
            }
            for (int i = 0; i < itemShape.Length; i++)
            {
                int size = BinaryPrimitives.ReadInt32BigEndian(header[(8 + (4 * i))..]);
                if (size != itemShape[i])
                    throw new UserError($"{path}: found {size} as dimension {i + 1}; expected {itemShape[i]} ({request.Set.Title})");
            }
            int count = BinaryPrimitives.ReadInt32BigEndian(header[4..]);
            if (count < request.Count)
                throw new UserError($"{path}: found {count} items by its header; expected {request.Count} at least ({request.Set.Title})");
            int published = request.Train ? request.Set.TrainImages : request.Set.TestImages;
            if (count > published)
                throw new UserError($"{path}: found {count} items by its header; expected {published} at most ({request.Set.Title})");

            int itemBytes = itemShape.Length == 0 ? 1 : request.Set.ImageBytes;
            byte[] bytes = new byte[request.Count * itemBytes];
            long expected = (long)count * itemBytes, found = stream.ReadAtLeast(bytes, bytes.Length, throwOnEndOfStream: false);
            Crc32 checksum = new();
            checksum.Append(header);
            checksum.Append(bytes);
            byte[] rest = new byte[1 << 16];
            while (found <= expected && stream.Read(rest) is int read and > 0)
            {
                checksum.Append(rest.AsSpan(0, read));
                found += read;
            }
            if (found != expected)
            {
                (string orMore, string what) = found < expected ? ("", "the file is cut") : (" or more", "it has bytes too many");
                throw new UserError($"{path}: found {found}{orMore} bytes after the header; expected {expected} for {count} items; {what}");
            }
            if (compressed && !EndsWith(file, checksum.GetCurrentHashAsUInt32(), (uint)(header.Length + expected)))
                throw new UserError($"{path}: expected a whole gzip file of one member; its last 8 bytes are not the checksum and length of what it holds; it is cut or damaged");
            return (bytes, count);
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
