using CsCheck;
using LoftHpc.Communication;
using LoftHpc.Configuration;
using LoftHpc.Data;
using LoftHpc.Results;
using LoftHpc.Tests.Results;
using LoftHpc.Training;
using TorchSharp;
using Xunit;
using static TorchSharp.torch;

namespace LoftHpc.Tests.Fuzz;

/// <summary>What holds for any value, of files that are written and read, and for any bytes.</summary>
public sealed class PropertyTests : IDisposable
{
    private const int Times = 200;

    private static readonly Gen<double> AnyDouble = Gen.OneOf(
        Gen.Long.Select(BitConverter.Int64BitsToDouble),
        Gen.OneOf(0, -0.0, double.NaN, double.PositiveInfinity, double.NegativeInfinity, double.Epsilon, double.MaxValue, double.MinValue, 0.1, 1e23));

    /// <summary>Any text that UTF-8 has, and what means something in a table.</summary>
    private static readonly Gen<string> AnyText = Gen.OneOf(
        Gen.String.Select(text => string.Concat(text.EnumerateRunes().Select(rune => rune.ToString()))),
        Gen.String["\",\n\r \t;#\0a\u00b5\u2028"]);

    private readonly TemporaryFolder _folder = new();

    private string Path => _folder.File("file");

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void Any_rows_read_back_the_same()
    {
        Gen<CommunicationRow> row = Gen.Select(
            Gen.Int, AnyText, Gen.Enum<CommunicationPurpose>(), AnyText, Gen.Long, Gen.Long, Gen.Long, AnyDouble,
            (rank, phase, purpose, collective, calls, messages, sent, seconds) => new CommunicationRow(rank, phase, purpose, collective, calls, messages, sent, -sent, seconds));
        row.Array[0, 5].Sample(RoundTrip, iter: Times, threads: 1);
        Gen<FilterDistanceRow> distance = Gen.Select(
            Gen.Long, Gen.Long, AnyText, Gen.Int, AnyDouble, AnyDouble.Nullable(), (step, reference, layer, filters, one, other) => new FilterDistanceRow(step, reference, layer, filters, one, other));
        distance.Array[0, 5].Sample(RoundTrip, iter: Times, threads: 1);
    }

    [Fact]
    public void Any_tensors_read_back_bit_for_bit()
    {
        Gen<(string Name, ScalarType Type, long[] Shape)> tensor = Gen.Select(
            AnyText, Gen.OneOf(ScalarType.Float32, ScalarType.Float64, ScalarType.Int64), Gen.Long[0, 4].Array[0, 5], (name, type, shape) => (name, type, shape));
        Gen.Select(tensor.Array[0, 6], AnyText, AnyText, Gen.Int).Sample((tensors, key, value, seed) =>
        {
            using DisposeScope scope = NewDisposeScope();
            Random random = new(seed);
            Dictionary<string, Tensor> written = [];
            foreach ((string name, ScalarType type, long[] shape) in tensors)
            {
                Tensor values = empty(shape, type);
                byte[] bytes = new byte[values.numel() * values.element_size()];
                random.NextBytes(bytes);
                if (bytes.Length > 0) values.bytes = bytes;
                written[name] = values;
            }
            written.Remove("__metadata__");
            using (SafetensorsWriter writer = new(Path, written.Select(pair => TensorEntry.Of(pair.Key, pair.Value)), new Dictionary<string, string> { [key] = value }))
            {
                foreach ((string name, Tensor values) in written.Reverse()) writer.Write(name, values);
                writer.Complete();
            }
            using SafetensorsFile file = SafetensorsFile.Open(Path);
            Assert.Equal(value, file.Metadata[key]);
            Assert.Equal(written.Keys.Order(StringComparer.Ordinal), file.Entries.Select(entry => entry.Name).Order(StringComparer.Ordinal));
            foreach ((string name, Tensor values) in written)
            {
                Tensor read = file.Read(name);
                Assert.Equal((values.dtype, string.Join(',', values.shape)), (read.dtype, string.Join(',', read.shape)));
                Assert.Equal(values.bytes.ToArray(), read.bytes.ToArray());
            }
        }, iter: Times, threads: 1);
    }

    [Fact]
    public void Any_bytes_are_read_or_refused_in_one_line()
    {
        // Random bytes seldom come far: a beginning that is right brings them further.
        (string Name, byte[] Beginning, Action<string> Read)[] readers =
        [
            ("file.csv", "layer,filter,norm,position,kept\n"u8.ToArray(), path => new CsvTable<TicketRow>(path).Read()),
            ("file.json", "{\"launches\":["u8.ToArray(), path => RunManifest.Read(path)),
            ("file.safetensors", [3, 0, 0, 0, 0, 0, 0, 0], path => WeightsIdentity.Of(SafetensorsFile.Open(path), path)),
            ("train-images-idx3-ubyte", [0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 28, 0, 0, 0, 28], ReadImages),
            ("train-images-idx3-ubyte.gz", [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3], ReadImages),
            ("data_batch_1.bin", [], path => ImageDataLoader.Load(Section(path, DataSetName.Cifar10), 1)),
            ("config.yaml", "run:\n  name: "u8.ToArray(), path => RunConfigLoader.Load(path)),
        ];
        foreach ((string name, byte[] beginning, Action<string> read) in readers)
        {
            string path = _folder.File(name);
            Gen.Select(Gen.Byte.Array[0, 300], Gen.Bool).Sample((bytes, whole) =>
            {
                File.WriteAllBytes(path, whole ? [.. beginning, .. bytes] : bytes);
                try
                {
                    read(path);
                }
                catch (UserError error)
                {
                    Assert.Contains(_folder.Path, error.Message, StringComparison.Ordinal);
                    Assert.DoesNotContain(error.Message, char.IsControl);
                }
            }, iter: Times, threads: 1);
            File.Delete(path);
        }
    }

    private void RoundTrip<T>(T[] rows) where T : class
    {
        CsvTable<T> table = new(Path);
        table.Write(rows);
        Assert.Equal(rows, table.Read());
    }

    private void ReadImages(string path) => ImageDataLoader.Load(Section(path, DataSetName.Mnist), 1);

    private static DataSection Section(string path, DataSetName set) => new() { Set = set, Folder = System.IO.Path.GetDirectoryName(path), TrainImages = 1, TestImages = 1 };
}
