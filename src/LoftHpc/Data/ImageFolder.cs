using System.Buffers.Binary;
using System.IO.Hashing;
using LoftHpc.Communication;
using LoftHpc.Configuration;
using LoftHpc.Mpi;

namespace LoftHpc.Data;

/// <summary>
/// A folder of JPEG and PNG files: train/CLASS/FILE, and val/CLASS/FILE or else test/CLASS/FILE. Classes are numbered in the ordinal
/// order of their folders' names, images in that of their classes and then of their files' names. No more than the names, and what was
/// found by looking at each file once, is in memory; the files are decoded as they are needed.
/// </summary>
internal static class ImageFolder
{
    /// <summary>Of the shorter sides; and channels.</summary>
    public const int DefaultSide = 224, DefaultChannels = 3;

    private const string TrainFolder = "train";

    private static readonly string[] TestFolders = ["val", "test"];

    /// <summary>Of ImageNet's training images in RGB, as the usual pipelines have them; of gray images the means of the three.</summary>
    private static readonly float[] ImagenetMean = [0.485f, 0.456f, 0.406f], ImagenetDeviation = [0.229f, 0.224f, 0.225f], GrayMean = [0.449f], GrayDeviation = [0.226f];

    /// <summary>Broken files that a message names.</summary>
    private const int MostNamed = 10;

    /// <summary>Threads that look at files where the config does not say: they wait for the disk more than they compute.</summary>
    private const int CheckingThreads = 4;

    /// <summary>The names of one split's images, and the class of each.</summary>
    private sealed record Split(string Name, string[] Files, int[] Labels);

    public static (IReadOnlyList<float> Mean, IReadOnlyList<float> StandardDeviation) Normalisation(DataSection section) =>
        section.Mean.Count > 0 ? ImageDataLoader.GivenNormalisation(section)
        : (section.Channels ?? DefaultChannels) == 1 ? (GrayMean, GrayDeviation) : (ImagenetMean, ImagenetDeviation);

    /// <summary>Classes and images of both splits, by the names of folders and files alone.</summary>
    /// <exception cref="UserError">The folder is not as it must be.</exception>
    public static (int Classes, int Train, int Test) Counts(DataSection section)
    {
        (string[] classes, Split train, Split test) = List(section);
        return (classes.Length, train.Files.Length, test.Files.Length);
    }

    /// <summary>Lists the files on every rank, looks at each on one of them, and refuses or leaves out those that are no images. Collective.</summary>
    /// <exception cref="UserError">The folder is not as it must be, or files are broken; on all ranks.</exception>
    public static ImageData Load(DataSection section, ICommunicator ranks)
    {
        ImageData listed = Agree.OnAllRanks(ranks, () =>
        {
            MustDecode();
            (string[] classes, Split train, Split test) = List(section);
            return new ImageData(Listed(section, train, classes.Length), Listed(section, test, classes.Length));
        });
        Agree.OnSame(ranks, "the list of images", listed.Fingerprint, "give all hosts the same files (data.folder)");
        return Checked(section, listed, ranks);
    }

    /// <summary>A hash of the names of a set's files, of how many bytes they have, and of their classes.</summary>
    public static UInt128 Hash(ImageSet set)
    {
        XxHash128 hash = new();
        // Names hold no zero, which ends them here.
        Span<byte> numbers = stackalloc byte[1 + sizeof(long) + sizeof(int)];
        for (int i = 0; i < set.Count; i++)
        {
            hash.Append(set.Files!.NameOf(i));
            BinaryPrimitives.WriteInt64LittleEndian(numbers[1..], set.Files.BytesOf(i));
            BinaryPrimitives.WriteInt32LittleEndian(numbers[(1 + sizeof(long))..], set.Labels[i]);
            hash.Append(numbers);
        }
        return hash.GetCurrentHashAsUInt128();
    }

    /// <summary>What to say of a file that turned out to be wrong in the middle of a training.</summary>
    public static UserError Broke(ImageFiles files, int number, ImageFault fault) => new(
        $"{files.PathOf(number)}: the image {Words(fault)}; take it away, or make it whole (with data.check_images whole and data.broken_images skip such files are found and left out before training)");

    private static ImageSet Listed(DataSection section, Split split, int classes)
    {
        (IReadOnlyList<float> mean, IReadOnlyList<float> deviation) = Normalisation(section);
        int side = section.ImageSize ?? DefaultSide;
        return new ImageSet($"image-folder {split.Name}", section.Channels ?? DefaultChannels, side, side, classes, [], split.Labels, mean, deviation)
        {
            Files = new ImageFiles(Path.Combine(section.Folder!, split.Name), split.Files),
        };
    }

    private static void MustDecode()
    {
        try
        {
            Skia.FreeData(Skia.NewData(1));
        }
        catch (Exception error) when (error is DllNotFoundException or EntryPointNotFoundException or BadImageFormatException)
        {
            throw new UserError($"images cannot be decoded: {error.Message.Split('\n')[0]}", error, ExitCodes.Environment);
        }
    }

    private static (string[] Classes, Split Train, Split Test) List(DataSection section)
    {
        string folder = section.Folder!;
        if (!Directory.Exists(folder)) throw new UserError($"data.folder: there is no folder {PlainText.Of(Path.GetFullPath(folder))}");
        try
        {
            string train = In(TrainFolder) ?? throw new UserError($"{folder}: there is no folder {TrainFolder} in it; expected {TrainFolder}/CLASS/FILE, a folder a class");
            string test = TestFolders.Select(In).FirstOrDefault(path => path is not null)
                ?? throw new UserError($"{folder}: there is no folder {string.Join(" and no folder ", TestFolders)} in it; expected one of them, as {TestFolders[0]}/CLASS/FILE");
            string[] classes = Classes(train);
            if (classes.Length < 2) throw new UserError($"{train}: found {classes.Length} folders of classes; expected 2 at least, {TrainFolder}/CLASS/FILE");
            if (classes.Length > DataSection.MostClasses) throw new UserError($"{train}: found {classes.Length} folders of classes; expected {DataSection.MostClasses} at most");
            if (section.Classes is int given && given != classes.Length) throw new UserError($"{train}: found {classes.Length} folders of classes; expected {given} (data.classes)");
            if (Classes(test).Except(classes).FirstOrDefault() is string other)
                throw new UserError($"{Path.Combine(test, PlainText.Of(other))}: a class that {train} does not have; expected the same names in both");
            return (classes, ListSplit(train, classes, "train", section.TrainImages), ListSplit(test, classes, "test", section.TestImages));
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            throw new UserError($"{folder}: cannot be listed: {error.Message}", error);
        }

        string? In(string name) => Path.Combine(folder, name) is string path && Directory.Exists(path) ? path : null;
    }

    private static string[] Classes(string split) => [.. Names(Directory.EnumerateDirectories(split))];

    /// <summary>Hidden files and folders are none of the set's.</summary>
    private static IEnumerable<string> Names(IEnumerable<string> paths) =>
        paths.Select(path => Path.GetFileName(path)).Where(name => !name.StartsWith('.')).Order(StringComparer.Ordinal);

    private static Split ListSplit(string folder, string[] classes, string split, int? asked)
    {
        List<string> files = [];
        List<int> labels = [];
        for (int label = 0; label < classes.Length; label++)
        {
            string path = Path.Combine(folder, classes[label]);
            // Not every class need be tested.
            if (split == "test" && !Directory.Exists(path)) continue;
            int before = files.Count;
            files.AddRange(Names(Directory.EnumerateFileSystemEntries(path)).Select(name => $"{classes[label]}/{name}"));
            if (files.Count == before && split == "train") throw new UserError($"{path}: there are no files in this folder of a class");
            labels.AddRange(Enumerable.Repeat(label, files.Count - before));
        }
        if (files.Count == 0) throw new UserError($"{folder}: there are no files in its folders of classes");
        int[] used = ImageDataLoader.Spread(files.Count, asked, split, folder);
        return new Split(Path.GetFileName(folder), [.. used.Select(i => files[i])], [.. used.Select(i => labels[i])]);
    }

    /// <summary>Looks at every file, each rank at its share, and brings all that was found to all ranks.</summary>
    private static ImageData Checked(DataSection section, ImageData listed, ICommunicator ranks)
    {
        ImageSet[] sets = [listed.Train, listed.Test];
        List<string> warnings = [];
        for (int split = 0; split < sets.Length; split++)
        {
            ImageSet set = sets[split];
            ImageFiles files = set.Files!;
            const int numbers = 3;
            // Width, or less what is wrong; height; bytes. Of other ranks' files zeros.
            double[] found = new double[numbers * files.Count];
            (int first, int end) = new Shard(ranks.Rank, ranks.Size).Of(files.Count);
            int threads = Math.Max(1, Math.Min(section.Workers ?? CheckingThreads, end - first));
            Parallel.For(0, threads, new ParallelOptions { MaxDegreeOfParallelism = threads }, thread =>
            {
                using ImageDecoder decoder = new(files.Folder);
                for (int i = first + thread; i < end; i += threads)
                {
                    ImageFault fault = decoder.Check(files.NameOf(i), section.CheckImages is ImageCheck.Whole);
                    (found[numbers * i], found[(numbers * i) + 1], found[(numbers * i) + 2]) = (fault is ImageFault.None ? decoder.Width : -(double)fault, decoder.Height, decoder.FileBytes);
                }
            });
            ranks.Allreduce(found.AsSpan(), MpiOperation.Sum);
            List<int> broken = [];
            for (int i = 0; i < files.Count; i++)
            {
                if (found[numbers * i] < 0) broken.Add(i);
                else files.Found(i, (int)found[numbers * i], (int)found[(numbers * i) + 1], (long)found[(numbers * i) + 2]);
            }
            if (broken.Count == 0) continue;
            string named = string.Join("; ", broken.Take(MostNamed).Select(i => $"{PlainText.Of(files.PathOf(i))} {Words((ImageFault)(-found[numbers * i]))}"))
                + (broken.Count > MostNamed ? $"; and {broken.Count - MostNamed} more" : "");
            string count = broken.Count == 1 ? "1 file is no image that can be used" : $"{broken.Count} files are no images that can be used";
            if (section.BrokenImages is BrokenImages.Refuse)
                throw new UserError($"data.broken_images: {count}: {named}; take them away, or leave them out by data.broken_images skip");
            sets[split] = set.Select([.. Enumerable.Range(0, files.Count).Except(broken)]);
            warnings.Add($"{count}, left out (data.broken_images skip): {named}");
            if (sets[split].Count == 0) throw new UserError($"{files.Folder}: no image is left");
        }
        return new ImageData(sets[0], sets[1]) { Warnings = warnings };
    }

    private static string Words(ImageFault fault) => fault switch
    {
        ImageFault.Unreadable => "cannot be read as a file",
        ImageFault.Empty => "is empty",
        ImageFault.NotAnImage => "is neither a JPEG nor a PNG",
        ImageFault.Broken => "has a broken header",
        ImageFault.TooLarge => $"is larger than {ImageDecoder.MostPixels} pixels, {ImageDecoder.LongestSide} pixels a side or 1 GiB",
        ImageFault.Cut => "is cut or damaged",
        ImageFault.Changed => "was changed after it was looked at",
        ImageFault.NoMemory => "does not fit into memory",
        _ => throw new ArgumentOutOfRangeException(nameof(fault), fault, "is no fault"),
    };
}
