using LoftHpc.Commands;
using LoftHpc.Configuration;
using LoftHpc.Planning;
using LoftHpc.Results;
using LoftHpc.Sweeping;
using Xunit;

namespace LoftHpc.Tests.Configuration;

/// <summary>The files in configs/.</summary>
public sealed class ConfigFilesTests
{
    private static readonly string Folder = Path.Combine(RepositoryRoot(), "configs");

    public static TheoryData<string> Files =>
        [.. Directory.EnumerateFiles(Folder, "*.yaml", SearchOption.AllDirectories).Select(file => Path.GetRelativePath(Folder, file)).Except(Sweeps)];

    /// <summary>What lofthpc sweep reads.</summary>
    private static readonly string[] Sweeps = ["compare/sweep.yaml", "compare/loft-options.yaml"];

    [Theory]
    [MemberData(nameof(Files))]
    public void Every_file_loads_says_what_it_is_and_names_its_run_after_itself(string file)
    {
        string path = Path.Combine(Folder, file);
        RunConfig config = RunConfigLoader.Load(path);
        Assert.StartsWith("# ", File.ReadAllText(path));
        Assert.Equal(Path.GetFileNameWithoutExtension(file), config.Run.Name);
    }

    [Theory]
    [InlineData("preresnet34-cifar10", NetworkFamily.PreactResnet, DataSetName.Cifar10)]
    [InlineData("resnet34-cifar10", NetworkFamily.Resnet, DataSetName.Cifar10)]
    [InlineData("preresnet34-cifar100", NetworkFamily.PreactResnet, DataSetName.Cifar100)]
    [InlineData("resnet34-cifar100", NetworkFamily.Resnet, DataSetName.Cifar100)]
    public void Published_settings_are_there(string name, NetworkFamily family, DataSetName set)
    {
        RunConfig config = RunConfigLoader.Load(Path.Combine(Folder, name + ".yaml"));
        Assert.Equal((family, 34, 64, set), (config.Network.Family, config.Network.Depth, config.Network.Width, config.Data.Set));
        Assert.Equal((20, 128, 0.1, 0.9, 1e-5), (config.Pretrain.Epochs, config.Pretrain.Batch, config.Pretrain.Optimizer.LearningRate,
            config.Pretrain.Optimizer.Momentum, config.Pretrain.Optimizer.WeightDecay));
        Assert.Equal((90, 128, 0.1, 0.9, 5e-4), (config.Retrain.Epochs, config.Retrain.Batch, config.Retrain.Optimizer.LearningRate,
            config.Retrain.Optimizer.Momentum, config.Retrain.Optimizer.WeightDecay));
        Assert.Equal([TrainingTime.Epochs(30), TrainingTime.Epochs(60), TrainingTime.Epochs(80)], config.Retrain.Optimizer.Milestones);
    }

    /// <summary>
    /// Needs no images: it says how many there are. Parameters are those of torchvision's ResNet-18, 11,689,512, but that there are 3,904 channels
    /// of batch norms in place of its 4,800; its 1.81 G multiply-adds are the same.
    /// </summary>
    [Fact]
    public void The_published_setting_of_ImageNet_loads_and_is_planned()
    {
        RunConfig config = RunConfigLoader.Load(Path.Combine(Folder, "preresnet18-imagenet.yaml"), ["data.folder=/nowhere"]);
        PlanSetting setting = PlanSetting.Of(config, 4);
        Assert.Equal(new ImageShape(3, 224, 1000, 1_281_167, 50_000), setting.Images);
        Assert.Equal((PublishedTable.Rows[^1].Network, 5_005), (config.Network, setting.StepsPerEpoch));
        Assert.Equal(11_689_512 - (2 * (4_800 - 3_904)), setting.Network.ParameterCount);
        Assert.InRange(setting.Network.Flops(224), 2 * 1.805e9, 2 * 1.815e9);
        foreach (PretrainMethod method in new[] { PretrainMethod.FilterParallel, PretrainMethod.Loft, PretrainMethod.DataParallel, PretrainMethod.LocalSgd, PretrainMethod.Gpipe })
        {
            PretrainPlan plan = PretrainPlan.Of(setting with { Config = config with { Pretrain = config.Pretrain with { Method = method, Epochs = 1 } } });
            Assert.True(plan.Work(0).Flops > 0 && plan.ActivationBytes(0) > 0, method.ToString());
            // Nothing of the files lies on a GPU.
            Assert.Equal(0, plan.ImageBytes(0));
        }
    }

    [Theory]
    [InlineData("preresnet34-cifar10")]
    [InlineData("resnet34-cifar10")]
    [InlineData("preresnet34-cifar100")]
    [InlineData("resnet34-cifar100")]
    public void The_way_to_run_a_published_setting_by_LoFT_stands_in_it_and_loads(string name)
    {
        string path = Path.Combine(Folder, name + ".yaml");
        string command = Assert.Single(File.ReadLines(path), line => line.Contains("pretrain.method=loft", StringComparison.Ordinal));
        PretrainSection pretrain = RunConfigLoader.Load(path, command.Split(' ').Where(word => word.Contains('=', StringComparison.Ordinal))).Pretrain;
        Assert.Equal((PretrainMethod.Loft, 15, SampleScope.Whole, 1e-5), (pretrain.Method, pretrain.LocalSteps, pretrain.Samples, pretrain.Optimizer.WeightDecay));
        // 50,000 images: the published milestones are never reached.
        Assert.True(pretrain.Optimizer.Milestones[0].ToSteps(391) > 20 * 391);
    }

    [Fact]
    public void The_quick_run_by_LoFT_differs_in_its_method_alone()
    {
        RunConfig quick = RunConfigLoader.Load(Path.Combine(Folder, "quick.yaml")), loft = RunConfigLoader.Load(Path.Combine(Folder, "quick-loft.yaml"));
        Assert.Equal((PretrainMethod.Loft, SampleScope.Shard), (loft.Pretrain.Method, loft.Pretrain.Samples));
        Assert.Equal(
            RunConfigLoader.ToYaml(quick with
            {
                Run = quick.Run with { Name = "quick-loft" },
                Pretrain = quick.Pretrain with { Method = PretrainMethod.Loft, Samples = SampleScope.Shard, LocalSteps = loft.Pretrain.LocalSteps },
            }),
            RunConfigLoader.ToYaml(loft));
    }

    [Fact]
    public void Each_option_of_loft_is_compared_with_the_defaults()
    {
        LoftSection[] options = [.. FirstSeed("compare/loft-options.yaml").Select(run => run.Config.Pretrain.Loft)];
        Assert.Equal(options.Length, options.Select(loft => loft.ToString()).Distinct().Count());
        Assert.Equal(Enum.GetValues<MomentumKind>(), options.Select(loft => loft.Momentum).Distinct());
        Assert.Equal(Enum.GetValues<RunningStatisticsKind>(), options.Select(loft => loft.RunningStatistics).Distinct());
        Assert.Equal(Enum.GetValues<DealKind>(), options.Select(loft => loft.Deal).Distinct());
        Assert.Contains(options, loft => loft.WarmupRounds > 0);
    }

    [Fact]
    public void The_compared_methods_are_all_there_and_differ_in_a_setting_or_two()
    {
        SweepRun[] runs = FirstSeed("compare/sweep.yaml");
        Assert.Equal(Enum.GetValues<PretrainMethod>().Order(), runs.Select(run => run.Config.Pretrain.Method).Distinct().Order());
        string[] Groups(Func<PretrainSection, bool> has) => [.. runs.Where(run => has(run.Config.Pretrain)).Select(run => run.Group)];
        Assert.Equal(["filter-parallel-local-2", "filter-parallel-local-4"], Groups(pretrain => pretrain is { Method: PretrainMethod.FilterParallel, Backward: BackwardKind.Local }));
        Assert.Equal(["loft-published-2", "loft-published-4"], Groups(pretrain => pretrain.Samples == SampleScope.Whole));
        Assert.All(
            SweepFile.Load(Path.Combine(Folder, "compare/sweep.yaml")).Methods,
            method => Assert.InRange(method.Method.Set.Count, 1, 2));
    }

    /// <summary>What lies in the repository can be made again.</summary>
    [Theory]
    [InlineData("compare/sweep.yaml", "compare")]
    [InlineData("compare/loft-options.yaml", "compare/loft-options")]
    public void A_sweep_makes_the_runs_of_the_table_that_is_kept(string file, string results)
    {
        SweepPlan plan = SweepCommand.Plan(Path.Combine(Folder, file), new SweepChanges([]));
        Assert.Equal($"results/{results}", plan.Folder);
        IEnumerable<string> kept = new CsvTable<ComparisonRow>(Repository.File("results", results, "comparison.csv")).Read()
            .Select(row => FormattableString.Invariant($"{row.Name}-{row.Ranks}-{row.Seed}"));
        Assert.Equal(kept.Order(StringComparer.Ordinal), plan.Runs.Select(run => run.Name).Order(StringComparer.Ordinal));
    }

    [Fact]
    public void The_comparison_lowers_the_learning_rate_within_its_steps_and_at_the_end_of_a_round()
    {
        RunConfig config = RunConfigLoader.Load(Path.Combine(Folder, "compare", "base.yaml"));
        int stepsPerEpoch = (int)Math.Ceiling((double)config.Data.TrainImages!.Value / config.Pretrain.Batch);
        long milestone = Assert.Single(config.Pretrain.Optimizer.Milestones).ToSteps(stepsPerEpoch);
        Assert.InRange(milestone, config.Pretrain.Epochs * stepsPerEpoch / 2, (config.Pretrain.Epochs * stepsPerEpoch) - 1);
        Assert.Equal(0, milestone % config.Pretrain.LocalSteps);
    }

    private static SweepRun[] FirstSeed(string file) => [.. SweepCommand.Plan(Path.Combine(Folder, file), new SweepChanges([])).Runs.Where(run => run.Config.Run.Seed == 1)];

    private static string RepositoryRoot()
    {
        string? folder = AppContext.BaseDirectory;
        while (folder is not null && !File.Exists(Path.Combine(folder, "LoftHpc.sln"))) folder = Path.GetDirectoryName(folder);
        return folder ?? throw new InvalidOperationException($"no LoftHpc.sln above {AppContext.BaseDirectory}");
    }
}
