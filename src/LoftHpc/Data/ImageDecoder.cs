using System.Runtime.InteropServices;
using System.Text;

namespace LoftHpc.Data;

/// <summary>What is wrong with a file of an image.</summary>
internal enum ImageFault
{
    None,
    Unreadable,
    Empty,
    NotAnImage,
    Broken,
    TooLarge,
    Cut,
    Changed,
    NoMemory,
}

/// <summary>
/// Decodes JPEG and PNG files and brings them to one size, with memory of its own: each thread that decodes has one. All but the
/// constructor makes no object (<see cref="PreparedBatches"/> says why).
/// </summary>
internal sealed unsafe class ImageDecoder : IDisposable
{
    /// <summary>Larger images are refused: their pixels would take 400 MB.</summary>
    public const int MostPixels = 100_000_000;

    /// <summary>A JPEG's own limit of a side.</summary>
    public const int LongestSide = 65_535;

    /// <summary>Of a file, by which its header is looked for first, and at most.</summary>
    private const long HeaderBytes = 1 << 16, MostBytes = 1 << 30;

    private readonly Memory _path = new(), _pixels = new(), _rows = new(), _image = new(), _across = new(), _down = new(), _acrossStarts = new(), _downStarts = new();
    private readonly int _folderBytes;

    /// <param name="folder">In which the files lie.</param>
    public ImageDecoder(string folder)
    {
        byte[] bytes = Encoding.UTF8.GetBytes(folder + "/");
        _folderBytes = bytes.Length;
        bytes.CopyTo(new Span<byte>(_path.Reserve(bytes.Length), bytes.Length));
    }

    /// <summary>Of the image that was read last, in pixels.</summary>
    public int Width { get; private set; }

    public int Height { get; private set; }

    /// <summary>Bytes of the file that was read last.</summary>
    public long FileBytes { get; private set; }

    /// <summary>Reads an image's size from its header, and with <paramref name="whole"/> decodes it.</summary>
    /// <param name="name">UTF-8, in the folder.</param>
    public ImageFault Check(ReadOnlySpan<byte> name, bool whole)
    {
        if (whole) return Read(name, pixels: true, long.MaxValue);
        ImageFault fault = Read(name, pixels: false, HeaderBytes);
        // There may be much before it.
        return fault is ImageFault.Broken && FileBytes > HeaderBytes ? Read(name, pixels: false, long.MaxValue) : fault;
    }

    /// <summary>An image of a set as bytes [channels, side, side]: the part <paramref name="crop"/> of it, or what an evaluation sees.</summary>
    /// <returns>Memory that the next call writes over; null where <paramref name="fault"/> says what is wrong.</returns>
    public byte* Load(ImageFiles files, int number, CropBox crop, int channels, int side, out ImageFault fault)
    {
        fault = Read(files.NameOf(number), pixels: true, long.MaxValue);
        if (fault is ImageFault.None && ((Width, Height) != files.SizeOf(number) || FileBytes != files.BytesOf(number))) fault = ImageFault.Changed;
        if (fault is not ImageFault.None) return null;
        if (channels == 1) ToGray();
        CropBox box = crop;
        (int height, int width, int top, int left) = (side, side, 0, 0);
        if (crop.IsEmpty)
        {
            box = new CropBox(0, 0, Height, Width);
            (height, width, top, left) = RandomCrop.Evaluated(Height, Width, side);
        }
        return Resample(box, height, width, top, left, channels, side);
    }

    public void Dispose()
    {
        foreach (Memory memory in (ReadOnlySpan<Memory>)[_path, _pixels, _rows, _image, _across, _down, _acrossStarts, _downStarts]) memory.Dispose();
    }

    private ImageFault Read(ReadOnlySpan<byte> name, bool pixels, long most)
    {
        (Width, Height, FileBytes) = (0, 0, 0);
        byte* path = _path.Reserve(_folderBytes + name.Length + 1);
        name.CopyTo(new Span<byte>(path + _folderBytes, name.Length));
        path[_folderBytes + name.Length] = 0;
        int file = NativeFile.Open(path, NativeFile.ReadOnly | NativeFile.NonBlocking | NativeFile.CloseOnExec);
        if (file < 0) return ImageFault.Unreadable;
        nint data = 0;
        try
        {
            // Folders have a size of some kind, but nothing to read.
            byte probe;
            if (NativeFile.Read(file, (nint)(&probe), 1) < 0) return ImageFault.Unreadable;
            FileBytes = NativeFile.Seek(file, 0, NativeFile.End);
            if (FileBytes < 0 || NativeFile.Seek(file, 0, NativeFile.Start) != 0) return ImageFault.Unreadable;
            if (FileBytes == 0) return ImageFault.Empty;
            if (FileBytes > MostBytes) return ImageFault.TooLarge;
            long bytes = Math.Min(FileBytes, most);
            data = Skia.NewData((nuint)bytes);
            nint address = data == 0 ? 0 : Skia.Address(data);
            if (address == 0) return ImageFault.NoMemory;
            for (long done = 0; done < bytes;)
            {
                nint read = NativeFile.Read(file, address + (nint)done, (nuint)(bytes - done));
                if (read < 0) return ImageFault.Unreadable;
                if (read == 0) return ImageFault.Changed;
                done += read;
            }
            return IsImage(new ReadOnlySpan<byte>((void*)address, (int)bytes)) ? Decode(data, pixels) : ImageFault.NotAnImage;
        }
        finally
        {
            _ = NativeFile.Close(file);
            if (data != 0) Skia.FreeData(data);
        }
    }

    /// <summary>By the bytes that a JPEG or a PNG begins with, whatever the file's name.</summary>
    private static bool IsImage(ReadOnlySpan<byte> file) =>
        file.StartsWith((ReadOnlySpan<byte>)[0xFF, 0xD8, 0xFF]) || (file is [0x89, ..] && file[1..].StartsWith("PNG\r\n\x1a\n"u8));

    private ImageFault Decode(nint data, bool pixels)
    {
        nint codec = Skia.NewCodec(data);
        if (codec == 0) return ImageFault.Broken;
        try
        {
            Skia.Info info;
            Skia.InfoOf(codec, &info);
            if (info.ColorSpace != 0) Skia.FreeColorSpace(info.ColorSpace);
            if (info.Width <= 0 || info.Height <= 0) return ImageFault.Broken;
            if (info.Width > LongestSide || info.Height > LongestSide || (long)info.Width * info.Height > MostPixels) return ImageFault.TooLarge;
            (Width, Height) = (info.Width, info.Height);
            if (!pixels) return ImageFault.None;
            info.ColorSpace = 0;
            info.ColorType = Skia.Rgba8888;
            info.AlphaType = info.AlphaType == Skia.Opaque ? Skia.Opaque : Skia.Unpremultiplied;
            nuint rowBytes = (nuint)(ImageResampling.SourceChannels * Width);
            nint memory = (nint)_pixels.Reserve((long)rowBytes * Height);
            return Skia.Decode(codec, &info, memory, rowBytes, 0) == Skia.Success ? ImageFault.None : ImageFault.Cut;
        }
        finally
        {
            Skia.FreeCodec(codec);
        }
    }

    /// <summary>Brightness in the place of red, by ITU-R BT.601 in 16 bits, as Pillow converts to "L".</summary>
    private void ToGray()
    {
        byte* pixel = _pixels.Start;
        for (long i = (long)Width * Height; i > 0; i--, pixel += ImageResampling.SourceChannels)
            pixel[0] = (byte)(((19_595 * pixel[0]) + (38_470 * pixel[1]) + (7_471 * pixel[2]) + 0x8000) >> 16);
    }

    /// <summary>The square of <paramref name="side"/> from (top, left) on of the box, resized to height x width.</summary>
    private byte* Resample(CropBox box, int height, int width, int top, int left, int channels, int side)
    {
        (int across, int down) = (ImageResampling.Taps(box.Width, width), ImageResampling.Taps(box.Height, height));
        int* acrossWeights = (int*)_across.Reserve(sizeof(int) * (long)across * side), downWeights = (int*)_down.Reserve(sizeof(int) * (long)down * side);
        int* acrossStarts = (int*)_acrossStarts.Reserve(2 * sizeof(int) * (long)side), downStarts = (int*)_downStarts.Reserve(2 * sizeof(int) * (long)side);
        ImageResampling.Weights(box.Width, width, left, side, acrossStarts, acrossWeights);
        ImageResampling.Weights(box.Height, height, top, side, downStarts, downWeights);
        int first = downStarts[0], end = downStarts[2 * (side - 1)] + downStarts[(2 * (side - 1)) + 1], rowBytes = side * channels;
        byte* rows = _rows.Reserve((long)rowBytes * (end - first)), image = _image.Reserve((long)channels * side * side);
        byte* source = _pixels.Start + (ImageResampling.SourceChannels * (((long)(box.Top + first) * Width) + box.Left));
        for (int y = first; y < end; y++, source += ImageResampling.SourceChannels * (long)Width)
            ImageResampling.Row(source, rows + ((long)rowBytes * (y - first)), channels, side, across, acrossStarts, acrossWeights);
        for (int y = 0; y < side; y++)
        {
            ImageResampling.Column(
                rows + ((long)rowBytes * (downStarts[2 * y] - first)), image + (y * side), channels, side, side * side, downStarts[(2 * y) + 1], downWeights + ((long)down * y));
        }
        return image;
    }

    /// <summary>Memory that grows.</summary>
    private sealed class Memory : IDisposable
    {
        private long _bytes;

        public byte* Start { get; private set; }

        /// <summary>At least so many bytes, of which those that were there are kept.</summary>
        public byte* Reserve(long bytes)
        {
            if (bytes > _bytes)
            {
                Start = (byte*)NativeMemory.Realloc(Start, (nuint)bytes);
                _bytes = bytes;
            }
            return Start;
        }

        public void Dispose()
        {
            NativeMemory.Free(Start);
            Start = null;
            _bytes = 0;
        }
    }
}
