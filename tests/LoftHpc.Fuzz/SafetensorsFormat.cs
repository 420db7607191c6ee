using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.Json.Nodes;
using LoftHpc.Results;
using LoftHpc.Training;
using TorchSharp;

namespace LoftHpc.Fuzz;

/// <summary>Weights files.</summary>
public sealed class SafetensorsFormat : FuzzFormat
{
    private const string Identity = "lofthpc.network", Metadata = "__metadata__";

    private static readonly Lazy<byte[][]> Seed = new(MakeSeeds);

    public override string Name => "safetensors";

    /// <summary>A mutated weights file.</summary>
    public static byte[] Change(Mutator mutator)
    {
        byte[] file = mutator.Pick(Seed.Value);
        (string header, byte[] data) = Open(file);
        return mutator.Below(12) switch
        {
            0 => file,
            1 => mutator.Bytes(file, Seed.Value),
            2 or 3 => Close(mutator.Text(Encoding.UTF8.GetBytes(header), Seed.Value), data),
            4 or 5 => Close(mutator.Json(header), data),
            6 or 7 => Close(InIdentity(mutator, header), data),
            8 => Close(header, Numbers(mutator, data)),
            9 or 10 => Close(Entries(mutator, header), data),
            _ => Close(header, mutator.Bytes(data, [data])),
        };
    }

    /// <summary>A file of this format with another header, or other bytes of tensors.</summary>
    public static byte[] ChangeHeader(Mutator mutator, byte[] file)
    {
        (string header, byte[] data) = Open(file);
        return mutator.OneIn(3) ? Close(header, mutator.Bytes(data, [data])) : mutator.OneIn(2) ? Close(mutator.Json(header), data) : Close(Entries(mutator, header), data);
    }

    public override void Make(Mutator mutator, string folder)
    {
        string path = FileIn(folder);
        if (mutator.OneIn(500))
        {
            Huge(mutator, path);
            return;
        }
        File.WriteAllBytes(path, Change(mutator));
        if (mutator.OneIn(60)) mutator.Displace(path);
    }

    protected override bool Read(string folder)
    {
        using SafetensorsFile file = CheckWeights(FileIn(folder));
        foreach (TensorEntry entry in file.Entries)
        {
            using torch.Tensor tensor = file.Read(entry.Name);
            using torch.Tensor loaded = tensor.to(torch.float32);
            if (loaded.numel() != entry.Elements) throw new UnclearException($"{entry.Name} has {loaded.numel()} elements, not {entry.Elements}");
        }
        return true;
    }

    /// <summary>What the stages ask of a weights file before they take a tensor from it.</summary>
    public static void MustBeUsable(string path) => CheckWeights(path).Dispose();

    private static SafetensorsFile CheckWeights(string path)
    {
        SafetensorsFile file = SafetensorsFile.Open(path);
        try
        {
            WeightsIdentity identity = WeightsIdentity.Of(file, path);
            identity.MustFit(Seeds.Config, Seeds.Images, path);
            WeightsIdentity.MustBeFinite(file, path);
            WeightsIdentity.StepOf(file, path);
            WeightsIdentity.Parse(identity.ToJson());
            return file;
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    private static string FileIn(string folder) => Path.Combine(folder, "weights.safetensors");

    /// <summary>Another network in the metadata: what is made before a tensor is looked at.</summary>
    private static string InIdentity(Mutator mutator, string header)
    {
        JsonNode root = JsonNode.Parse(header)!;
        if (root[Metadata]?[Identity] is not JsonValue value) return header;
        JsonNode identity = JsonNode.Parse(value.GetValue<string>())!;
        string text = identity.ToJsonString();
        switch (mutator.Below(4))
        {
            case 0:
                identity["network"]![mutator.Pick(["depth", "width", "widen_factor"])] = mutator.Pick([16, 22, 1_000, 1_000_000, 2_000_000_002, int.MaxValue, 1 << 30, 46341, 0, -1, 400_000_000]);
                text = identity.ToJsonString();
                break;
            case 1:
                identity[mutator.Pick(["image_channels", "image_side", "classes"])] = mutator.Pick([0, -1, 1, 3, 256, 1000, int.MaxValue, int.MinValue]);
                text = identity.ToJsonString();
                break;
            case 2: text = mutator.Json(text); break;
            default: text = Encoding.UTF8.GetString(mutator.Text(Encoding.UTF8.GetBytes(text), [Encoding.UTF8.GetBytes(text)])); break;
        }
        root[Metadata]![Identity] = text;
        return root.ToJsonString();
    }

    /// <summary>Numbers that no training leaves.</summary>
    private static byte[] Numbers(Mutator mutator, byte[] data)
    {
        byte[] changed = [.. data];
        Span<float> values = MemoryMarshal.Cast<byte, float>(changed.AsSpan());
        if (values.Length > 0) values[mutator.Below(values.Length)] = mutator.Pick([float.NaN, float.PositiveInfinity, float.NegativeInfinity, -1e30f, -1f, -0f, float.Epsilon, float.MaxValue]);
        return changed;
    }

    /// <summary>Entries that contradict each other or the file: types, shapes, and places.</summary>
    private static string Entries(Mutator mutator, string header)
    {
        JsonObject root = JsonNode.Parse(header)!.AsObject();
        string[] names = [.. root.Select(pair => pair.Key).Where(name => name != Metadata)];
        for (int changes = 1 + mutator.Below(2); changes > 0; changes--)
        {
            JsonObject entry = root[mutator.Pick(names)]!.AsObject(), other = root[mutator.Pick(names)]!.AsObject();
            if (entry["shape"] is not JsonArray shape || entry["data_offsets"] is not JsonArray { Count: 2 } offsets) continue;
            switch (mutator.Below(8))
            {
                case 0: entry["dtype"] = mutator.Pick(["F16", "BF16", "F32", "F64", "I64", "I32", "U8", "BOOL", "f32", "", "F8_E4M3", "C64"]); break;
                case 1: entry["data_offsets"] = other["data_offsets"]!.DeepClone(); break;
                case 2:
                    entry["data_offsets"] = new JsonArray(mutator.Pick([0, -8, long.MinValue, long.MaxValue, 1L << 62]), mutator.Pick([0, 8, -1, long.MaxValue, long.MinValue]));
                    break;
                case 3:
                    entry["shape"] = new JsonArray(mutator.Pick([1L << 62, long.MaxValue, 1L << 31, 0, -1]), mutator.Pick([4, 0, 1L << 62, -4]), mutator.Pick([2, 0, 1L << 33]));
                    break;
                case 4:
                    // An empty tensor of a huge shape, which is in the file.
                    entry["shape"] = new JsonArray(0, mutator.Pick([1L << 62, long.MaxValue, 1]), mutator.Pick([1L << 62, 1L << 31]));
                    entry["data_offsets"] = new JsonArray(offsets[0]!.DeepClone(), offsets[0]!.DeepClone());
                    break;
                case 5:
                    for (int count = mutator.Count(5000); count > 0; count--) shape.Add(1);
                    break;
                case 6: entry["shape"] = other["shape"]!.DeepClone(); break;
                default: shape.Insert(mutator.Below(shape.Count + 1), 1); break;
            }
        }
        return root.ToJsonString();
    }

    /// <summary>Files that would take much memory or time.</summary>
    private static void Huge(Mutator mutator, string path)
    {
        using FileStream file = File.Create(path);
        Span<byte> length = stackalloc byte[8];
        switch (mutator.Below(5))
        {
            case 0: // A header of 100 MB of nothing.
                BinaryPrimitives.WriteInt64LittleEndian(length, 100_000_000);
                file.Write(length);
                file.SetLength(200_000_000);
                return;
            case 1: // A tensor as long as the file, which takes no place on the disk.
                WithTensorOfATerabyte(mutator.Pick(Seed.Value), file);
                return;
            case 2: // Many tensors.
                file.Write(Close($"{{{string.Join(',', Enumerable.Range(0, 200_000).Select(i => $"\"{i}\":{{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[{4 * i},{4 * (i + 1)}]}}"))}}}", new byte[800_000]));
                return;
            case 3: // Many values, and as many metadata.
                file.Write(Close(mutator.OneIn(2) ? $"{{\"a\":{{\"dtype\":\"F32\",\"shape\":[{string.Join(',', Enumerable.Repeat("0", 7_000_000))}],\"data_offsets\":[0,0]}}}}"
                    : $"{{\"__metadata__\":{{{string.Join(',', Enumerable.Range(0, 1_000_000).Select(i => $"\"{i}\":\"\""))}}}}}", []));
                return;
            default: // Depth.
                file.Write(Close(string.Concat(Enumerable.Repeat(mutator.Pick(["[", "{\"a\":"]), 3_000_000)), []));
                return;
        }
    }

    /// <summary>Writes weights with one tensor more, as long as a disk.</summary>
    public static void WithTensorOfATerabyte(byte[] weights, FileStream file)
    {
        const long bytes = 1_000_000_000_000;
        (string header, byte[] data) = Open(weights);
        JsonObject root = JsonNode.Parse(header)!.AsObject();
        root["a"] = new JsonObject { ["dtype"] = "F32", ["shape"] = new JsonArray(bytes / 4), ["data_offsets"] = new JsonArray(data.Length, data.Length + bytes) };
        file.Write(Close(root.ToJsonString(), data));
        file.SetLength(file.Length + bytes);
    }

    private static (string Header, byte[] Data) Open(byte[] file)
    {
        int length = (int)BinaryPrimitives.ReadInt64LittleEndian(file);
        return (Encoding.UTF8.GetString(file, 8, length), file[(8 + length)..]);
    }

    private static byte[] Close(string header, byte[] data) => Close(Encoding.UTF8.GetBytes(header), data);

    private static byte[] Close(byte[] header, byte[] data)
    {
        byte[] length = new byte[8];
        BinaryPrimitives.WriteInt64LittleEndian(length, header.Length);
        return [.. length, .. header, .. data];
    }

    private static byte[][] MakeSeeds()
    {
        string folder = Directory.CreateTempSubdirectory("lofthpc-fuzz-seed-").FullName;
        try
        {
            RunFolder run = Seeds.MakeRunFolder(folder);
            return
            [
                File.ReadAllBytes(run.DenseWeights), File.ReadAllBytes(run.PrunedWeights),
                Close("""{"__metadata__":{"a":"b"},"bias":{"dtype":"F32","shape":[2],"data_offsets":[8,16]},"count":{"dtype":"I64","shape":[],"data_offsets":[0,8]},"none":{"dtype":"F64","shape":[0,3],"data_offsets":[16,16]}}""", new byte[16]),
            ];
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }
}
