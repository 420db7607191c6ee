using LoftHpc.Configuration;
using LoftHpc.Data;
using TorchSharp;
using Xunit;

namespace LoftHpc.Tests.Data;

public sealed class BatchLoaderTests
{
    /// <summary>Padding 1 of the image 1 2 / 3 4, cropped to 2 x 2 at each of the nine places.</summary>
    private static readonly string[] Crops =
    [
        "00 01", "00 12", "00 20",
        "01 03", "12 34", "20 40",
        "03 00", "34 00", "40 00",
    ];

    private static readonly string[] FlippedCrops =
    [
        "00 10", "00 21", "00 02",
        "10 30", "21 43", "02 04",
        "30 00", "43 00", "04 00",
    ];

    [Fact]
    public void Augmentation_gives_each_crop_and_its_mirror_equally_often()
    {
        const int draws = 18_000;
        string[] images = Augmented(new DataSection { CropPadding = 1, Flip = true }, draws);
        Dictionary<string, int> counts = images.CountBy(image => image).ToDictionary();
        Assert.Equal(Crops.Concat(FlippedCrops).Order(StringComparer.Ordinal), counts.Keys.Order(StringComparer.Ordinal));
        // 1000 each is expected, with a standard deviation of 31.
        Assert.All(counts, outcome => Assert.InRange(outcome.Value, 850, 1150));
    }

    [Fact]
    public void Crop_and_flip_are_switched_off_apart_and_training_alone_has_them()
    {
        Assert.Equal(Crops.ToHashSet(), [.. Augmented(new DataSection { CropPadding = 1, Flip = false }, 500)]);
        Assert.Equal(["12 34", "21 43"], [.. Augmented(new DataSection { CropPadding = 0, Flip = true }, 500).Order(StringComparer.Ordinal).Distinct()]);
        Assert.Equal(["12 34"], Augmented(new DataSection { CropPadding = 0, Flip = false }, 500).Distinct());
        Assert.Equal(["12 34"], Augmented(new DataSection { CropPadding = 1, Flip = true }, 500, augment: false).Distinct());
    }

    /// <summary>Walk 0 is what one rank does; every other number has an order and augmentation of its own.</summary>
    [Fact]
    public void Walks_differ_in_order_and_augmentation_and_the_first_is_that_of_one_rank()
    {
        BatchLoader loader = new(Images([1, 2, 3, 4], 100), new DataSection { CropPadding = 1 }, 3);
        int[] samples = [.. Enumerable.Range(0, 100)];
        int[][] orders = [.. new[] { 0, 1, 2 }.Select(walk => loader.Walk(walk).EpochOrder(5))];
        Assert.Equal(loader.EpochOrder(5), orders[0]);
        Assert.All(orders, order => Assert.Equal(samples, order.Order()));
        Assert.Equal(3, orders.Select(order => string.Join(' ', order)).Distinct().Count());
        using Batch one = loader.Load(samples, 5, true, torch.CPU), first = loader.Walk(0).Load(samples, 5, true, torch.CPU), second = loader.Walk(1).Load(samples, 5, true, torch.CPU);
        Assert.True(one.Images.equal(first.Images).all().item<bool>());
        Assert.False(one.Images.equal(second.Images).all().item<bool>());
    }

    [Fact]
    public void Channels_are_cropped_alike()
    {
        // Channel 1 is channel 0 times 10.
        ImageSet set = Images([1, 2, 3, 4, 10, 20, 30, 40], 100, channels: 2);
        using Batch batch = new BatchLoader(set, new DataSection { CropPadding = 1 }, 3).Load([.. Enumerable.Range(0, 100)], 0, true, torch.CPU);
        using torch.Tensor first = batch.Images.select(1, 0) * 10, second = batch.Images.select(1, 1);
        Assert.True(first.allclose(second));
    }

    /// <summary>(pixel / 255 - mean) / deviation by hand; padding is black before normalisation, not zero after it.</summary>
    [Fact]
    public void Pixels_are_normalised_after_the_crop()
    {
        ImageSet set = new("", 2, 1, 2, 10, [0, 255, 51, 102], [6], [0.5f, 0.2f], [0.25f, 0.1f]);
        BatchLoader loader = new(set, new DataSection { CropPadding = 1, Flip = false }, 1);
        using Batch plain = loader.Load([0], 0, false, torch.CPU, torch.ScalarType.Float64);
        Assert.Equal([1, 2, 1, 2], plain.Images.shape);
        Assert.Equal([-2, 2, 0, 2], plain.Images.data<double>().ToArray().Select(v => Math.Round(v, 6)));
        Assert.Equal([6L], plain.Labels.data<long>().ToArray());
        HashSet<string> found = [];
        for (int epoch = 0; epoch < 100; epoch++)
        {
            using Batch augmented = loader.Load([0], epoch, true, torch.CPU);
            found.Add(string.Join(' ', Values(augmented).Select(value => (int)MathF.Round(value))));
        }
        // Above or below the one row, and that row one to the left, in place, one to the right.
        Assert.Equal(new HashSet<string>(["-2 -2 -2 -2", "2 -2 2 -2", "-2 2 0 2", "-2 -2 -2 0"]), found);
    }

    [Fact]
    public void An_epoch_has_each_sample_once_in_an_order_of_its_own()
    {
        BatchLoader loader = Loader(seed: 1), again = Loader(seed: 1), other = Loader(seed: 2);
        _ = loader.EpochOrder(0); // What was drawn before changes nothing.
        int[] order = loader.EpochOrder(3);
        Assert.Equal(Enumerable.Range(0, 100), order.Order());
        Assert.Equal(order, again.EpochOrder(3));
        Assert.Equal(20, Enumerable.Range(0, 20).Select(epoch => string.Join(' ', loader.EpochOrder(epoch))).Distinct().Count());
        Assert.NotEqual(order, other.EpochOrder(3));
        Assert.NotEqual(Enumerable.Range(0, 100), order);
    }

    [Fact]
    public void A_last_odd_batch_counts()
    {
        Assert.Equal(4, Loader(1).BatchesPerEpoch(30));
        Assert.Equal(4, Loader(1).BatchesPerEpoch(25));
        Assert.Equal(1, Loader(1).BatchesPerEpoch(101));
    }

    /// <summary>What a rank that loads its shard gets is what one rank gets for the whole batch.</summary>
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(12)] // More ranks than samples: some load none.
    public void Shards_of_a_batch_are_its_parts(int ranks)
    {
        int[] samples = Loader(1).EpochOrder(2)[..10];
        using Batch whole = Loader(1).Load(samples, 2, true, torch.CPU);
        for (int rank = 0; rank < ranks; rank++)
        {
            int begin = rank * samples.Length / ranks, end = (rank + 1) * samples.Length / ranks;
            using Batch shard = Loader(1).Load(samples.AsSpan(begin..end), 2, true, torch.CPU);
            Assert.Equal(end - begin, shard.Count);
            Assert.Equal(Values(whole)[(4 * begin)..(4 * end)], Values(shard));
            Assert.Equal(whole.Labels.data<long>().ToArray()[begin..end], shard.Labels.data<long>().ToArray());
        }
    }

    [Fact]
    public void Augmentation_differs_by_epoch_sample_and_seed()
    {
        int[] samples = [.. Enumerable.Range(0, 100)];
        using Batch first = Loader(1).Load(samples, 0, true, torch.CPU), epoch = Loader(1).Load(samples, 1, true, torch.CPU);
        using Batch seed = Loader(2).Load(samples, 0, true, torch.CPU);
        Assert.NotEqual(Values(first), Values(epoch));
        Assert.NotEqual(Values(first), Values(seed));
        Assert.True(Values(first).Chunk(4).Select(image => string.Join(' ', image)).Distinct().Count() > 1);
    }

    /// <summary>As on a GPU, here on the CPU: every bit of the pixels is that of the plain loop.</summary>
    [Theory]
    [InlineData(0, true)]
    [InlineData(2, true)]
    [InlineData(2, false)]
    [InlineData(9, true)] // A border that is wider than the image.
    public void Images_cut_out_on_the_device_have_the_same_bits(int padding, bool flip)
    {
        const int count = 60, channels = 3, height = 5, width = 7;
        byte[] pixels = new byte[count * channels * height * width];
        new Random(1).NextBytes(pixels);
        ImageSet set = new("", channels, height, width, 10, pixels, [.. Enumerable.Range(0, count).Select(i => (byte)(i % 10))], [0.49f, 0.48f, 0.44f], [0.2f, 0.3f, 0.25f]);
        DataSection section = new() { CropPadding = padding, Flip = flip };
        (BatchLoader plain, BatchLoader onDevice) = (new(set, section, 3), new(set, section, 3) { CutsOutOnDevice = true });
        int[] samples = [.. plain.EpochOrder(4)[..50], 7, 7];
        using DisposeScope scope = torch.NewDisposeScope();
        foreach (torch.ScalarType type in new[] { torch.ScalarType.Float32, torch.ScalarType.Float64 })
        {
            foreach ((int walk, bool augment) in new[] { (0, true), (1, true), (0, false) })
            {
                Batch expected = plain.Walk(walk).Load(samples, 4, augment, torch.CPU, type), batch = onDevice.Walk(walk).Load(samples, 4, augment, torch.CPU, type);
                Assert.Equal(expected.Images.shape, batch.Images.shape);
                Assert.True(expected.Images.bytes.SequenceEqual(batch.Images.bytes), $"{type}, walk {walk}, augment {augment}");
                Assert.True(expected.Labels.bytes.SequenceEqual(batch.Labels.bytes));
            }
        }
        Assert.Equal(0, onDevice.Load([], 0, true, torch.CPU).Count);
        Assert.Throws<ArgumentOutOfRangeException>(() => onDevice.Load([count], 0, false, torch.CPU));
    }

    /// <summary>What the plan counts for a GPU is what is kept, here on the CPU, after batches with augmentation or without.</summary>
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Images_on_the_device_take_the_bytes_that_are_planned(bool augment)
    {
        using DisposeScope scope = torch.NewDisposeScope();
        BatchLoader loader = new(Images([1, 2, 3, 4, 5, 6, 7, 8], 100, channels: 2), new DataSection { CropPadding = 1 }, 3) { CutsOutOnDevice = true };
        for (int epoch = 0; epoch < 2; epoch++) loader.Load([1, 2, 3], epoch, augment, torch.CPU);
        Assert.Equal(DeviceImages.BytesOf(100, 2, 2, 2), loader.OnDevice!.Bytes);
        Assert.True(DeviceImages.Fit(long.MaxValue, torch.CPU));
    }

    [Fact]
    public void No_samples_make_an_empty_batch()
    {
        using Batch batch = Loader(1).Load([], 0, true, torch.CPU, torch.ScalarType.Float64);
        Assert.Equal([0, 1, 2, 2], batch.Images.shape);
        Assert.Equal(0, batch.Count);
        Assert.Equal(torch.ScalarType.Float64, batch.Images.dtype);
    }

    [Fact]
    public void Samples_that_are_not_there_are_refused()
    {
        Assert.Throws<ArgumentOutOfRangeException>(() => Loader(1).Load([100], 0, false, torch.CPU));
        Assert.Throws<ArgumentOutOfRangeException>(() => Loader(1).Load([-1], 0, false, torch.CPU));
    }

    private static BatchLoader Loader(long seed) => new(Images([1, 2, 3, 4], 100), new DataSection { CropPadding = 1 }, seed);

    private static float[] Values(Batch batch) => [.. batch.Images.data<float>()];

    /// <summary>Copies of one 2 x 2 image, whose normalised value is its byte.</summary>
    private static ImageSet Images(byte[] image, int count, int channels = 1) => new(
        "", channels, 2, 2, 10, [.. Enumerable.Repeat(image, count).SelectMany(i => i)], [.. Enumerable.Range(0, count).Select(i => (byte)(i % 10))],
        [.. Enumerable.Repeat(0f, channels)], [.. Enumerable.Repeat(1 / 255f, channels)]);

    /// <summary>Images as the loader makes them of 1 2 / 3 4, each written "12 34".</summary>
    private static string[] Augmented(DataSection section, int count, bool augment = true)
    {
        using Batch batch = new BatchLoader(Images([1, 2, 3, 4], count), section, 1).Load([.. Enumerable.Range(0, count)], 0, augment, torch.CPU);
        int[] values = [.. batch.Images.data<float>().ToArray().Select(v => (int)MathF.Round(v))];
        return [.. values.Chunk(4).Select(v => $"{v[0]}{v[1]} {v[2]}{v[3]}")];
    }
}
