using System.Text;
using LoftHpc.Commands;
using LoftHpc.Configuration;
using LoftHpc.Output;
using LoftHpc.Results;
using LoftHpc.Sweeping;

namespace LoftHpc.Fuzz;

/// <summary>Config files: read, written, read back, and planned.</summary>
internal sealed class YamlFormat : FuzzFormat
{
    private static readonly byte[][] Seed =
    [
        Encoding.UTF8.GetBytes(RunConfigLoader.ToYaml(Seeds.Config)),
        Encoding.UTF8.GetBytes(RunConfigLoader.ToYaml(new RunConfig())),
        """
        # A run by hand.
        run: {name: "a b", seed: -7, threads: auto}
        network:
          family: resnet
          depth: 34
          width: 16
        data:
          set: cifar10
          train_images: all
        pretrain:
          method: loft
          epochs: 4
          snapshots: [1, 2]
          loft:
            stages:
              - 2
              - 3
          optimizer: {milestones: [1 epoch, 2 epochs], learning_rate: 1e-1}
        distance: {every: 500 steps}
        plot:
          layers: ['conv1', "layer1.0.conv1"]
        plan: {ranks: [2]}

        """u8.ToArray(),
        "network: {depth: 18, width: 4}\nplan: {ranks: [1, 2]}\n"u8.ToArray(),
    ];

    public override string Name => "yaml";

    protected override bool SeveralLines => true;

    /// <summary>A config as a mutated text.</summary>
    public static byte[] Config(Mutator mutator) => mutator.OneIn(300) ? Bomb(mutator) : mutator.OneIn(8) ? mutator.Bytes(mutator.Pick(Seed), Seed) : mutator.Text(mutator.Pick(Seed), Seed);

    public override void Make(Mutator mutator, string folder)
    {
        string path = FileIn(folder);
        File.WriteAllBytes(path, mutator.OneIn(30) ? mutator.Pick(Seed) : Config(mutator));
        // A pipe is a config that is allowed; here nobody would write into it.
        if (mutator.OneIn(100)) File.Delete(path);
        else if (mutator.OneIn(100)) Replace(path, "/dev/zero");
    }

    protected override bool Read(string folder)
    {
        RunConfig config = RunConfigLoader.Load(FileIn(folder));
        string text = RunConfigLoader.ToYaml(config);
        string again = RunConfigLoader.ToYaml(RunConfigLoader.Parse(text, FileIn(folder)));
        if (text != again) throw new UnclearException($"the config does not read back: {text}\n{again}");
        PlanFormat.Plan(config);
        return true;
    }

    private static string FileIn(string folder) => Path.Combine(folder, "config.yaml");

    private static void Replace(string path, string target)
    {
        File.Delete(path);
        File.CreateSymbolicLink(path, target);
    }

    private static byte[] Bomb(Mutator mutator)
    {
        StringBuilder text = new("a0: &a0 [x, x]\n");
        switch (mutator.Below(4))
        {
            case 0:
                for (int i = 1; i < 40; i++) text.Append($"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n");
                break;
            case 1:
                for (int i = 1; i < 3000; i++) text.Append(' ', i).Append("a:\n");
                break;
            case 2:
                for (int i = 0; i < 100_000; i++) text.Append($"key{i}: {i}\n");
                break;
            default: return new byte[5_000_000];
        }
        return Encoding.UTF8.GetBytes(text.ToString());
    }
}

/// <summary>The file of a sweep, over a config that is right: its runs, and their lists for Slurm.</summary>
internal sealed class SweepFormat : FuzzFormat
{
    private static readonly byte[][] Seed =
    [
        """
        config: config.yaml
        folder: results/mine
        baseline: none
        seeds: [1, 2]
        ranks: [2, 4]
        overrides: [data.train_images=1000, "pretrain.optimizer.milestones=[5 steps]"]
        methods:
          - name: dense
            ranks: [1]
            set: [pretrain.method=dense]
          - name: loft
            set: [pretrain.method=loft, 'pretrain.loft.stages=[2, 3]']
        axes:
          pretrain.optimizer.learning_rate: [0.1, 0.05]
          retrain.optimizer.warmup: ["2 steps", 1 epoch]

        """u8.ToArray(),
        "config: config.yaml\n"u8.ToArray(),
    ];

    public override string Name => "sweep";

    protected override bool SeveralLines => true;

    public override void Make(Mutator mutator, string folder)
    {
        File.WriteAllText(Path.Combine(folder, "config.yaml"), "network: {width: 4}\n");
        byte[] text = mutator.OneIn(20) ? mutator.Pick(Seed) : mutator.OneIn(8) ? mutator.Bytes(mutator.Pick(Seed), Seed) : mutator.Text(mutator.Pick(Seed), Seed);
        File.WriteAllBytes(Path.Combine(folder, "sweep.yaml"), text);
    }

    protected override bool Read(string folder)
    {
        SweepPlan plan = SweepCommand.Plan(Path.Combine(folder, "sweep.yaml"), new SweepChanges([]));
        SweepList.Write(Path.Combine(folder, "runs.txt"), plan, plan.Runs);
        return true;
    }
}

/// <summary>The plan of a config that was accepted.</summary>
internal static class PlanFormat
{
    private static readonly ConsoleReporter Silent = new(TextWriter.Null, TextWriter.Null, Verbosity.Quiet, ProgressKind.Lines, unicode: false, colors: false, () => 80);

    /// <summary>It may say that it cannot be planned, in one line.</summary>
    public static void Plan(RunConfig config)
    {
        try
        {
            PlanCommands.Plan(config, Silent);
        }
        catch (UserError error) when (!error.Message.Contains('\n', StringComparison.Ordinal))
        {
            // Of a config without a file's name: the launch knows which one.
        }
    }
}

/// <summary>Arguments <c>section.key=value</c> over a config.</summary>
internal sealed class OverrideFormat : FuzzFormat
{
    private static readonly byte[][] Seed =
    [
        .. new[]
        {
            "run.name=a b", "run.seed=7", "run.threads=auto", "run.precision=bfloat16", "network.width=8", "network.depth=34", "network.family=resnet", "data.set=mnist", "data.folder=/nowhere", "data.train_images=10",
            "pretrain.snapshots=[1,2]", "pretrain.optimizer.milestones=[1 epoch, 2 epochs]", "pretrain.optimizer.learning_rate=0.05", "pretrain.loft.stages=[2, 3]", "pretrain.epochs=3",
            "distance.every=500 steps", "extract.ratio=0.25", "evaluate.weights=\"w\"", "plot.layers=['conv1']", "plan.ranks=[1,2]", "run={name: x}", "retrain.batch=4",
        }.Select(Encoding.UTF8.GetBytes),
    ];

    public override string Name => "override";

    protected override bool SeveralLines => true;

    public override void Make(Mutator mutator, string folder)
    {
        // A file has a line for each: an argument ends at a zero byte, and takes any other.
        IEnumerable<byte[]> arguments = Enumerable.Range(0, 1 + mutator.Below(3)).Select(_ => mutator.OneIn(6) ? mutator.Pick(Seed) : mutator.Text(mutator.Pick(Seed), Seed));
        File.WriteAllBytes(Path.Combine(folder, "overrides"), [.. arguments.SelectMany(argument => (byte[])[.. argument, 0])]);
    }

    protected override bool Read(string folder)
    {
        string[] overrides = Encoding.UTF8.GetString(File.ReadAllBytes(Path.Combine(folder, "overrides"))).Split('\0')[..^1];
        RunConfig config = RunConfigLoader.Parse("", "", overrides);
        string text = RunConfigLoader.ToYaml(config);
        if (text != RunConfigLoader.ToYaml(RunConfigLoader.Parse(text, ""))) throw new UnclearException($"the config does not read back: {text}");
        PlanFormat.Plan(config);
        return true;
    }

    protected override bool NamesInput(string line, string folder) => line.Contains("override", StringComparison.Ordinal);
}

/// <summary>The whole command line. The commands that would train get no config with which they can.</summary>
internal sealed class ArgumentsFormat : FuzzFormat
{
    /// <summary>Stands for the folder of the input.</summary>
    private const string Folder = "FOLDER";

    private const string Prefix = "lofthpc: error: ";

    private static readonly string[][] Seed =
    [
        ["plan", "--config", $"{Folder}/plan.yaml"],
        ["plan", "--config", $"{Folder}/plan.yaml", "network.width=8", "plan.ranks=[1,2]", "pretrain.method=loft"],
        ["compare", Folder, "--output", "out.csv"],
        ["compare", Folder, $"{Folder}/*", "--baseline", "ranks=2", "--margin", "0.01", "--fail-on-regression", "seconds", "--tolerance", "1", "--statistics", "out.csv", "--summary", "out.md"],
        ["run", "--config", $"{Folder}/wrong.yaml", "run.seed=3", "--quiet"],
        ["pretrain", "--config", $"{Folder}/none.yaml", "--verbose"],
        ["extract", "--config", $"{Folder}/wrong.yaml"],
        ["retrain", "--config", Folder],
        ["evaluate", "--config", $"{Folder}/wrong.yaml", "evaluate.weights=nowhere"],
        ["--help"], ["--version"], ["run", "--help"], ["plan", "-h"], [],
    ];

    private static readonly string[] Words =
    [
        "plan", "compare", "run", "pretrain", "extract", "retrain", "evaluate", "ru", "help", "--config", "--baseline", "--metric", "--margin", "--tolerance", "--output", "--summary", "--quiet", "--verbose", "--help", "-h", "-?", "--version",
        "--", "-", "", " ", "=", "a=b", "pretrain.epochs=0", "network.width=-1", "@none", "@/dev/zero", "[diagram]", "[suggest]", "[parse]", "--config=", "--config:x", "--baseline=..", "*", "?/..", "/h", "-c", "\u001b[31m", "\n", "x\ny=1",
        "run.name=\n", $"{Folder}/plan.yaml", $"{Folder}/wrong.yaml", "\ufffd", "%s", "--output=out.csv", "--conf",
    ];

    public override string Name => "arguments";

    public override void Make(Mutator mutator, string folder)
    {
        List<string> arguments = [.. mutator.Pick(Seed)];
        for (int changes = mutator.Below(4); changes > 0; changes--)
        {
            int at = mutator.Below(arguments.Count + 1);
            switch (mutator.Below(5))
            {
                case 0 or 1: arguments.Insert(at, mutator.Pick(Words)); break;
                case 2 when at < arguments.Count: arguments[at] = mutator.Pick(Words); break;
                case 3 when at < arguments.Count: arguments.RemoveAt(at); break;
                case 4: arguments.AddRange(Enumerable.Repeat(mutator.Pick(Words), mutator.Count(1000))); break;
            }
        }
        if (mutator.OneIn(10)) arguments.Insert(mutator.Below(arguments.Count + 1), Encoding.UTF8.GetString(mutator.Text("pretrain.epochs=3"u8.ToArray(), ["data.set=mnist"u8.ToArray()])));
        File.WriteAllText(Path.Combine(folder, "arguments"), string.Concat(arguments.Select(argument => argument.Replace("\0", "", StringComparison.Ordinal) + '\0')));
        // Data that are not there: what would train ends before it.
        File.WriteAllText(Path.Combine(folder, "plan.yaml"), "network: {width: 4}\ndata: {set: mnist, folder: /nowhere}\nplan: {ranks: [1, 2]}\npretrain: {method: dense}\n");
        File.WriteAllText(Path.Combine(folder, "wrong.yaml"), "network: {width: none}\n");
    }

    protected override bool Read(string folder)
    {
        string[] arguments = File.ReadAllText(Path.Combine(folder, "arguments")).Replace(Folder, folder, StringComparison.Ordinal).Split('\0')[..^1];
        (TextWriter output, TextWriter error) = (Console.Out, Console.Error);
        using StringWriter written = new(), complained = new();
        int exitCode;
        Console.SetOut(written);
        Console.SetError(complained);
        try
        {
            exitCode = CommandLine.Run(arguments);
        }
        finally
        {
            Console.SetOut(output);
            Console.SetError(error);
        }
        string message = complained.ToString();
        if (exitCode == ExitCodes.Done) return true;
        if (!message.StartsWith(Prefix, StringComparison.Ordinal) || !message.EndsWith('\n')) throw new UnclearException($"exit code {exitCode}, and the error is: {message}");
        throw new UserError(message[..^1], exitCode);
    }

    /// <summary>One mistake of the command line is one line; a config's problems are one each.</summary>
    protected override bool SeveralLines => true;

    protected override bool NamesInput(string line, string folder) =>
        line.StartsWith(Prefix, StringComparison.Ordinal) || line.StartsWith(folder, StringComparison.Ordinal) || line.StartsWith("override ", StringComparison.Ordinal);
}
