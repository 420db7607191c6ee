using System.Numerics;
using LoftHpc.Configuration;
using LoftHpc.Mpi;
using TorchSharp;

namespace LoftHpc.Data;

/// <summary>
/// Makes batches of an image set. The order of an epoch is a function of (seed, epoch) and the augmentation of an image
/// one of (seed, epoch, sample), so that both are the same at every rank count and however a batch is shared out. On the CPU a
/// batch is made when it is asked for. On a GPU it is cut out there (<see cref="DeviceImages"/>), or prepared ahead by threads
/// of the host (<see cref="PreparedBatches"/>), as that of files that have to be decoded is on every device: the pixels have the same bits
/// each way.
/// </summary>
public sealed class BatchLoader : IDisposable
{
    private readonly ImageSet _set;
    private readonly long _seed;
    private readonly int _padding;
    private readonly bool _flip;
    private readonly double _cropArea;
    private readonly int? _workers;
    private readonly int _walk;
    private readonly float[] _singles;
    private readonly double[] _doubles;
    private readonly Copies _copies = new();

    /// <summary>The set's copy on a device, or what prepares its batches, once it is needed; one for all walks.</summary>
    private sealed class Copies
    {
        public DeviceImages? OnDevice { get; set; }

        public PreparedBatches? Prepared { get; set; }

        /// <summary>Of the thread that asks for batches.</summary>
        public ImageDecoder? Decoder { get; set; }
    }

    public BatchLoader(ImageSet set, DataSection section, long seed)
    {
        _set = set;
        _seed = seed;
        _padding = section.CropPadding;
        _flip = section.Flip;
        _cropArea = section.CropArea;
        _workers = section.Workers;
        _doubles = [.. Enumerable.Range(0, set.Channels).SelectMany(c => Enumerable.Range(0, 256).Select(
            value => ((value / 255.0) - set.Mean[c]) / set.StandardDeviation[c]))];
        _singles = [.. _doubles.Select(value => (float)value)];
    }

    private BatchLoader(BatchLoader other, int walk)
    {
        (_set, _seed, _padding, _flip, _cropArea, _workers, _singles, _doubles, _copies, _walk) =
            (other._set, other._seed, other._padding, other._flip, other._cropArea, other._workers, other._singles, other._doubles, other._copies, walk);
        (CutsOutOnDevice, PreparesAhead) = (other.CutsOutOnDevice, other.PreparesAhead);
    }

    /// <summary>Whether images are cut out by operations on tensors on the CPU too, as they are on a GPU; for tests.</summary>
    public bool CutsOutOnDevice { get; init; }

    /// <summary>
    /// Whether batches are prepared ahead on the host, as for a set of files, or one that does not fit on the GPU
    /// (<see cref="DeviceImages.Fit"/>); of other sets on the CPU for tests.
    /// </summary>
    public bool PreparesAhead { get; init; }

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
    /// padded with black pixels, cropped at a random place and flipped or not, and normalised after that; of an image of a file a random
    /// part (<see cref="RandomCrop"/>) is resized, where without <paramref name="augment"/> it is its middle.
    /// </summary>
    /// <param name="samples">Numbers of images in the set, any number of them, none included.</param>
    /// <param name="coming">
    /// What will be asked for after this, where that is known; it is read only if batches are prepared ahead, and then as far as
    /// they are. Where something else is asked for, that is made at once. Null: nothing is foreseen, nor forgotten.
    /// </param>
    public Batch Load(
        ReadOnlySpan<int> samples, int epoch, bool augment, torch.Device device, torch.ScalarType dtype = torch.ScalarType.Float32,
        IEnumerable<BatchRequest>? coming = null)
    {
        if (dtype is not (torch.ScalarType.Float32 or torch.ScalarType.Float64)) throw new ArgumentException($"batches of {dtype} are not made", nameof(dtype));
        if (samples.Length > 0 && PreparesAhead && coming is not null)
        {
            PreparedBatches prepared = _copies.Prepared ??= new PreparedBatches(_set, device, _workers);
            if (prepared.Take(this, samples, epoch, augment, dtype) is Batch batch) return batch;
            // All workers decode this one, too.
            bool decodes = _set.Files is not null;
            prepared.Begin(this, decodes ? coming.Prepend(new BatchRequest([.. samples], epoch, augment)) : coming, dtype);
            if (decodes) return prepared.Take(this, samples, epoch, augment, dtype)!;
        }
        if (samples.Length > 0 && !PreparesAhead && _set.Files is null && (CutsOutOnDevice || device.type is not DeviceType.CPU))
        {
            Cutout[] cutouts = Draw(samples, epoch, augment);
            DeviceImages images = _copies.OnDevice ??= new DeviceImages(_set, _padding, device);
            return dtype is torch.ScalarType.Float32 ? images.Load(cutouts, _singles, dtype, augment) : images.Load(cutouts, _doubles, dtype, augment);
        }
        return LoadOnHost(samples, epoch, augment, device, dtype);
    }

    /// <summary>The images from <paramref name="first"/> up to, but not with, <paramref name="end"/>, in their order and as they are, in batches.</summary>
    public static IEnumerable<BatchRequest> InOrder(int first, int end, int batch) =>
        Batches.Of(first, end, batch).Select(part => new BatchRequest([.. Enumerable.Range(part.Start, part.Count)], Epoch: 0, Augment: false));

    /// <summary>Ends the threads that prepare batches, of all walks.</summary>
    public void Dispose()
    {
        _copies.Prepared?.Dispose();
        _copies.Decoder?.Dispose();
        (_copies.Prepared, _copies.Decoder) = (null, null);
    }

    /// <summary>The set on the device; null: it is not there yet.</summary>
    internal DeviceImages? OnDevice => _copies.OnDevice;

    /// <summary>What prepares batches ahead; null: nothing does yet.</summary>
    internal PreparedBatches? Prepared => _copies.Prepared;

    /// <summary>What <see cref="Write(nint, nint, ReadOnlySpan{Cutout}, torch.ScalarType, ImageDecoder?)"/> needs to know of some samples.</summary>
    internal Cutout[] Draw(ReadOnlySpan<int> samples, int epoch, bool augment)
    {
        Cutout[] cutouts = new Cutout[samples.Length];
        for (int i = 0; i < samples.Length; i++) cutouts[i] = Draw(samples[i], epoch, augment);
        return cutouts;
    }

    /// <summary>
    /// Writes images [N, C, H, W] and labels [N] (int64) to memory of the host. Any thread may do it, and it allocates nothing
    /// (<see cref="PreparedBatches"/> says why).
    /// </summary>
    /// <param name="decoder">The thread's own, for a set of files.</param>
    /// <exception cref="UserError">A file turns out to be broken.</exception>
    internal void Write(nint images, nint labels, ReadOnlySpan<Cutout> cutouts, torch.ScalarType dtype, ImageDecoder? decoder)
    {
        if (dtype is torch.ScalarType.Float32) Write(images, labels, cutouts, _singles, decoder);
        else Write(images, labels, cutouts, _doubles, decoder);
    }

    private Batch LoadOnHost(ReadOnlySpan<int> samples, int epoch, bool augment, torch.Device device, torch.ScalarType dtype)
    {
        torch.Tensor images = torch.empty([samples.Length, _set.Channels, _set.Height, _set.Width], dtype);
        torch.Tensor labels = torch.empty([samples.Length], torch.ScalarType.Int64);
        if (_set.Files is not null) _copies.Decoder ??= new ImageDecoder(_set.Files.Folder);
        Write(TensorMemory.Address(images), TensorMemory.Address(labels), Draw(samples, epoch, augment), dtype, _copies.Decoder);
        if (device.type == DeviceType.CPU) return new Batch(images, labels);
        using (images)
        using (labels)
        {
            using DisposeScope scope = torch.NewDisposeScope();
            return new Batch(DeviceImages.Send(images, device), DeviceImages.Send(labels, device));
        }
    }

    /// <summary>Only the labels [N] of some samples.</summary>
    public torch.Tensor LoadLabels(ReadOnlySpan<int> samples, torch.Device device)
    {
        using DisposeScope scope = torch.NewDisposeScope();
        long[] labels = new long[samples.Length];
        for (int i = 0; i < labels.Length; i++) labels[i] = _set.Labels[samples[i]];
        return DeviceImages.Send(torch.tensor(labels, torch.ScalarType.Int64), device);
    }

    private RandomStream Stream(string purpose, params ReadOnlySpan<long> indices) =>
        _walk == 0 ? RandomStream.For(_seed, purpose, indices) : RandomStream.For(_seed, $"{purpose}/walk-{_walk}", indices);

    private Cutout Draw(int sample, int epoch, bool augment)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual((uint)sample, (uint)_set.Count, nameof(sample));
        if (!augment) return new Cutout(sample, 0, 0, false);
        RandomStream random = Stream("augmentation", epoch, sample);
        if (_set.Files is not null)
        {
            (int width, int height) = _set.Files.SizeOf(sample);
            CropBox crop = RandomCrop.Draw(random, height, width, _cropArea);
            return new Cutout(sample, 0, 0, random.NextInt(2) == 1 && _flip) { Crop = crop };
        }
        int down = random.NextInt((2 * _padding) + 1) - _padding, right = random.NextInt((2 * _padding) + 1) - _padding;
        return new Cutout(sample, down, right, random.NextInt(2) == 1 && _flip);
    }

    private unsafe void Write<T>(nint images, nint labels, ReadOnlySpan<Cutout> cutouts, T[] values, ImageDecoder? decoder)
        where T : unmanaged, INumber<T>
    {
        int imagePixels = _set.ImageBytes;
        T* image = (T*)images;
        long* label = (long*)labels;
        foreach (Cutout cutout in cutouts)
        {
            (int sample, int down, int right, bool flip) = cutout;
            *label++ = _set.Labels[sample];
            ReadOnlySpan<byte> source = _set.Files is null ? _set.Pixels.AsSpan(checked(sample * imagePixels), imagePixels) : Decoded(_set.Files, sample, cutout.Crop, decoder!);
            WriteImage(new Span<T>(image, imagePixels), source, values, down, right, flip);
            image += imagePixels;
        }
    }

    private unsafe ReadOnlySpan<byte> Decoded(ImageFiles files, int sample, CropBox crop, ImageDecoder decoder)
    {
        byte* image = decoder.Load(files, sample, crop, _set.Channels, _set.Height, out ImageFault fault);
        return fault is ImageFault.None ? new ReadOnlySpan<byte>(image, _set.ImageBytes) : throw ImageFolder.Broke(files, sample, fault);
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
                if ((uint)sourceY >= (uint)height || begin == end)
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
