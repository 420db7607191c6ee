using LoftHpc.Checkpoints;
using LoftHpc.Results;
using LoftHpc.Tests.Results;
using TorchSharp;
using Xunit;
using static TorchSharp.torch;

namespace LoftHpc.Tests.Checkpoints;

public sealed class StateFileTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    private string File => Path.Combine(_folder.Path, "rank-0.safetensors");

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void What_is_written_is_read_to_the_last_bit()
    {
        using DisposeScope scope = NewDisposeScope();
        // A number without a short decimal form, the smallest one, and one that is none.
        State written = new(long.MinValue, 0.1 + 0.2, double.Epsilon, "a \"line\"\nand \\ one more", [3, -2, int.MaxValue], tensor(new[] { 1.5f, float.NaN, -0f }), tensor(7L));
        StateFile.Write(File, written.Archive);
        State read = new(0, 0, 0, "", [], zeros([3], float32), zeros([], int64));
        StateFile.Read(File, read.Archive);
        Assert.Equal((long.MinValue, 0.1 + 0.2, double.Epsilon, written.Line), (read.Whole, read.Decimal, read.Small, read.Line));
        Assert.Equal(written.List, read.List);
        Assert.Equal(written.Weights.bytes.ToArray(), read.Weights.bytes.ToArray());
        Assert.Equal(7, read.Count.item<long>());
    }

    [Fact]
    public void Other_names_types_and_shapes_are_refused_with_the_files_name()
    {
        using DisposeScope scope = NewDisposeScope();
        new State(1, 2, 3, "", [4], zeros([3]), tensor(5L)).Write(File);
        string Refused(Action<StateArchive> visit)
        {
            UserError error = Assert.Throws<UserError>(() => StateFile.Read(File, visit));
            Assert.StartsWith($"{File}: ", error.Message, StringComparison.Ordinal);
            return error.Message[(File.Length + 2)..];
        }
        State All(Tensor weights) => new(0, 0, 0, "", [], weights, tensor(0L));
        Assert.Equal("weights is not a tensor of Float32 of shape [4]", Refused(All(zeros([4])).Archive));
        Assert.Equal("weights is not a tensor of Float64 of shape [3]", Refused(All(zeros([3], float64)).Archive));
        Assert.Equal("it holds whole, which this training does not have", Refused(archive => All(zeros([3])).Archive(archive, withoutWhole: true)));
        Assert.Equal("more is missing", Refused(archive =>
        {
            int[] more = [];
            archive.Numbers("more", ref more);
        }));
        Assert.Equal("line is not a whole number", Refused(archive =>
        {
            long number = 0;
            archive.Number("line", ref number);
        }));
    }

    [Fact]
    public void A_stamp_sees_a_byte_that_has_changed_and_a_length()
    {
        string path = Path.Combine(_folder.Path, "table.csv");
        System.IO.File.WriteAllText(path, "abc");
        FileStamp stamp = FileStamp.Of(path);
        // The example of FIPS 180-2, appendix B.1.
        Assert.Equal(new FileStamp("table.csv", 3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"), stamp);
        Assert.Null(stamp.Differs(path, exactly: true));
        System.IO.File.WriteAllText(path, "abcd");
        Assert.Null(stamp.Differs(path, exactly: false));
        Assert.Equal("it has 4 bytes, and had 3", stamp.Differs(path, exactly: true));
        System.IO.File.WriteAllText(path, "ab");
        Assert.Equal("it has 2 bytes, and had 3", stamp.Differs(path, exactly: false));
        System.IO.File.WriteAllText(path, "abb");
        Assert.Equal("its bytes have changed", stamp.Differs(path, exactly: false));
        System.IO.File.Delete(path);
        Assert.Equal("it is missing", stamp.Differs(path, exactly: false));
    }

    private sealed class State(long whole, double number, double small, string line, int[] list, Tensor weights, Tensor count)
    {
        private long _whole = whole;
        private double _number = number, _small = small;
        private string _line = line;
        private int[] _list = list;

        public long Whole => _whole;

        public double Decimal => _number;

        public double Small => _small;

        public string Line => _line;

        public int[] List => _list;

        public Tensor Weights => weights;

        public Tensor Count => count;

        public void Write(string path) => StateFile.Write(path, Archive);

        public void Archive(StateArchive archive) => Archive(archive, withoutWhole: false);

        public void Archive(StateArchive archive, bool withoutWhole)
        {
            if (!withoutWhole) archive.Number("whole", ref _whole);
            archive.Number("number", ref _number);
            archive.Number("small", ref _small);
            archive.Text("line", ref _line);
            archive.Numbers("list", ref _list);
            archive.Values("weights", weights);
            archive.Values("count", count);
        }
    }
}
