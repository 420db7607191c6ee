using System.Runtime.InteropServices;
using LoftHpc.Configuration;

namespace LoftHpc.Data;

/// <summary>
/// Images made from a seed, for benchmarks and tests: each class has a pattern (a coarse random grid for each channel,
/// interpolated to the image's size), and an image is its class's pattern in a random contrast plus uniform noise. Image
/// i of a split is of class i mod classes, whatever the number of images.
/// </summary>
internal static class SyntheticImages
{
    private const int Grid = 5;

    public static ImageData Make(DataSection section, long seed)
    {
        SyntheticSection shape = section.Synthetic;
        float[][] patterns = [.. Enumerable.Range(0, shape.Classes).Select(c => Pattern(shape, RandomStream.For(seed, "synthetic-class", c)))];
        return new ImageData(
            MakeSplit("train", section.TrainImages ?? SyntheticSection.AllTrainImages), MakeSplit("test", section.TestImages ?? SyntheticSection.AllTestImages));

        ImageSet MakeSplit(string split, int count)
        {
            int imageBytes = shape.Channels * shape.Size * shape.Size;
            if ((long)count * imageBytes > Array.MaxLength)
                throw new UserError($"data.{split}_images: {count} synthetic images of {imageBytes} bytes; allowed: {Array.MaxLength / imageBytes} at most");
            byte[] pixels = new byte[count * imageBytes];
            int[] labels = new int[count];
            for (int i = 0; i < count; i++)
            {
                labels[i] = i % shape.Classes;
                Draw(pixels.AsSpan(i * imageBytes, imageBytes), patterns[labels[i]], RandomStream.For(seed, "synthetic-" + split, i));
            }
            (float[] mean, float[] deviation) = Normalisation(shape);
            return new ImageSet($"synthetic {split}", shape.Channels, shape.Size, shape.Size, shape.Classes, pixels, labels, mean, deviation);
        }
    }

    /// <summary>Mean and standard deviation of each channel that normalise such images.</summary>
    public static (float[] Mean, float[] StandardDeviation) Normalisation(SyntheticSection shape) =>
        ([.. Enumerable.Repeat(0.5f, shape.Channels)], [.. Enumerable.Repeat(0.25f, shape.Channels)]);

    /// <summary>Values in -1..1, [Channels, Size, Size].</summary>
    private static float[] Pattern(SyntheticSection shape, RandomStream random)
    {
        float[] pattern = new float[shape.Channels * shape.Size * shape.Size];
        double[] grid = new double[Grid * Grid];
        for (int channel = 0, at = 0; channel < shape.Channels; channel++)
        {
            for (int i = 0; i < grid.Length; i++) grid[i] = (2 * random.NextDouble()) - 1;
            for (int y = 0; y < shape.Size; y++)
            {
                for (int x = 0; x < shape.Size; x++) pattern[at++] = (float)Interpolate(grid, y, x, shape.Size);
            }
        }
        return pattern;
    }

    /// <summary>Bilinear, the grid's corners on the image's corners.</summary>
    private static double Interpolate(double[] grid, int y, int x, int size)
    {
        double scale = (Grid - 1.0) / (size - 1), gridY = y * scale, gridX = x * scale;
        int top = Math.Min((int)gridY, Grid - 2), left = Math.Min((int)gridX, Grid - 2);
        double down = gridY - top, right = gridX - left;
        double At(int dy, int dx) => grid[((top + dy) * Grid) + left + dx];
        return ((1 - down) * (((1 - right) * At(0, 0)) + (right * At(0, 1)))) + (down * (((1 - right) * At(1, 0)) + (right * At(1, 1))));
    }

    private static void Draw(Span<byte> image, float[] pattern, RandomStream random)
    {
        float contrast = (float)(40 + (60 * random.NextDouble()));
        Span<ulong> bits = stackalloc ulong[1];
        Span<byte> noise = MemoryMarshal.AsBytes(bits);
        for (int i = 0; i < image.Length; i++)
        {
            if (i % 8 == 0) bits[0] = random.NextBits();
            image[i] = (byte)Math.Clamp(128 + (contrast * pattern[i]) + ((noise[i % 8] - 127.5f) / 2), 0, 255);
        }
    }
}
