namespace LoftHpc.Data;

/// <summary>
/// Bilinear resizing with anti-aliasing: a pixel is the mean of those under a triangle as wide as two of its own pixels, or of the
/// source's where those are larger. In whole numbers, first along rows and then along columns, each rounded to bytes, as Pillow does
/// it, which usual pipelines resize with: the same bits on every processor.
/// </summary>
internal static unsafe class ImageResampling
{
    /// <summary>Bits of a weight behind the point; weights add up to one, so that sums of 8-bit values fit into 32 bits.</summary>
    private const int Bits = 22;

    /// <summary>Values of each pixel in the source.</summary>
    public const int SourceChannels = 4;

    /// <summary>Most source pixels that one pixel is made of, along one axis.</summary>
    public static int Taps(int source, int target) => ((int)Math.Ceiling(Math.Max(1, (double)source / target)) * 2) + 1;

    /// <summary>The weights of some target pixels along one axis.</summary>
    /// <param name="source">Pixels of the source, from 0.</param>
    /// <param name="target">Pixels of the whole target.</param>
    /// <param name="first">The first target pixel that is wanted.</param>
    /// <param name="count">How many are wanted.</param>
    /// <param name="starts">Of each the first source pixel, and how many there are: [count, 2].</param>
    /// <param name="weights">[count, <see cref="Taps"/>].</param>
    public static void Weights(int source, int target, int first, int count, int* starts, int* weights)
    {
        double scale = (double)source / target, support = Math.Max(1, scale);
        int taps = Taps(source, target);
        for (int i = 0; i < count; i++)
        {
            double centre = (first + i + 0.5) * scale;
            int begin = Math.Max(0, (int)(centre - support + 0.5)), end = Math.Min(source, (int)(centre + support + 0.5));
            double sum = 0;
            for (int x = begin; x < end; x++) sum += Triangle((x + 0.5 - centre) / support);
            int* row = weights + ((long)i * taps);
            for (int x = begin; x < end; x++) row[x - begin] = (int)((Triangle((x + 0.5 - centre) / support) / sum * (1 << Bits)) + 0.5);
            (starts[2 * i], starts[(2 * i) + 1]) = (begin, end - begin);
        }
    }

    /// <summary>Along rows: a row of pixels of four values becomes one of so many channels.</summary>
    /// <param name="target">[count, channels].</param>
    public static void Row(byte* source, byte* target, int channels, int count, int taps, int* starts, int* weights)
    {
        for (int i = 0; i < count; i++, weights += taps)
        {
            byte* pixel = source + ((long)SourceChannels * starts[2 * i]);
            int n = starts[(2 * i) + 1];
            int red = 1 << (Bits - 1), green = red, blue = red;
            for (int k = 0; k < n; k++, pixel += SourceChannels)
            {
                int weight = weights[k];
                red += weight * pixel[0];
                green += weight * pixel[1];
                blue += weight * pixel[2];
            }
            *target++ = Byte(red);
            if (channels == 1) continue;
            *target++ = Byte(green);
            *target++ = Byte(blue);
        }
    }

    /// <summary>Along columns: rows of the width's pixels become one row of each plane.</summary>
    /// <param name="rows">The first of the rows: [count, width, channels].</param>
    /// <param name="target">The first plane's row; those of the others come a plane later.</param>
    public static void Column(byte* rows, byte* target, int channels, int width, int plane, int count, int* weights)
    {
        for (int x = 0; x < width; x++)
        {
            for (int channel = 0; channel < channels; channel++)
            {
                byte* value = rows + (x * channels) + channel;
                int sum = 1 << (Bits - 1);
                for (int k = 0; k < count; k++, value += width * channels) sum += weights[k] * *value;
                target[(channel * plane) + x] = Byte(sum);
            }
        }
    }

    private static double Triangle(double x) => Math.Max(0, 1 - Math.Abs(x));

    private static byte Byte(int sum) => (byte)Math.Clamp(sum >> Bits, 0, 255);
}
