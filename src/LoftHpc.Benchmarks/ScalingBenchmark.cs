using System.Globalization;
using LoftHpc.Configuration;
using LoftHpc.Mpi;

namespace LoftHpc.Benchmarks;

/// <summary>Two ranks against one rank on the same batches, one thread each; and what each rank holds.</summary>
internal static class ScalingBenchmark
{
    private const int Width = 64, Batch = 32, WarmUps = 3, Counted = 9;

    public static IEnumerable<BenchmarkRow> Run(AlternatingTimer timer)
    {
        ICommunicator world = timer.World;
        using BenchmarkTraining two = new(world, Width, WarmUps + Counted, new PretrainSection { Batch = Batch });
        using BenchmarkTraining? one = world.Rank == 0 ? new BenchmarkTraining(new SelfCommunicator(), Width, WarmUps + Counted, new PretrainSection { Batch = Batch }) : null;
        Sample[] seconds = timer.Alternate(new Rounds(WarmUps, Counted), two.Steps, one is null ? null : one.Steps);

        double difference = one is null ? 0 : Math.Abs(two.Loss - one.Loss) / one.Loss;
        if (difference > 1e-3) throw new InvalidOperationException($"the losses differ by {difference}");
        string network = $"PreActResNet-18, width {Width}";
        yield return BenchmarkRow.AtLeast(
            1.6, "2 ranks / 1 rank, times as fast", $"step of {network}, batch {Batch}", seconds[0], seconds[1],
            string.Create(CultureInfo.InvariantCulture, $"loss of {WarmUps + Counted} steps differs by {difference:0e-0}"));

        double most = world.Allreduce((double)two.TrainedBytes, MpiOperation.Max);
        double whole = world.Allreduce((double)(one?.TrainedBytes ?? 0), MpiOperation.Max);
        double ratio = most / whole;
        yield return new BenchmarkRow(
            "a rank of 2 / 1 rank, bytes", $"parameters and optimizer state of {network}", null, null, ratio, ratio, ratio,
            "0.475 to 0.525", ratio is >= 0.475 and <= 0.525,
            string.Create(CultureInfo.InvariantCulture, $"{most / 1e6:F1} of {whole / 1e6:F1} MB"));
    }
}
