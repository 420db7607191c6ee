using System.IO.Compression;
using System.Text;
using LoftHpc.PyTorch;
using LoftHpc.Results;
using TorchSharp;

namespace LoftHpc.Fuzz;

/// <summary>What torch.save writes.</summary>
public sealed class StateDictFormat : FuzzFormat
{
    private static readonly byte[] Seed = Encoding.Latin1.GetBytes(Pickle(6, 1, 2, 2));

    public override string Name => "state-dict";

    /// <summary>{'w': a tensor of one dimension in a storage of floats}, in the instructions of pickle's protocol 2, a byte a character.</summary>
    public static string Pickle(int elements, int offset, int size, int step)
    {
        static string Number(int value) => "J" + Encoding.Latin1.GetString(BitConverter.GetBytes(value));
        static string Words(string value) => "X" + Encoding.Latin1.GetString(BitConverter.GetBytes(value.Length)) + value;
        string storage = $"({Words("storage")}ctorch\nFloatStorage\n{Words("0")}{Words("cpu")}{Number(elements)}tQ";
        return $"\u0080\u0002}}{Words("w")}ctorch._utils\n_rebuild_tensor_v2\n({storage}{Number(offset)}{Number(size)}\u0085{Number(step)}\u0085\u0089ccollections\nOrderedDict\n)RtRs.";
    }

    /// <summary>An archive as torch.save writes it, of a pickle and one storage.</summary>
    public static byte[] Archive(byte[] pickle, int storageBytes)
    {
        using MemoryStream bytes = new();
        using (ZipArchive archive = new(bytes, ZipArchiveMode.Create, leaveOpen: true))
        {
            Put("model/data.pkl", pickle);
            Put("model/byteorder", "little"u8);
            Put("model/data/0", new byte[storageBytes]);

            void Put(string name, ReadOnlySpan<byte> content)
            {
                using Stream stream = archive.CreateEntry(name, CompressionLevel.NoCompression).Open();
                stream.Write(content);
            }
        }
        return bytes.ToArray();
    }

    public override void Make(Mutator mutator, string folder)
    {
        string path = FileIn(folder);
        File.WriteAllBytes(path, mutator.OneIn(3) ? mutator.Any(Archive(Seed, 24), [Seed]) : Archive(mutator.Any(Seed, [Seed]), 24));
        if (mutator.OneIn(100)) mutator.Displace(path);
    }

    protected override bool Read(string folder)
    {
        string converted = Path.Combine(folder, "converted");
        StateDictPickle.ToSafetensors(FileIn(folder), converted);
        using SafetensorsFile file = SafetensorsFile.Open(converted);
        foreach (TensorEntry entry in file.Entries)
        {
            using torch.Tensor tensor = file.Read(entry.Name);
            if (tensor.numel() != entry.Elements) throw new UnclearException($"{entry.Name} has {tensor.numel()} elements, not {entry.Elements}");
        }
        return true;
    }

    private static string FileIn(string folder) => Path.Combine(folder, "model.pt");
}
