using LoftHpc.Configuration;

namespace LoftHpc.Data;

/// <summary>
/// Which training images are held out (data.validation_images): of each class in proportion to its images, drawn by data.validation_seed.
/// The seed of the run has no part in it: a ticket must not be chosen by images on which the network that it was drawn from was trained.
/// </summary>
public static class ValidationSplit
{
    /// <summary>Takes the images that are to be held out from the training images; both keep their order.</summary>
    /// <exception cref="UserError">None would be left to train on.</exception>
    internal static ImageData HoldOut(ImageData data, DataSection section)
    {
        Check(section, data.Train.Count);
        if (section.ValidationImages == 0) return data;
        int[] held = Draw(data.Train.Labels, section.ValidationImages, section.ValidationSeed);
        HashSet<int> isHeld = [.. held];
        int[] left = [.. Enumerable.Range(0, data.Train.Count).Where(image => !isHeld.Contains(image))];
        return data with
        {
            Train = data.Train.Select(left),
            Validation = data.Train.Select(held) with { Name = $"{ConfigName.Of(section.Set)} {ConfigName.Of(DataSplit.Validation)}" },
        };
    }

    /// <exception cref="UserError">None would be left to train on.</exception>
    public static void Check(DataSection section, int trainImages)
    {
        if (section.ValidationImages >= trainImages)
            throw new UserError($"data.validation_images: {section.ValidationImages} of {trainImages} training images; allowed: 0 to {trainImages - 1}, as some must be left to train on");
    }

    /// <summary>
    /// The images held out, in ascending order. A class of n of the N images has n count / N of them, rounded down; those that are then still to be
    /// drawn go to the classes with the largest remainders, of equal ones to the lower class.
    /// </summary>
    /// <param name="labels">The class of each image.</param>
    public static int[] Draw(IReadOnlyList<int> labels, int count, long seed)
    {
        int[][] classes = [.. Enumerable.Range(0, labels.Count).GroupBy(image => labels[image]).OrderBy(images => images.Key).Select(images => images.ToArray())];
        long[] shares = [.. classes.Select(images => (long)images.Length * count)];
        int[] taken = [.. shares.Select(share => (int)(share / labels.Count))];
        foreach (int one in Enumerable.Range(0, classes.Length).OrderByDescending(one => shares[one] % labels.Count).Take(count - taken.Sum())) taken[one]++;
        return
        [
            .. classes.SelectMany((images, one) =>
                RandomStream.For(seed, "validation", labels[images[0]]).Permutation(images.Length).Take(taken[one]).Select(place => images[place])).Order(),
        ];
    }
}
