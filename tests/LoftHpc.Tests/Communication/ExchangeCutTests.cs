using LoftHpc.Communication;
using TorchSharp;
using Xunit;

namespace LoftHpc.Tests.Communication;

/// <summary>How exchanges are cut into calls.</summary>
public class ExchangeCutTests
{
    [Theory]
    [InlineData(1, 0L)]
    [InlineData(1, 17L)]
    [InlineData(3, 2L, 0L, 7L)]
    [InlineData(7, 20L, 3L, 6L, 7L)]
    [InlineData(100, 1000L, 1L)]
    public void Calls_are_the_pieces_one_by_one(int pieces, params long[] parts)
    {
        long[][] oneByOne = [.. Enumerable.Range(0, pieces).Select(piece => (long[])[.. parts.Select(part => ExchangeCut.Piece(part, piece, pieces).Count)])];
        long[][] grouped = [.. ExchangeCut.CallsOf(parts, pieces).SelectMany(call => Enumerable.Repeat(call.Counts, call.Calls))];
        Assert.Equal(oneByOne, grouped);
        foreach (long part in parts)
        {
            long at = 0;
            for (int piece = 0; piece < pieces; piece++)
            {
                (long start, long count) = ExchangeCut.Piece(part, piece, pieces);
                Assert.Equal(at, start);
                at += count;
            }
            Assert.Equal(part, at);
        }
    }

    /// <summary>Whatever the parts of the ranks are, and however many.</summary>
    [Theory]
    [InlineData(1)]
    [InlineData(1000)]
    [InlineData(4096)]
    public void A_piece_fits_into_its_slot(long pieceBytes)
    {
        ExchangeCut cut = ExchangeCut.Staged with { PieceBytes = pieceBytes };
        Random random = new(4);
        for (int i = 0; i < 500; i++)
        {
            int elementBytes = random.Next(2) == 0 ? 4 : 8;
            long[] parts = [.. Enumerable.Range(0, random.Next(1, 9)).Select(_ => (long)random.Next(0, 3000))];
            int pieces = cut.Pieces(parts.Sum() * elementBytes);
            Assert.True(ExchangeCut.CallsOf(parts, pieces).Max(call => call.Counts.Sum()) * elementBytes <= cut.SlotBytes(parts.Length));
        }
    }

    [Fact]
    public void Only_images_on_the_CPU_go_in_pieces_for_the_cache()
    {
        // Images of 200 KiB: five fit into a MiB.
        Assert.Equal([(500L, 20), (200, 1)], ExchangeCut.Host.CallsOf(102, [100], 2048).Select(call => (call.Counts[0], call.Calls)));
        Assert.Equal(1, ExchangeCut.Host.Pieces(long.MaxValue));
        Assert.Equal(1, ExchangeCut.Direct.Pieces(long.MaxValue));
        Assert.Equal(3, ExchangeCut.Staged.Pieces((2 * ExchangeCut.Staged.PieceBytes) + 1));
        Assert.Equal(0, ExchangeCut.Host.BufferBytes(4) + ExchangeCut.Direct.BufferBytes(4));
        Assert.Equal(ExchangeCut.Direct, ExchangeCut.For(DeviceType.CUDA, direct: true));
        Assert.Equal(ExchangeCut.Host, ExchangeCut.For(DeviceType.CPU, direct: true));
    }
}
