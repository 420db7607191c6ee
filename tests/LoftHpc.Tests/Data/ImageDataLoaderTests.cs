using System.Buffers.Binary;
using System.IO.Compression;
using LoftHpc.Configuration;
using LoftHpc.Data;
using Xunit;

namespace LoftHpc.Tests.Data;

public sealed class ImageDataLoaderTests : IDisposable
{
    private const int MnistPixels = 28 * 28, CifarPixels = 3 * 32 * 32;
    private readonly string _folder = Directory.CreateTempSubdirectory("lofthpc-data-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Theory]
    [InlineData(DataSetName.FashionMnist, false)]
    [InlineData(DataSetName.Mnist, true)]
    public void Idx_files_are_read_plain_and_compressed(DataSetName set, bool compressed)
    {
        WriteIdx(compressed);
        ImageData data = ImageDataLoader.Load(Section(set, 3, 2), seed: 1);
        Assert.Equal((3, 1, 28, 28, 10), (data.Train.Count, data.Train.Channels, data.Train.Height, data.Train.Width, data.Train.Classes));
        Assert.Equal(Pixels(1, 4 * MnistPixels).Take(3 * MnistPixels), data.Train.Pixels);
        Assert.Equal<int>([9, 0, 4], data.Train.Labels);
        Assert.Equal(Pixels(2, 2 * MnistPixels), data.Test.Pixels);
        Assert.Equal<int>([1, 7], data.Test.Labels);
        Assert.Equal(set == DataSetName.Mnist ? 0.1307f : 0.2860f, Assert.Single(data.Train.Mean));
    }

    /// <summary>Of 10 images 4: of the 5, 3 and 2 of a class 2, 1.2 and 0.8, so 2, 1 and, with the largest remainder, 1.</summary>
    [Fact]
    public void Images_are_held_out_by_class_in_proportion()
    {
        int[] labels = [0, 1, 2, 0, 1, 0, 0, 2, 0, 1], held = ValidationSplit.Draw(labels, 4, seed: 1);
        Assert.Equal(held.Order(), held);
        Assert.Equal([2, 1, 1], new[] { 0, 1, 2 }.Select(label => held.Count(image => labels[image] == label)));
        Assert.Equal(held, ValidationSplit.Draw(labels, 4, seed: 1));
        // Each image of a class is held out by some seed: 2 of 5 are, so that 100 seeds miss one with probability 0.6^100.
        Assert.Equal(Enumerable.Range(0, 10), Enumerable.Range(0, 100).SelectMany(seed => ValidationSplit.Draw(labels, 4, seed)).Distinct().Order());
        Assert.Empty(ValidationSplit.Draw(labels, 0, seed: 1));
        Assert.Equal(9, ValidationSplit.Draw(labels, 9, seed: 1).Length);
    }

    [Fact]
    public void What_is_held_out_is_not_trained_on_and_nothing_else_is_lost()
    {
        DataSection section = new() { Set = DataSetName.Synthetic, TrainImages = 40, TestImages = 5, Synthetic = new() { Channels = 1, Size = 28, Classes = 3 } };
        ImageData all = ImageDataLoader.Load(section, seed: 1), split = ImageDataLoader.Load(section with { ValidationImages = 13 }, seed: 1);
        Assert.Null(all.Validation);
        Assert.Equal((27, 13, "synthetic validation"), (split.Train.Count, split.Validation!.Count, split.Validation.Name));
        static IEnumerable<string> Images(ImageSet set) => Enumerable.Range(0, set.Count).Select(i => $"{set.Labels[i]} {Convert.ToHexString(set.Pixels, i * 784, 784)}");
        string[] before = [.. Images(all.Train)], train = [.. Images(split.Train)], held = [.. Images(split.Validation)];
        Assert.Equal(before.Order(StringComparer.Ordinal), train.Concat(held).Order(StringComparer.Ordinal));
        Assert.Equal(before.Where(train.Contains), train);
        Assert.Equal(before.Where(held.Contains), held);
        Assert.Equal(all.Test.Pixels, split.Test.Pixels);
        Assert.Equal(all.Train.Mean, split.Validation.Mean);
        Assert.Equal(3, split.Fingerprint.Split('\n').Length);
        Assert.NotEqual(split.Fingerprint, ImageDataLoader.Load(section with { ValidationImages = 13, ValidationSeed = 1 }, seed: 1).Fingerprint);
        Assert.Equal(
            "data.validation_images: 40 of 40 training images; allowed: 0 to 39, as some must be left to train on",
            Assert.Throws<UserError>(() => ImageDataLoader.Load(section with { ValidationImages = 40 }, seed: 1)).Message);
    }

    [Theory]
    [InlineData("missing", "train-labels-idx1-ubyte[.gz]: the file is missing; expected the files of Fashion-MNIST; to get them: make data")]
    [InlineData("magic", "train-images-idx3-ubyte: found magic number 0x00000d03; expected 0x00000803")]
    [InlineData("swapped", "train-images-idx3-ubyte: found magic number 0x00000801; expected 0x00000803")]
    [InlineData("rows", "train-images-idx3-ubyte: found 32 as dimension 1; expected 28")]
    [InlineData("header", "train-images-idx3-ubyte: found fewer bytes than the header of an IDX file has (16); the file is cut")]
    [InlineData("empty", "train-labels-idx1-ubyte: found fewer bytes than the header of an IDX file has (8)")]
    [InlineData("cut", "train-images-idx3-ubyte: found 3135 bytes after the header; expected 3136 for 4 items; the file is cut")]
    [InlineData("long", "train-labels-idx1-ubyte: found 5 or more bytes after the header; expected 4 for 4 items; it has bytes too many")]
    [InlineData("fewer labels", "train-labels-idx1-ubyte: found 3 labels; expected 4, one for each image of")]
    [InlineData("label", "train-labels-idx1-ubyte: image 2 has label 10; expected labels from 0 to 9")]
    [InlineData("test label", "t10k-labels-idx1-ubyte: image 1 has label 200; expected labels from 0 to 9")]
    public void Wrong_idx_files_get_one_line(string fault, string expected)
    {
        WriteIdx(compressed: false);
        string images = PathOf("train-images-idx3-ubyte"), labels = PathOf("train-labels-idx1-ubyte");
        switch (fault)
        {
            case "missing": File.Delete(labels); break;
            case "magic": Patch(images, 2, 0x0d); break;
            case "swapped": File.Copy(labels, images, overwrite: true); Append(images, 100); break;
            case "rows": Patch(images, 11, 32); break;
            case "header": Truncate(images, 15); break;
            case "empty": Truncate(labels, 0); break;
            case "cut": Truncate(images, 16 + (4 * MnistPixels) - 1); break;
            case "long": Append(labels, 1); break;
            case "fewer labels": Patch(labels, 7, 3); Truncate(labels, 8 + 3); break;
            case "label": Patch(labels, 8 + 2, 10); break;
            case "test label": Patch(PathOf("t10k-labels-idx1-ubyte"), 8 + 1, 200); break;
        }
        AssertOneLine(expected, Section(DataSetName.FashionMnist, 3, 2));
    }

    [Theory]
    [InlineData("cut")]
    [InlineData("damaged")]
    [InlineData("not gzip")]
    [InlineData("last byte")]
    [InlineData("trailer")]
    [InlineData("checksum")]
    [InlineData("two members")]
    [InlineData("rubbish behind")]
    public void Wrong_gzip_files_get_one_line(string fault)
    {
        WriteIdx(compressed: true);
        string images = PathOf("train-images-idx3-ubyte.gz");
        int length = (int)new FileInfo(images).Length;
        switch (fault)
        {
            case "cut": Truncate(images, length / 2); break;
            case "damaged": Patch(images, length / 2, (byte)~File.ReadAllBytes(images)[length / 2]); break;
            case "not gzip": Patch(images, 0, 0); break;
            case "last byte": Truncate(images, length - 1); break;
            case "trailer": Truncate(images, length - 8); break;
            case "checksum": Patch(images, length - 8, (byte)~File.ReadAllBytes(images)[length - 8]); break;
            case "two members": File.WriteAllBytes(images, [.. Compressed([0, 0, 8, 3, 0, 0, 0, 4, 0, 0, 0, 28, 0, 0, 0, 28]), .. Compressed(Pixels(1, 4 * MnistPixels))]); break;
            case "rubbish behind": Append(images, 600); break;
        }
        string message = Assert.Throws<UserError>(() => ImageDataLoader.Load(Section(DataSetName.Mnist, 3, 2), 1)).Message;
        Assert.StartsWith(images + ": ", message);
        Assert.Contains("cut", message);
        Assert.DoesNotContain('\n', message);
    }

    [Fact]
    public void A_gzip_file_that_holds_far_more_than_its_header_says_is_not_read_to_its_end()
    {
        WriteIdx(compressed: true);
        string labels = PathOf("train-labels-idx1-ubyte.gz");
        File.WriteAllBytes(labels, Compressed([0, 0, 8, 1, 0, 0, 0, 4, 9, 0, 4, 2, .. new byte[300_000_000]]));
        // The number that the line tells is how far it has read.
        string message = Assert.Throws<UserError>(() => ImageDataLoader.Load(Section(DataSetName.Mnist, 3, 2), 1)).Message;
        System.Text.RegularExpressions.Match found = System.Text.RegularExpressions.Regex.Match(message, "found ([0-9]+) or more bytes after the header; expected 4 ");
        Assert.True(found.Success && int.Parse(found.Groups[1].Value) < 1_000_000, message);
        // Nor does its header make it the size of any set.
        File.WriteAllBytes(labels, Compressed([0, 0, 8, 1, 0x7f, 0xff, 0xff, 0xff, .. new byte[1000]]));
        AssertOneLine("train-labels-idx1-ubyte.gz: found 2147483647 items by its header; expected 60000 at most (MNIST)", Section(DataSetName.Mnist, 3, 2));
    }

    [Theory]
    [InlineData(DataSetName.Mnist, "train-labels-idx1-ubyte")]
    [InlineData(DataSetName.Cifar10, "data_batch_1.bin")]
    public void A_pipe_is_refused_at_once(DataSetName set, string name)
    {
        WriteIdx(compressed: false);
        File.Delete(PathOf(name));
        System.Diagnostics.Process.Start("mkfifo", PathOf(name)).WaitForExit();
        AssertOneLine($"{name}: cannot be read: it is a pipe, not a regular file", Section(set, 3, 2));
    }

    [Fact]
    public void A_file_is_no_folder_of_data()
    {
        File.WriteAllText(PathOf("file"), "");
        AssertOneLine($"MNIST: there is no folder {PathOf("file")}", Section(DataSetName.Mnist, 3, 2) with { Folder = PathOf("file") });
    }

    [Fact]
    public void All_images_are_as_many_as_published_and_a_number_is_within_them()
    {
        WriteIdx(compressed: false);
        AssertOneLine("train-images-idx3-ubyte: found 4 items by its header; expected 60000 at least", Section(DataSetName.Mnist, null, 2));
        AssertOneLine("train-images-idx3-ubyte: found 4 items by its header; expected 5 at least", Section(DataSetName.Mnist, 5, 2));
        AssertOneLine("data.train_images: 60001 is more than MNIST has; allowed: 1 to 60000, or all", Section(DataSetName.Mnist, 60_001, 2));
    }

    [Fact]
    public void A_missing_folder_says_where_it_was_looked_for_and_how_to_get_the_data() =>
        AssertOneLine(
            $"CIFAR-10: there is no folder {_folder}/none; to get the data: make cifar10",
            Section(DataSetName.Cifar10, 1, 1) with { Folder = Path.Combine(_folder, "none") });

    [Fact]
    public void Cifar10_takes_the_first_images_of_its_batches_in_order()
    {
        WriteCifar("data_batch_1.bin", 1, [3, 1]);
        WriteCifar("data_batch_2.bin", 2, [4, 9, 0]);
        WriteCifar("test_batch.bin", 3, [5]);
        ImageData data = ImageDataLoader.Load(Section(DataSetName.Cifar10, 4, 1), 1); // The other batches are not needed for 4 images.
        Assert.Equal((4, 3, 32, 32, 10), (data.Train.Count, data.Train.Channels, data.Train.Height, data.Train.Width, data.Train.Classes));
        Assert.Equal<int>([3, 1, 4, 9], data.Train.Labels);
        Assert.Equal([.. Pixels(1, 2 * CifarPixels), .. Pixels(2, 2 * CifarPixels)], data.Train.Pixels);
        Assert.Equal<int>([5], data.Test.Labels);
        Assert.Equal(Pixels(3, CifarPixels), data.Test.Pixels);
    }

    [Fact]
    public void Cifar100_takes_the_fine_label()
    {
        WriteCifar("train.bin", 1, [99, 20], coarse: [19, 0]);
        WriteCifar("test.bin", 2, [7], coarse: [3]);
        ImageData data = ImageDataLoader.Load(Section(DataSetName.Cifar100, 2, 1), 1);
        Assert.Equal<int>([99, 20], data.Train.Labels);
        Assert.Equal(Pixels(1, 2 * CifarPixels), data.Train.Pixels);
        Assert.Equal(100, data.Train.Classes);

        WriteCifar("train.bin", 1, [99, 20], coarse: [19, 20]);
        AssertOneLine("train.bin: image 1 has coarse label 20; expected labels from 0 to 19", Section(DataSetName.Cifar100, 2, 1));
        WriteCifar("train.bin", 1, [100, 20], coarse: [1, 2]);
        AssertOneLine("train.bin: image 0 has label 100; expected labels from 0 to 99", Section(DataSetName.Cifar100, 2, 1));
    }

    [Fact]
    public void Wrong_cifar_files_get_one_line()
    {
        AssertOneLine("data_batch_1.bin: the file is missing; expected the files of CIFAR-10; to get them: make cifar10", Section(DataSetName.Cifar10, 1, 1));
        WriteCifar("data_batch_1.bin", 1, [3, 1]);
        AssertOneLine("data_batch_2.bin: the file is missing", Section(DataSetName.Cifar10, 3, 1));
        WriteCifar("data_batch_2.bin", 1, [3, 10]);
        AssertOneLine("data_batch_2.bin: image 1 has label 10; expected labels from 0 to 9", Section(DataSetName.Cifar10, 4, 1));
        Truncate(PathOf("data_batch_1.bin"), 6145);
        AssertOneLine("data_batch_1.bin: found 6145 bytes; expected a whole number of records of 3073 bytes", Section(DataSetName.Cifar10, 1, 1));
        Truncate(PathOf("data_batch_1.bin"), 0);
        AssertOneLine("data_batch_1.bin: found 0 bytes", Section(DataSetName.Cifar10, 1, 1));
    }

    [Fact]
    public void All_of_cifar10_is_not_less_than_published()
    {
        for (int i = 1; i <= 5; i++) WriteCifar($"data_batch_{i}.bin", i, [0, 1]);
        AssertOneLine(": found 10 images in data_batch_1.bin, data_batch_2.bin, data_batch_3.bin, data_batch_4.bin, data_batch_5.bin; expected 50000",
            Section(DataSetName.Cifar10, null, 1));
    }

    [Fact]
    public void Synthetic_images_are_a_function_of_seed_and_index()
    {
        DataSection section = Synthetic(40, 20);
        ImageData data = ImageDataLoader.Load(section, 5), again = ImageDataLoader.Load(section with { TrainImages = 20 }, 5);
        Assert.Equal((40, 2, 30, 30, 4), (data.Train.Count, data.Train.Channels, data.Train.Height, data.Train.Width, data.Train.Classes));
        Assert.Equal(data.Train.Pixels.Take(again.Train.Pixels.Length), again.Train.Pixels);
        Assert.NotEqual(data.Train.Pixels, ImageDataLoader.Load(section, 6).Train.Pixels);
        Assert.NotEqual(data.Train.Pixels.Take(data.Test.Pixels.Length), data.Test.Pixels);
    }

    [Fact]
    public void Synthetic_classes_can_be_learned()
    {
        ImageData data = ImageDataLoader.Load(Synthetic(200, 100), 5);
        int length = data.Train.Pixels.Length / data.Train.Count;
        double[][] means = [.. Enumerable.Range(0, 4).Select(c => Mean([.. Enumerable.Range(0, 200).Where(i => data.Train.Labels[i] == c)]))];
        int right = Enumerable.Range(0, 100).Count(i =>
            data.Test.Labels[i] == Enumerable.Range(0, 4).MinBy(c => Enumerable.Range(0, length).Sum(p => Math.Pow(data.Test.Pixels[(i * length) + p] - means[c][p], 2))));
        Assert.True(right >= 95, $"the nearest class mean is right for {right} of 100 images");
        Assert.Equal(4, data.Test.Labels.Distinct().Count());

        double[] Mean(int[] images) => [.. Enumerable.Range(0, length).Select(p => images.Average(i => (double)data.Train.Pixels[(i * length) + p]))];
    }

    [SkippableFact]
    public void Real_fashion_mnist_is_what_is_published()
    {
        DataSection section = new() { Set = DataSetName.FashionMnist, Folder = "/usr/share/datasets/fashion-mnist" };
        Skip.IfNot(Directory.Exists(section.Folder), "Fashion-MNIST is not installed (Debian's package dataset-fashion-mnist)");
        ImageData data = ImageDataLoader.Load(section, 1);
        Assert.Equal((60_000, 10_000), (data.Train.Count, data.Test.Count));
        Assert.All(data.Train.Labels.CountBy(label => label), label => Assert.Equal(6_000, label.Value));
        Assert.All(data.Test.Labels.CountBy(label => label), label => Assert.Equal(1_000, label.Value));
        double sum = 0, squares = 0;
        foreach (byte pixel in data.Train.Pixels)
        {
            sum += pixel / 255.0;
            squares += pixel / 255.0 * (pixel / 255.0);
        }
        double mean = sum / data.Train.Pixels.Length, deviation = Math.Sqrt((squares / data.Train.Pixels.Length) - (mean * mean));
        Assert.Equal(mean, data.Train.Mean[0], tolerance: 5e-5);
        Assert.Equal(deviation, data.Train.StandardDeviation[0], tolerance: 5e-5);
    }

    private DataSection Section(DataSetName set, int? train, int? test) => new() { Set = set, Folder = _folder, TrainImages = train, TestImages = test };

    private static DataSection Synthetic(int train, int test) => new()
    {
        Set = DataSetName.Synthetic,
        TrainImages = train,
        TestImages = test,
        Synthetic = new() { Channels = 2, Size = 30, Classes = 4 },
    };

    private static void AssertOneLine(string expected, DataSection section)
    {
        string message = Assert.Throws<UserError>(() => ImageDataLoader.Load(section, 1)).Message;
        Assert.Contains(expected, message);
        Assert.DoesNotContain('\n', message);
    }

    private string PathOf(string file) => Path.Combine(_folder, file);

    /// <summary>Any bytes, another row of them for each salt.</summary>
    private static byte[] Pixels(int salt, int count) => [.. Enumerable.Range(0, count).Select(i => (byte)((i * 31) + (i / 256) + salt))];

    /// <summary>4 training images and 2 test images of 28 x 28.</summary>
    private void WriteIdx(bool compressed)
    {
        Write("train-images-idx3-ubyte", 0x803, [4, 28, 28], Pixels(1, 4 * MnistPixels));
        Write("train-labels-idx1-ubyte", 0x801, [4], [9, 0, 4, 2]);
        Write("t10k-images-idx3-ubyte", 0x803, [2, 28, 28], Pixels(2, 2 * MnistPixels));
        Write("t10k-labels-idx1-ubyte", 0x801, [2], [1, 7]);

        void Write(string name, int magic, int[] shape, byte[] bytes)
        {
            byte[] header = new byte[4 + (4 * shape.Length)];
            BinaryPrimitives.WriteInt32BigEndian(header, magic);
            for (int i = 0; i < shape.Length; i++) BinaryPrimitives.WriteInt32BigEndian(header.AsSpan(4 + (4 * i)), shape[i]);
            using FileStream file = File.Create(PathOf(name) + (compressed ? ".gz" : ""));
            using Stream stream = compressed ? new GZipStream(file, CompressionLevel.Fastest) : file;
            stream.Write([.. header, .. bytes]);
        }
    }

    private static byte[] Compressed(byte[] bytes)
    {
        MemoryStream memory = new();
        using (GZipStream stream = new(memory, CompressionLevel.Fastest)) stream.Write(bytes);
        return memory.ToArray();
    }

    private void WriteCifar(string name, int salt, byte[] labels, byte[]? coarse = null)
    {
        byte[] pixels = Pixels(salt, labels.Length * CifarPixels);
        using FileStream file = File.Create(PathOf(name));
        for (int i = 0; i < labels.Length; i++)
        {
            if (coarse is not null) file.WriteByte(coarse[i]);
            file.WriteByte(labels[i]);
            file.Write(pixels, i * CifarPixels, CifarPixels);
        }
    }

    private static void Patch(string path, int position, byte value)
    {
        byte[] bytes = File.ReadAllBytes(path);
        bytes[position] = value;
        File.WriteAllBytes(path, bytes);
    }

    private static void Truncate(string path, int length) => File.WriteAllBytes(path, File.ReadAllBytes(path)[..length]);

    private static void Append(string path, int count) => File.WriteAllBytes(path, [.. File.ReadAllBytes(path), .. new byte[count]]);
}
