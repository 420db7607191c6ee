namespace LoftHpc.Data;

/// <summary>
/// The official binary files of CIFAR-10 and CIFAR-100: records of one label byte (CIFAR-100: the coarse label, then the
/// fine one, which is used), then 3 x 32 x 32 bytes, planes R, G, B. Nothing in a file says how many records it has, so
/// a file must be a whole number of them, and together they must have as many as are asked for.
/// </summary>
internal static class CifarFiles
{
    private const int CoarseClasses = 20;

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
            try
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
            }
            catch (Exception error) when (error is IOException or UnauthorizedAccessException)
            {
                throw new UserError($"{path}: cannot be read: {error.Message}", error);
            }
        }
        if (count < request.Count)
        {
            throw new UserError(
                $"{request.Folder}: found {count} images in {string.Join(", ", names)}; expected {request.Count}"
                + $" (ask for fewer by data.{(request.Train ? "train" : "test")}_images, or get the whole of {set.Title}: {set.HowToGet})");
        }
        return (pixels, labels);
    }

    private static UserError BadCoarseLabel(ImageSplitRequest request, string path, int image, byte label) =>
        new($"{path}: image {image} has coarse label {label}; expected labels from 0 to {CoarseClasses - 1} ({request.Set.Title})");
}
