using System.IO.Hashing;
using TorchSharp;

namespace LoftHpc.Data;

/// <summary>Images of one split in memory, as the file holds them.</summary>
/// <param name="Pixels">Bytes, image after image, each [Channels, Height, Width].</param>
/// <param name="Labels">One class number for each image, below <paramref name="Classes"/>.</param>
/// <param name="Mean">Per channel, of pixels in 0..1, of the whole training set; what normalisation subtracts.</param>
/// <param name="StandardDeviation">Per channel, likewise; what normalisation divides by.</param>
public sealed record ImageSet(
    string Name, int Channels, int Height, int Width, int Classes,
    byte[] Pixels, byte[] Labels, IReadOnlyList<float> Mean, IReadOnlyList<float> StandardDeviation)
{
    public int Count => Labels.Length;
}

/// <summary>The splits of a data set.</summary>
/// <param name="Validation">What is held out of the training images; null: nothing.</param>
public sealed record ImageData(ImageSet Train, ImageSet Test, ImageSet? Validation = null)
{
    /// <summary>A line for each split: how many images, and a hash of their pixels and labels.</summary>
    public string Fingerprint => string.Join('\n', new[] { Train, Test, Validation }.OfType<ImageSet>().Select(split =>
    {
        XxHash128 hash = new();
        hash.Append(split.Pixels);
        hash.Append(split.Labels);
        return $"{split.Name}, {split.Count} images, hash {hash.GetCurrentHashAsUInt128():x32}";
    }));
}

/// <summary>One batch on the device. Images [N, C, H, W], labels [N] (int64).</summary>
public sealed record Batch(torch.Tensor Images, torch.Tensor Labels) : IDisposable
{
    public int Count => (int)Labels.shape[0];

    public void Dispose()
    {
        Images.Dispose();
        Labels.Dispose();
    }
}
