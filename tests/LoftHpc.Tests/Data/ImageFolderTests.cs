using LoftHpc.Communication;
using LoftHpc.Configuration;
using LoftHpc.Data;
using LoftHpc.Fuzz;
using LoftHpc.Mpi;
using LoftHpc.Planning;
using LoftHpc.Tests.Results;
using LoftHpc.Training;
using TorchSharp;
using Xunit;
using static TorchSharp.torch;

namespace LoftHpc.Tests.Data;

/// <summary>Folders of JPEG and PNG files; the PNG files are written byte by byte here, so that what is decoded is known.</summary>
public sealed class ImageFolderTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    private DataSection Section => new() { Set = DataSetName.ImageFolder, Folder = _folder.Path, ImageSize = 8 };

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void Classes_and_images_stand_in_the_order_of_their_names()
    {
        // Ordinal: capitals before small letters, 10 before 2. What is hidden is not looked at, and no name says what a file is.
        foreach (string name in new[] { "train/dog/b.png", "train/dog/B.jpg", "train/Cat/2.png", "train/Cat/10.txt", "train/ant/x", "val/dog/1.png", "val/ant/1.png" }) Write(name, Gray(9));
        Write("train/dog/.hidden", [1]);
        Directory.CreateDirectory(Path.Combine(_folder.Path, "train/.git"));
        ImageData data = ImageDataLoader.Load(Section, 1);
        Assert.Equal(["Cat/10.txt", "Cat/2.png", "ant/x", "dog/B.jpg", "dog/b.png"], Names(data.Train));
        Assert.Equal<int>([0, 0, 1, 2, 2], data.Train.Labels);
        Assert.Equal(["ant/1.png", "dog/1.png"], Names(data.Test));
        Assert.Equal<int>([1, 2], data.Test.Labels);
        Assert.Equal((3, 8, 8, 3), (data.Train.Channels, data.Train.Height, data.Train.Width, data.Train.Classes));
        Assert.Equal([0.485f, 0.456f, 0.406f], data.Train.Mean);
        Assert.Equal(new ImageShape(3, 8, 3, 5, 2), ImageShape.Of(Section));
        // A folder test stands for val where that is not there.
        Directory.Move(Path.Combine(_folder.Path, "val"), Path.Combine(_folder.Path, "test"));
        Assert.Equal(["ant/1.png", "dog/1.png"], Names(ImageDataLoader.Load(Section, 1).Test));
    }

    /// <summary>An evaluation at side 8 resizes the shorter side to 8 x 256 / 224 = 9.14, so 9: an image of 9 x 9 as it is.</summary>
    [Fact]
    public void Pixels_are_those_of_the_file_and_alpha_is_dropped()
    {
        int Value(int y, int x, int channel) => channel == 3 ? x : (y * 25) + (x * 2) + (channel * 7);
        Write("train/a/rgb.png", ImageFile.Png(9, 9, 3, Value));
        Write("train/a/rgba.png", ImageFile.Png(9, 9, 4, Value));
        Write("train/b/gray.png", ImageFile.Png(9, 9, 1, Value));
        Write("val/a/flat.jpg", ImageFile.Jpeg(30, 40, (_, _, channel) => 60 + (50 * channel)));
        ImageData data = ImageDataLoader.Load(Section, 1);
        byte[][] images = Bytes(data.Train);
        for (int channel = 0; channel < 3; channel++)
        {
            for (int y = 0; y < 8; y++)
            {
                for (int x = 0; x < 8; x++)
                {
                    int at = (((channel * 8) + y) * 8) + x;
                    Assert.Equal((Value(y, x, channel), Value(y, x, channel), Value(y, x, 0)), (images[0][at], images[1][at], images[2][at]));
                }
            }
        }
        // JPEG is lossy: a step of 2 at this quality.
        Assert.All(Bytes(data.Test)[0].Index(), value => Assert.InRange(value.Item, 58 + (50 * (value.Index / 64)), 62 + (50 * (value.Index / 64))));
        // 0.299 R + 0.587 G + 0.114 B of (100, 107, 114) is 105.7.
        ImageSet gray = ImageDataLoader.Load(Section with { Channels = 1 }, 1).Train;
        Assert.Equal(106, Bytes(gray)[0][(4 * 8) + 0]);
        Assert.Equal([0.449f], gray.Mean);
    }

    /// <summary>Triangles worked by hand: from 4 pixels to 2 each is as wide as 4 pixels, weights 3/4, 3/4, 1/4 over their sum.</summary>
    [Fact]
    public unsafe void Weights_of_a_case_worked_by_hand()
    {
        const double one = 1 << 22;
        int* starts = stackalloc int[8];
        int* weights = stackalloc int[20];
        Assert.Equal(5, ImageResampling.Taps(4, 2));
        ImageResampling.Weights(4, 2, 0, 2, starts, weights);
        Assert.Equal([0, 3, 1, 3], new Span<int>(starts, 4).ToArray());
        Assert.Equal([3.0 / 7, 3.0 / 7, 1.0 / 7, 1.0 / 7, 3.0 / 7, 3.0 / 7], new[] { weights[0], weights[1], weights[2], weights[5], weights[6], weights[7] }.Select(weight => weight / one), (a, b) => Math.Abs(a - b) < 1e-6);
        // From 2 to 4: centres at 0.25, 0.75, ... of pixels whose own are at 0.5 and 1.5.
        ImageResampling.Weights(2, 4, 0, 4, starts, weights);
        Assert.Equal([0.75, 0.25], new[] { weights[3] / one, weights[4] / one });
        Assert.Equal((0, 1, 1.0), (starts[0], starts[1], weights[0] / one));
    }

    /// <summary>A mean of what changes evenly is its value in the middle; a mean of what does not change is itself.</summary>
    [Fact]
    public unsafe void Even_changes_stay_even()
    {
        Write("train/a/1.png", ImageFile.Png(64, 128, 3, (y, x, channel) => channel == 0 ? 200 : channel == 1 ? 2 * x : y));
        Write("train/b/1.png", Gray(9));
        Write("val/a/1.png", Gray(9));
        ImageFiles files = ImageDataLoader.Load(Section, 1).Train.Files!;
        using ImageDecoder decoder = new(files.Folder);
        byte* image = decoder.Load(files, 0, new CropBox(0, 0, 128, 64), 3, 8, out ImageFault fault);
        Assert.Equal(ImageFault.None, fault);
        // Pixel x of 8 comes from 8 x to 8 x + 8, whose middle is between pixels 8 x + 3 and 8 x + 4; at the edges a triangle is cut.
        for (int y = 1; y < 7; y++)
        {
            for (int x = 1; x < 7; x++)
                Assert.Equal((200, 2 * ((8 * x) + 3.5), (16 * y) + 7.5), (image[(8 * y) + x], (double)image[64 + (8 * y) + x], image[128 + (8 * y) + x] - 0.5));
        }
        // A part of it: rows 32 to 48 and columns 16 to 32, each half as many.
        image = decoder.Load(files, 0, new CropBox(32, 16, 16, 16), 3, 8, out _);
        Assert.Equal((2 * ((2 * 3) + 0.5 + 16), 32 + (2 * 4)), ((double)image[64 + (8 * 4) + 3], (int)image[128 + (8 * 4) + 3] - 1));
    }

    /// <summary>
    /// Crops and what evaluations see, of noise, beside PyTorch's resizing in float64. Bytes are rounded along rows and then along columns, by half
    /// a step each at most.
    /// </summary>
    [SkippableFact]
    public unsafe void PyTorch_resizes_to_the_same_values()
    {
        const string python = "/usr/bin/python3";
        const string script = """
            import sys, torch
            folder = sys.argv[1]
            for line in open(folder + '/cases'):
                name, height, width, top, left, h, w, to_h, to_w, at_y, at_x, side = [int(word) for word in line.split()]
                image = torch.frombuffer(bytearray(open(f'{folder}/{name}.in', 'rb').read()), dtype=torch.uint8).view(height, width, 3).permute(2, 0, 1).double()
                resized = torch.nn.functional.interpolate(image[None, :, top:top + h, left:left + w], size=(to_h, to_w), mode='bilinear', antialias=True, align_corners=False)[0]
                found = torch.frombuffer(bytearray(open(f'{folder}/{name}.out', 'rb').read()), dtype=torch.uint8).view(3, side, side).double()
                print((resized[:, at_y:at_y + side, at_x:at_x + side] - found).abs().max().item())
            """;
        Skip.IfNot(File.Exists(python) && Repository.Run(python, ["-c", "import torch"]).ExitCode == 0, $"{python} has no torch (Debian: python3-torch)");
        (int Width, int Height, int Side)[] shapes = [(133, 57, 32), (300, 200, 28), (21, 31, 48), (500, 375, 224), (9, 200, 8)];
        Random random = new(1);
        List<byte[]> sources = [];
        foreach ((int width, int height, _) in shapes)
        {
            byte[] pixels = new byte[3 * width * height];
            random.NextBytes(pixels);
            Write($"train/a/{sources.Count}.png", ImageFile.Png(width, height, 3, (y, x, channel) => pixels[(((y * width) + x) * 3) + channel]));
            sources.Add(pixels);
        }
        Write("train/b/0.png", Gray(9));
        Write("val/a/0.png", Gray(9));
        ImageFiles files = ImageDataLoader.Load(Section, 1).Train.Files!;
        using ImageDecoder decoder = new(files.Folder);
        List<string> cases = [];
        for (int i = 0; i < shapes.Length; i++)
        {
            (int width, int height, int side) = shapes[i];
            foreach (bool evaluates in new[] { true, false })
            {
                CropBox crop = evaluates ? default : RandomCrop.Draw(RandomStream.For(3, "case", i), height, width, 0.08);
                byte* image = decoder.Load(files, i, crop, 3, side, out _);
                (int toHeight, int toWidth, int atY, int atX) = evaluates ? RandomCrop.Evaluated(height, width, side) : (side, side, 0, 0);
                CropBox box = evaluates ? new CropBox(0, 0, height, width) : crop;
                File.WriteAllBytes(_folder.File($"{cases.Count}.in"), sources[i]);
                File.WriteAllBytes(_folder.File($"{cases.Count}.out"), new ReadOnlySpan<byte>(image, 3 * side * side));
                cases.Add(string.Join(' ', cases.Count, height, width, box.Top, box.Left, box.Height, box.Width, toHeight, toWidth, atY, atX, side));
            }
        }
        File.WriteAllLines(_folder.File("cases"), cases);
        (int exitCode, string output, string error) = Repository.Run(python, ["-c", script, _folder.Path]);
        Assert.True(exitCode == 0, error);
        double[] differences = [.. output.Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(line => double.Parse(line, System.Globalization.CultureInfo.InvariantCulture))];
        Assert.Equal(cases.Count, differences.Length);
        Assert.All(differences, difference => Assert.InRange(difference, 0, 1.001));
    }

    [Fact]
    public void Crops_are_within_the_image_and_of_the_areas_and_ratios_that_are_drawn()
    {
        const int height = 300, width = 400;
        List<double> areas = [];
        int middles = 0;
        for (int i = 0; i < 2000; i++)
        {
            CropBox crop = RandomCrop.Draw(RandomStream.For(7, "crop", i), height, width, 0.08);
            // The same stream again: area and ratio, and a place where they fit.
            RandomStream random = RandomStream.For(7, "crop", i);
            CropBox? expected = null;
            for (int attempt = 0; attempt < 10 && expected is null; attempt++)
            {
                double area = 120_000 * (0.08 + (0.92 * random.NextDouble())), ratio = 0.75 * Math.Pow(16.0 / 9, random.NextDouble());
                (int w, int h) = ((int)Math.Round(Math.Sqrt(area * ratio)), (int)Math.Round(Math.Sqrt(area / ratio)));
                if (w <= width && h <= height) expected = new CropBox(random.NextInt(height - h + 1), random.NextInt(width - w + 1), h, w);
            }
            if (expected is null) middles++;
            Assert.Equal(expected ?? new CropBox(0, 0, height, width), crop);
            areas.Add((double)crop.Height * crop.Width / (height * width));
        }
        Assert.InRange(areas.Min(), 0.079, 0.1);
        Assert.InRange(areas.Max(), 0.95, 1);
        Assert.InRange(middles, 0, 20);
    }

    /// <summary>As torchvision's fallback and its Resize(256), CenterCrop(224), worked by hand.</summary>
    [Fact]
    public void What_does_not_fit_is_cut_in_the_middle()
    {
        Assert.Equal(new CropBox(0, 43, 10, 13), RandomCrop.Middle(10, 100));
        Assert.Equal(new CropBox(43, 0, 13, 10), RandomCrop.Middle(100, 10));
        Assert.Equal(new CropBox(0, 0, 9, 10), RandomCrop.Middle(9, 10));
        Assert.Equal(new CropBox(0, 0, 1, 1), RandomCrop.Draw(RandomStream.For(1, "x"), 1, 1, 0.08));
        Assert.Equal((256, 341, 16, 58), RandomCrop.Evaluated(480, 640, 224));
        Assert.Equal((341, 256, 58, 16), RandomCrop.Evaluated(500, 375, 224));
        Assert.Equal((9, 9, 0, 0), RandomCrop.Evaluated(50, 50, 8));
    }

    [Fact]
    public void A_subset_has_its_share_of_every_class()
    {
        Many(12, 6);
        ImageData data = ImageDataLoader.Load(Section with { TrainImages = 9, TestImages = 3 }, 1);
        Assert.Equal<int>([0, 0, 0, 1, 1, 1, 2, 2, 2], data.Train.Labels);
        Assert.Equal<int>([0, 1, 2], data.Test.Labels);
        // Every fourth of each twelve.
        Assert.Equal(["c0/00.png", "c0/04.png", "c0/08.png"], Names(data.Train).Take(3));
        // Six are held out, two of each class, and the others stay in their order; a warning is not lost.
        Write("val/c1/zzz", [1]);
        ImageData split = ImageDataLoader.Load(Section with { ValidationImages = 6, BrokenImages = BrokenImages.Skip }, 1);
        Assert.Equal<int>([0, 0, 1, 1, 2, 2], split.Validation!.Labels);
        Assert.Equal(("image-folder validation", 30, 1), (split.Validation.Name, split.Train.Count, split.Warnings.Count));
        Assert.Equal(Names(ImageDataLoader.Load(Section with { BrokenImages = BrokenImages.Skip }, 1).Train).Except(Names(split.Validation)), Names(split.Train));
        Assert.Equal(3, split.Fingerprint.Split('\n').Length);
        Assert.Equal(new ImageShape(3, 8, 3, 30, 18, 6), ImageShape.Of(split));
        AssertOneLine($"data.train_images: 37 is more than the 36 of {_folder.Path}/train; allowed: 1 to 36, or all", Section with { TrainImages = 37 });
    }

    [Fact]
    public void A_hash_says_which_files_they_are()
    {
        Many(2, 1);
        string fingerprint = ImageDataLoader.Load(Section, 1).Fingerprint;
        Assert.StartsWith("image-folder train, 6 images, hash of names and sizes ", fingerprint);
        Assert.Equal(fingerprint, ImageDataLoader.Load(Section, 2).Fingerprint);
        Assert.NotEqual(fingerprint, ImageDataLoader.Load(Section with { TrainImages = 5 }, 1).Fingerprint);
        File.Move(Path.Combine(_folder.Path, "train/c0/00.png"), Path.Combine(_folder.Path, "train/c0/0.png"));
        string renamed = ImageDataLoader.Load(Section, 1).Fingerprint;
        File.AppendAllText(Path.Combine(_folder.Path, "train/c0/0.png"), "x");
        string[] all = [fingerprint, renamed, ImageDataLoader.Load(Section, 1).Fingerprint];
        Assert.Equal(3, all.Distinct().Count());
    }

    /// <summary>However many workers, and however the batch is shared out: what one thread makes of each image when it is asked for.</summary>
    [Theory]
    [InlineData(1, 1, ScalarType.Float32)]
    [InlineData(4, 1, ScalarType.Float32)]
    [InlineData(4, 2, ScalarType.Float64)]
    [InlineData(3, 3, ScalarType.Float32)]
    public void Batches_have_the_same_bits_at_any_number_of_workers_and_ranks(int workers, int ranks, ScalarType type)
    {
        Many(5, 1);
        using DisposeScope scope = NewDisposeScope();
        using SelfCommunicator self = new();
        using TensorTransport transport = TensorTransport.For(CPU, direct: false);
        RankContext context = new(self, new CommunicationLedger(), new ChannelExchange(self, transport), CPU, type);
        ImageSet set = ImageDataLoader.Load(Section, 1).Train;
        using BatchLoader plain = new(set, Section, 3);
        HashSet<string> seen = [];
        for (int rank = 0; rank < ranks; rank++)
        {
            using BatchLoader loader = new(set, Section with { Workers = workers }, 3) { PreparesAhead = true };
            EpochBatches batches = new(loader, 4);
            int loaded = 0;
            for (int step = 0; step < 3 * batches.StepsPerEpoch; step++)
            {
                (int epoch, int inEpoch) = (step / batches.StepsPerEpoch, step % batches.StepsPerEpoch);
                int[] samples = loader.EpochOrder(epoch)[(4 * inEpoch)..Math.Min(15, 4 * (inEpoch + 1))];
                (int start, int end) = new Shard(rank, ranks).Of(samples.Length);
                Batch batch = batches.Load(epoch, inEpoch, new Shard(rank, ranks), context);
                Batch expected = plain.Load(samples.AsSpan(start, end - start), epoch, true, CPU, type);
                Assert.True(expected.Images.bytes.SequenceEqual(batch.Images.bytes) && expected.Labels.bytes.SequenceEqual(batch.Labels.bytes));
                for (int i = 0; i < batch.Count; i++) seen.Add(Convert.ToHexString(batch.Images[i].bytes.ToArray()));
                if (batch.Count > 0) loaded++;
            }
            // All of them, the first too.
            Assert.Equal((loaded, workers), (loader.Prepared!.Taken, loader.Prepared.Workers.Count));
        }
        // Each image of each of the three epochs is cut in its own way.
        Assert.Equal(3 * 15, seen.Count);
    }

    /// <summary>Normalised by hand from the bytes that an evaluation sees; labels in their order.</summary>
    [Fact]
    public void An_evaluation_sees_the_middle_normalised()
    {
        Many(2, 1);
        using DisposeScope scope = NewDisposeScope();
        DataSection section = Section with { Mean = [0.1, 0.2, 0.3], StandardDeviation = [0.5, 0.25, 2] };
        ImageSet set = ImageDataLoader.Load(section, 1).Train;
        using BatchLoader loader = new(set, section, 3) { PreparesAhead = true };
        Batch batch = loader.Load([0, 1, 2, 3], 0, false, CPU, coming: BatchLoader.InOrder(4, 6, 4));
        byte[] bytes = Bytes(set)[3];
        float[] values = [.. batch.Images[3].data<float>()];
        for (int i = 0; i < values.Length; i++)
        {
            (double mean, double deviation) = (i / 64) switch { 0 => (0.1, 0.5), 1 => (0.2, 0.25), _ => (0.3, 2.0) };
            Assert.Equal(((bytes[i] / 255.0) - mean) / deviation, values[i], 1e-5);
        }
        Assert.Equal([0L, 0, 1, 1], batch.Labels.data<long>().ToArray());
    }

    /// <summary>TorchSharp's calls on another thread must not meet a garbage collection (PreparedBatches).</summary>
    [Fact]
    public unsafe void Decoding_makes_no_objects()
    {
        Many(3, 1);
        Write("train/c0/z.jpg", ImageFile.Jpeg(50, 40, (y, x, _) => x + y));
        ImageSet set = ImageDataLoader.Load(Section, 1).Train;
        using BatchLoader loader = new(set, Section, 3);
        using ImageDecoder decoder = new(set.Files!.Folder);
        Cutout[] cutouts = loader.Draw([.. Enumerable.Range(0, set.Count)], 0, augment: true);
        float[] images = new float[set.Count * set.ImageBytes];
        long[] labels = new long[set.Count];
        fixed (float* at = images)
        {
            fixed (long* label = labels)
            {
                loader.Write((nint)at, (nint)label, cutouts, ScalarType.Float32, decoder);
                long before = GC.GetAllocatedBytesForCurrentThread();
                for (int i = 0; i < 20; i++) loader.Write((nint)at, (nint)label, cutouts, ScalarType.Float32, decoder);
                Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
            }
        }
        Assert.Equal(set.Labels.Select(label => (long)label), labels);
    }

    [Theory]
    [InlineData("text.jpg", "is neither a JPEG nor a PNG")]
    [InlineData("gif.png", "is neither a JPEG nor a PNG")]
    [InlineData("empty.png", "is empty")]
    [InlineData("header.png", "has a broken header")]
    [InlineData("header.jpg", "has a broken header")]
    [InlineData("folder", "cannot be read as a file")]
    [InlineData("pipe", "cannot be read as a file")]
    [InlineData("huge.png", "is larger than 100000000 pixels, 65535 pixels a side or 1 GiB")]
    [InlineData("cut.png", "is cut or damaged")]
    [InlineData("cut.jpg", "is cut or damaged")]
    public void Files_that_are_no_images_are_named_and_refused_or_left_out(string name, string what)
    {
        Many(2, 1);
        string path = Path.Combine(_folder.Path, "train/c1", name);
        byte[] png = ImageFile.Png(40, 40, 3, (y, x, channel) => (y * x) + channel), jpeg = ImageFile.Jpeg(100, 100, (y, x, channel) => (y * x) + channel);
        if (name == "folder") Directory.CreateDirectory(path);
        else if (name == "pipe") System.Diagnostics.Process.Start("mkfifo", path).WaitForExit();
        else
        {
            File.WriteAllBytes(path, name switch
            {
                "text.jpg" => "these are no pixels"u8.ToArray(),
                "gif.png" => [.. "GIF89a"u8, .. png],
                "empty.png" => [],
                "header.png" => png[..20],
                "header.jpg" => jpeg[..20],
                "huge.png" => ImageFile.WithSize(png, 20_000, 5_001),
                "cut.png" => png[..(png.Length / 2)],
                _ => jpeg[..(jpeg.Length / 2)],
            });
        }
        bool whole = name.StartsWith("cut", StringComparison.Ordinal);
        DataSection section = Section with { CheckImages = whole ? ImageCheck.Whole : ImageCheck.Headers };
        AssertOneLine($"data.broken_images: 1 file is no image that can be used: {path} {what}", section);
        ImageData data = ImageDataLoader.Load(section with { BrokenImages = BrokenImages.Skip }, 1);
        Assert.Equal($"1 file is no image that can be used, left out (data.broken_images skip): {path} {what}", Assert.Single(data.Warnings));
        Assert.Equal(["c0/00.png", "c0/01.png", "c1/00.png", "c1/01.png", "c2/00.png", "c2/01.png"], Names(data.Train));
        Assert.Equal<int>([0, 0, 1, 1, 2, 2], data.Train.Labels);
        if (!whole) return;
        // Its header is whole: it shows when it is needed, and then names itself.
        using DisposeScope scope = NewDisposeScope();
        ImageData checkedLess = ImageDataLoader.Load(Section, 1);
        Assert.Empty(checkedLess.Warnings);
        using BatchLoader loader = new(checkedLess.Train, Section, 3) { PreparesAhead = true };
        UserError error = Assert.Throws<UserError>(() => loader.Load([.. Enumerable.Range(0, checkedLess.Train.Count)], 0, true, CPU, coming: []));
        Assert.StartsWith($"{path}: the image {what}; ", error.Message);
        Assert.DoesNotContain('\n', error.Message);
        Assert.Equal(2, loader.Load([0, 1], 0, true, CPU, coming: []).Count);
    }

    [Fact]
    public void An_image_that_is_another_one_by_the_time_it_is_needed_is_named()
    {
        Many(2, 1);
        ImageSet set = ImageDataLoader.Load(Section, 1).Train;
        Write("train/c0/01.png", Gray(31));
        UserError error = Assert.Throws<UserError>(() => set.ForEach(_ => { }));
        Assert.StartsWith($"{_folder.Path}/train/c0/01.png: the image was changed after it was looked at", error.Message);
    }

    [Theory]
    [InlineData("none", "data.folder: there is no folder ")]
    [InlineData("no train", ": there is no folder train in it; expected train/CLASS/FILE")]
    [InlineData("no val", ": there is no folder val and no folder test in it")]
    [InlineData("one class", "/train: found 1 folders of classes; expected 2 at least")]
    [InlineData("no files", "/train/c1: there are no files in this folder of a class")]
    [InlineData("other class", "/val/c7: a class that ")]
    [InlineData("classes", "/train: found 3 folders of classes; expected 4 (data.classes)")]
    public void A_folder_of_another_form_gets_one_line(string fault, string expected)
    {
        Many(2, 1);
        string At(string name) => Path.Combine(_folder.Path, name);
        DataSection section = Section;
        switch (fault)
        {
            case "none": section = section with { Folder = At("none") }; break;
            case "no train": Directory.Delete(At("train"), recursive: true); break;
            case "no val": Directory.Delete(At("val"), recursive: true); break;
            case "one class": Directory.Delete(At("train/c1"), recursive: true); Directory.Delete(At("train/c2"), recursive: true); break;
            case "no files": Directory.Delete(At("train/c1"), recursive: true); Directory.CreateDirectory(At("train/c1")); break;
            case "other class": Directory.CreateDirectory(At("val/c7")); break;
            case "classes": section = section with { Classes = 4 }; break;
        }
        AssertOneLine(expected, section);
    }

    private void AssertOneLine(string expected, DataSection section)
    {
        string message = Assert.Throws<UserError>(() => ImageDataLoader.Load(section, 1)).Message;
        Assert.Contains(expected, message, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', message);
    }

    private static byte[] Gray(int side) => ImageFile.Png(side, side, 1, (y, x, _) => y * x);

    /// <summary>Three classes c0, c1, c2 of PNG files 00.png, 01.png, ... of odd sizes, each with pixels of its own.</summary>
    private void Many(int train, int test)
    {
        foreach ((string split, int count) in new[] { ("train", train), ("val", test) })
        {
            for (int i = 0; i < 3 * count; i++)
                Write($"{split}/c{i / count}/{i % count:D2}.png", ImageFile.Png(10 + (3 * i), 17 + (7 * i % 11), 3, (y, x, channel) => (y * (i + 3)) + (x * (5 + channel)) + (i * 31)));
        }
    }

    private void Write(string name, byte[] bytes)
    {
        string path = Path.Combine(_folder.Path, name);
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        File.WriteAllBytes(path, bytes);
    }

    private static string[] Names(ImageSet set) => [.. Enumerable.Range(0, set.Count).Select(i => Path.GetRelativePath(set.Files!.Folder, set.Files.PathOf(i)))];

    private static byte[][] Bytes(ImageSet set)
    {
        List<byte[]> images = [];
        set.ForEach(image => images.Add(image.ToArray()));
        return [.. images];
    }
}
