using LoftHpc.Mpi;
using static TorchSharp.torch;

namespace LoftHpc.Communication;

/// <summary>
/// Gathers tensors that are sliced along axis 1 over the ranks, and reduces and scatters whole ones back. Both go in
/// pieces of whole images, small enough that a piece is still in the cache when it is copied between the order of the
/// ranks, which MPI uses, and the order of the images, which the tensor has. Also sends whole tensors from rank to rank.
/// </summary>
public sealed class ChannelExchange(ICommunicator communicator, TensorTransport transport)
{
    /// <summary>Bytes of whole images that one collective moves, at most (but at least one image).</summary>
    public const long PieceBytes = 1 << 20;

    /// <summary>Of all messages from rank to rank.</summary>
    private const int Tag = 0;

    public ICommunicator Communicator => communicator;

    /// <summary>Bytes of the buffers that are kept to exchange with other ranks.</summary>
    public long BufferBytes => transport.BufferBytes;

    /// <summary>Images in one piece, for images of <paramref name="imageBytes"/> bytes over all channels.</summary>
    public static int ImagesPerPiece(long imageBytes) => (int)Math.Max(1, PieceBytes / Math.Max(1, imageBytes));

    /// <summary>Whole [N, sum of channels, H, W], on every rank, of each rank's part [N, channels of the rank, H, W].</summary>
    public Tensor Gather(Tensor part, ReadOnlySpan<int> channels)
    {
        if (communicator.Size == 1) return part.alias();
        using Tensor contiguous = part.contiguous();
        Tensor whole = empty([part.shape[0], Sum(channels), part.shape[2], part.shape[3]], part.dtype, part.device);
        Gather(contiguous, whole, channels);
        return whole;
    }

    /// <summary>The same, into a contiguous tensor that is there already.</summary>
    public void Gather(Tensor part, Tensor whole, ReadOnlySpan<int> channels)
    {
        ImageTensor from = ImageTensor.Of(part), to = ImageTensor.Of(whole);
        var layout = new Layout(to, channels, stackalloc long[channels.Length], stackalloc long[channels.Length]);
        while (layout.NextPiece())
        {
            MpiBuffer send = transport.ToMpi(from, layout.Start, layout.Images);
            if (layout.Images == 1)
            {
                MpiBuffer receive = transport.BeginFromMpi(to, layout.Start, 1);
                communicator.Allgatherv(send, receive, layout.Counts, layout.Displacements);
                transport.EndFromMpi(to, layout.Start, 1);
            }
            else
            {
                MpiBuffer packed = transport.Scratch(layout.Elements, to.Type);
                communicator.Allgatherv(send, packed, layout.Counts, layout.Displacements);
                transport.Unpack(packed, to, layout.Start, layout.Images, channels);
            }
        }
    }

    /// <summary>
    /// This rank's part [N, own channels, H, W] of the sum over ranks of <paramref name="whole"/> [N, C, H, W]. The
    /// adjoint of <see cref="Gather(Tensor, ReadOnlySpan{int})"/>.
    /// </summary>
    public Tensor ReduceScatter(Tensor whole, ReadOnlySpan<int> channels)
    {
        if (communicator.Size == 1) return whole.alias();
        using Tensor contiguous = whole.contiguous();
        Tensor part = empty([whole.shape[0], channels[communicator.Rank], whole.shape[2], whole.shape[3]], whole.dtype, whole.device);
        ReduceScatter(contiguous, part, channels);
        return part;
    }

    /// <summary>The same, into a contiguous tensor that is there already.</summary>
    public void ReduceScatter(Tensor whole, Tensor part, ReadOnlySpan<int> channels)
    {
        if (whole.dtype is ScalarType.BFloat16)
        {
            Bfloat16Sum.ReduceScatter(this, whole, part, channels);
            return;
        }
        ImageTensor from = ImageTensor.Of(whole), to = ImageTensor.Of(part);
        var layout = new Layout(from, channels, stackalloc long[channels.Length], stackalloc long[channels.Length]);
        while (layout.NextPiece())
        {
            MpiBuffer send;
            if (layout.Images == 1)
            {
                send = transport.ToMpi(from, layout.Start, 1);
            }
            else
            {
                send = transport.Scratch(layout.Elements, from.Type);
                transport.Pack(from, send, layout.Start, layout.Images, channels);
            }
            MpiBuffer receive = transport.BeginFromMpi(to, layout.Start, layout.Images);
            communicator.ReduceScatter(send, receive, layout.Counts, MpiOperation.Sum);
            transport.EndFromMpi(to, layout.Start, layout.Images);
        }
    }

    /// <summary>Sums a contiguous tensor over the ranks, in place.</summary>
    public void AllreduceSum(Tensor tensor)
    {
        if (communicator.Size == 1) return;
        MpiBuffer buffer = transport.BeginInPlace(tensor);
        communicator.Allreduce(MpiBuffer.InPlace, buffer, MpiOperation.Sum);
        transport.EndInPlace(tensor);
    }

    /// <summary>
    /// Sends each rank its part of a flat tensor and receives the parts for this rank into another, both in the order of
    /// the ranks and without gaps; counts are in elements.
    /// </summary>
    public void Alltoallv(Tensor send, ReadOnlySpan<long> sendCounts, Tensor receive, ReadOnlySpan<long> receiveCounts)
    {
        Span<long> sendStarts = stackalloc long[sendCounts.Length], receiveStarts = stackalloc long[receiveCounts.Length];
        for (int rank = 1; rank < sendCounts.Length; rank++)
        {
            sendStarts[rank] = sendStarts[rank - 1] + sendCounts[rank - 1];
            receiveStarts[rank] = receiveStarts[rank - 1] + receiveCounts[rank - 1];
        }
        using Tensor sendView = send.view(1, 1, 1, -1), receiveView = receive.view(1, 1, 1, -1);
        ImageTensor from = ImageTensor.Of(sendView), to = ImageTensor.Of(receiveView);
        communicator.Alltoallv(
            transport.ToMpi(from, 0, 1), sendCounts, sendStarts, transport.BeginFromMpi(to, 0, 1), receiveCounts, receiveStarts);
        transport.EndFromMpi(to, 0, 1);
    }

    /// <summary>
    /// Starts to send a contiguous tensor [N, C, H, W] to one rank. It must live, unchanged, until the request has
    /// completed. Where the tensor must be staged, the staging memory is needed again, so the send has completed on return.
    /// </summary>
    public IMpiRequest StartSend(Tensor tensor, int destination)
    {
        ImageTensor from = ImageTensor.Of(tensor);
        MpiBuffer buffer = transport.ToMpi(from, 0, from.Images);
        if (!transport.IsStaged) return communicator.StartSend(buffer, destination, Tag);
        communicator.Send(buffer, destination, Tag);
        return Completed.Instance;
    }

    /// <summary>
    /// Receives a contiguous tensor [N, C, H, W] from one rank. Tensors of one rank arrive in the order in which it
    /// started to send them.
    /// </summary>
    public void Receive(Tensor tensor, int source)
    {
        ImageTensor to = ImageTensor.Of(tensor);
        communicator.Receive(transport.BeginFromMpi(to, 0, to.Images), source, Tag);
        transport.EndFromMpi(to, 0, to.Images);
    }

    private static int Sum(ReadOnlySpan<int> values)
    {
        int sum = 0;
        foreach (int value in values) sum += value;
        return sum;
    }

    /// <summary>Walks over a tensor in pieces; within a piece the ranks' blocks [images, channels, H, W] follow each other.</summary>
    private ref struct Layout
    {
        private readonly ReadOnlySpan<int> _channels;
        private readonly Span<long> _counts, _displacements;
        private readonly int _total, _perPiece;
        private readonly long _area;

        public Layout(in ImageTensor whole, ReadOnlySpan<int> channels, Span<long> counts, Span<long> displacements)
        {
            _channels = channels;
            _counts = counts;
            _displacements = displacements;
            _total = whole.Images;
            _area = whole.Area;
            _perPiece = ImagesPerPiece(whole.ImageElements * MpiBuffer.SizeOf(MpiBuffer.TypeOf(whole.Type)));
        }

        public int Start { get; private set; }

        public int Images { get; private set; }

        public readonly long Elements => _displacements[^1] + _counts[^1];

        public readonly ReadOnlySpan<long> Counts => _counts;

        public readonly ReadOnlySpan<long> Displacements => _displacements;

        public bool NextPiece()
        {
            Start += Images;
            Images = Math.Min(_perPiece, _total - Start);
            if (Images <= 0) return false;
            long displacement = 0;
            for (int rank = 0; rank < _channels.Length; rank++)
            {
                _counts[rank] = Images * _channels[rank] * _area;
                _displacements[rank] = displacement;
                displacement += _counts[rank];
            }
            return true;
        }
    }
}
