using LoftHpc.Configuration;

namespace LoftHpc.Data;

/// <summary>
/// The official binary files of CIFAR-10 and CIFAR-100: records of one label byte (CIFAR-100: the coarse label, then the
/// fine one, which is used), then 3 x 32 x 32 bytes, planes R, G, B. Nothing in a file says how many records it has, so
/// a file must be a whole number of them, and together they must have as many as are asked for.
/// </summary>
internal static class CifarFiles
{
    private const int CoarseClasses = 20;

    /// <summary>Of a set of the user's own, as of CIFAR.</summary>
    public const int DefaultChannels = 3, DefaultSide = 32;

    public static (byte[] Pixels, byte[] Labels) Read(ImageSplitRequest request)
    {
        ImageDataSet set = request.Set;
        bool coarse = set.Classes == 100;
        string[] names = coarse ? [request.Train ? "train.bin" : "test.bin"]
            : request.Train ? [.. Enumerable.Range(1, 5).Select(i => $"data_batch_{i}.bin")] : ["test_batch.bin"];
        int labelBytes = coarse ? 2 : 1, recordBytes = labelBytes + set.ImageBytes;

        byte[] pixels = new byte[request.Count * set.ImageBytes], labels = new byte[request.Count];
        byte[] record = new byte[recordBytes];
        int count = 0;
        foreach (string path in names.Select(name => Path.Combine(request.Folder, name)))
        {
            if (count == request.Count) break;
            if (!File.Exists(path)) throw request.Missing(Path.GetFileName(path));
            Reading(path, () =>
            {
                using FileStream file = RegularFile.OpenRead(path, 1 << 16);
                if (file.Length == 0 || file.Length % recordBytes != 0)
                {
                    throw new UserError(
                        $"{path}: found {file.Length} bytes; expected a whole number of records of {recordBytes} bytes ({set.Title}); the file is cut or another");
                }
                int first = count;
                count += (int)Math.Min(file.Length / recordBytes, request.Count - first);
                for (int i = first; i < count; i++)
                {
                    file.ReadExactly(record);
                    if (coarse && record[0] >= CoarseClasses) throw BadCoarseLabel(request, path, i - first, record[0]);
                    labels[i] = record[labelBytes - 1];
                    record.AsSpan(labelBytes).CopyTo(pixels.AsSpan(i * set.ImageBytes));
                }
                request.CheckLabels(labels.AsSpan(first, count - first), path);
                return true;
            });
        }
        if (count < request.Count)
        {
            throw new UserError(
                $"{request.Folder}: found {count} images in {string.Join(", ", names)}; expected {request.Count}"
                + $" (ask for fewer by data.{(request.Train ? "train" : "test")}_images, or get the whole of {set.Title}: {set.HowToGet})");
        }
        return (pixels, labels);
    }

    /// <summary>
    /// A split of a set of the user's own, of the same form with any size, channels and classes: train*.bin and data_batch*.bin, or
    /// test*.bin, in the ordinal order of their names. A record is one label byte, or two of which the last is used, then the planes.
    /// </summary>
    /// <exception cref="UserError">A file is missing, cut, or not what it should be.</exception>
    public static BinarySplit ReadOwn(DataSection section, string folder, bool train)
    {
        int channels = section.Channels ?? DefaultChannels, side = section.ImageSize ?? DefaultSide, imageBytes = channels * side * side, recordBytes = section.LabelBytes + imageBytes;
        string[] patterns = train ? ["train*.bin", "data_batch*.bin"] : ["test*.bin"];
        string[] paths = [.. patterns.SelectMany(pattern => Directory.EnumerateFiles(folder, pattern)).Order(StringComparer.Ordinal)];
        if (paths.Length == 0) throw new UserError($"{folder}: there is no file {string.Join(" or ", patterns)}; expected one at least (data.set cifar-binary)");
        List<(string Path, long Records)> files = [];
        foreach (string path in paths)
        {
            long length = Reading(path, () =>
            {
                using FileStream file = RegularFile.OpenRead(path);
                return file.Length;
            });
            if (length == 0 || length % recordBytes != 0)
            {
                throw new UserError(
                    $"{path}: found {length} bytes; expected a whole number of records of {recordBytes} bytes: {section.LabelBytes} of label (data.label_bytes), {channels} x {side} x {side} of image (data.channels, data.image_size)");
            }
            files.Add((path, length / recordBytes));
        }
        long count = files.Sum(file => file.Records);
        BinarySplit.CheckShape(folder, channels, side, side, count);
        byte[] pixels = new byte[count * imageBytes], labels = new byte[count], record = new byte[recordBytes];
        int at = 0;
        foreach ((string path, long records) in files)
        {
            Reading(path, () =>
            {
                using FileStream file = RegularFile.OpenRead(path, 1 << 16);
                for (long i = 0; i < records; i++, at++)
                {
                    file.ReadExactly(record);
                    labels[at] = record[section.LabelBytes - 1];
                    record.AsSpan(section.LabelBytes).CopyTo(pixels.AsSpan(at * imageBytes));
                }
                return true;
            });
        }
        return new BinarySplit(channels, side, pixels, labels, folder, folder);
    }

    private static T Reading<T>(string path, Func<T> read)
    {
        try
        {
            return read();
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            throw new UserError($"{path}: cannot be read: {error.Message}", error);
        }
    }

    private static UserError BadCoarseLabel(ImageSplitRequest request, string path, int image, byte label) =>
        new($"{path}: image {image} has coarse label {label}; expected labels from 0 to {CoarseClasses - 1} ({request.Set.Title})");
}
