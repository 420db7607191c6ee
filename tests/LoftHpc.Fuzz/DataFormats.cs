using System.Buffers.Binary;
using System.IO.Compression;
using LoftHpc.Configuration;
using LoftHpc.Data;

namespace LoftHpc.Fuzz;

/// <summary>The four files of MNIST, plain or compressed.</summary>
internal sealed class IdxFormat : FuzzFormat
{
    private const int Pixels = 28 * 28;

    private static readonly (string Name, byte[] Plain)[] Files =
    [
        ("train-images-idx3-ubyte", Idx(0x803, [4, 28, 28], 4 * Pixels)),
        ("train-labels-idx1-ubyte", Idx(0x801, [4], 4)),
        ("t10k-images-idx3-ubyte", Idx(0x803, [2, 28, 28], 2 * Pixels)),
        ("t10k-labels-idx1-ubyte", Idx(0x801, [2], 2)),
    ];

    public override string Name => "idx";

    public override void Make(Mutator mutator, string folder)
    {
        bool compressed = mutator.OneIn(2);
        int changed = mutator.Below(Files.Length);
        for (int i = 0; i < Files.Length; i++)
        {
            (string name, byte[] bytes) = Files[i];
            byte[][] others = [.. Files.Select(file => file.Plain)];
            bool inside = mutator.OneIn(2);
            if (i == changed && inside) bytes = Change(mutator, bytes, others);
            if (compressed) bytes = Gzip(bytes);
            if (i == changed && !inside) bytes = mutator.OneIn(5) ? Change(mutator, bytes, others) : Damage(mutator, bytes);
            string path = Path.Combine(folder, compressed ? name + ".gz" : name);
            File.WriteAllBytes(path, bytes);
            if (i == changed && mutator.OneIn(50)) mutator.Displace(path);
        }
    }

    protected override bool Read(string folder)
    {
        ImageData data = ImageDataLoader.Load(new DataSection { Set = DataSetName.Mnist, Folder = folder, TrainImages = 3, TestImages = 2 }, 1);
        return data.Train.Count == 3 && data.Test.Count == 2 ? true : throw new UnclearException("other counts than asked for");
    }

    private static byte[] Change(Mutator mutator, byte[] bytes, byte[][] others) => mutator.OneIn(3) ? Header(mutator, bytes) : mutator.OneIn(15) ? bytes : mutator.Bytes(bytes, others);

    /// <summary>Other sizes in the header.</summary>
    private static byte[] Header(Mutator mutator, byte[] bytes)
    {
        byte[] changed = [.. bytes];
        int at = 4 * mutator.Below(Math.Min(4, changed.Length / 4));
        BinaryPrimitives.WriteInt32BigEndian(changed.AsSpan(at), mutator.Pick([0, -1, 1, 2, 3, 5, 28, 60_000, 70_000, int.MaxValue, int.MinValue, 1 << 30]));
        return changed;
    }

    /// <summary>What happens to compressed files: cut ends, members, rubbish behind, and a bomb.</summary>
    private static byte[] Damage(Mutator mutator, byte[] bytes) => mutator.Below(mutator.OneIn(40) ? 5 : 4) switch
    {
        0 => bytes[..^Math.Min(bytes.Length, 1 + mutator.Below(12))],
        1 => [.. bytes, .. bytes],
        2 => [.. bytes, .. new byte[1 + mutator.Below(600)]],
        3 => bytes,
        _ => Gzip([.. bytes, .. new byte[100_000_000]]),
    };

    private static byte[] Gzip(byte[] bytes)
    {
        MemoryStream memory = new();
        using (GZipStream stream = new(memory, CompressionLevel.Fastest)) stream.Write(bytes);
        return memory.ToArray();
    }

    private static byte[] Idx(int magic, int[] shape, int count)
    {
        byte[] file = new byte[4 + (4 * shape.Length) + count];
        BinaryPrimitives.WriteInt32BigEndian(file, magic);
        for (int i = 0; i < shape.Length; i++) BinaryPrimitives.WriteInt32BigEndian(file.AsSpan(4 + (4 * i)), shape[i]);
        for (int i = 0; i < count; i++) file[^(count - i)] = (byte)(i % 10);
        return file;
    }
}

/// <summary>The files of CIFAR-10 and CIFAR-100.</summary>
internal sealed class CifarFormat : FuzzFormat
{
    private const int ImageBytes = 3 * 32 * 32;

    public override string Name => "cifar";

    public override void Make(Mutator mutator, string folder)
    {
        bool hundred = mutator.OneIn(2);
        string[] names = hundred ? ["train.bin", "test.bin"] : ["data_batch_1.bin", "data_batch_2.bin", "test_batch.bin"];
        byte[][] files = [.. names.Select(_ => Records(hundred ? 2 : 1, 2))];
        string changed = mutator.Pick(names);
        for (int i = 0; i < names.Length; i++)
        {
            string path = Path.Combine(folder, names[i]);
            File.WriteAllBytes(path, names[i] == changed && !mutator.OneIn(15) ? Change(mutator, files[i], hundred ? 2 : 1) : files[i]);
            if (names[i] == changed && mutator.OneIn(50)) mutator.Displace(path);
        }
    }

    protected override bool Read(string folder)
    {
        bool hundred = Path.Exists(Path.Combine(folder, "test.bin"));
        int train = hundred ? 2 : 3;
        ImageData data = ImageDataLoader.Load(new DataSection { Set = hundred ? DataSetName.Cifar100 : DataSetName.Cifar10, Folder = folder, TrainImages = train, TestImages = 1 }, 1);
        return data.Train.Count == train && data.Test.Count == 1 ? true : throw new UnclearException("other counts than asked for");
    }

    private static byte[] Change(Mutator mutator, byte[] bytes, int labels)
    {
        int record = labels + ImageBytes;
        switch (mutator.Below(4))
        {
            case 0: return [.. bytes, .. bytes[..(record * mutator.Below(3))], .. new byte[mutator.OneIn(2) ? 0 : mutator.Below(record)]];
            case 1:
                byte[] changed = [.. bytes];
                changed[(record * mutator.Below(2)) + mutator.Below(labels)] = (byte)mutator.Below(256);
                return changed;
            default: return mutator.Bytes(bytes, [bytes]);
        }
    }

    private static byte[] Records(int labels, int count) =>
        [.. Enumerable.Range(0, count).SelectMany(i => Enumerable.Repeat((byte)(i + 3), labels).Concat(Enumerable.Range(0, ImageBytes).Select(b => (byte)(b * 7))))];
}
