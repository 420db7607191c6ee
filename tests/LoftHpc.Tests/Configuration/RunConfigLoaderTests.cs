using System.Collections;
using System.Globalization;
using System.Reflection;
using System.Text.RegularExpressions;
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
    public void The_widths_of_another_ticket_are_a_path_that_the_dump_keeps()
    {
        RunConfig config = Parse("extract: { like: results/other }");
        Assert.Equal("results/other", config.Extract.Like);
        Assert.Equal("results/other", Parse(RunConfigLoader.ToYaml(config)).Extract.Like);
        Assert.Equal([0.1, 1.0 / 3], Parse(RunConfigLoader.ToYaml(new RunConfig { Tickets = new() { Ratios = [0.1, 1.0 / 3] } })).Tickets.Ratios);
    }

    [Fact]
    public void Values_of_every_kind_are_read()
    {
        RunConfig config = Parse("""
            run: { name: "null", seed: -5000000000, overwrite: true, threads: 3, precision: bfloat16, memory_format: channels-last, device: cuda, mpi: mpi.net }
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
        Assert.Equal(("null", -5_000_000_000, true, (int?)3, (Precision?)Precision.Bfloat16, (MemoryFormat?)MemoryFormat.ChannelsLast, DeviceChoice.Cuda, MpiBinding.MpiNet),
            (config.Run.Name, config.Run.Seed, config.Run.Overwrite, config.Run.Threads, config.Run.Precision, config.Run.MemoryFormat, config.Run.Device, config.Run.Mpi));
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
            p => Assert.Equal("override data.set=imagenet: data.set: found imagenet; allowed: fashion-mnist, mnist, cifar10, cifar100, synthetic, image-folder, idx, cifar-binary", p),
            p => Assert.Equal("override extract: not of the form section.key=value", p),
            p => Assert.Equal("override retrain.epochs=-1: retrain.epochs: found -1; allowed: a whole number from 0 to 1000000", p));
    }

    [Theory]
    [InlineData("pretrain: { epochs: 3, snapshots: [4] }", "a.yaml:1: pretrain.snapshots: [4]; allowed: epochs from 1 to 3")]
    [InlineData("pretrain: { epochs: 0, snapshots: [1] }", "a.yaml:1: pretrain.snapshots: [1]; allowed: none ([]), since there is no epoch")]
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
    [InlineData("extract: { criterion: l3 }", "a.yaml:1: extract.criterion: found l3; allowed: l2, l1, batch-norm-scale, geometric-median, lamp, rank-stability, taylor, random, smallest")]
    [InlineData("extract: { scope: network }", "a.yaml:1: extract.scope: found network; allowed: layer, global, flops, parameters, layer-ratios")]
    [InlineData("extract: { budget: 0 }", "a.yaml:1: extract.budget: found 0; allowed: a number above 0 to 1")]
    [InlineData("extract: { scope: layer-ratios, layer_ratios: [0.5, 1] }", "a.yaml:1: extract.layer_ratios: found 1; allowed: a list")]
    [InlineData("extract: { scope: layer-ratios, layer_ratios: [0.5, 0] }", "a.yaml:1: extract.layer_ratios: 2 ratios; allowed: one for each prunable block, of which there are 4 (layer1.1, layer2.1, layer3.1, layer4.1)")]
    [InlineData("extract:\n  scope: layer-ratios\n  first_blocks: true", "a.yaml:2: extract.layer_ratios: 0 ratios; allowed: one for each prunable block, of which there are 8 (layer1.0, layer1.1, layer2.0, ")]
    [InlineData("extract: { like: results/a, scope: global }", "a.yaml:1: extract.like: the widths of another ticket leave nothing to extract.scope global; allowed: one of the two")]
    [InlineData("extract: { like: results/a, round_to: 8 }", "a.yaml:1: extract.like: the widths of another ticket are not rounded to multiples of 8 (extract.round_to); allowed: one of the two")]
    [InlineData("retrain: { start: rewound }", "a.yaml:1: retrain.start: found rewound; allowed: pretrained, rewind, initial, reinitialised, shuffled")]
    [InlineData("run: { name: .. }", "a.yaml:1: run.name: .. is not the plain name of a folder")]
    [InlineData("run: { name: }", "a.yaml:1: run.name: found nothing; allowed: text")]
    [InlineData("run: { seed: 99999999999999999999 }", "a.yaml:1: run.seed: found 99999999999999999999; allowed: a whole number")]
    [InlineData("run: { precision: float64 }", "a.yaml:1: run.precision: found float64; allowed: float32, tf32, bfloat16, or auto")]
    [InlineData("latency: { batches: [1, 0] }", "a.yaml:1: latency.batches: found 0; allowed: a list such as [a, b] of at most 16 items that are each a whole number from 1 to 65536")]
    [InlineData("latency: { batches: [1, 8, 1] }", "a.yaml:1: latency.batches: [1, 8, 1]; allowed: each batch once")]
    [InlineData("latency: { rounds: 0 }", "a.yaml:1: latency.rounds: found 0; allowed: a whole number from 1 to 10000")]
    [InlineData("run: { tensorboard: yes please }", "a.yaml:1: run.tensorboard: found yes please; allowed: true, false")]
    [InlineData("run: { threads: 0 }", "a.yaml:1: run.threads: found 0; allowed: a whole number from 1 to 1024, or auto")]
    [InlineData("run: { mpi: mpi-net }", "a.yaml:1: run.mpi: found mpi-net; allowed: native, mpi.net")]
    [InlineData("data: { flip: yes }", "a.yaml:1: data.flip: found yes; allowed: true, false")]
    [InlineData("data: { flip: !!str true }", "a.yaml:1: the tag tag:yaml.org,2002:str is not used here")]
    [InlineData("[1]", "a.yaml:1: a list stands where sections are expected")]
    [InlineData("run:\n  name: x\n---\nrun:\n", "a.yaml:3: a second YAML document starts here")]
    [InlineData("run: { name: x ]", "a.yaml:1: not valid YAML: ")]
    [InlineData("retrain: &a { epochs: 1 }\npretrain: *a\n", "a.yaml:2: not valid YAML: aliases")]
    // What the parser answers with exceptions that are not its own.
    [InlineData("pretrain:\n  snapshots: [1\n  epochs: 3\n", "a.yaml:2: not valid YAML: ")]
    [InlineData("...\n...\n", "a.yaml:1: not valid YAML: ")]
    [InlineData("run: { name: \"\\uD800\" }", "a.yaml:1: ")]
    // What names and values would do to a terminal.
    [InlineData("\"a\\e[31m\": 1", @"a.yaml:1: unknown key a\x1b[31m; allowed at the top: run, ")]
    [InlineData("run: { seed: \"\\e]0;x\\a\" }", @"a.yaml:1: run.seed: found ""\x1b]0;x\x07"" (quoted text); allowed: a whole number")]
    [InlineData("run: { name: \"a\\nb\" }", @"a.yaml:1: run.name: found ""a\x0ab"" (quoted text); allowed: text of at most 4000 characters, none of them a control character")]
    [InlineData("data: { folder: \"a\\0b\" }", @"a.yaml:1: data.folder: found ""a\x00b"" (quoted text); allowed: text")]
    [InlineData("run: { \"\\e\": 1, \"\\e\": 2 }", @"a.yaml:1: duplicate key \x1b, first given at a.yaml:1")]
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
    [InlineData("pretrain.epochs.x.y=1", "override pretrain.epochs.x.y=1: pretrain.epochs: found a section; allowed: a whole number from 0 to 1000000")]
    [InlineData("pretrain.snapshots.0=1", "override pretrain.snapshots.0=1: pretrain.snapshots: found a section; allowed: a list such as [a, b]")]
    [InlineData("run.name.x=1", "override run.name.x=1: run.name: found a section; allowed: text")]
    [InlineData("pretrain=5", "override pretrain=5: pretrain: found 5; allowed: a section with the keys method, ")]
    [InlineData("pretrain=", "override pretrain=: pretrain: found nothing; allowed: a section with the keys method, ")]
    [InlineData("pretrain=null", "override pretrain=null: pretrain: found null; allowed: a section with the keys method, ")]
    [InlineData("pretrain=[1]", "override pretrain=[1]: pretrain: found a list; allowed: a section with the keys method, ")]
    [InlineData("pretrain.=5", "override pretrain.=5: not of the form section.key=value")]
    [InlineData(".epochs=5", "override .epochs=5: not of the form section.key=value")]
    [InlineData(".=5", "override .=5: not of the form section.key=value")]
    [InlineData("pretrain..epochs=5", "override pretrain..epochs=5: not of the form section.key=value")]
    [InlineData("pretrain.epochs=", "override pretrain.epochs=: pretrain.epochs: found nothing; allowed: a whole number")]
    [InlineData("pretrain.epochs={a: 1}", "override pretrain.epochs={a: 1}: pretrain.epochs: found a section; allowed: a whole number")]
    [InlineData("run.name=a\u001b[2J\n", @"override run.name=a\x1b[2J\x0a: run.name: found a\x1b[2J\x0a; allowed: text")]
    [InlineData("network.depth=19", "override network.depth=19: network.depth: 19 is not a depth of preact-resnet; allowed: 18, 34")]
    public void Errors_in_overrides_name_the_override(string item, string start) => Assert.StartsWith(start, Assert.Single(ProblemsOf("", item)));

    /// <summary>Once more where the file has the value already, or another of the same section.</summary>
    [Theory]
    [InlineData("pretrain: { epochs: 3 }")]
    [InlineData("pretrain: { batch: 3 }")]
    [InlineData("pretrain:")]
    public void An_override_below_a_plain_value_is_an_error(string yaml)
    {
        string problem = Assert.Single(ProblemsOf(yaml, "pretrain.epochs.foo=5"));
        Assert.StartsWith("override pretrain.epochs.foo=5: pretrain.epochs: found a section; allowed: a whole number", problem);
    }

    [Fact]
    public void A_value_where_a_section_belongs_is_the_files_problem_whatever_is_put_over_its_keys() =>
        Assert.StartsWith("a.yaml:1: pretrain: found 5; allowed: a section", Assert.Single(ProblemsOf("pretrain: 5", "pretrain.epochs=3")));

    [Theory]
    [InlineData('[')]
    [InlineData('{')]
    public void Nesting_is_bounded_in_the_file_and_in_overrides(char bracket)
    {
        string deep = new(bracket, 20_000);
        Assert.StartsWith("a.yaml:1: not valid YAML: more than 20 lists and sections inside each other", Assert.Single(ProblemsOf(deep)));
        Assert.StartsWith("a.yaml:1: not valid YAML: more than 20", Assert.Single(ProblemsOf("pretrain: { snapshots: " + deep)));
        Assert.StartsWith("a.yaml:20000: not valid YAML: more than 20", Assert.Single(ProblemsOf(new string('\n', 19_999) + deep)));
        string problem = Assert.Single(ProblemsOf("", "pretrain.snapshots=" + deep));
        Assert.StartsWith("override pretrain.snapshots=[[["[..^3] + new string(bracket, 3), problem);
        Assert.Contains("...", problem, StringComparison.Ordinal);
        Assert.Contains("not valid YAML: more than 20", problem, StringComparison.Ordinal);
        string blocks = string.Concat(Enumerable.Range(0, 1000).Select(i => new string(' ', i) + "a:\n"));
        Assert.StartsWith("a.yaml:", Assert.Single(ProblemsOf(blocks)));
        Assert.StartsWith("a.yaml:1: not valid YAML: more than 20", Assert.Single(ProblemsOf(string.Concat(Enumerable.Repeat("- ", 20_000)))));
    }

    [Fact]
    public void The_path_of_an_override_is_bounded() =>
        Assert.EndsWith("not of the form section.key=value: names with one dot between two of them",
            Assert.Single(ProblemsOf("", string.Join('.', Enumerable.Repeat("a", 20_000)) + "=1")));

    [Fact]
    public void Of_very_many_problems_the_first_are_listed()
    {
        string[] problems = ProblemsOf(string.Concat(Enumerable.Range(0, 30_000).Select(i => $"a{i}: 1\n")));
        Assert.Equal(20, problems.Length);
        Assert.StartsWith("a.yaml:20: unknown key a19; ", problems[19]);
        Assert.EndsWith("; and 29980 problems more", problems[19]);
    }

    [Fact]
    public void Lists_are_bounded()
    {
        string List(int items) => $"[{string.Join(", ", Enumerable.Range(1, items))}]";
        Assert.Equal(1000, Parse($"pretrain: {{ epochs: 1000000, snapshots: {List(1000)} }}").Pretrain.Snapshots.Count);
        Assert.Equal("a.yaml:1: pretrain.snapshots: found a list of 1001 items; allowed: a list such as [a, b] of at most 1000 items that are each a whole number from 1 to 1000000",
            Assert.Single(ProblemsOf($"pretrain: {{ epochs: 1000000, snapshots: {List(1001)} }}")));
        Assert.StartsWith("a.yaml:1: plan.ranks: found a list of 17 items; allowed: a list such as [a, b] of at most 16 items", Assert.Single(ProblemsOf($"plan: {{ ranks: {List(17)} }}")));
    }

    /// <summary>Every number has two ends; at them a value is taken, and beyond them refused with both.</summary>
    [Fact]
    public void Every_number_has_a_range_that_the_error_states()
    {
        int numbers = 0;
        Walk(typeof(RunConfig), "");
        // So that a walk that finds nothing is no proof.
        Assert.InRange(numbers, 30, 100);

        void Walk(Type section, string prefix)
        {
            foreach (ConfigKey key in ConfigKey.Of(section))
            {
                string path = prefix + key.Name;
                if (key.IsSection) Walk(key.Type, path + ".");
                else if ((key.Type == typeof(int) || key.Type == typeof(double) || key.Type == typeof(TrainingTime)) && ++numbers > 0) Check(key, path);
                else if (key.Type == typeof(long)) Assert.Matches("seeds?$", path);
            }
        }

        void Check(ConfigKey key, string path)
        {
            Match range = Regex.Match(key.RangeText ?? "", "^(from|above) ([0-9.]+) to (below )?([0-9.]+(?:E\\+[0-9]+)?)$");
            Assert.True(range.Success, $"{path}: {key.RangeText}");
            // Below the largest float32 in any case, and where a number is counted with, far below that of its own type.
            Assert.True(double.Parse(range.Groups[4].Value, CultureInfo.InvariantCulture) <= (key.Type == typeof(double) ? 1e28 : 1e9), path);
            foreach ((int group, int sign) in new[] { (2, -1), (4, 1) })
            {
                bool excluded = group == 2 ? range.Groups[1].Value == "above" : range.Groups[3].Success;
                decimal end = decimal.Parse(range.Groups[group].Value, NumberStyles.Float, CultureInfo.InvariantCulture);
                string Written(decimal number) => (key.IsList, key.Type == typeof(TrainingTime), string.Create(CultureInfo.InvariantCulture, $"{number}")) switch
                {
                    (true, true, var text) => $"[{text} steps]",
                    (true, _, var text) => $"[{text}]",
                    (_, true, var text) => $"{text} steps",
                    (_, _, var text) => text,
                };
                decimal beyond = end + (sign * (key.Type == typeof(double) ? Math.Max(0.0001m, end * 0.0001m) : 1));
                string problem = Assert.Single(ProblemsOf("", $"{path}={Written(beyond)}"), line => line.Contains($"{path}: found", StringComparison.Ordinal));
                Assert.Contains(key.RangeText!, problem, StringComparison.Ordinal);
                // The end itself may break a rule between keys, but not the key's own.
                string at = $"{path}={Written(end)}";
                string[] problems = [];
                try
                {
                    Parse("", at);
                }
                catch (UserError error)
                {
                    problems = error.Message.Split('\n');
                }
                Assert.Equal(excluded, problems.Any(line => line.Contains($"{path}: found", StringComparison.Ordinal)));
            }
        }
    }

    [Theory]
    [InlineData("network: { width: 46341 }", "network.width: found 46341; allowed: a whole number from 1 to 4096")]
    [InlineData("network: { width: 2000 }", "network.width: the largest convolution would have 2304000000 weights")]
    [InlineData("network: { depth: 2000000002, family: wide-resnet }", "network.depth: found 2000000002; allowed: a whole number from 10 to 1000")]
    [InlineData("pretrain: { optimizer: { learning_rate: 1e308 } }", "pretrain.optimizer.learning_rate: found 1e308; allowed: a number from 0 to 1E+28")]
    [InlineData("pretrain: { batch: 2147483600 }", "pretrain.batch: found 2147483600; allowed: a whole number from 1 to 1000000")]
    [InlineData("pretrain: { epochs: 3, batch: 8, gpipe: { micro_batches: 9 }, method: gpipe }", "pretrain.gpipe.micro_batches: 9 parts of a batch of 8")]
    [InlineData("data: { set: synthetic, synthetic: { size: 1000 } }", "data.train_images: 50000 synthetic images of 3000000 bytes; allowed: 715 at most")]
    [InlineData("data: { set: synthetic, test_images: 3000000, synthetic: { size: 28, channels: 1 } }", "data.test_images: 3000000 synthetic images of 784 bytes; allowed: 2739137 at most")]
    [InlineData("data: { set: image-folder }", "data.folder: null; allowed: the folder of the files of data.set image-folder")]
    [InlineData("data: { set: image-folder, folder: x, channels: 2 }", "data.channels: 2 channels of image-folder; allowed: 1, 3")]
    [InlineData("data: { set: cifar10, classes: 7 }", "data.classes: cifar10 has its own; allowed: auto, or data.set image-folder, idx, cifar-binary")]
    [InlineData("data: { set: idx, folder: x, mean: [0.5] }", "data.standard_deviation: 0 values; allowed: 1, as many as data.mean has")]
    [InlineData("data: { set: cifar-binary, folder: x, mean: [0.5], standard_deviation: [1] }", "data.mean: 1 values; allowed: 3, one for each channel (data.channels), or []")]
    [InlineData("data: { set: synthetic, train_images: 10, test_images: 10, synthetic: { size: 1000, channels: 50, classes: 256 } }", "data.synthetic.classes: patterns of 256 classes of 50000000 values; allowed: 10 classes at most")]
    [InlineData("distance: { pairs_max: 1000 }\nnetwork: { family: wide-resnet, depth: 1000 }", "distance.pairs_max: 1000000 pairs of measurements of 1000 layers; allowed: 100000000 distances at most, so up to 316 measurements")]
    [InlineData("run: { threads: 20000 }", "run.threads: found 20000; allowed: a whole number from 1 to 1024, or auto")]
    public void Numbers_and_products_that_are_too_large_are_refused(string yaml, string problem) =>
        Assert.Contains(ProblemsOf(yaml), line => line.StartsWith("a.yaml:1: " + problem, StringComparison.Ordinal));

    [Fact]
    public void The_name_of_a_run_is_one_that_file_systems_take()
    {
        Assert.Equal(200, Parse("", "run.name=" + new string('n', 200)).Run.Name.Length);
        Assert.Contains("of at most 200 bytes", Assert.Single(ProblemsOf("", "run.name=" + new string('\u00e9', 101))), StringComparison.Ordinal);
        Assert.Contains("of at most 4000 characters", Assert.Single(ProblemsOf("", "run.folder=" + new string('n', 4001))), StringComparison.Ordinal);
    }

    [Fact]
    public void A_missing_file_is_one_line() =>
        Assert.StartsWith("/nowhere/x.yaml: there is no such file", Assert.Throws<UserError>(() => RunConfigLoader.Load("/nowhere/x.yaml")).Message);

    /// <summary>Each key has a value that is not its default, which is checked by reflection, so that no key can be forgotten.</summary>
    [Fact]
    public void The_dump_loads_back_to_an_equal_config()
    {
        OptimizerSection optimizer = new() { LearningRate = 1.0 / 3, Momentum = 0.1, WeightDecay = 1e-300, Milestones = [TrainingTime.Steps(1)], Decay = 0.3, Warmup = TrainingTime.Epochs(3), Nesterov = true, LabelSmoothing = 0.1 };
        RunSection run = new() { Name = "null", Folder = "a: [b] # c", Resume = ResumeChoice.Auto, Seed = long.MinValue, Device = DeviceChoice.Cuda, Threads = 2, Precision = Precision.Bfloat16, MemoryFormat = MemoryFormat.Contiguous, Mpi = MpiBinding.MpiNet, CudaAwareMpi = true, Tensorboard = true };
        SyntheticSection synthetic = new() { Channels = 1, Size = 40, Classes = 3 };
        RunConfig config = new()
        {
            Run = run,
            Network = new() { Family = NetworkFamily.WideResnet, Depth = 28, Width = 16, WidenFactor = 10 },
            Data = new()
            {
                Set = DataSetName.ImageFolder,
                Folder = "null",
                TrainImages = 7,
                ValidationImages = 3,
                ValidationSeed = 8,
                TestImages = 8,
                CropPadding = 2,
                Flip = false,
                ImageSize = 96,
                Channels = 1,
                Classes = 1000,
                Mean = [0.25],
                StandardDeviation = [1.0 / 3],
                LabelBytes = 2,
                CropArea = 0.5,
                BrokenImages = BrokenImages.Skip,
                CheckImages = ImageCheck.Whole,
                Workers = 3,
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
                SnapshotSteps = [3, 9],
                Optimizer = optimizer,
            },
            Distance = new() { Every = TrainingTime.Steps(2), PairsMax = 5 },
            Extract = new()
            {
                Ratio = 0.7,
                FirstBlocks = true,
                From = "results/é \"x\"",
                Criterion = FilterCriterion.BatchNormScale,
                Seed = -2,
                StabilityMeasurements = 3,
                TaylorImages = 11,
                TaylorBatch = 12,
                Scope = ExtractScope.LayerRatios,
                LayerFloor = 0.25,
                Budget = 0.75,
                // All twelve blocks of a wide-resnet-28.
                LayerRatios = [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99, 1.0 / 3],
                RoundTo = 4,
                Iterations = 2,
                IterationEpochs = 6,
                IterationStart = RetrainStart.Rewind,
            },
            Retrain = new()
            {
                Epochs = 1,
                Batch = 2,
                BatchNorm = BatchNormScope.PerRank,
                Optimizer = optimizer with { Milestones = [], Schedule = ScheduleKind.Cosine },
                Start = RetrainStart.Rewind,
                Rewind = TrainingTime.Steps(7),
                StartSeed = 5,
            },
            Tickets = new()
            {
                Criteria = [FilterCriterion.GeometricMedian, FilterCriterion.L1],
                Starts = [RetrainStart.Initial],
                Seeds = [3, long.MaxValue],
                Controls = [TicketControl.Random, TicketControl.Unpruned],
                RanksPerTicket = 5,
                KeepWeights = false,
            },
            Latency = new() { Batches = [64, 2], Rounds = 5, Seconds = 0.5 },
            Evaluate = new() { Weights = "~", Split = DataSplit.Train, Batch = 3 },
            Checkpoint = new() { Every = new CheckpointInterval(3, IntervalUnit.Epochs), Keep = 4 },
            Limits = new() { Minutes = 90.5, MinutesBeforeEnd = 3, StopFile = "enough", CollectiveSeconds = 60 },
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
        Assert.Contains("  precision: auto\n", dump);
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
            // The first has one value; the second has one beside a wide-resnet, the third beside run.resume, and the others beside the key that they exclude.
            if (key is "Pretrain.Method" or "Network.Form" or "Run.Overwrite" or "Extract.Like" or "Tickets.Ratios" or "Pretrain.Optimizer.Schedule" or "Retrain.Optimizer.Milestones") continue;
            if (property.PropertyType.Name.EndsWith("Section", StringComparison.Ordinal)) AssertEachKeyDiffers(a!, b!, key + ".");
            else Assert.False(Equals(a, b), $"{key} has its default value in this test");
        }
    }

    private static IEnumerable<PropertyInfo> Settable(object section) => section.GetType().GetProperties().Where(p => p.CanWrite);
}
