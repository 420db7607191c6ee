using System.Runtime.InteropServices;
using LoftHpc.Communication;
using TorchSharp;
using static TorchSharp.torch;

namespace LoftHpc.Data;

/// <summary>Where an image is cut out of itself with a black border, and whether it is turned round: <see cref="BatchLoader"/> draws it.</summary>
internal readonly record struct Cutout(int Sample, int Down, int Right, bool Flip)
{
    /// <summary>Of an image of a file: the part of it that is resized.</summary>
    public CropBox Crop { get; init; }
}

/// <summary>
/// An image set as it is, as bytes, on the device that trains on it: batches are cut out, flipped and normalised there, in a
/// few operations on all of their pixels. For sets that would take too much of the device's memory there are
/// <see cref="PreparedBatches"/>.
/// </summary>
internal sealed class DeviceImages
{
    private readonly ImageSet _set;
    private readonly Device _device;
    private readonly int _padding;
    private readonly Tensor _pixels, _columns, _channels;
    private readonly Dictionary<int, Tensor> _rows = [];
    private readonly Dictionary<ScalarType, Tensor> _tables = [];

    /// <summary>Of the device's free memory, what the sets of a rank may take; the rest is for the training.</summary>
    private const int FreeMemoryOverSets = 4;

    /// <param name="padding">Black pixels on each side of an image, from which it may be cut out.</param>
    public DeviceImages(ImageSet set, int padding, Device device)
    {
        (_set, _padding, _device) = (set, padding, device);
        using DisposeScope scope = NewDisposeScope();
        Tensor host = empty([set.Count, set.Channels, set.Height, set.Width], ScalarType.Byte);
        set.Pixels.CopyTo(host.bytes);
        _pixels = host.to(device).DetachFromDisposeScope();
        _columns = arange(set.Width, int64, device).DetachFromDisposeScope();
        _channels = (arange(set.Channels, int64, device) * 256).view(-1, 1, 1).DetachFromDisposeScope();
    }

    /// <summary>Whether sets of so many bytes may lie on a device together.</summary>
    public static bool Fit(long bytes, Device device) =>
        device.type is not DeviceType.CUDA || bytes <= CudaDevices.FreeBytes(Math.Max(0, device.index)) / FreeMemoryOverSets;

    /// <summary>
    /// Bytes that a set takes on a device: its pixels, and where rows, columns and channels lie (int64), and the normalised value
    /// of each byte in each channel (float32).
    /// </summary>
    public static long BytesOf(int count, int channels, int height, int width) =>
        ((long)count * channels * height * width) + (sizeof(long) * (((long)channels * height) + width + channels)) + (sizeof(float) * 256L * channels);

    public static long BytesOf(ImageSet set) => BytesOf(set.Count, set.Channels, set.Height, set.Width);

    /// <summary>Bytes of all that is kept on the device now.</summary>
    public long Bytes => new[] { _pixels, _columns, _channels }.Concat(_rows.Values).Concat(_tables.Values).Sum(tensor => tensor.numel() * tensor.element_size());

    /// <summary>A tensor of the host on the device; a GPU copies it when its turn has come, without a wait here.</summary>
    public static Tensor Send(Tensor host, Device device)
    {
        if (device.type is DeviceType.CPU) return host.MoveToOuterDisposeScope();
        using Tensor pinned = host.pin_memory();
        return pinned.to(device, non_blocking: true).MoveToOuterDisposeScope();
    }

    /// <summary>Images [N, C, H, W] and labels [N].</summary>
    /// <param name="table">Normalised values: of byte b in channel c number 256 c + b.</param>
    /// <param name="padded">False: no image is cut out of its border.</param>
    public Batch Load<T>(ReadOnlySpan<Cutout> cutouts, T[] table, ScalarType type, bool padded)
        where T : unmanaged
    {
        using DisposeScope scope = NewDisposeScope();
        (int border, int count) = (padded ? _padding : 0, cutouts.Length);
        (int height, int width) = (_set.Height + (2 * border), _set.Width + (2 * border));
        // Of each image its number, its label, the place of its first pixel in the batch with borders, and the step to the next pixel.
        Tensor host = empty([4, count], int64);
        Span<long> numbers = MemoryMarshal.Cast<byte, long>(host.bytes);
        for (int i = 0; i < count; i++)
        {
            (int sample, int down, int right, bool flip) = cutouts[i];
            numbers[i] = sample;
            numbers[count + i] = _set.Labels[sample];
            numbers[(2 * count) + i] = ((((long)i * _set.Channels * height) + down + border) * width) + right + border + (flip ? _set.Width - 1 : 0);
            numbers[(3 * count) + i] = flip ? -1 : 1;
        }
        Tensor of = Send(host, _device);
        Tensor bytes = _pixels.index_select(0, of[0]);
        if (border > 0) bytes = nn.functional.pad(bytes, [border, border, border, border]);
        Tensor places = of[2].view(-1, 1, 1, 1) + Rows(border) + (of[3].view(-1, 1, 1, 1) * _columns);
        Tensor seen = bytes.view(-1).index_select(0, places.view(-1)).view(places.shape).to(int64) + _channels;
        Tensor images = Table(table, type).index_select(0, seen.view(-1)).view(seen.shape);
        return new Batch(images.MoveToOuterDisposeScope(), of[1].clone().MoveToOuterDisposeScope());
    }

    /// <summary>The place of each row's first pixel in an image with borders, [C, H, 1].</summary>
    private Tensor Rows(int border)
    {
        if (_rows.TryGetValue(border, out Tensor? rows)) return rows;
        using DisposeScope scope = NewDisposeScope();
        Tensor channels = arange(_set.Channels, int64, _device).view(-1, 1, 1) * (_set.Height + (2 * border));
        rows = (channels + arange(_set.Height, int64, _device).view(1, -1, 1)) * (_set.Width + (2 * border));
        return _rows[border] = rows.DetachFromDisposeScope();
    }

    private Tensor Table<T>(T[] values, ScalarType type)
        where T : unmanaged
    {
        if (_tables.TryGetValue(type, out Tensor? table)) return table;
        using DisposeScope scope = NewDisposeScope();
        Tensor host = empty([values.Length], type);
        values.CopyTo(MemoryMarshal.Cast<byte, T>(host.bytes));
        return _tables[type] = host.to(_device).DetachFromDisposeScope();
    }
}
