using LoftHpc.Communication;
using LoftHpc.Mpi;
using LoftHpc.Tests.Mpi;
using Xunit;

namespace LoftHpc.Tests.Communication;

/// <summary>The account against numbers worked out by hand from the convention.</summary>
public class MeteringTests
{
    [SkippableTheory]
    [InlineData(MpiFamily.OpenMpi)]
    [InlineData(MpiFamily.Mpich)]
    public void Real_calls_are_counted_by_the_convention(MpiFamily family)
    {
        // Parts of 5, 0 and 2 floats: 20, 0 and 8 bytes; twice each. 10 floats in near-equal parts: 4, 3, 3; 1 float: 1, 0, 0.
        string[] expected =
        [
            // rank 0 sends 20 bytes to 2 ranks and receives 8; the reverse; 24 out and 32 in, then the reverse.
            "0 pretrain Step allgatherv 2 4 80 16",
            "0 pretrain Step allreduce 1 4 56 56",
            "0 pretrain Step reduce_scatter 2 2 16 80",
            "0 pretrain Control allreduce 1 2 8 8",
            "0 retrain Round alltoallv 1 2 12 12",
            "0 retrain Evaluation none",
            "0 retrain Save allgather 1 2 16 16",
            "0 retrain Save barrier 1 0 0 0",
            "0 retrain Save broadcast 1 0 0 40",
            "0 retrain Save reduce 1 1 40 0",
            "1 pretrain Step allgatherv 2 0 0 56",
            "1 pretrain Step allreduce 1 4 52 52",
            "1 pretrain Step reduce_scatter 2 4 56 0",
            "1 pretrain Control allreduce 1 1 4 4",
            "1 retrain Round alltoallv 1 2 16 16",
            "1 retrain Evaluation send 1 1 40 0",
            "1 retrain Save allgather 1 2 16 16",
            "1 retrain Save barrier 1 0 0 0",
            "1 retrain Save broadcast 1 2 80 0",
            "1 retrain Save reduce 1 1 40 0",
            "2 pretrain Step allgatherv 2 4 32 40",
            "2 pretrain Step allreduce 1 4 52 52",
            "2 pretrain Step reduce_scatter 2 2 40 32",
            "2 pretrain Control allreduce 1 1 4 4",
            "2 retrain Round alltoallv 1 2 20 20",
            "2 retrain Evaluation receive 1 0 0 40",
            "2 retrain Save allgather 1 2 16 16",
            "2 retrain Save barrier 1 0 0 0",
            "2 retrain Save broadcast 1 0 0 40",
            "2 retrain Save reduce 1 0 0 80",
        ];
        LaunchResult result = MpiLauncher.RunScenario(family, 3, "Metering.Account").MustSucceed();
        Assert.Equal(expected.Where(line => !line.EndsWith("none", StringComparison.Ordinal)), result.Output.Trim().Split('\n').Select(l => l.Trim()));
    }

    [Fact]
    public void What_is_sent_is_what_is_received()
    {
        // Over all ranks, whatever the counts: bytes sent equal bytes received.
        foreach (int ranks in new[] { 1, 2, 3, 4, 7 })
        {
            for (long count = 0; count < 20; count++)
            {
                long[] counts = [.. Enumerable.Range(0, ranks).Select(r => (count * r) % 5)];
                MustBalance(ranks, rank => TransferCount.Allgatherv(rank, counts, 4));
                MustBalance(ranks, rank => TransferCount.ReduceScatter(rank, counts, 4));
                MustBalance(ranks, rank => TransferCount.Allreduce(rank, ranks, count, 8));
                MustBalance(ranks, _ => TransferCount.Allgather(ranks, count, 8));
                MustBalance(ranks, rank => TransferCount.Broadcast(rank, ranks, ranks - 1, count, 1));
                MustBalance(ranks, rank => TransferCount.Reduce(rank, ranks, ranks - 1, count, 1));

                // An allreduce is a reduce-scatter and an allgather over near-equal parts.
                long[] parts = [.. Enumerable.Range(0, ranks).Select(r => (count + ranks - 1 - r) / ranks)];
                Assert.Equal(count, parts.Sum());
                for (int rank = 0; rank < ranks; rank++)
                {
                    Assert.Equal(
                        TransferCount.ReduceScatter(rank, parts, 8) + TransferCount.Allgatherv(rank, parts, 8),
                        TransferCount.Allreduce(rank, ranks, count, 8));
                }
            }
        }
    }

    [Fact]
    public void A_purpose_ends_with_its_scope_and_phases_are_apart()
    {
        CommunicationLedger ledger = new();
        using MeteredCommunicator alone = new(new SelfCommunicator(), ledger);
        ledger.Phase = "retrain";
        alone.Barrier();
        using (ledger.For(CommunicationPurpose.Step))
        {
            using (ledger.For(CommunicationPurpose.Save)) alone.Barrier();
            alone.Barrier();
            alone.StartBarrier().Wait();
        }
        alone.Barrier();
        ledger.Phase = "pretrain";
        alone.Allreduce(1.0, MpiOperation.Sum);
        Assert.Equal(
            [
                ("retrain", CommunicationPurpose.Step, "barrier", 2L, 0L),
                ("retrain", CommunicationPurpose.Save, "barrier", 1L, 0L),
                ("retrain", CommunicationPurpose.Control, "barrier", 2L, 0L),
                ("pretrain", CommunicationPurpose.Control, "allreduce", 1L, 0L),
            ],
            ledger.Totals.Select(t => (t.Phase, t.Purpose, t.Collective, t.Calls, t.BytesSent + t.BytesReceived + t.Messages)));
    }

    private static void MustBalance(int ranks, Func<int, Transfers> count)
    {
        Transfers all = default;
        for (int rank = 0; rank < ranks; rank++) all += count(rank);
        Assert.Equal(all.BytesSent, all.BytesReceived);
        Assert.Equal(all.BytesSent > 0, all.Messages > 0);
    }
}
