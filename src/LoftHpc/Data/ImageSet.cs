using System.IO.Hashing;
using TorchSharp;

namespace LoftHpc.Data;

/// <summary>Images of one split in memory, as the file holds them; or files that are decoded as they are needed.</summary>
/// <param name="Pixels">Bytes, image after image, each [Channels, Height, Width]; none of a set of files.</param>
/// <param name="Labels">One class number for each image, below <paramref name="Classes"/>.</param>
/// <param name="Mean">Per channel, of pixels in 0..1, of the whole training set; what normalisation subtracts.</param>
/// <param name="StandardDeviation">Per channel, likewise; what normalisation divides by.</param>
public sealed record ImageSet(
    string Name, int Channels, int Height, int Width, int Classes,
    byte[] Pixels, int[] Labels, IReadOnlyList<float> Mean, IReadOnlyList<float> StandardDeviation)
{
    /// <summary>Where the images are decoded from; null: they lie in <see cref="Pixels"/>.</summary>
    internal ImageFiles? Files { get; init; }

    public int Count => Labels.Length;

    /// <summary>Bytes of an image.</summary>
    public int ImageBytes => Channels * Height * Width;

    /// <summary>Some of the images, in this order.</summary>
    public ImageSet Select(ReadOnlySpan<int> images)
    {
        int[] labels = new int[images.Length];
        byte[] pixels = Files is null ? new byte[images.Length * ImageBytes] : [];
        for (int i = 0; i < images.Length; i++)
        {
            labels[i] = Labels[images[i]];
            if (Files is null) Pixels.AsSpan(images[i] * ImageBytes, ImageBytes).CopyTo(pixels.AsSpan(i * ImageBytes));
        }
        return this with { Pixels = pixels, Labels = labels, Files = Files?.Select(images) };
    }

    /// <summary>Hands over the bytes of every image in turn, as an evaluation sees it before it is normalised.</summary>
    /// <exception cref="UserError">A file turns out to be broken.</exception>
    public unsafe void ForEach(Action<ReadOnlyMemory<byte>> take)
    {
        if (Files is null)
        {
            for (int i = 0; i < Count; i++) take(Pixels.AsMemory(i * ImageBytes, ImageBytes));
            return;
        }
        using ImageDecoder decoder = new(Files.Folder);
        byte[] image = new byte[ImageBytes];
        for (int i = 0; i < Count; i++)
        {
            byte* decoded = decoder.Load(Files, i, default, Channels, Height, out ImageFault fault);
            if (decoded is null) throw ImageFolder.Broke(Files, i, fault);
            new ReadOnlySpan<byte>(decoded, ImageBytes).CopyTo(image);
            take(image);
        }
    }
}

/// <summary>The splits of a data set.</summary>
/// <param name="Validation">What is held out of the training images; null: nothing.</param>
public sealed record ImageData(ImageSet Train, ImageSet Test, ImageSet? Validation = null)
{
    /// <summary>What the user should know of it, a line each.</summary>
    public IReadOnlyList<string> Warnings { get; init; } = [];

    /// <summary>
    /// A line for each split: how many images, and a hash of their pixels and labels; of a set of files, of the files' names, numbers of
    /// bytes and labels.
    /// </summary>
    public string Fingerprint => string.Join('\n', new[] { Train, Test, Validation }.OfType<ImageSet>().Select(split =>
    {
        if (split.Files is not null) return $"{split.Name}, {split.Count} images, hash of names and sizes {ImageFolder.Hash(split):x32}";
        XxHash128 hash = new();
        hash.Append(split.Pixels);
        // Bytes, as files of such sets hold them.
        hash.Append(Array.ConvertAll(split.Labels, label => (byte)label));
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
