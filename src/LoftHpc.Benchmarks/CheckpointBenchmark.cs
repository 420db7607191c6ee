using System.Globalization;
using LoftHpc.Checkpoints;
using LoftHpc.Configuration;
using LoftHpc.Mpi;

namespace LoftHpc.Benchmarks;

/// <summary>What checkpoints cost at the default interval: a rank's part, flushed and hashed, against the ten minutes between two.</summary>
internal static class CheckpointBenchmark
{
    private const int Width = 64, Batch = 32, WarmUps = 1, Counted = 5;

    public static IEnumerable<BenchmarkRow> Run(AlternatingTimer timer)
    {
        ICommunicator world = timer.World;
        TimeSpan interval = new CheckpointSection().Every!.Value.ToTime()!.Value;
        // Beside the program and not in /tmp, which may be memory.
        string path = Path.Combine(Environment.CurrentDirectory, string.Create(CultureInfo.InvariantCulture, $"checkpoint-benchmark-{world.Rank}.safetensors"));
        using BenchmarkTraining training = new(world, Width, 1, new PretrainSection { Method = PretrainMethod.DataParallel, Batch = Batch });
        training.Steps(1);
        Sample seconds = timer.Alternate(new Rounds(WarmUps, Counted), count =>
        {
            if (count == 0) return;
            StateFile.Write(path, training.Method.Archive);
            _ = FileStamp.Of(path);
        })[0];
        long bytes = new FileInfo(path).Length;
        File.Delete(path);
        yield return BenchmarkRow.AtMost(
            0.02, "a checkpoint / 10 minutes", $"each of {world.Size} ranks writes, flushes and hashes PreActResNet-18, width {Width}, with its momentum",
            seconds, new Sample([.. seconds.Values.Select(_ => interval.TotalSeconds)]), string.Create(CultureInfo.InvariantCulture, $"{bytes / 1e6:F1} MB a rank"));
    }
}
