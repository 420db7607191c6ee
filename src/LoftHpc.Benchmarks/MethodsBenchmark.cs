using LoftHpc.Configuration;
using LoftHpc.Mpi;

namespace LoftHpc.Benchmarks;

/// <summary>
/// Time of a sample by every method on 1, 2 and 4 ranks of one thread, the global batch the same, exchanges at the ends of
/// rounds included; against the dense network on one rank.
/// </summary>
internal static class MethodsBenchmark
{
    private const int Width = 16, Batch = 64, Steps = 5, WarmUps = 1, Counted = 5;

    private static readonly (string Name, PretrainSection Config)[] Methods =
    [
        ("data-parallel", new() { Method = PretrainMethod.DataParallel }),
        ("filter-parallel", new() { Method = PretrainMethod.FilterParallel }),
        ("filter-parallel-local", new() { Method = PretrainMethod.FilterParallel, Backward = BackwardKind.Local }),
        ("local-sgd", new() { Method = PretrainMethod.LocalSgd }),
        ("gpipe", new() { Method = PretrainMethod.Gpipe }),
        ("loft", new() { Method = PretrainMethod.Loft }),
    ];

    public static IEnumerable<BenchmarkRow> Run(AlternatingTimer timer)
    {
        ICommunicator world = timer.World;
        using SelfCommunicator self = new();
        using ICommunicator pair = world.Split(world.Rank < 2 ? 0 : 1, world.Rank);
        List<(string Name, int Ranks, BenchmarkTraining? Training)> trainings = [("dense", 1, Create(new() { Method = PretrainMethod.Dense }, self, 1))];
        foreach ((string name, PretrainSection config) in Methods)
        {
            foreach ((int ranks, ICommunicator communicator) in new[] { (1, (ICommunicator)self), (2, pair), (4, world) })
                trainings.Add((name, ranks, Create(config, communicator, ranks)));
        }
        Sample[] seconds = timer.Alternate(
            new Rounds(WarmUps, Counted, Calls: Steps), [.. trainings.Select(t => t.Training is null ? (Action<int>?)null : t.Training.Steps)]);
        for (int i = 0; i < trainings.Count; i++)
        {
            (string name, int ranks, BenchmarkTraining? training) = trainings[i];
            yield return BenchmarkRow.Shown(
                $"{name} / dense on 1 rank", $"a sample, {ranks} rank{(ranks == 1 ? "" : "s")}, PreActResNet-18, width {Width}, batch {Batch} over all ranks",
                PerSample(seconds[i]), PerSample(seconds[0]), "");
            training?.Dispose();
        }

        BenchmarkTraining? Create(PretrainSection config, ICommunicator communicator, int ranks) => world.Rank >= ranks ? null
            : new BenchmarkTraining(communicator, Width, 40, config with { Batch = Batch, LocalSteps = Steps, Samples = SampleScope.Shard });
    }

    private static Sample PerSample(Sample step) => new([.. step.Values.Select(value => value / Batch)]);
}
