using System.Buffers.Binary;
using System.IO.Compression;
using LoftHpc.Configuration;
using LoftHpc.Data;
using LoftHpc.Planning;
using LoftHpc.Tests.Results;
using Xunit;

namespace LoftHpc.Tests.Data;

/// <summary>Sets of the user's own in IDX files, and in records as CIFAR's, of any size.</summary>
public sealed class OwnBinaryTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    private DataSection Idx => new() { Set = DataSetName.Idx, Folder = _folder.Path };

    private DataSection Records => new() { Set = DataSetName.CifarBinary, Folder = _folder.Path, Channels = 2, ImageSize = 9 };

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData("t10k", false)]
    [InlineData("test", true)]
    public void Idx_files_of_one_channel_say_their_size_and_classes(string test, bool compressed)
    {
        WriteIdx("train-images-idx3-ubyte", compressed, [5, 13, 13], Pixels(5 * 169));
        WriteIdx("train-labels-idx1-ubyte", compressed, [5], [0, 6, 1, 2, 2]);
        WriteIdx($"{test}-images-idx3-ubyte", compressed, [2, 13, 13], Pixels(2 * 169));
        WriteIdx($"{test}-labels-idx1-ubyte", compressed, [2], [3, 11]);
        ImageData data = ImageDataLoader.Load(Idx, 1);
        Assert.Equal((1, 13, 13, 12, 5, 2), (data.Train.Channels, data.Train.Height, data.Train.Width, data.Train.Classes, data.Train.Count, data.Test.Count));
        Assert.Equal(Pixels(5 * 169), data.Train.Pixels);
        Assert.Equal<int>([0, 6, 1, 2, 2], data.Train.Labels);
        Assert.Equal<int>([3, 11], data.Test.Labels);
        Assert.Equal(20, ImageDataLoader.Load(Idx with { Classes = 20 }, 1).Train.Classes);
        Assert.Equal(new ImageShape(1, 13, 12, 5, 2), ImageShape.Of(Idx));
        // Images 0 and 2 of 5 are an even part.
        ImageSet part = ImageDataLoader.Load(Idx with { TrainImages = 2 }, 1).Train;
        Assert.Equal<int>([0, 1], part.Labels);
        Assert.Equal(Pixels(5 * 169)[(2 * 169)..(3 * 169)], part.Pixels[169..]);
    }

    [Fact]
    public void Idx_files_of_channels_have_them_before_rows_and_columns()
    {
        WriteIdx("train-images-idx4-ubyte", false, [2, 3, 8, 8], Pixels(2 * 192));
        WriteIdx("train-labels-idx1-ubyte", false, [2], [0, 1]);
        WriteIdx("test-images-idx4-ubyte", false, [1, 3, 8, 8], Pixels(192));
        WriteIdx("test-labels-idx1-ubyte", false, [1], [1]);
        ImageSet set = ImageDataLoader.Load(Idx, 1).Train;
        Assert.Equal((3, 8, 2), (set.Channels, set.Height, set.Classes));
        Assert.Equal(Pixels(2 * 192), set.Pixels);
    }

    [Fact]
    public void Records_of_any_size_and_two_labels_are_read_from_all_files_in_their_order()
    {
        const int image = 2 * 81;
        File.WriteAllBytes(_folder.File("train_b.bin"), [9, 4, .. Pixels(image)]);
        File.WriteAllBytes(_folder.File("train_a.bin"), [9, 1, .. Pixels(2 * image)[..image], 9, 0, .. Pixels(2 * image)[image..]]);
        File.WriteAllBytes(_folder.File("test.bin"), [0, 2, .. Pixels(image)]);
        ImageData data = ImageDataLoader.Load(Records with { LabelBytes = 2 }, 1);
        Assert.Equal<int>([1, 0, 4], data.Train.Labels);
        Assert.Equal([.. Pixels(2 * image), .. Pixels(image)], data.Train.Pixels);
        Assert.Equal((2, 9, 5, 1), (data.Train.Channels, data.Train.Height, data.Train.Classes, data.Test.Count));
    }

    /// <summary>Of two channels: all pixels 51, which is 0.2, and never changes; and half 0, half 255, of mean 0.5 and deviation 0.5.</summary>
    [Fact]
    public void What_normalises_them_is_computed_or_given()
    {
        byte[] image = [.. Enumerable.Repeat((byte)51, 81), .. Enumerable.Repeat((byte)0, 81)], other = [.. Enumerable.Repeat((byte)51, 81), .. Enumerable.Repeat((byte)255, 81)];
        File.WriteAllBytes(_folder.File("data_batch_1.bin"), [0, .. image, 1, .. other]);
        File.WriteAllBytes(_folder.File("test_batch.bin"), [0, .. other, 0, .. other]);
        ImageData data = ImageDataLoader.Load(Records, 1);
        Assert.Equal([0.2f, 0.5f], data.Train.Mean);
        Assert.Equal([1f, 0.5f], data.Train.StandardDeviation);
        Assert.Equal(data.Train.Mean, data.Test.Mean);
        Assert.Equal([0.2f, 0.5f], ImageDataLoader.Normalisation(Records).Mean);
        DataSection given = Records with { Mean = [0.5, 0.25], StandardDeviation = [2, 3] };
        Assert.Equal([2f, 3f], ImageDataLoader.Load(given, 1).Test.StandardDeviation);
        Assert.Equal([0.5f, 0.25f], ImageDataLoader.Normalisation(given with { Folder = "/nowhere" }).Mean);
    }

    [Theory]
    [InlineData("missing", "train-images-idx3-ubyte[.gz]: the file is missing, and so are train-images-idx4-ubyte")]
    [InlineData("not square", "train-images-idx3-ubyte: images of 13 x 12; expected square ones")]
    [InlineData("small", "train-images-idx3-ubyte: images of 1 x 7 x 7; expected sides from 8 to 1000")]
    [InlineData("negative", "train-images-idx3-ubyte: found dimensions -1 x 13 x 13 in its header")]
    [InlineData("many", "train-images-idx3-ubyte: 2000000000 images of 169 bytes; expected ")]
    [InlineData("promise", "train-images-idx3-ubyte: found 845 bytes after the header; expected 1690000 for 10000 items; the file is cut")]
    [InlineData("labels", "train-labels-idx1-ubyte: found 4 labels; expected 5")]
    [InlineData("classes", "train-labels-idx1-ubyte: image 1 has label 6; expected labels from 0 to 5 (data.classes)")]
    [InlineData("other test", "test-images-idx3-ubyte: images of 1 x 12 x 12, and of 1 x 13 x 13 in ")]
    [InlineData("size", "data.image_size: 14, but ")]
    [InlineData("mean", "data.mean: 3 values; allowed: 1, one for each channel of ")]
    public void Wrong_idx_files_get_one_line(string fault, string expected)
    {
        (int[] shape, byte[] labels) = (fault switch
        {
            "not square" => [5, 13, 12],
            "small" => [5, 7, 7],
            "negative" => [-1, 13, 13],
            "many" => [2_000_000_000, 13, 13],
            "promise" => [10_000, 13, 13],
            _ => (int[])[5, 13, 13],
        }, fault == "labels" ? [0, 1, 2, 3] : (byte[])[0, 6, 1, 2, 2]);
        if (fault != "missing") WriteIdx("train-images-idx3-ubyte", false, shape, Pixels(5 * 169));
        WriteIdx("train-labels-idx1-ubyte", false, [labels.Length], labels);
        int side = fault == "other test" ? 12 : 13;
        WriteIdx("test-images-idx3-ubyte", false, [1, side, side], Pixels(side * side));
        WriteIdx("test-labels-idx1-ubyte", false, [1], [1]);
        AssertOneLine(expected, fault switch
        {
            "classes" => Idx with { Classes = 6 },
            "size" => Idx with { ImageSize = 14 },
            "mean" => Idx with { Mean = [0, 0, 0], StandardDeviation = [1, 1, 1] },
            _ => Idx,
        });
    }

    [Theory]
    [InlineData("missing", ": there is no file test*.bin; expected one at least (data.set cifar-binary)")]
    [InlineData("cut", "train.bin: found 162 bytes; expected a whole number of records of 163 bytes: 1 of label (data.label_bytes), 2 x 9 x 9 of image")]
    [InlineData("empty", "train.bin: found 0 bytes; expected a whole number")]
    [InlineData("one class", ": all labels are 0; expected two classes at least, or data.classes")]
    public void Wrong_records_get_one_line(string fault, string expected)
    {
        File.WriteAllBytes(_folder.File("train.bin"), fault switch { "cut" => Pixels(162), "empty" => [], "one class" => new byte[163], _ => [1, .. Pixels(162)] });
        if (fault != "missing") File.WriteAllBytes(_folder.File("test.bin"), new byte[163]);
        AssertOneLine(expected, Records);
    }

    private static void AssertOneLine(string expected, DataSection section)
    {
        string message = Assert.Throws<UserError>(() => ImageDataLoader.Load(section, 1)).Message;
        Assert.Contains(expected, message, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', message);
    }

    private static byte[] Pixels(int count) => [.. Enumerable.Range(0, count).Select(i => (byte)((i * 31) + (i / 256)))];

    private void WriteIdx(string name, bool compressed, int[] shape, byte[] bytes)
    {
        byte[] header = new byte[4 + (4 * shape.Length)];
        (header[2], header[3]) = (8, (byte)shape.Length);
        for (int i = 0; i < shape.Length; i++) BinaryPrimitives.WriteInt32BigEndian(header.AsSpan(4 + (4 * i)), shape[i]);
        using FileStream file = File.Create(_folder.File(compressed ? name + ".gz" : name));
        using Stream stream = compressed ? new GZipStream(file, CompressionLevel.Fastest) : file;
        stream.Write(header);
        stream.Write(bytes);
    }
}
