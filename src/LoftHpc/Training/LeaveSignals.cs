using LoftHpc.Communication;
using LoftHpc.Mpi;

namespace LoftHpc.Training;

/// <summary>
/// By which ranks that hand batches on to each other leave an evaluation after the same batch: each starts an allreduce after every batch,
/// and asks for its result as many batches later as there are ranks, so that no stage waits for the ones after it.
/// </summary>
internal sealed class LeaveSignals(RankContext context)
{
    private readonly Queue<(NativeBuffer Buffer, IMpiRequest Request)> _started = [];

    /// <summary>Whether all ranks leave after the batch that this one has done. Collective, 4 bytes.</summary>
    public bool AllLeave()
    {
        if (context.Size == 1) return context.EarlyStop.WantsToLeave != 0;
        using IDisposable purpose = context.Ledger.For(CommunicationPurpose.Control);
        NativeBuffer buffer = new();
        buffer.Span<int>(1)[0] = context.EarlyStop.WantsToLeave;
        _started.Enqueue((buffer, context.Communicator.StartAllreduce(MpiBuffer.InPlace, buffer.View(1, MpiDataType.Int32), MpiOperation.Max)));
        return _started.Count > context.Size && Next();
    }

    /// <summary>Waits for what was started.</summary>
    public void Wait()
    {
        using IDisposable purpose = context.Ledger.For(CommunicationPurpose.Control);
        while (_started.Count > 0) _ = Next();
    }

    private bool Next()
    {
        (NativeBuffer buffer, IMpiRequest request) = _started.Dequeue();
        request.Wait();
        using (buffer) return buffer.Span<int>(1)[0] != 0;
    }
}
