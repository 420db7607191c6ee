using System.Text;
using LoftHpc.Fuzz;
using LoftHpc.Results;

namespace LoftHpc.Tests.Fuzz;

/// <summary>Cases that are no small files: made when they are needed.</summary>
internal static class LargeCases
{
    private static readonly Dictionary<string, Action<string>> Makers = new()
    {
        ["idx/pipe"] = folder => Mutator.MakePipe(Path.Combine(folder, "train-images-idx3-ubyte.gz")),
        ["cifar/pipe"] = folder => Mutator.MakePipe(Path.Combine(folder, "data_batch_1.bin")),
        ["image-folder/pipe"] = folder => Mutator.MakePipe(InClass(folder)),
        ["image-folder/endless"] = folder => File.CreateSymbolicLink(InClass(folder), "/dev/zero"),
        ["image-folder/pixels-of-gigabytes"] = folder => File.WriteAllBytes(InClass(folder), ImageFile.WithSize(ImageFile.Png(8, 8, 3, (_, _, _) => 1), 60_000, 60_000)),
        ["own-binary/pipe"] = folder => Mutator.MakePipe(Path.Combine(folder, "train.bin")),
        ["own-binary/images-of-gigabytes"] = folder => File.WriteAllBytes(Path.Combine(folder, "train-images-idx3-ubyte"), [0, 0, 8, 3, 0x00, 0x20, 0, 0, 0, 0, 0, 28, 0, 0, 0, 28]),
        ["safetensors/pipe"] = folder => Mutator.MakePipe(Path.Combine(folder, "weights.safetensors")),
        ["safetensors/tensor-of-a-terabyte"] = TensorOfATerabyte,
        ["state-dict/pipe"] = folder => Mutator.MakePipe(Path.Combine(folder, "model.pt")),
        ["state-dict/endless"] = folder => File.CreateSymbolicLink(Path.Combine(folder, "model.pt"), "/dev/zero"),
        ["state-dict/tensor-of-gigabytes"] = folder => File.WriteAllBytes(Path.Combine(folder, "model.pt"), StateDictFormat.Archive(Encoding.Latin1.GetBytes(StateDictFormat.Pickle(int.MaxValue, 0, int.MaxValue, 1)), 8)),
        ["csv/pipe"] = folder => Mutator.MakePipe(Path.Combine(folder, "metrics.csv")),
        ["csv/circle-of-links"] = folder => Circle(Path.Combine(folder, "metrics.csv")),
        ["csv/long-cell"] = folder => File.WriteAllText(Path.Combine(folder, "summary.csv"), $"network,test_accuracy,test_loss,parameters,flops\ndense,0.5,{new string('3', 100_000)}x,1,1\n"),
        ["json/pipe"] = folder => Mutator.MakePipe(Path.Combine(folder, "manifest.json")),
        ["json/circle-of-links"] = folder => Circle(Path.Combine(folder, "manifest.json")),
        ["checkpoint/record-is-a-pipe"] = folder => Mutator.MakePipe(Path.Combine(folder, "commit.json")),
        ["checkpoint/state-is-endless"] = folder => File.CreateSymbolicLink(Path.Combine(folder, "rank-0.safetensors"), "/dev/zero"),
        ["run-folder/config-is-a-pipe"] = folder => InRun(folder, run => run.Config, Mutator.MakePipe),
        ["run-folder/config-is-endless"] = folder => InRun(folder, run => run.Config, path => File.CreateSymbolicLink(path, "/dev/zero")),
        ["run-folder/weights-are-endless"] = folder => InRun(folder, run => run.DenseWeights, path => File.CreateSymbolicLink(path, "/dev/zero")),
        ["yaml/forgotten-bracket"] = folder => File.WriteAllText(Path.Combine(folder, "config.yaml"), "pretrain:\n  snapshots: [1\n  epochs: 3\n"),
        ["yaml/nesting"] = folder => File.WriteAllText(Path.Combine(folder, "config.yaml"), "run: " + new string('[', 100_000)),
        ["yaml/escape-in-a-key"] = folder => File.WriteAllText(Path.Combine(folder, "config.yaml"), "run:\n  \"na\\eme\": x\n"),
        ["yaml/long-key"] = folder => File.WriteAllText(Path.Combine(folder, "config.yaml"), $"{new string('k', 900)}: x\n"),
        ["yaml/many-mistakes"] = folder => File.WriteAllText(Path.Combine(folder, "config.yaml"), string.Concat(Enumerable.Range(0, 1000).Select(i => $"key{i}: {i}\n"))),
        ["yaml/endless"] = folder => File.CreateSymbolicLink(Path.Combine(folder, "config.yaml"), "/dev/zero"),
        ["sweep/no-config"] = folder => Sweep(folder, "", "config: null"),
        ["sweep/no-name"] = folder => Sweep(folder, "methods: [{name: }]\n"),
        ["sweep/many-runs"] = folder => Sweep(folder, string.Concat("axes:\n", string.Concat(Enumerable.Range(0, 40).Select(i => $"  run.key{i}: [1, 2]\n")))),
        ["sweep/name-out-of-the-folder"] = folder => Sweep(folder, "methods: [{name: ../../x}]\n"),
        ["sweep/section-of-runs"] = folder => Sweep(folder, "overrides: [\"run={seed: 3}\"]\n"),
        ["override/nesting"] = folder => File.WriteAllText(Path.Combine(folder, "overrides"), $"pretrain.snapshots={new string('[', 20_000)}\0"),
        ["override/many-mistakes"] = folder => File.WriteAllText(Path.Combine(folder, "overrides"), string.Concat(Enumerable.Range(0, 1000).Select(i => $"run.key{i}={i}\0"))),
        ["arguments/endless-response-file"] = folder => File.WriteAllText(Path.Combine(folder, "arguments"), "plan\0--config\0none\0@/dev/zero\0"),
        ["arguments/pipe-as-response-file"] = folder =>
        {
            string pipe = Path.Combine(folder, "pipe");
            Mutator.MakePipe(pipe);
            File.WriteAllText(Path.Combine(folder, "arguments"), $"retrain\0@{pipe}\0");
        },
        ["arguments/line-end"] = folder => File.WriteAllText(Path.Combine(folder, "arguments"), "a\nb\0"),
        ["arguments/many-mistakes"] = folder => File.WriteAllText(Path.Combine(folder, "arguments"), "plan\0" + string.Concat(Enumerable.Repeat("--none\0", 1000))),
        ["arguments/escape"] = folder => File.WriteAllText(Path.Combine(folder, "arguments"), "\u001b[31m\0retrain\0"),
    };

    /// <summary>Makes those of a format in a folder, each in a folder of its name.</summary>
    public static void Make(string format, string folder)
    {
        foreach ((string name, Action<string> make) in Makers.Where(maker => maker.Key.StartsWith($"{format}/", StringComparison.Ordinal)))
            make(Directory.CreateDirectory(Path.Combine(folder, name[(format.Length + 1)..])).FullName);
    }

    private static void Sweep(string folder, string text, string config = "config: config.yaml")
    {
        File.WriteAllText(Path.Combine(folder, "config.yaml"), "network: {width: 4}\n");
        File.WriteAllText(Path.Combine(folder, "sweep.yaml"), $"{config}\n{text}");
    }

    private static void TensorOfATerabyte(string folder)
    {
        DirectoryInfo run = Directory.CreateTempSubdirectory("lofthpc-test-");
        using FileStream file = File.Create(Path.Combine(folder, "weights.safetensors"));
        SafetensorsFormat.WithTensorOfATerabyte(File.ReadAllBytes(Seeds.MakeRunFolder(run.FullName).DenseWeights), file);
        run.Delete(recursive: true);
    }

    /// <summary>Path of one more file, in a folder of two classes that have an image each.</summary>
    private static string InClass(string folder)
    {
        foreach (string part in (string[])["train/a", "train/b", "val/a"])
        {
            Directory.CreateDirectory(Path.Combine(folder, part));
            File.WriteAllBytes(Path.Combine(folder, part, "good.png"), ImageFile.Png(9, 9, 1, (y, x, _) => y + x));
        }
        return Path.Combine(folder, "train/a/harm");
    }

    private static void Circle(string path) => File.CreateSymbolicLink(path, path);

    private static void InRun(string folder, Func<RunFolder, string> file, Action<string> make)
    {
        string path = file(Seeds.MakeRunFolder(folder));
        File.Delete(path);
        make(path);
    }
}
