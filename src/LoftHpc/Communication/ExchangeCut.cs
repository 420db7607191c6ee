using System.Globalization;
using TorchSharp;

namespace LoftHpc.Communication;

/// <summary>
/// How an exchange of tensors is cut into calls of MPI, which depends on where the tensors lie. The one place that says it,
/// to those who exchange and to those who plan.
/// </summary>
/// <param name="PieceBytes">
/// What one call moves of a whole, at most: the gathered or scattered tensor, the sum, or the buffer of an alltoallv. At
/// least one image, or one element of each rank, is moved.
/// </param>
/// <param name="ByImage">True: a gather or reduce-scatter goes in pieces of whole images, all else in one. False: everything goes in pieces of near-equal size.</param>
public sealed record ExchangeCut(long PieceBytes, bool ByImage)
{
    /// <summary>For tests: pieces of so many bytes through staging memory, on any device.</summary>
    public const string TestVariable = "LOFTHPC_TEST_STAGING";

    /// <summary>Pieces that are under way at the same time, each with a buffer to send and one to receive.</summary>
    public const int Slots = 2;

    private const int Alignment = 64;

    /// <summary>Tensors on the CPU, where MPI reads and writes them: pieces small enough to be in the cache still when they are put in place.</summary>
    public static ExchangeCut Host { get; } = new(1 << 20, ByImage: true);

    /// <summary>Tensors on a GPU through memory of the host: some megabytes take much longer than a copy takes to start.</summary>
    public static ExchangeCut Staged { get; } = new(4 << 20, ByImage: false);

    /// <summary>Tensors on a GPU that MPI takes as they are.</summary>
    public static ExchangeCut Direct { get; } = new(long.MaxValue, ByImage: false);

    /// <param name="direct">Whether MPI takes addresses in the device's memory.</param>
    /// <exception cref="UserError">The variable for tests has a value that means nothing.</exception>
    public static ExchangeCut For(DeviceType device, bool direct)
    {
        if (direct && device is DeviceType.CUDA) return Direct;
        return AskedPieceBytes() is long bytes ? Staged with { PieceBytes = bytes } : device is DeviceType.CUDA ? Staged : Host;
    }

    /// <summary>What the variable for tests asks for; null: it is not set.</summary>
    /// <exception cref="UserError">It is no number of bytes.</exception>
    public static long? AskedPieceBytes()
    {
        if (Environment.GetEnvironmentVariable(TestVariable) is not string text) return null;
        return long.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out long bytes) && bytes is > 0 and <= 1 << 30
            ? bytes
            : throw new UserError($"{TestVariable}={PlainText.Of(text)}: allowed are 1 to {1 << 30} (bytes of a piece)");
    }

    /// <summary>Images of a piece, where pieces are images, for images of so many bytes over all channels.</summary>
    public int ImagesPerPiece(long imageBytes) => (int)Math.Max(1, PieceBytes / Math.Max(1, imageBytes));

    /// <summary>Near-equal pieces of a whole of so many bytes.</summary>
    public int Pieces(long bytes) => ByImage ? 1 : (int)Math.Max(1, (bytes / PieceBytes) + (bytes % PieceBytes == 0 ? 0 : 1));

    /// <summary>Where a piece of so many elements starts, and how many it has: the first pieces are the larger ones.</summary>
    public static (long Start, long Count) Piece(long elements, int piece, int pieces)
    {
        (long size, long larger) = (elements / pieces, elements % pieces);
        return ((piece * size) + Math.Min(piece, larger), size + (piece < larger ? 1 : 0));
    }

    /// <summary>The different calls that move parts of so many elements, and how many there are of each.</summary>
    public static IEnumerable<(long[] Counts, int Calls)> CallsOf(long[] parts, int pieces)
    {
        int start = 0;
        foreach (int end in parts.Select(elements => (int)(elements % pieces)).Append(pieces).Distinct().Order())
        {
            if (end == start) continue;
            yield return ([.. parts.Select(elements => Piece(elements, start, pieces).Count)], end - start);
            start = end;
        }
    }

    /// <summary>The calls of a gather or a reduce-scatter of images, of which each rank has a part of so many elements.</summary>
    public IEnumerable<(long[] Counts, long Calls)> CallsOf(long images, long[] partsOfAnImage, int elementBytes)
    {
        long imageBytes = partsOfAnImage.Sum() * elementBytes;
        return ByImage
            ? Batches.Sizes(images, (long)ImagesPerPiece(imageBytes)).Select(batch => ((long[])[.. partsOfAnImage.Select(part => part * batch.Size)], batch.Count))
            : CallsOf([.. partsOfAnImage.Select(part => part * images)], Pieces(images * imageBytes)).Select(alike => (alike.Counts, (long)alike.Calls));
    }

    /// <summary>Bytes of host memory for what one piece sends, and of the same for what it receives: with what rounding adds for each rank.</summary>
    public long SlotBytes(int ranks) => ByImage || PieceBytes == Direct.PieceBytes ? 0 : (PieceBytes + (ranks * sizeof(double)) + Alignment - 1) / Alignment * Alignment;

    /// <summary>Bytes of staging memory that a rank keeps once it has exchanged anything; tensors on the CPU need none, but for packing.</summary>
    public long BufferBytes(int ranks) => 2 * Slots * SlotBytes(ranks);
}
