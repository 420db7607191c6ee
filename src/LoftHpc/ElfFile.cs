using System.Buffers.Binary;

namespace LoftHpc;

/// <summary>A library as a file of Linux (ELF, man 5 elf).</summary>
internal static class ElfFile
{
    private const int HeaderBytes = 64, EntryOfSegmentBytes = 56;

    /// <summary>
    /// Whether the file has all the bytes that its own header speaks of. The dynamic loader maps a cut one all the same, and
    /// the process ends by SIGBUS where the first missing page is touched.
    /// </summary>
    /// <exception cref="IOException">It cannot be read.</exception>
    public static bool IsWhole(string path)
    {
        using FileStream file = RegularFile.OpenRead(path);
        Span<byte> header = stackalloc byte[HeaderBytes];
        if (file.ReadAtLeast(header, HeaderBytes, throwOnEndOfStream: false) < HeaderBytes) return false;
        // Anything else than a library of 64 bits, little-endian, is the loader's to explain; so is a text that names libraries.
        if (!header[..6].SequenceEqual("\u007fELF\u0002\u0001"u8)) return true;
        ulong segments = BinaryPrimitives.ReadUInt64LittleEndian(header[32..]), sections = BinaryPrimitives.ReadUInt64LittleEndian(header[40..]);
        int segmentBytes = Number(header[54..]), segmentCount = Number(header[56..]), sectionBytes = Number(header[58..]), sectionCount = Number(header[60..]);
        ulong length = (ulong)file.Length;
        if (!Fits(segments, (ulong)(segmentBytes * segmentCount), length) || !Fits(sections, (ulong)(sectionBytes * sectionCount), length)) return false;
        if (segmentBytes < EntryOfSegmentBytes) return true;
        Span<byte> segment = stackalloc byte[EntryOfSegmentBytes];
        for (int i = 0; i < segmentCount; i++)
        {
            file.Position = (long)segments + ((long)i * segmentBytes);
            file.ReadExactly(segment);
            if (!Fits(BinaryPrimitives.ReadUInt64LittleEndian(segment[8..]), BinaryPrimitives.ReadUInt64LittleEndian(segment[32..]), length)) return false;
        }
        return true;
    }

    private static int Number(ReadOnlySpan<byte> bytes) => BinaryPrimitives.ReadUInt16LittleEndian(bytes);

    private static bool Fits(ulong start, ulong bytes, ulong length) => start <= length && bytes <= length - start;
}
