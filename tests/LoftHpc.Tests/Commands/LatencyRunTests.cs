using LoftHpc.Communication;
using LoftHpc.Mpi;
using LoftHpc.Results;
using LoftHpc.Tests.Mpi;
using LoftHpc.Tests.Results;
using Xunit;

namespace LoftHpc.Tests.Commands;

/// <summary>What a run measures and shows besides, which changes nothing else.</summary>
public sealed class LatencyRunTests : ProgramTests
{
    [SkippableFact]
    public void Latency_and_event_files_leave_all_else_as_it_is()
    {
        MpiFamily family = MpiLauncher.AnyFamily();
        Assert.DoesNotContain("Time of a pass", Start(family, 2, "run", "run.name=a").MustSucceed().Output, StringComparison.Ordinal);
        RunFolder a = Folder("a"), b = Folder("b");
        Assert.False(a.Latency.Exists || Directory.Exists(a.TensorBoard));
        LaunchResult result = Start(family, 2, "run", "run.name=b", "latency.batches=[2,1]", "latency.rounds=3", "run.tensorboard=true").MustSucceed();
        Assert.Contains("Time of a pass on rank 0 alone", result.Output, StringComparison.Ordinal);
        MustBeAlike("a", "b");
        Assert.Equal(
            a.Metrics.Read().Select(row => row with { Seconds = 0, ImagesPerSecond = 0 }), b.Metrics.Read().Select(row => row with { Seconds = 0, ImagesPerSecond = 0 }));
        Assert.Equal(a.Communication.Read().Select(row => row with { Seconds = 0 }), b.Communication.Read().Select(row => row with { Seconds = 0 }));

        IReadOnlyList<LatencyRow> rows = b.Latency.Read();
        Assert.Equal([2, 2, 2, 2, 1, 1, 1, 1], rows.Select(row => row.Batch));
        foreach ((NetworkState network, NetworkState stands) in ((NetworkState, NetworkState)[])[(NetworkState.Dense, NetworkState.Dense), (NetworkState.Ticket, NetworkState.Ticket)])
        {
            SummaryRow summary = b.Summary.Read().Single(row => row.Network == stands);
            Assert.All(rows.Where(row => row.Network == network), row => Assert.Equal((summary.Flops, summary.Parameters), (row.Flops, row.Parameters)));
        }

        EventFileReader.MustBeMetrics(b);
        ReadEvent[] ends = [EventFileReader.Read(b.EventFile("pretrain"))[1], EventFileReader.Read(b.EventFile("retrain"))[1]];
        Assert.Equal([2, 1], ends.Select(end => end.Step));
        Assert.Equal(
            (float)b.Communication.Read().Where(row => row is { Phase: "pretrain", Purpose: CommunicationPurpose.Step }).Sum(row => row.BytesSent), ends[0].Scalars["bytes_sent/step"]);
        Assert.Equal(File.ReadAllBytes(b.FilterDistancePlot), Assert.Single(EventFileReader.Read(b.EventFile("pretrain"))[2].Pictures).Png);
        // The time of its launch, and the seconds since.
        double start = RunManifest.Read(b.Manifest).Launches[0].Start.ToUnixTimeMilliseconds() / 1000.0;
        Assert.Equal(start + b.Metrics.Read().Sum(row => row.Seconds), ends[1].Time, 1e-3);
    }
}
