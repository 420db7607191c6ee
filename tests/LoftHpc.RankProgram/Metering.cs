using LoftHpc.Communication;
using LoftHpc.Mpi;

namespace LoftHpc.RankProgram;

/// <summary>A metered communicator counts real calls.</summary>
public static class Metering
{
    /// <summary>Each call once or twice under known counts on 3 ranks; prints every rank's account.</summary>
    public static void Account(ICommunicator world, string[] arguments)
    {
        CommunicationLedger ledger = new();
        using MeteredCommunicator metered = new(world, ledger);
        using NativeBuffer memory = new(), more = new();
        MpiBuffer ten = memory.View(10, MpiDataType.Float32), other = more.View(10, MpiDataType.Float32);
        long[] counts = [5, 0, 2], starts = [0, 5, 5];
        long own = counts[world.Rank];

        ledger.Phase = "pretrain";
        using (ledger.For(CommunicationPurpose.Step))
        {
            metered.Allgatherv(other.Slice(0, own), ten, counts, starts);
            metered.StartAllgatherv(other.Slice(0, own), ten, counts, starts).Wait();
            metered.ReduceScatter(ten, other, counts, MpiOperation.Sum);
            metered.StartReduceScatter(ten, other, counts, MpiOperation.Sum).Wait();
            using (ledger.For(CommunicationPurpose.Control))
                metered.Allreduce(MpiBuffer.InPlace, ten.Slice(0, 1), MpiOperation.Max);
            metered.Allreduce(MpiBuffer.InPlace, ten, MpiOperation.Max);
        }
        ledger.Phase = "retrain";
        using (ledger.For(CommunicationPurpose.Save))
        {
            metered.Broadcast(ten, 1);
            metered.Reduce(ten, other, MpiOperation.Sum, 2);
            metered.Allgather(other.Slice(0, 2), ten.Slice(0, 6));
            metered.Barrier();
        }
        using (ledger.For(CommunicationPurpose.Round))
        {
            // Rank s sends s + d elements to rank d.
            long[] send = [.. Enumerable.Range(0, 3).Select(d => (long)world.Rank + d)];
            long[] at = [0, send[0], send[0] + send[1]];
            metered.Alltoallv(ten, send, at, other, send, at);
        }
        using ICommunicator pair = metered.Split(world.Rank == 0 ? 0 : 1, world.Rank);
        using (ledger.For(CommunicationPurpose.Evaluation))
        {
            if (world.Rank == 1) pair.Send(ten, 1, 0);
            if (world.Rank == 2) pair.Receive(ten, 0, 0);
        }
        string account = string.Join('\n', ledger.Totals.Select(t =>
            $"{world.Rank} {t.Phase} {t.Purpose} {t.Collective} {t.Calls} {t.Messages} {t.BytesSent} {t.BytesReceived}"));
        Check.True(ledger.Totals.All(t => t.Seconds >= 0) && ledger.Totals.Sum(t => t.Seconds) > 0, "seconds");
        string[] all = world.Allgather(account);
        if (world.Rank == 0) Console.WriteLine(string.Join('\n', all));
    }
}
