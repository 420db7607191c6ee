using LoftHpc.Configuration;

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
/// Loads both splits of a data set into memory. A subset is the first images in the order of the files. Without a
/// number (<c>all</c>) the files must hold the published number of images; with one, at least that many, and files that
/// are not needed for them need not be there.
/// </summary>
public static class ImageDataLoader
{
    /// <exception cref="UserError">A file is missing, cut, or not what it should be; or it has fewer images than asked for.</exception>
    public static ImageData Load(DataSection section, long seed) => ValidationSplit.HoldOut(LoadFiles(section, seed), section);

    private static ImageData LoadFiles(DataSection section, long seed)
    {
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
                $"{ConfigName.Of(section.Set)} {split}", set.Channels, set.Size, set.Size, set.Classes, pixels, labels, set.Mean, set.StandardDeviation);
        }
    }

    /// <summary>What normalises the images of a data set, for each channel; no file is looked at.</summary>
    public static (IReadOnlyList<float> Mean, IReadOnlyList<float> StandardDeviation) Normalisation(DataSection section)
    {
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
