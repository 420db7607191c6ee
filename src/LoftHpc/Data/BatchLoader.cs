using System.Numerics;
using LoftHpc.Configuration;
using LoftHpc.Mpi;
using TorchSharp;

namespace LoftHpc.Data;

/// <summary>
/// Makes batches of an image set. The order of an epoch is a function of (seed, epoch) and the augmentation of an image
/// one of (seed, epoch, sample), so that both are the same at every rank count and however a batch is shared out.
/// </summary>
public sealed class BatchLoader
{
    private readonly ImageSet _set;
    private readonly long _seed;
    private readonly int _padding;
    private readonly bool _flip;
    private readonly int _walk;
    private readonly float[] _singles;
    private readonly double[] _doubles;

    public BatchLoader(ImageSet set, DataSection section, long seed)
    {
        _set = set;
        _seed = seed;
        _padding = section.CropPadding;
        _flip = section.Flip;
        _doubles = [.. Enumerable.Range(0, set.Channels).SelectMany(c => Enumerable.Range(0, 256).Select(
            value => ((value / 255.0) - set.Mean[c]) / set.StandardDeviation[c]))];
        _singles = [.. _doubles.Select(value => (float)value)];
    }

    private BatchLoader(BatchLoader other, int walk)
    {
        (_set, _seed, _padding, _flip, _singles, _doubles, _walk) =
            (other._set, other._seed, other._padding, other._flip, other._singles, other._doubles, walk);
    }

    /// <summary>The same images in another order and with other augmentation, for a rank that walks the whole set by itself; walk 0 is this one.</summary>
    public BatchLoader Walk(int number) => number == _walk ? this : new BatchLoader(this, number);

    /// <summary>Images in the set.</summary>
    public int Count => _set.Count;

    /// <summary>Channels of an image.</summary>
    public int Channels => _set.Channels;

    /// <summary>Height and width of an image, in pixels.</summary>
    public int ImageSide => _set.Height;

    /// <summary>The samples of an epoch (from 0) in the order in which they are trained on: each once.</summary>
    public int[] EpochOrder(int epoch) => Stream("epoch-order", epoch).Permutation(_set.Count);

    /// <summary>Batches of an epoch; the last one may be smaller.</summary>
    public int BatchesPerEpoch(int batch) => Batches.Count(_set.Count, batch);

    /// <summary>
    /// The images (normalised, [N, C, H, W]) and labels of some samples. With <paramref name="augment"/> each image is
    /// padded with black pixels, cropped at a random place and flipped or not, and normalised after that.
    /// </summary>
    /// <param name="samples">Numbers of images in the set, any number of them, none included.</param>
    public Batch Load(
        ReadOnlySpan<int> samples, int epoch, bool augment, torch.Device device, torch.ScalarType dtype = torch.ScalarType.Float32)
    {
        torch.Tensor images = torch.empty([samples.Length, _set.Channels, _set.Height, _set.Width], dtype);
        torch.Tensor labels = torch.empty([samples.Length], torch.ScalarType.Int64);
        switch (dtype)
        {
            case torch.ScalarType.Float32: Write(images, labels, samples, epoch, augment, _singles); break;
            case torch.ScalarType.Float64: Write(images, labels, samples, epoch, augment, _doubles); break;
            default: throw new ArgumentException($"batches of {dtype} are not made", nameof(dtype));
        }
        if (device.type == DeviceType.CPU) return new Batch(images, labels);
        using (images)
        using (labels)
            return new Batch(images.to(device), labels.to(device));
    }

    /// <summary>Only the labels [N] of some samples.</summary>
    public torch.Tensor LoadLabels(ReadOnlySpan<int> samples, torch.Device device)
    {
        long[] labels = new long[samples.Length];
        for (int i = 0; i < labels.Length; i++) labels[i] = _set.Labels[samples[i]];
        return torch.tensor(labels, torch.ScalarType.Int64, device);
    }

    private RandomStream Stream(string purpose, params ReadOnlySpan<long> indices) =>
        _walk == 0 ? RandomStream.For(_seed, purpose, indices) : RandomStream.For(_seed, $"{purpose}/walk-{_walk}", indices);

    private unsafe void Write<T>(torch.Tensor images, torch.Tensor labels, ReadOnlySpan<int> samples, int epoch, bool augment, T[] values)
        where T : unmanaged, INumber<T>
    {
        int imagePixels = _set.Channels * _set.Height * _set.Width;
        T* image = (T*)TensorMemory.Address(images);
        long* label = (long*)TensorMemory.Address(labels);
        foreach (int sample in samples)
        {
            ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual((uint)sample, (uint)_set.Count, nameof(samples));
            *label++ = _set.Labels[sample];
            int down = 0, right = 0;
            bool flip = false;
            if (augment)
            {
                RandomStream random = Stream("augmentation", epoch, sample);
                down = random.NextInt((2 * _padding) + 1) - _padding;
                right = random.NextInt((2 * _padding) + 1) - _padding;
                flip = random.NextInt(2) == 1 && _flip;
            }
            WriteImage(
                new Span<T>(image, imagePixels), _set.Pixels.AsSpan(checked(sample * imagePixels), imagePixels), values, down, right, flip);
            image += imagePixels;
        }
    }

    /// <summary>
    /// Pixel (y, x) comes from (y + down, x + right) of the stored image, black outside of it; a flip then turns each row
    /// round. The normalised value of byte b in channel c is values[256 c + b].
    /// </summary>
    private void WriteImage<T>(Span<T> target, ReadOnlySpan<byte> source, T[] values, int down, int right, bool flip)
    {
        int height = _set.Height, width = _set.Width;
        // The columns that come from the image; the rest of a row is black.
        int begin = Math.Clamp(-right, 0, width), end = Math.Clamp(width - right, begin, width);
        for (int channel = 0; channel < _set.Channels; channel++)
        {
            ReadOnlySpan<T> table = values.AsSpan(256 * channel, 256);
            for (int y = 0; y < height; y++)
            {
                Span<T> row = target.Slice(((channel * height) + y) * width, width);
                int sourceY = y + down;
                if ((uint)sourceY >= (uint)height)
                {
                    row.Fill(table[0]);
                    continue;
                }
                ReadOnlySpan<byte> bytes = source.Slice((((channel * height) + sourceY) * width) + begin + right, end - begin);
                row[..begin].Fill(table[0]);
                row[end..].Fill(table[0]);
                Span<T> inside = row[begin..end];
                for (int x = 0; x < inside.Length; x++) inside[x] = table[bytes[x]];
                if (flip) row.Reverse();
            }
        }
    }
}
