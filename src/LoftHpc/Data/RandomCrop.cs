namespace LoftHpc.Data;

/// <summary>A part of an image, in whole pixels. The default, of no pixels, stands for the image as an evaluation sees it.</summary>
internal readonly record struct CropBox(int Top, int Left, int Height, int Width)
{
    public bool IsEmpty => Height == 0;
}

/// <summary>How images of files of any size are cut for training and for evaluation: as torchvision's RandomResizedCrop, and Resize with CenterCrop.</summary>
internal static class RandomCrop
{
    /// <summary>Width over height of what is cut out lies between these.</summary>
    private const double LeastRatio = 3.0 / 4, MostRatio = 4.0 / 3;

    private const int Tries = 10;

    /// <summary>
    /// A part of random area and ratio, at a random place. Where none that is drawn fits into the image in ten tries, the largest part
    /// of an allowed ratio, in the middle.
    /// </summary>
    /// <param name="leastArea">Of the image's area; the most is all of it.</param>
    public static CropBox Draw(RandomStream random, int height, int width, double leastArea)
    {
        for (int i = 0; i < Tries; i++)
        {
            double area = (double)height * width * (leastArea + ((1 - leastArea) * random.NextDouble()));
            double ratio = Math.Exp(Math.Log(LeastRatio) + ((Math.Log(MostRatio) - Math.Log(LeastRatio)) * random.NextDouble()));
            int w = Round(Math.Sqrt(area * ratio)), h = Round(Math.Sqrt(area / ratio));
            if (w > 0 && w <= width && h > 0 && h <= height) return new CropBox(random.NextInt(height - h + 1), random.NextInt(width - w + 1), h, w);
        }
        return Middle(height, width);
    }

    /// <summary>The largest part of an allowed ratio, in the middle.</summary>
    public static CropBox Middle(int height, int width)
    {
        double ratio = (double)width / height;
        int w = ratio > MostRatio ? Math.Max(1, Round(height * MostRatio)) : width, h = ratio < LeastRatio ? Math.Max(1, Round(width / LeastRatio)) : height;
        return new CropBox((height - h) / 2, (width - w) / 2, h, w);
    }

    /// <summary>
    /// The size to which an evaluation brings a whole image, of which it sees the square of <paramref name="side"/> in the middle: the
    /// shorter side is side x 256 / 224, rounded.
    /// </summary>
    /// <returns>The size, and the first row and column of the square.</returns>
    public static (int Height, int Width, int Top, int Left) Evaluated(int height, int width, int side)
    {
        int shorter = ((2 * 256 * side) + 224) / (2 * 224);
        (int h, int w) = height <= width ? (shorter, (int)((long)shorter * width / height)) : ((int)((long)shorter * height / width), shorter);
        return (h, w, Round((h - side) / 2.0), Round((w - side) / 2.0));
    }

    /// <summary>As Python's round: halves to the even neighbour.</summary>
    private static int Round(double value) => (int)Math.Round(value, MidpointRounding.ToEven);
}
