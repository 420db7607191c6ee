using System.Collections;
using System.Reflection;
using LoftHpc.Configuration;
using Xunit;

namespace LoftHpc.Tests.Configuration;

public sealed class RunConfigLoaderTests
{
    private static RunConfig Parse(string yaml, params string[] overrides) => RunConfigLoader.Parse(yaml, "a.yaml", overrides);

    private static string[] ProblemsOf(string yaml, params string[] overrides) =>
        Assert.Throws<UserError>(() => Parse(yaml, overrides)).Message.Split('\n');

    [Fact]
    public void An_empty_file_gives_the_defaults() => AssertEqual(new RunConfig(), Parse(""));

    [Fact]
    public void Values_of_every_kind_are_read()
    {
        RunConfig config = Parse("""
            run: { name: "null", seed: -5000000000, overwrite: true, threads: 3, device: cuda, mpi: mpi.net }
            network: { family: wide-resnet, depth: 16, widen_factor: 4 }
            data:
              set: fashion-mnist
              train_images: 100
              test_images: all
              folder: /data/some folder
            pretrain:
              backward: local
              snapshots: [1, 3]
              optimizer: { learning_rate: 5e-2, weight_decay: 0, milestones: [1 epoch, 20 epochs] }
            distance: { every: 500 steps }
            retrain: { batch_norm: per-rank }
            """);
        Assert.Equal(("null", -5_000_000_000, true, (int?)3, DeviceChoice.Cuda, MpiBinding.MpiNet),
            (config.Run.Name, config.Run.Seed, config.Run.Overwrite, config.Run.Threads, config.Run.Device, config.Run.Mpi));
        Assert.Equal((NetworkFamily.WideResnet, 16, 4), (config.Network.Family, config.Network.Depth, config.Network.WidenFactor));
        Assert.Equal((DataSetName.FashionMnist, 100, null, "/data/some folder"),
            (config.Data.Set, config.Data.TrainImages, config.Data.TestImages, config.Data.Folder));
        Assert.Equal(BackwardKind.Local, config.Pretrain.Backward);
        Assert.Equal([1, 3], config.Pretrain.Snapshots);
        Assert.Equal((0.05, 0.0), (config.Pretrain.Optimizer.LearningRate, config.Pretrain.Optimizer.WeightDecay));
        Assert.Equal([TrainingTime.Epochs(1), TrainingTime.Epochs(20)], config.Pretrain.Optimizer.Milestones);
        Assert.Equal(TrainingTime.Steps(500), config.Distance.Every);
        Assert.Equal(BatchNormScope.PerRank, config.Retrain.BatchNorm);
        Assert.Equal(new RetrainSection().Optimizer.LearningRate, config.Retrain.Optimizer.LearningRate);
    }

    [Fact]
    public void All_problems_come_at_once_with_their_lines()
    {
        string[] problems = ProblemsOf("""
            run:
              name: a/b
              thread: 4
            network:
              depth: 20
              width: zero
              width: 8
            optimiser:
              momentum: 0.9
            pretrain:
              epochs: 2.5
              batch: "64"
              learning_rate: 0.1
              snapshots: [1, two]
              optimizer: { decay: 0, milestones: [2 epochs, 1 epoch] }
            distance:
              every: 0 steps
            extract: 0.5
            """, "data.set=imagenet", "extract", "retrain.epochs=-1");
        Assert.Collection(
            problems,
            p => Assert.StartsWith("a.yaml:2: run.name: a/b", p),
            p => Assert.StartsWith("a.yaml:3: unknown key run.thread, did you mean run.threads?; allowed in run: name, folder, ", p),
            p => Assert.Equal("a.yaml:5: network.depth: 20 is not a depth of preact-resnet; allowed: 18, 34", p),
            p => Assert.Equal("a.yaml:6: network.width: found zero; allowed: a whole number from 1 to 4096", p),
            p => Assert.StartsWith("a.yaml:7: duplicate key width, first given at a.yaml:6", p),
            p => Assert.StartsWith("a.yaml:8: unknown key optimiser", p),
            p => Assert.Equal("a.yaml:11: pretrain.epochs: found 2.5; allowed: a whole number from 0 to 1000000", p),
            p => Assert.Equal("a.yaml:12: pretrain.batch: found \"64\" (quoted text); allowed: a whole number from 1 to 1000000", p),
            p => Assert.StartsWith("a.yaml:13: unknown key pretrain.learning_rate, did you mean pretrain.optimizer.learning_rate?", p),
            p => Assert.StartsWith("a.yaml:14: pretrain.snapshots: found two; allowed: a list", p),
            p => Assert.Equal("a.yaml:15: pretrain.optimizer.decay: found 0; allowed: a number above 0 to 1", p),
            p => Assert.StartsWith("a.yaml:15: pretrain.optimizer.milestones: [2 epochs, 1 epoch]; allowed: ", p),
            p => Assert.Equal("a.yaml:17: distance.every: found 0 steps; allowed: a time such as 1 epoch or 500 steps from 1 to 1000000000", p),
            p => Assert.StartsWith("a.yaml:18: extract: found 0.5; allowed: a section with the keys ratio, first_blocks, from", p),
            p => Assert.Equal("override data.set=imagenet: data.set: found imagenet; allowed: fashion-mnist, mnist, cifar10, cifar100, synthetic", p),
            p => Assert.Equal("override extract: not of the form section.key=value", p),
            p => Assert.Equal("override retrain.epochs=-1: retrain.epochs: found -1; allowed: a whole number from 0 to 1000000", p));
    }

    [Theory]
    [InlineData("pretrain: { epochs: 3, snapshots: [4] }", "a.yaml:1: pretrain.snapshots: [4]; allowed: epochs from 1 to 3")]
    [InlineData("pretrain: { epochs: 3, snapshots: [2, 2] }", "a.yaml:1: pretrain.snapshots: [2, 2]; allowed: epochs from 1 to 3")]
    [InlineData("pretrain: { optimizer: { milestones: [1 epoch, 500 steps] } }", "a.yaml:1: pretrain.optimizer.milestones: ")]
    [InlineData("retrain: { optimizer: { milestones: [0 epochs] } }", "a.yaml:1: retrain.optimizer.milestones: found 0 epochs")]
    [InlineData("network: { family: wide-resnet }", "a.yaml:1: network.depth: 18 is not a depth of wide-resnet; allowed: 6n + 4")]
    [InlineData("network: { widen_factor: 2 }", "a.yaml:1: network.widen_factor: preact-resnet has no widen factor")]
    [InlineData("network: { form: imagenet, depth: 34 }", "a.yaml:1: network.form: imagenet is not a form of preact-resnet of depth 34")]
    [InlineData("network: { form: imagenet, family: resnet }", "a.yaml:1: network.form: imagenet is not a form of resnet")]
    [InlineData("extract: { ratio: 1 }", "a.yaml:1: extract.ratio: found 1; allowed: a number from 0 to below 1")]
    [InlineData("extract: { ratio: .nan }", "a.yaml:1: extract.ratio: found .nan")]
    [InlineData("extract:\n  ratio: 0,5", "a.yaml:2: extract.ratio: found 0,5")]
    [InlineData("run: { name: .. }", "a.yaml:1: run.name: .. is not the plain name of a folder")]
    [InlineData("run: { name: }", "a.yaml:1: run.name: found nothing; allowed: text")]
    [InlineData("run: { seed: 99999999999999999999 }", "a.yaml:1: run.seed: found 99999999999999999999; allowed: a whole number")]
    [InlineData("run: { threads: 0 }", "a.yaml:1: run.threads: found 0; allowed: a whole number from 1 to 1024, or auto")]
    [InlineData("run: { mpi: mpi-net }", "a.yaml:1: run.mpi: found mpi-net; allowed: native, mpi.net")]
    [InlineData("data: { flip: yes }", "a.yaml:1: data.flip: found yes; allowed: true, false")]
    [InlineData("data: { flip: !!str true }", "a.yaml:1: the tag tag:yaml.org,2002:str is not used here")]
    [InlineData("[1]", "a.yaml:1: a list stands where sections are expected")]
    [InlineData("run:\n  name: x\n---\nrun:\n", "a.yaml:3: a second YAML document starts here")]
    [InlineData("run: { name: x ]", "a.yaml:1: not valid YAML: ")]
    [InlineData("retrain: &a { epochs: 1 }\npretrain: *a\n", "a.yaml:2: not valid YAML: aliases")]
    public void Impossible_values_say_what_is_allowed(string yaml, string start) => Assert.StartsWith(start, ProblemsOf(yaml)[0]);

    [Fact]
    public void Overrides_win_over_the_file_and_the_last_one_over_all()
    {
        RunConfig config = Parse(
            "run: { name: file }\npretrain: { epochs: wrong, optimizer: { learning_rate: 1, momentum: 0.5 } }",
            "run.name=first", "run.name=a=b #c: [d", "pretrain.epochs=7", "pretrain.optimizer.learning_rate=0.05", "pretrain.snapshots=[1,2]",
            "extract.from=results/x", "retrain.optimizer.milestones=[2 epochs, 3 epochs]");
        Assert.Equal("a=b #c: [d", config.Run.Name);
        Assert.Equal(7, config.Pretrain.Epochs);
        Assert.Equal((0.05, 0.5), (config.Pretrain.Optimizer.LearningRate, config.Pretrain.Optimizer.Momentum));
        Assert.Equal([1, 2], config.Pretrain.Snapshots);
        Assert.Equal("results/x", config.Extract.From);
        Assert.Equal([TrainingTime.Epochs(2), TrainingTime.Epochs(3)], config.Retrain.Optimizer.Milestones);
    }

    [Theory]
    [InlineData("run.nam=x", "override run.nam=x: unknown key run.nam, did you mean run.name?")]
    [InlineData("pretrain.optimizer=x", "override pretrain.optimizer=x: pretrain.optimizer: found x; allowed: a section with the keys learning_rate")]
    [InlineData("pretrain.epochs.x=1", "override pretrain.epochs.x=1: pretrain.epochs: found a section; allowed: a whole number from 0")]
    [InlineData("pretrain.snapshots=[1", "override pretrain.snapshots=[1: not valid YAML")]
    [InlineData("=x", "override =x: not of the form section.key=value")]
    [InlineData("network.depth=19", "override network.depth=19: network.depth: 19 is not a depth of preact-resnet; allowed: 18, 34")]
    public void Errors_in_overrides_name_the_override(string item, string start) => Assert.StartsWith(start, Assert.Single(ProblemsOf("", item)));

    [Fact]
    public void A_missing_file_is_one_line() =>
        Assert.StartsWith("/nowhere/x.yaml: there is no such file", Assert.Throws<UserError>(() => RunConfigLoader.Load("/nowhere/x.yaml")).Message);

    /// <summary>Each key has a value that is not its default, which is checked by reflection, so that no key can be forgotten.</summary>
    [Fact]
    public void The_dump_loads_back_to_an_equal_config()
    {
        OptimizerSection optimizer = new() { LearningRate = 1.0 / 3, Momentum = 0.1, WeightDecay = 1e-300, Milestones = [TrainingTime.Steps(1)], Decay = 0.3 };
        RunSection run = new() { Name = "null", Folder = "a: [b] # c", Overwrite = true, Seed = long.MinValue, Device = DeviceChoice.Cuda, Threads = 2, Mpi = MpiBinding.MpiNet, CudaAwareMpi = true };
        SyntheticSection synthetic = new() { Channels = 1, Size = 40, Classes = 3 };
        RunConfig config = new()
        {
            Run = run,
            Network = new() { Family = NetworkFamily.WideResnet, Depth = 28, Width = 16, WidenFactor = 10 },
            Data = new()
            {
                Set = DataSetName.Cifar100,
                Folder = "null",
                TrainImages = 7,
                TestImages = 8,
                CropPadding = 2,
                Flip = false,
                Synthetic = synthetic,
            },
            Pretrain = new()
            {
                Backward = BackwardKind.Local,
                Assignment = AssignmentKind.Random,
                BatchNorm = BatchNormScope.PerRank,
                LocalSteps = 4,
                Samples = SampleScope.Shard,
                Loft = new()
                {
                    Stages = [1],
                    FirstBlocks = true,
                    Momentum = MomentumKind.Travel,
                    RunningStatistics = RunningStatisticsKind.Average,
                    StatisticsImages = 6,
                    Deal = DealKind.Norm,
                    WarmupRounds = 3,
                },
                Gpipe = new() { MicroBatches = 2, Cuts = ["layer2.0"] },
                Epochs = 9,
                Batch = 31,
                Snapshots = [2, 4],
                Optimizer = optimizer,
            },
            Distance = new() { Every = TrainingTime.Steps(2), PairsMax = 5 },
            Extract = new() { Ratio = 0.7, FirstBlocks = true, From = "results/é \"x\"" },
            Retrain = new() { Epochs = 1, Batch = 2, BatchNorm = BatchNormScope.PerRank, Optimizer = optimizer with { Milestones = [TrainingTime.Epochs(2)] } },
            Evaluate = new() { Weights = "~", Split = DataSplit.Train, Batch = 3 },
            Plot = new() { Layers = ["conv1", "layer2.0.conv1"] },
            Plan = new() { Ranks = [3, 5], LatencyMicroseconds = 0.5, BandwidthGigabytesPerSecond = 1.25 },
        };
        AssertEqual(config, Parse(RunConfigLoader.ToYaml(config)));
        AssertEqual(new RunConfig(), Parse(RunConfigLoader.ToYaml(new RunConfig())));
        AssertEachKeyDiffers(config, new RunConfig(), "");
    }

    [Fact]
    public void The_dump_is_written_with_the_names_of_the_file()
    {
        string dump = RunConfigLoader.ToYaml(new RunConfig { Run = new RunSection { Mpi = MpiBinding.MpiNet } });
        Assert.Contains("  threads: auto\n", dump);
        Assert.Contains("  mpi: mpi.net\n", dump);
    }

    /// <summary>Records compare lists by reference, so this walks the properties.</summary>
    private static void AssertEqual(object? expected, object? actual, string path = "config")
    {
        if (expected is IEnumerable and not string)
            Assert.Equal(((IEnumerable)expected).Cast<object>(), ((IEnumerable)actual!).Cast<object>());
        else if (expected is null || !expected.GetType().Name.StartsWith("Run", StringComparison.Ordinal) && !expected.GetType().Name.EndsWith("Section", StringComparison.Ordinal))
            Assert.True(Equals(expected, actual), $"{path}: expected {expected ?? "null"}, found {actual ?? "null"}");
        else
            foreach (PropertyInfo property in Settable(expected)) AssertEqual(property.GetValue(expected), property.GetValue(actual), $"{path}.{property.Name}");
    }

    private static void AssertEachKeyDiffers(object changed, object original, string path)
    {
        foreach (PropertyInfo property in Settable(changed))
        {
            object? a = property.GetValue(changed), b = property.GetValue(original);
            string key = path + property.Name;
            // The first has one value; the other has one beside a wide-resnet.
            if (key is "Pretrain.Method" or "Network.Form") continue;
            if (property.PropertyType.Name.EndsWith("Section", StringComparison.Ordinal)) AssertEachKeyDiffers(a!, b!, key + ".");
            else Assert.False(Equals(a, b), $"{key} has its default value in this test");
        }
    }

    private static IEnumerable<PropertyInfo> Settable(object section) => section.GetType().GetProperties().Where(p => p.CanWrite);
}
