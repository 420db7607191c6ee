using LoftHpc.Communication;
using LoftHpc.Configuration;
using LoftHpc.Mpi;

namespace LoftHpc.Data;

/// <summary>What is published about a data set: its shape, its size, and what normalises it.</summary>
/// <param name="Mean">Per channel, of the training pixels in 0..1, as the usual pipelines have it to four decimals.</param>
internal sealed record ImageDataSet(
    string Title, string DefaultFolder, string HowToGet, int Channels, int Size, int Classes, int TrainImages, int TestImages,
    float[] Mean, float[] StandardDeviation)
{
    public int ImageBytes => Channels * Size * Size;

    /// <summary>The number of images that a config asks for of a split.</summary>
    /// <exception cref="UserError">It is more than there are.</exception>
    public int Count(DataSection section, bool train)
    {
        (string key, int? asked, int published) = train ? ("train", section.TrainImages, TrainImages) : ("test", section.TestImages, TestImages);
        return asked > published
            ? throw new UserError($"data.{key}_images: {asked} is more than {Title} has; allowed: 1 to {published}, or all")
            : asked ?? published;
    }

    public static ImageDataSet Of(DataSetName name) => name switch
    {
        DataSetName.FashionMnist => new(
            "Fashion-MNIST", "fashion-mnist", "make data", 1, 28, 10, 60_000, 10_000, [0.2860f], [0.3530f]),
        DataSetName.Mnist => new(
            "MNIST", "mnist", "the four idx files of MNIST have to be put there by hand", 1, 28, 10, 60_000, 10_000, [0.1307f], [0.3081f]),
        DataSetName.Cifar10 => new(
            "CIFAR-10", "cifar-10-batches-bin", "make cifar10", 3, 32, 10, 50_000, 10_000,
            [0.4914f, 0.4822f, 0.4465f], [0.2470f, 0.2435f, 0.2616f]),
        DataSetName.Cifar100 => new(
            "CIFAR-100", "cifar-100-binary", "make cifar100", 3, 32, 100, 50_000, 10_000,
            [0.5071f, 0.4865f, 0.4409f], [0.2673f, 0.2564f, 0.2762f]),
        _ => throw new ArgumentOutOfRangeException(nameof(name), name, "has no files"),
    };
}

/// <summary>
/// Loads both splits of a data set, into memory or, of a folder of images, as a list of files. A subset of a published set is the first
/// images in the order of the files. Without a number (<c>all</c>) its files must hold the published number of images; with one, at least
/// that many, and files that are not needed for them need not be there. Of a set of the user's own, which may be sorted by class, a subset
/// is spread over all (<see cref="Spread"/>).
/// </summary>
public static class ImageDataLoader
{
    /// <exception cref="UserError">A file is missing, cut, or not what it should be; or it has fewer images than asked for.</exception>
    public static ImageData Load(DataSection section, long seed) => ValidationSplit.HoldOut(LoadFiles(section, seed), section);

    private static ImageData LoadFiles(DataSection section, long seed)
    {
        if (section.Set == DataSetName.ImageFolder)
        {
            using SelfCommunicator self = new();
            return ImageFolder.Load(section, self);
        }
        if (section.Set is DataSetName.Idx or DataSetName.CifarBinary) return LoadOwn(section);
        if (section.Set == DataSetName.Synthetic) return SyntheticImages.Make(section, seed);
        ImageDataSet set = ImageDataSet.Of(section.Set);
        string folder = FindFolder(section, set);
        return new ImageData(LoadSplit("train"), LoadSplit("test"));

        ImageSet LoadSplit(string split)
        {
            bool train = split == "train";
            ImageSplitRequest request = new(set, folder, train, set.Count(section, train));
            (byte[] pixels, byte[] labels) = section.Set is DataSetName.FashionMnist or DataSetName.Mnist
                ? IdxFiles.Read(request)
                : CifarFiles.Read(request);
            return new ImageSet(
                $"{ConfigName.Of(section.Set)} {split}", set.Channels, set.Size, set.Size, set.Classes, pixels, Array.ConvertAll(labels, label => (int)label), set.Mean, set.StandardDeviation);
        }
    }

    /// <summary>The same on all ranks, which share what there is to look at. Collective.</summary>
    /// <inheritdoc cref="Load(DataSection, long)"/>
    public static ImageData Load(DataSection section, long seed, ICommunicator ranks) =>
        section.Set == DataSetName.ImageFolder ? ValidationSplit.HoldOut(ImageFolder.Load(section, ranks), section) : Agree.OnAllRanks(ranks, () => Load(section, seed));

    /// <summary>
    /// Which images of a set of the user's own are used: all, or as many as are asked for, evenly spread in the order of the files, so that of
    /// a set that is sorted by class every class has its share.
    /// </summary>
    /// <exception cref="UserError">There are fewer.</exception>
    internal static int[] Spread(int count, int? asked, string split, string where)
    {
        if (asked > count) throw new UserError($"data.{split}_images: {asked} is more than the {count} of {where}; allowed: 1 to {count}, or all");
        int used = asked ?? count;
        return [.. Enumerable.Range(0, used).Select(i => (int)((long)i * count / used))];
    }

    /// <summary>The config's own mean and standard deviation.</summary>
    internal static (float[] Mean, float[] StandardDeviation) GivenNormalisation(DataSection section) =>
        ([.. section.Mean.Select(value => (float)value)], [.. section.StandardDeviation.Select(value => (float)value)]);

    private static ImageData LoadOwn(DataSection section)
    {
        string folder = section.Folder!;
        if (!Directory.Exists(folder)) throw new UserError($"data.folder: there is no folder {PlainText.Of(Path.GetFullPath(folder))}");
        BinarySplit Read(bool train) => section.Set is DataSetName.Idx ? IdxFiles.ReadOwn(folder, train) : CifarFiles.ReadOwn(section, folder, train);
        BinarySplit train = Read(train: true), test = Read(train: false);
        if ((train.Channels, train.Side) != (test.Channels, test.Side))
            throw new UserError($"{test.Images}: images of {test.Channels} x {test.Side} x {test.Side}, and of {train.Channels} x {train.Side} x {train.Side} in {train.Images}; expected the same in both");
        foreach ((string key, int? given, int found) in new[] { ("channels", section.Channels, train.Channels), ("image_size", section.ImageSize, train.Side) })
        {
            if (given is not null && given != found) throw new UserError($"data.{key}: {given}, but {train.Images} has {found}; allowed: {found}, or auto");
        }
        int classes = section.Classes ?? Math.Max(train.Labels.Max(), test.Labels.Max()) + 1;
        if (classes < 2) throw new UserError($"{train.LabelFile}: all labels are 0; expected two classes at least, or data.classes");
        train.CheckLabels(classes);
        test.CheckLabels(classes);
        ImageSet Set(string split, BinarySplit images, int? asked)
        {
            ImageSet all = new($"{ConfigName.Of(section.Set)} {split}", images.Channels, images.Side, images.Side, classes, images.Pixels, Array.ConvertAll(images.Labels, label => (int)label), [], []);
            return asked is null || asked == all.Count ? all : all.Select(Spread(all.Count, asked, split, images.Images));
        }

        ImageSet trained = Set("train", train, section.TrainImages), tested = Set("test", test, section.TestImages);
        (IReadOnlyList<float> mean, IReadOnlyList<float> deviation) = section.Mean.Count > 0 ? GivenNormalisation(section) : Statistics(trained);
        if (mean.Count != trained.Channels)
            throw new UserError($"data.mean: {mean.Count} values; allowed: {trained.Channels}, one for each channel of {train.Images}, or [], to compute them");
        return new ImageData(trained with { Mean = mean, StandardDeviation = deviation }, tested with { Mean = mean, StandardDeviation = deviation });
    }

    /// <summary>
    /// Mean and standard deviation of each channel, of pixels in 0..1 of all images, from counts of whole numbers: the same wherever they
    /// are computed. A channel that never changes is divided by one.
    /// </summary>
    private static (float[] Mean, float[] StandardDeviation) Statistics(ImageSet set)
    {
        float[] mean = new float[set.Channels], deviation = new float[set.Channels];
        int plane = set.Height * set.Width;
        for (int channel = 0; channel < set.Channels; channel++)
        {
            long sum = 0, squares = 0, count = (long)set.Count * plane;
            for (int i = 0; i < set.Count; i++)
            {
                foreach (byte value in set.Pixels.AsSpan((i * set.ImageBytes) + (channel * plane), plane))
                {
                    sum += value;
                    squares += value * value;
                }
            }
            double average = (double)sum / count, variance = (double)(((UInt128)count * (ulong)squares) - ((UInt128)sum * (ulong)sum)) / ((double)count * count);
            (mean[channel], deviation[channel]) = ((float)(average / 255), variance > 0 ? (float)(Math.Sqrt(variance) / 255) : 1);
        }
        return (mean, deviation);
    }

    /// <summary>
    /// What normalises the images of a data set, for each channel; no file is looked at, but of idx and cifar-binary where the config does
    /// not say.
    /// </summary>
    public static (IReadOnlyList<float> Mean, IReadOnlyList<float> StandardDeviation) Normalisation(DataSection section)
    {
        if (section.Set == DataSetName.ImageFolder) return ImageFolder.Normalisation(section);
        if (section.Set is DataSetName.Idx or DataSetName.CifarBinary)
        {
            if (section.Mean.Count > 0) return GivenNormalisation(section);
            ImageSet trained = LoadOwn(section).Train;
            return (trained.Mean, trained.StandardDeviation);
        }
        if (section.Set == DataSetName.Synthetic) return SyntheticImages.Normalisation(section.Synthetic);
        ImageDataSet set = ImageDataSet.Of(section.Set);
        return (set.Mean, set.StandardDeviation);
    }

    private static string FindFolder(DataSection section, ImageDataSet set)
    {
        List<string> folders = section.Folder is { } given ? [given] : [Path.Combine(".data", set.DefaultFolder)];
        if (section.Folder is null && section.Set == DataSetName.FashionMnist) folders.Add("/usr/share/datasets/fashion-mnist");
        return folders.FirstOrDefault(Directory.Exists) ?? throw new UserError(
            $"{set.Title}: there is no folder {string.Join(" and no ", folders.Select(Path.GetFullPath))}; to get the data: {set.HowToGet} (data.folder names another folder)");
    }
}

/// <summary>Which images a reader of files is to read: the first <paramref name="Count"/> of a split.</summary>
internal sealed record ImageSplitRequest(ImageDataSet Set, string Folder, bool Train, int Count)
{
    public UserError Missing(string file) =>
        new($"{Path.Combine(Folder, file)}: the file is missing; expected the files of {Set.Title}; to get them: {Set.HowToGet}");

    public void CheckLabels(ReadOnlySpan<byte> labels, string path, int first = 0)
    {
        int bad = labels.IndexOfAnyExceptInRange((byte)0, (byte)(Set.Classes - 1));
        if (bad >= 0)
            throw new UserError($"{path}: image {first + bad} has label {labels[bad]}; expected labels from 0 to {Set.Classes - 1} ({Set.Title})");
    }
}

/// <summary>One split of a set of the user's own, as its files hold it.</summary>
/// <param name="Images">The file, or the folder, of the images, for messages; <paramref name="LabelFile"/> likewise.</param>
internal sealed record BinarySplit(int Channels, int Side, byte[] Pixels, byte[] Labels, string Images, string LabelFile)
{
    /// <summary>Refuses images that no network here takes, or more of them than memory does.</summary>
    public static void CheckShape(string path, int channels, int height, int width, long count)
    {
        if (height != width) throw new UserError($"{path}: images of {height} x {width}; expected square ones");
        if (height is < DataSection.LeastSide or > DataSection.MostSide || channels > DataSection.MostChannels)
            throw new UserError($"{path}: images of {channels} x {height} x {width}; expected sides from {DataSection.LeastSide} to {DataSection.MostSide}, and {DataSection.MostChannels} channels at most");
        long bytes = (long)channels * height * width;
        if (count > Array.MaxLength / bytes) throw new UserError($"{path}: {count} images of {bytes} bytes; expected {Array.MaxLength / bytes} at most, as they lie in memory (data.set image-folder has no such limit)");
    }

    public void CheckLabels(int classes)
    {
        int bad = Array.FindIndex(Labels, label => label >= classes);
        if (bad >= 0) throw new UserError($"{LabelFile}: image {bad} has label {Labels[bad]}; expected labels from 0 to {classes - 1} (data.classes)");
    }
}
