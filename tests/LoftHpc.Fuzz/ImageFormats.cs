using System.Buffers.Binary;
using System.IO.Compression;
using System.IO.Hashing;
using System.Text;
using LoftHpc.Configuration;
using LoftHpc.Data;
using SkiaSharp;

namespace LoftHpc.Fuzz;

/// <summary>Files of images: PNG written here, JPEG by the library.</summary>
public static class ImageFile
{
    /// <summary>A PNG of 8 bits a value, without any filter: 1 channel is gray, 3 is RGB, 4 has alpha.</summary>
    /// <param name="value">Of row, column and channel.</param>
    public static byte[] Png(int width, int height, int channels, Func<int, int, int, int> value)
    {
        MemoryStream rows = new();
        using (ZLibStream packed = new(rows, CompressionLevel.Fastest, leaveOpen: true))
        {
            for (int y = 0; y < height; y++)
            {
                packed.WriteByte(0);
                for (int x = 0; x < width; x++)
                {
                    for (int channel = 0; channel < channels; channel++) packed.WriteByte((byte)value(y, x, channel));
                }
            }
        }
        byte[] header = new byte[13];
        BinaryPrimitives.WriteInt32BigEndian(header, width);
        BinaryPrimitives.WriteInt32BigEndian(header.AsSpan(4), height);
        (header[8], header[9]) = (8, (byte)(channels == 1 ? 0 : channels == 3 ? 2 : 6));
        return [0x89, .. "PNG\r\n\x1a\n"u8, .. Chunk("IHDR", header), .. Chunk("IDAT", rows.ToArray()), .. Chunk("IEND", [])];
    }

    /// <summary>The same PNG, but that its header says another size.</summary>
    public static byte[] WithSize(byte[] png, int width, int height)
    {
        byte[] changed = [.. png];
        BinaryPrimitives.WriteInt32BigEndian(changed.AsSpan(16), width);
        BinaryPrimitives.WriteInt32BigEndian(changed.AsSpan(20), height);
        BinaryPrimitives.WriteUInt32BigEndian(changed.AsSpan(29), Crc32.HashToUInt32(changed.AsSpan(12, 17)));
        return changed;
    }

    /// <summary>A JPEG in RGB.</summary>
    /// <inheritdoc cref="Png"/>
    public static byte[] Jpeg(int width, int height, Func<int, int, int, int> value, int quality = 95)
    {
        using SKBitmap bitmap = new(width, height);
        for (int y = 0; y < height; y++)
        {
            for (int x = 0; x < width; x++) bitmap.SetPixel(x, y, new SKColor((byte)value(y, x, 0), (byte)value(y, x, 1), (byte)value(y, x, 2)));
        }
        using SKData data = bitmap.Encode(SKEncodedImageFormat.Jpeg, quality);
        return data.ToArray();
    }

    private static byte[] Chunk(string type, byte[] data)
    {
        byte[] chunk = new byte[data.Length + 12];
        BinaryPrimitives.WriteInt32BigEndian(chunk, data.Length);
        Encoding.ASCII.GetBytes(type, chunk.AsSpan(4));
        data.CopyTo(chunk, 8);
        BinaryPrimitives.WriteUInt32BigEndian(chunk.AsSpan(data.Length + 8), Crc32.HashToUInt32(chunk.AsSpan(4, data.Length + 4)));
        return chunk;
    }
}

/// <summary>A folder of images, one of which is changed.</summary>
internal sealed class ImageFolderFormat : FuzzFormat
{
    private static readonly byte[][] Seeds =
    [
        ImageFile.Png(11, 9, 3, (y, x, channel) => (y * 20) + (x * 3) + channel), ImageFile.Png(9, 12, 4, (y, x, channel) => (y * x) + channel), ImageFile.Png(8, 8, 1, (y, x, _) => y + x),
        ImageFile.Jpeg(20, 17, (y, x, channel) => (y * 9) + (x * 4) + channel), ImageFile.Jpeg(16, 16, (_, x, _) => x, 30),
    ];

    public override string Name => "image-folder";

    public override void Make(Mutator mutator, string folder)
    {
        foreach (string part in (string[])["train/a", "train/b", "val/a", "val/b"]) Directory.CreateDirectory(Path.Combine(folder, part));
        File.WriteAllBytes(Path.Combine(folder, "train/b/good.png"), Seeds[0]);
        File.WriteAllBytes(Path.Combine(folder, "val/b/good.jpg"), Seeds[3]);
        File.WriteAllBytes(Path.Combine(folder, "val/a/good.png"), Seeds[2]);
        byte[] bytes = mutator.Pick(Seeds);
        string path = Path.Combine(folder, "train/a/changed");
        File.WriteAllBytes(path, mutator.OneIn(10) ? bytes : mutator.OneIn(4) ? bytes[..mutator.Below(bytes.Length)] : Repaired(mutator.Bytes(bytes, Seeds)));
        if (mutator.OneIn(50)) mutator.Displace(path);
    }

    protected override bool Read(string folder)
    {
        ImageData data = ImageDataLoader.Load(new DataSection { Set = DataSetName.ImageFolder, Folder = folder, ImageSize = 8 }, 1);
        int images = 0;
        data.Train.ForEach(image => images += image.Length == 3 * 8 * 8 ? 1 : throw new UnclearException("an image of another size"));
        return images == 2 ? true : throw new UnclearException("other counts than there are files");
    }

    /// <summary>The checksums of a PNG's chunks, where they can be found, so that what is changed is looked at.</summary>
    private static byte[] Repaired(byte[] bytes)
    {
        for (int at = 8; at + 12 <= bytes.Length && bytes[0] == 0x89;)
        {
            int length = BinaryPrimitives.ReadInt32BigEndian(bytes.AsSpan(at));
            if (length < 0 || length > bytes.Length - at - 12) break;
            BinaryPrimitives.WriteUInt32BigEndian(bytes.AsSpan(at + 8 + length), Crc32.HashToUInt32(bytes.AsSpan(at + 4, length + 4)));
            at += length + 12;
        }
        return bytes;
    }
}

/// <summary>Sets of the user's own in IDX files, and in records as CIFAR's.</summary>
internal sealed class OwnBinaryFormat : FuzzFormat
{
    private static readonly byte[] Images = [0, 0, 8, 3, 0, 0, 0, 3, 0, 0, 0, 9, 0, 0, 0, 9, .. new byte[3 * 81]], Colours = [0, 0, 8, 4, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0, 8, 0, 0, 0, 8, .. new byte[3 * 128]],
        Labels = [0, 0, 8, 1, 0, 0, 0, 3, 0, 1, 2], Records = [0, .. new byte[64], 1, .. new byte[64]];

    public override string Name => "own-binary";

    public override void Make(Mutator mutator, string folder)
    {
        if (mutator.OneIn(3))
        {
            File.WriteAllBytes(Path.Combine(folder, "train.bin"), mutator.OneIn(8) ? Records : mutator.Bytes(Records, [Records]));
            File.WriteAllBytes(Path.Combine(folder, "test.bin"), Records);
            return;
        }
        bool colours = mutator.OneIn(2);
        (string name, byte[] images) = colours ? ("idx4", Colours) : ("idx3", Images);
        bool inImages = mutator.OneIn(2);
        foreach (string split in (string[])["train", "test"])
        {
            bool changes = split == "train" && !mutator.OneIn(8);
            File.WriteAllBytes(Path.Combine(folder, $"{split}-images-{name}-ubyte"), changes && inImages ? Change(mutator, images) : images);
            File.WriteAllBytes(Path.Combine(folder, $"{split}-labels-idx1-ubyte"), changes && !inImages ? Change(mutator, Labels) : Labels);
        }
    }

    protected override bool Read(string folder)
    {
        bool records = Path.Exists(Path.Combine(folder, "train.bin"));
        DataSection section = new() { Set = records ? DataSetName.CifarBinary : DataSetName.Idx, Folder = folder };
        ImageData data = ImageDataLoader.Load(records ? section with { Channels = 1, ImageSize = 8 } : section, 1);
        return data.Train.Pixels.Length == data.Train.Count * data.Train.ImageBytes && data.Train.Labels.All(label => label < data.Train.Classes) && data.Train.Mean.All(float.IsFinite)
            ? true : throw new UnclearException("images that do not fit together");
    }

    private static byte[] Change(Mutator mutator, byte[] bytes)
    {
        if (mutator.OneIn(2)) return mutator.Bytes(bytes, [Images, Colours, Labels]);
        byte[] changed = [.. bytes];
        int at = 4 * (1 + mutator.Below(Math.Min(4, (changed.Length / 4) - 1)));
        BinaryPrimitives.WriteInt32BigEndian(changed.AsSpan(at), mutator.Pick([0, -1, 1, 2, 3, 5, 8, 9, 1000, 1001, 70_000, int.MaxValue, int.MinValue, 1 << 30]));
        return changed;
    }
}
