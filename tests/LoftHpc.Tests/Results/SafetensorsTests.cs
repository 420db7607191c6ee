using System.Buffers.Binary;
using System.Text;
using LoftHpc.Results;
using TorchSharp;
using Xunit;

namespace LoftHpc.Tests.Results;

public sealed class SafetensorsTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    private string Path => _folder.File("weights.safetensors");

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void AHandMadeFileIsRead()
    {
        const string header = """{"__metadata__":{"network":"a \u00b5 net"},"bias":{"dtype":"F32","shape":[2],"data_offsets":[8,16]},"count":{"dtype":"I64","shape":[],"data_offsets":[0,8]},"none":{"dtype":"F64","shape":[0,3],"data_offsets":[16,16]}}""";
        // 7 as int64, then 1.5 and -2 as float32.
        byte[] data = [7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xc0, 0x3f, 0, 0, 0, 0xc0];
        WriteFile(header, data);
        using SafetensorsFile file = SafetensorsFile.Open(Path);
        Assert.Equal("a \u00b5 net", file.Metadata["network"]);
        Assert.Equal(["bias", "count", "none"], file.Entries.Select(e => e.Name).Order());
        using torch.Tensor bias = file.Read("bias");
        using torch.Tensor count = file.Read("count");
        using torch.Tensor none = file.Read("none");
        Assert.Equal([1.5f, -2f], bias.data<float>().ToArray());
        Assert.Empty(count.shape);
        Assert.Equal(7, count.item<long>());
        Assert.Equal([0, 3], none.shape);
        Assert.Throws<UserError>(() => file.Read("weight"));
    }

    [Fact]
    public void BytesAreThoseOfTheFormat()
    {
        using (SafetensorsWriter writer = new(Path, [new TensorEntry("a", torch.ScalarType.Float32, [1]), new TensorEntry("b", torch.ScalarType.Float64, [1])],
            new Dictionary<string, string> { ["k"] = "v" }))
        {
            // In another order than they stand in.
            writer.Write("a", torch.tensor(new[] { 1f }));
            writer.Write("b", torch.tensor(new[] { 2d }));
            writer.Complete();
        }
        byte[] bytes = File.ReadAllBytes(Path);
        int length = (int)BinaryPrimitives.ReadInt64LittleEndian(bytes);
        Assert.Equal(0, length % 8);
        const string expected = """{"__metadata__":{"k":"v"},"b":{"dtype":"F64","shape":[1],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}}""";
        Assert.Equal(expected, Encoding.UTF8.GetString(bytes, 8, length).TrimEnd(' '));
        Assert.Equal([0, 0, 0, 0, 0, 0, 0, 0x40, 0, 0, 0x80, 0x3f], bytes[(8 + length)..]);
    }

    [Fact]
    public void TensorsComeBackBitForBit()
    {
        using DisposeScope scope = torch.NewDisposeScope();
        torch.Tensor whole = torch.randn(6, 4, 3, 3);
        Dictionary<string, torch.Tensor> tensors = new()
        {
            ["conv1.weight"] = whole,
            ["sliced"] = whole[1..3],
            ["transposed"] = whole.transpose(0, 1),
            ["double"] = torch.randn(5, dtype: torch.float64),
            ["tracked"] = torch.tensor(12345678901L),
            ["special"] = torch.tensor(new[] { float.NaN, float.PositiveInfinity, -0f, float.Epsilon }),
            ["trained"] = torch.randn(3, requires_grad: true),
            ["empty"] = torch.empty(0, 2),
        };
        using (SafetensorsWriter writer = new(Path, tensors.Select(t => TensorEntry.Of(t.Key, t.Value)), new Dictionary<string, string>()))
        {
            foreach ((string name, torch.Tensor tensor) in tensors.Reverse()) writer.Write(name, tensor);
            writer.Complete();
        }
        using SafetensorsFile file = SafetensorsFile.Open(Path);
        Assert.Empty(file.Metadata);
        foreach ((string name, torch.Tensor tensor) in tensors)
        {
            torch.Tensor read = file.Read(name);
            Assert.Equal(tensor.dtype, read.dtype);
            Assert.Equal(tensor.shape, read.shape);
            Assert.Equal(tensor.detach().contiguous().bytes.ToArray(), read.bytes.ToArray());
        }
        Assert.Equal(tensors.Count, file.Entries.Count);
    }

    [Fact]
    public void AnUnfinishedFileLeavesTheOldOneAndNothingElse()
    {
        File.WriteAllText(Path, "old");
        using (SafetensorsWriter writer = new(Path, [new TensorEntry("a", torch.ScalarType.Float32, [1])], new Dictionary<string, string>()))
        {
            Assert.Throws<InvalidOperationException>(writer.Complete);
        }
        Assert.Equal("old", File.ReadAllText(Path));
        Assert.Equal([Path], Directory.GetFiles(_folder.Path));
    }

    [Fact]
    public void OnlyWhatWasAnnouncedIsWritten()
    {
        TensorEntry a = new("a", torch.ScalarType.Float32, [2]);
        using SafetensorsWriter writer = new(Path, [a], new Dictionary<string, string>());
        Assert.Throws<ArgumentException>(() => writer.Write("b", torch.zeros(2)));
        using SafetensorsWriter other = new(_folder.File("other"), [a], new Dictionary<string, string>());
        Assert.Throws<ArgumentException>(() => other.Write("a", torch.zeros(3)));
        using SafetensorsWriter third = new(_folder.File("third"), [a], new Dictionary<string, string>());
        Assert.Throws<ArgumentException>(() => third.Write("a", torch.zeros(2, dtype: torch.float64)));
        writer.Write("a", torch.zeros(2));
        Assert.Throws<ArgumentException>(() => writer.Write("a", torch.zeros(2)));
        Assert.Throws<ArgumentException>(() => new SafetensorsWriter(_folder.File("twice"), [a, a], new Dictionary<string, string>()));
        Assert.Throws<ArgumentException>(() => new SafetensorsWriter(_folder.File("bytes"), [a with { Type = torch.ScalarType.Byte }], new Dictionary<string, string>()));
    }

    [Theory]
    [InlineData("""{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}""", 7)] // cut
    [InlineData("""{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}""", 9)] // longer than described
    [InlineData("""{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}""", 4)] // offsets do not fit the shape
    [InlineData("""{"a":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}""", 12)] // a gap
    [InlineData("""{"a":{"dtype":"F32","shape":[2],"data_offsets":[-8,0]}}""", 8)]
    [InlineData("""{"a":{"dtype":"F32","shape":[-2],"data_offsets":[8,0]}}""", 8)]
    [InlineData("""{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}""", 0)] // overflows
    [InlineData("""{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}""", 4)] // overlap
    [InlineData("""{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}""", 8)] // twice
    [InlineData("""{"a":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]}}""", 2)]
    [InlineData("""{"a":{"dtype":"F32","shape":[1]}}""", 4)]
    [InlineData("""{"a":{"dtype":"F32","shape":["1"],"data_offsets":[0,4]}}""", 4)]
    [InlineData("""{"a":{"dtype":"F32","shape":[0,4611686018427387904,4],"data_offsets":[0,0]}}""", 0)] // empty, and its strides overflow
    [InlineData("""{"a":{"dtype":"F32","shape":[1],"data_offsets":[-9223372036854775808,9223372036854775807]}}""", 4)]
    [InlineData("""{"a":{"dtype":"F32","shape":[1],"data_offsets":[9223372036854775803,9223372036854775807]}}""", 4)]
    [InlineData("""{"__metadata__":{"k":"1","k":"2"}}""", 0)]
    [InlineData("""{"__metadata__":{"k":1}}""", 0)]
    [InlineData("""{"\u001b[31m":7}""", 0)]
    [InlineData("""{"\u001b[31m":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"\u001b[31m":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}""", 8)]
    [InlineData("""{"a":{"dtype":"\n","shape":[1],"data_offsets":[0,4]}}""", 4)]
    [InlineData("""{"a":{"dtype":"F32","shape":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1],"data_offsets":[0,4]}}""", 4)]
    [InlineData("""{"a":7}""", 0)]
    [InlineData("""[1]""", 0)]
    [InlineData("""{"a":""", 0)]
    public void AWrongFileIsOneLineThatNamesIt(string header, int dataBytes)
    {
        WriteFile(header, new byte[dataBytes]);
        AssertRefused();
    }

    [Fact]
    public void ACutFileIsRefusedWhereverItIsCut()
    {
        WriteFile("""{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}""", new byte[8]);
        byte[] whole = File.ReadAllBytes(Path);
        SafetensorsFile.Open(Path).Dispose();
        for (int length = 0; length < whole.Length; length++)
        {
            File.WriteAllBytes(Path, whole[..length]);
            AssertRefused();
        }
        byte[] hugeHeader = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, .. whole];
        File.WriteAllBytes(Path, hugeHeader);
        AssertRefused();
        File.Delete(Path);
        AssertRefused();
    }

    [Fact]
    public void WhatIsNoFileIsRefusedAtOnce()
    {
        System.Diagnostics.Process.Start("mkfifo", Path).WaitForExit();
        AssertRefused();
        File.Delete(Path);
        File.CreateSymbolicLink(Path, "/dev/zero");
        AssertRefused();
    }

    [Fact]
    public void AHeaderThatIsTooLongIsNotRead()
    {
        byte[] length = new byte[8];
        BinaryPrimitives.WriteInt64LittleEndian(length, 100_000_000);
        File.WriteAllBytes(Path, length);
        using (FileStream stream = File.OpenWrite(Path)) stream.SetLength(200_000_000);
        long before = GC.GetAllocatedBytesForCurrentThread();
        AssertRefused();
        Assert.True(GC.GetAllocatedBytesForCurrentThread() - before < 1_000_000);
    }

    [Fact]
    public void AFileThatIsCutAfterItsHeaderWasReadIsOneLine()
    {
        WriteFile("""{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}""", new byte[8]);
        using SafetensorsFile file = SafetensorsFile.Open(Path);
        using (FileStream stream = new(Path, FileMode.Open, FileAccess.Write, FileShare.ReadWrite)) stream.SetLength(stream.Length - 1);
        foreach (Action read in (Action[])[() => file.Read("a"), () => file.ReadPieces("a", _ => { })])
            Assert.StartsWith($"{Path}: ", Assert.Throws<UserError>(read).Message, StringComparison.Ordinal);
    }

    [SkippableFact]
    public void PythonReadsItWithItsStandardLibrary()
    {
        Skip.IfNot(Repository.HasProgram("python3"), "python3 is not installed");
        using (SafetensorsWriter writer = new(Path,
            [new TensorEntry("linear.bias", torch.ScalarType.Float32, [3]), new TensorEntry("tracked", torch.ScalarType.Int64, [])],
            new Dictionary<string, string> { ["network"] = "preact-resnet" }))
        {
            writer.Write("linear.bias", torch.tensor(new[] { 0.1f, -2f, 3f }));
            writer.Write("tracked", torch.tensor(42L));
            writer.Complete();
        }
        const string script = """
            import json, struct, sys
            with open(sys.argv[1], "rb") as f:
                header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
                data = f.read()
            def values(name, code):
                start, end = header[name]["data_offsets"]
                return struct.unpack("<%d%s" % ((end - start) // struct.calcsize(code), code), data[start:end])
            print(header["__metadata__"]["network"], header["linear.bias"]["shape"], header["tracked"]["shape"],
                  values("linear.bias", "f") == struct.unpack("<3f", struct.pack("<3f", 0.1, -2, 3)), values("tracked", "q"))
            """;
        (int exitCode, string output, string error) = Repository.Run("python3", ["-c", script, Path]);
        Assert.True(exitCode == 0, error);
        Assert.Equal("preact-resnet [3] [] True (42,)", output.Trim());
    }

    private void AssertRefused()
    {
        UserError error = Assert.Throws<UserError>(() => SafetensorsFile.Open(Path));
        Assert.Contains(Path, error.Message, StringComparison.Ordinal);
        Assert.DoesNotContain(error.Message, char.IsControl);
    }

    private void WriteFile(string header, byte[] data)
    {
        byte[] text = Encoding.UTF8.GetBytes(header);
        byte[] length = new byte[8];
        BinaryPrimitives.WriteInt64LittleEndian(length, text.Length);
        File.WriteAllBytes(Path, [.. length, .. text, .. data]);
    }
}
