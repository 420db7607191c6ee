using LoftHpc.Configuration;
using LoftHpc.Data;
using LoftHpc.Fuzz;
using LoftHpc.Mpi;
using LoftHpc.PyTorch;
using LoftHpc.Results;
using LoftHpc.Tests.Mpi;
using Xunit;

namespace LoftHpc.Tests.Commands;

/// <summary>A folder of images, from files to a ticket, on real ranks.</summary>
public sealed class OwnDataTests : ProgramTests
{
    private string Images => Path.Combine(TemporaryPath, "images");

    private string[] Keys => ["data.set=image-folder", $"data.folder={Images}", "data.image_size=28", "data.train_images=all", "data.test_images=all"];

    [SkippableFact]
    public void A_run_on_a_folder_learns_its_classes_and_leaves_out_what_is_no_image()
    {
        Make(train: 24, test: 10);
        string stray = Path.Combine(Images, "train/blue/notes.txt");
        File.WriteAllText(stray, "no image");
        LaunchResult result = Start(
            MpiLauncher.AnyFamily(), 2, "run", ["run.name=a", "pretrain.method=data-parallel", "pretrain.epochs=4", "pretrain.batch=8", "data.broken_images=skip", .. Keys]).MustSucceed();
        Assert.Equal(1, Occurrences(result.Error, $"warning: 1 file is no image that can be used, left out (data.broken_images skip): {stray} is neither a JPEG nor a PNG"));
        RunFolder folder = Folder("a");
        // Half of them by chance.
        Assert.InRange(folder.Summary.Read().Single(row => row.Network is NetworkState.Dense).TestAccuracy, 0.8, 1);
        Assert.Contains("image-folder train, 48 images, hash of names and sizes ", Assert.Single(RunManifest.Read(folder.Manifest).Launches).DataHash, StringComparison.Ordinal);
        Assert.All(folder.Resources.Read(), row => Assert.InRange(row.DataSeconds, double.Epsilon, row.Seconds));

        // What evaluations see, as IDX files, is a set of its own.
        string exported = Path.Combine(TemporaryPath, "exported");
        foreach (DataSplit split in new[] { DataSplit.Train, DataSplit.Test })
        {
            PyTorchExport.Write(folder, "ticket", Path.Combine(TemporaryPath, $"{split}"), split, []);
            Directory.CreateDirectory(exported);
            foreach (string file in Directory.EnumerateFiles(Path.Combine(TemporaryPath, $"{split}"), "*ubyte")) File.Move(file, Path.Combine(exported, Path.GetFileName(file)));
        }
        ImageData read = ImageDataLoader.Load(new DataSection { Set = DataSetName.Idx, Folder = exported }, 1);
        ImageData images = ImageDataLoader.Load(RunConfigLoader.Load(folder.Config).Data, 1);
        List<byte> pixels = [];
        images.Test.ForEach(image => pixels.AddRange(image.ToArray()));
        Assert.Equal(pixels, read.Test.Pixels);
        Assert.Equal(images.Train.Labels, read.Train.Labels);
        Assert.Equal((3, 28, 2), (read.Train.Channels, read.Train.Height, read.Train.Classes));
    }

    [SkippableFact]
    public void A_broken_file_ends_the_launch_by_one_line_before_anything_is_written()
    {
        Make(train: 4, test: 2);
        string broken = Path.Combine(Images, "val/red/9.jpg");
        File.WriteAllBytes(broken, [0xFF, 0xD8, 0xFF]);
        MustBeOneLine(Start(MpiLauncher.AnyFamily(), 2, "run", ["run.name=a", .. Keys]), ExitCodes.Configuration, $"data.broken_images: 1 file is no image that can be used: {broken} has a broken header");
        Assert.False(Directory.Exists(Folder("a").Path));
    }

    /// <summary>Found by the rank whose share it is, which ends all of them.</summary>
    [SkippableFact]
    public void A_file_that_breaks_in_training_ends_the_launch_and_is_named()
    {
        Make(train: 6, test: 2);
        string cut = Path.Combine(Images, "train/red/0.png");
        File.WriteAllBytes(cut, File.ReadAllBytes(cut)[..60]);
        MustBeOneLine(Start(MpiLauncher.AnyFamily(), 2, "pretrain", ["run.name=a", "pretrain.method=data-parallel", .. Keys]), ExitCodes.Configuration, $"{cut}: the image is cut or damaged; ");
    }

    /// <summary>Data-parallel and filter-parallel, float64, on what threads decode ahead: as one process on one thread.</summary>
    [SkippableTheory]
    [InlineData(2)]
    [InlineData(3)]
    public void Ranks_train_on_a_folder_as_one_process_does(int ranks)
    {
        Make(train: 6, test: 2);
        File.WriteAllText(Path.Combine(Images, "train/red/zzz"), "no image");
        MpiLauncher.RunScenarios(MpiLauncher.AnyFamily(), ranks, [["TrainingScenarios.ImageFolder", Images]]).MustSucceed();
    }

    /// <summary>Red images and blue ones, in noise, of all sizes, JPEG and PNG.</summary>
    private void Make(int train, int test)
    {
        Random random = new(1);
        foreach ((string split, int count) in new[] { ("train", train), ("val", test) })
        {
            foreach ((string name, int channel) in new[] { ("blue", 2), ("red", 0) })
            {
                string folder = Directory.CreateDirectory(Path.Combine(Images, split, name)).FullName;
                for (int i = 0; i < count; i++)
                {
                    (int width, int height) = (random.Next(20, 60), random.Next(20, 60));
                    int Value(int y, int x, int of) => random.Next(100) + (of == channel ? 120 : 0);
                    if (i % 2 == 0) File.WriteAllBytes(Path.Combine(folder, $"{i}.png"), ImageFile.Png(width, height, 3, Value));
                    else File.WriteAllBytes(Path.Combine(folder, $"{i}.jpg"), ImageFile.Jpeg(width, height, Value));
                }
            }
        }
    }
}
