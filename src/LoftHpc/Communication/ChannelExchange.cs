using LoftHpc.Arithmetic;
using LoftHpc.Configuration;
using LoftHpc.Mpi;
using static TorchSharp.torch;

namespace LoftHpc.Communication;

/// <summary>
/// Gathers tensors that are sliced along axis 1 over the ranks, and reduces and scatters whole ones back. Also sums tensors
/// over the ranks and sends whole ones from rank to rank. How that is cut into calls, <see cref="ExchangeCut"/> says.
/// </summary>
public sealed class ChannelExchange(ICommunicator communicator, TensorTransport transport)
{
    /// <summary>Of all messages from rank to rank.</summary>
    private const int Tag = 0;

    public ICommunicator Communicator => communicator;

    /// <summary>Bytes of the buffers that are kept to exchange with other ranks.</summary>
    public long BufferBytes => transport.BufferBytes;

    /// <summary>Gives back the buffers of what came before.</summary>
    public void ReleaseBuffers() => transport.Keep(0);

    /// <summary>Buffers as large as they were.</summary>
    public void Archive(StateArchive archive)
    {
        // Other ranks need others.
        if (archive.Writers is not null) return;
        long bytes = BufferBytes;
        archive.Number("exchange/buffer_bytes", ref bytes);
        if (archive.IsReading) transport.Keep(Math.Max(0, bytes));
    }

    /// <summary>Whole [N, sum of channels, H, W], on every rank, of each rank's part [N, channels of the rank, H, W].</summary>
    /// <param name="format">
    /// How the whole lies in memory, and in what order values travel: the same on all ranks. A part that lies so too is sent from
    /// where it is, else from a copy.
    /// </param>
    public Tensor Gather(Tensor part, ReadOnlySpan<int> channels, MemoryFormat format)
    {
        if (communicator.Size == 1) return part.alias();
        Tensor whole = MemoryFormats.Empty([part.shape[0], Sum(channels), part.shape[2], part.shape[3]], new ActivationLayout(part.dtype, format), part.device);
        using Tensor rows = MemoryFormats.Rows(part, format), wholeRows = MemoryFormats.Rows(whole, format);
        Gather(rows, wholeRows, channels);
        return whole;
    }

    /// <summary>The same, into a contiguous tensor that is there already.</summary>
    public void Gather(Tensor part, Tensor whole, ReadOnlySpan<int> channels) =>
        transport.Gather(communicator, ImageTensor.Of(part), ImageTensor.Of(whole), channels);

    /// <summary>
    /// This rank's part [N, own channels, H, W] of the sum over ranks of <paramref name="whole"/> [N, C, H, W]. The
    /// adjoint of <see cref="Gather(Tensor, ReadOnlySpan{int}, MemoryFormat)"/>.
    /// </summary>
    public Tensor ReduceScatter(Tensor whole, ReadOnlySpan<int> channels, MemoryFormat format)
    {
        if (communicator.Size == 1) return whole.alias();
        Tensor part = MemoryFormats.Empty(
            [whole.shape[0], channels[communicator.Rank], whole.shape[2], whole.shape[3]], new ActivationLayout(whole.dtype, format), whole.device);
        using Tensor rows = MemoryFormats.Rows(whole, format), partRows = MemoryFormats.Rows(part, format);
        ReduceScatter(rows, partRows, channels);
        return part;
    }

    /// <summary>The same, into a contiguous tensor that is there already.</summary>
    public void ReduceScatter(Tensor whole, Tensor part, ReadOnlySpan<int> channels)
    {
        if (whole.dtype is ScalarType.BFloat16) Bfloat16Sum.ReduceScatter(this, transport.Cut, whole, part, channels);
        else transport.ReduceScatter(communicator, ImageTensor.Of(whole), ImageTensor.Of(part), channels);
    }

    /// <summary>Sums a contiguous tensor over the ranks, in place.</summary>
    public void AllreduceSum(Tensor tensor)
    {
        if (communicator.Size > 1) transport.AllreduceSum(communicator, tensor);
    }

    /// <summary>
    /// Sends each rank its part of a flat tensor and receives the parts for this rank into another, both in the order of
    /// the ranks and without gaps; counts are in elements. The tensors, which may have room for more, are as large on all ranks.
    /// </summary>
    public void Alltoallv(Tensor send, long[] sendCounts, Tensor receive, long[] receiveCounts) =>
        transport.Alltoallv(communicator, send, sendCounts, receive, receiveCounts);

    /// <summary>
    /// Starts to send a contiguous tensor to one rank. It must live, unchanged, until the request has completed. Where the
    /// tensor must be staged, the staging memory is needed again, so the send has completed on return.
    /// </summary>
    public IMpiRequest StartSend(Tensor tensor, int destination) => transport.StartSend(communicator, tensor, destination, Tag);

    /// <summary>
    /// Receives a contiguous tensor from one rank. Tensors of one rank arrive in the order in which it started to send them.
    /// </summary>
    public void Receive(Tensor tensor, int source) => transport.Receive(communicator, tensor, source, Tag);

    private static int Sum(ReadOnlySpan<int> values)
    {
        int sum = 0;
        foreach (int value in values) sum += value;
        return sum;
    }
}
