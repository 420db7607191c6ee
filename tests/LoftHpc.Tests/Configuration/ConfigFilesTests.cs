using LoftHpc.Configuration;
using Xunit;

namespace LoftHpc.Tests.Configuration;

/// <summary>The files in configs/.</summary>
public sealed class ConfigFilesTests
{
    private static readonly string Folder = Path.Combine(RepositoryRoot(), "configs");

    public static TheoryData<string> Files =>
        [.. Directory.EnumerateFiles(Folder, "*.yaml", SearchOption.AllDirectories).Select(file => Path.GetRelativePath(Folder, file))];

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

    private static string RepositoryRoot()
    {
        string? folder = AppContext.BaseDirectory;
        while (folder is not null && !File.Exists(Path.Combine(folder, "LoftHpc.sln"))) folder = Path.GetDirectoryName(folder);
        return folder ?? throw new InvalidOperationException($"no LoftHpc.sln above {AppContext.BaseDirectory}");
    }
}
