using LoftHpc.Mpi;
using TorchSharp;
using static TorchSharp.torch;

namespace LoftHpc.Communication;

/// <summary>A contiguous tensor [N, C, H, W] with what an exchange needs of it, asked for once.</summary>
/// <param name="Address">On whatever device it lies.</param>
/// <param name="Area">Elements of one channel of one image.</param>
public readonly record struct ImageTensor(Tensor Tensor, nint Address, int Images, int Channels, long Area, ScalarType Type)
{
    public long ImageElements => Channels * Area;

    /// <exception cref="ArgumentException">The tensor is not contiguous.</exception>
    public static ImageTensor Of(Tensor tensor)
    {
        if (!tensor.is_contiguous()) throw new ArgumentException("an exchange needs a contiguous tensor", nameof(tensor));
        return new ImageTensor(
            tensor, TensorMemory.Address(tensor), checked((int)TensorMemory.Size(tensor, 0)), (int)TensorMemory.Size(tensor, 1),
            TensorMemory.Size(tensor, 2) * TensorMemory.Size(tensor, 3), tensor.dtype);
    }
}

/// <summary>
/// Takes contiguous tensors through MPI from where they lie, and back. In what MPI sends, the block [images, channels, H, W]
/// of one rank follows that of another; in a tensor [N, C, H, W] the channels of an image do.
/// </summary>
public abstract class TensorTransport : IDisposable
{
    /// <summary>The transport for a device. Direct: MPI takes device pointers.</summary>
    public static TensorTransport For(Device device, bool direct)
    {
        ExchangeCut cut = ExchangeCut.For(device.type, direct);
        return cut.ByImage ? new HostTransport(cut) : new DeviceTransport(device, cut);
    }

    /// <summary>How exchanges are cut into calls.</summary>
    public abstract ExchangeCut Cut { get; }

    /// <summary>Bytes of the buffers that are kept.</summary>
    public abstract long BufferBytes { get; }

    /// <summary>Keeps buffers of just so many bytes from now on; they grow where more is needed.</summary>
    public abstract void Keep(long bufferBytes);

    /// <summary>Each rank's part [N, channels of the rank, H, W] into its place of <paramref name="whole"/> [N, C, H, W], on every rank.</summary>
    public abstract void Gather(ICommunicator communicator, in ImageTensor part, in ImageTensor whole, ReadOnlySpan<int> channels);

    /// <summary>The sum over the ranks of <paramref name="whole"/>, of which each rank gets its own channels.</summary>
    public abstract void ReduceScatter(ICommunicator communicator, in ImageTensor whole, in ImageTensor part, ReadOnlySpan<int> channels);

    /// <summary>Sums a tensor over the ranks, in place.</summary>
    public abstract void AllreduceSum(ICommunicator communicator, Tensor tensor);

    /// <summary>Flat tensors, which are as large on all ranks; the ranks' parts follow each other without gaps, from the start on.</summary>
    public abstract void Alltoallv(ICommunicator communicator, Tensor send, long[] sendCounts, Tensor receive, long[] receiveCounts);

    /// <summary>Starts to send a tensor, which must live, unchanged, until the request has completed.</summary>
    public abstract IMpiRequest StartSend(ICommunicator communicator, Tensor tensor, int destination, int tag);

    public abstract void Receive(ICommunicator communicator, Tensor tensor, int source, int tag);

    public abstract void Dispose();
}

/// <summary>Tensors on the CPU: MPI reads and writes them where they are, and pieces of them only are copied, while they are in the cache.</summary>
internal sealed unsafe class HostTransport(ExchangeCut cut) : TensorTransport
{
    private readonly NativeBuffer _scratch = new();

    public override ExchangeCut Cut => cut;

    public override long BufferBytes => _scratch.CapacityBytes;

    public override void Keep(long bufferBytes) => _scratch.Keep(bufferBytes);

    public override void Gather(ICommunicator communicator, in ImageTensor part, in ImageTensor whole, ReadOnlySpan<int> channels)
    {
        var layout = new Layout(whole, cut, channels, stackalloc long[channels.Length], stackalloc long[channels.Length]);
        while (layout.NextPiece())
        {
            MpiBuffer send = Piece(part, layout);
            if (layout.Images == 1)
            {
                communicator.Allgatherv(send, Piece(whole, layout), layout.Counts, layout.Displacements);
            }
            else
            {
                MpiBuffer packed = _scratch.View(layout.Elements, MpiBuffer.TypeOf(whole.Type));
                communicator.Allgatherv(send, packed, layout.Counts, layout.Displacements);
                Copy(packed, whole, layout, channels, toPacked: false);
            }
        }
    }

    public override void ReduceScatter(ICommunicator communicator, in ImageTensor whole, in ImageTensor part, ReadOnlySpan<int> channels)
    {
        var layout = new Layout(whole, cut, channels, stackalloc long[channels.Length], stackalloc long[channels.Length]);
        while (layout.NextPiece())
        {
            MpiBuffer send = layout.Images == 1 ? Piece(whole, layout) : _scratch.View(layout.Elements, MpiBuffer.TypeOf(whole.Type));
            if (layout.Images > 1) Copy(send, whole, layout, channels, toPacked: true);
            communicator.ReduceScatter(send, Piece(part, layout), layout.Counts, MpiOperation.Sum);
        }
    }

    public override void AllreduceSum(ICommunicator communicator, Tensor tensor) =>
        communicator.Allreduce(MpiBuffer.InPlace, MpiBuffer.Of(tensor), MpiOperation.Sum);

    public override void Alltoallv(ICommunicator communicator, Tensor send, long[] sendCounts, Tensor receive, long[] receiveCounts) =>
        communicator.Alltoallv(
            MpiBuffer.Of(send), sendCounts, Displacements.Of(sendCounts), MpiBuffer.Of(receive), receiveCounts, Displacements.Of(receiveCounts));

    public override IMpiRequest StartSend(ICommunicator communicator, Tensor tensor, int destination, int tag) =>
        communicator.StartSend(MpiBuffer.Of(tensor), destination, tag);

    public override void Receive(ICommunicator communicator, Tensor tensor, int source, int tag) =>
        communicator.Receive(MpiBuffer.Of(tensor), source, tag);

    public override void Dispose() => _scratch.Dispose();

    private static MpiBuffer Piece(in ImageTensor tensor, in Layout layout)
    {
        MpiDataType type = MpiBuffer.TypeOf(tensor.Type);
        return new MpiBuffer(
            tensor.Address + (nint)(layout.Start * tensor.ImageElements * MpiBuffer.SizeOf(type)), layout.Images * tensor.ImageElements, type);
    }

    private static void Copy(MpiBuffer packed, in ImageTensor whole, in Layout layout, ReadOnlySpan<int> channels, bool toPacked)
    {
        long area = whole.Area * packed.ElementBytes, imageBytes = whole.Channels * area;
        byte* block = (byte*)packed.Address, place = (byte*)whole.Address + (layout.Start * imageBytes);
        foreach (int own in channels)
        {
            long bytes = own * area;
            for (int image = 0; image < layout.Images; image++, block += bytes)
            {
                byte* at = place + (image * imageBytes);
                Buffer.MemoryCopy(toPacked ? at : block, toPacked ? block : at, bytes, bytes);
            }
            place += bytes;
        }
    }

    /// <summary>Walks over a tensor in pieces; within a piece the ranks' blocks [images, channels, H, W] follow each other.</summary>
    private ref struct Layout
    {
        private readonly ReadOnlySpan<int> _channels;
        private readonly Span<long> _counts, _displacements;
        private readonly int _total, _perPiece;
        private readonly long _area;

        public Layout(in ImageTensor whole, ExchangeCut cut, ReadOnlySpan<int> channels, Span<long> counts, Span<long> displacements)
        {
            _channels = channels;
            _counts = counts;
            _displacements = displacements;
            _total = whole.Images;
            _area = whole.Area;
            _perPiece = cut.ImagesPerPiece(whole.ImageElements * MpiBuffer.SizeOf(MpiBuffer.TypeOf(whole.Type)));
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

/// <summary>
/// Tensors on a GPU. What goes to several ranks is put into their order, and back, by the GPU itself: one copy a rank. In
/// between MPI takes it in one call where it is CUDA-aware. Otherwise it goes in pieces through memory of the host: while one
/// piece is in a call, the next one comes from the GPU and the one before goes back.
/// </summary>
internal sealed class DeviceTransport(Device device, ExchangeCut cut) : TensorTransport
{
    /// <summary>None where MPI takes addresses in the GPU's memory.</summary>
    private readonly StagingCopies? _copies = cut == ExchangeCut.Direct ? null : StagingCopies.For(device);

    private nint _host;
    private long _slotBytes;

    private delegate void Call(MpiBuffer send, long[] sendCounts, MpiBuffer receive, long[] receiveCounts);

    public override ExchangeCut Cut => cut;

    public override long BufferBytes => 2 * ExchangeCut.Slots * _slotBytes;

    public override void Keep(long bufferBytes)
    {
        Release();
        if (_copies is not null) Reserve(bufferBytes / (2 * ExchangeCut.Slots));
    }

    public override void Gather(ICommunicator communicator, in ImageTensor part, in ImageTensor whole, ReadOnlySpan<int> channels)
    {
        using DisposeScope scope = NewDisposeScope();
        using IDisposable frozen = no_grad();
        long[] counts = Counts(whole, channels);
        int rank = communicator.Rank;
        // One image is in the order of the ranks.
        Tensor? packed = whole.Images == 1 ? null : empty_like(whole.Tensor);
        Exchange(
            communicator, new Parts(part.Address, [counts[rank]]), new Parts(packed is null ? whole.Address : TensorMemory.Address(packed), counts, Known: rank),
            whole.Type, counts.Sum(),
            (send, _, receive, receiveCounts) => communicator.Allgatherv(send, receive, receiveCounts, Displacements.Of(receiveCounts)));
        foreach ((int owner, Tensor place, Tensor? block) in Blocks(whole, packed, channels, counts))
        {
            if (owner == rank) place.copy_(part.Tensor);
            else if (block is not null) place.copy_(block);
        }
    }

    public override void ReduceScatter(ICommunicator communicator, in ImageTensor whole, in ImageTensor part, ReadOnlySpan<int> channels)
    {
        using DisposeScope scope = NewDisposeScope();
        using IDisposable frozen = no_grad();
        long[] counts = Counts(whole, channels);
        Tensor? packed = whole.Images == 1 ? null : empty_like(whole.Tensor);
        foreach ((_, Tensor place, Tensor? block) in Blocks(whole, packed, channels, counts)) block?.copy_(place);
        Exchange(
            communicator, new Parts(packed is null ? whole.Address : TensorMemory.Address(packed), counts), new Parts(part.Address, [counts[communicator.Rank]]),
            whole.Type, counts.Sum(),
            (send, sendCounts, receive, _) => communicator.ReduceScatter(send, receive, sendCounts, MpiOperation.Sum));
    }

    public override void AllreduceSum(ICommunicator communicator, Tensor tensor)
    {
        Parts all = Whole(tensor);
        Exchange(communicator, all, all, tensor.dtype, all.Counts[0], (send, _, receive, _) =>
            communicator.Allreduce(send.Address == receive.Address ? MpiBuffer.InPlace : send, receive, MpiOperation.Sum));
    }

    public override void Alltoallv(ICommunicator communicator, Tensor send, long[] sendCounts, Tensor receive, long[] receiveCounts) => Exchange(
        communicator, new Parts(Whole(send).Address, sendCounts), new Parts(Whole(receive).Address, receiveCounts), send.dtype, send.numel(),
        (from, fromCounts, to, toCounts) => communicator.Alltoallv(from, fromCounts, Displacements.Of(fromCounts), to, toCounts, Displacements.Of(toCounts)));

    /// <summary>Has sent when it returns: the staging memory is needed again.</summary>
    public override IMpiRequest StartSend(ICommunicator communicator, Tensor tensor, int destination, int tag)
    {
        Parts all = Whole(tensor);
        IMpiRequest request = Completed.Instance;
        Exchange(communicator, all, Parts.None, tensor.dtype, all.Counts[0], (send, _, _, _) =>
        {
            if (_copies is null) request = communicator.StartSend(send, destination, tag);
            else communicator.Send(send, destination, tag);
        });
        return request;
    }

    public override void Receive(ICommunicator communicator, Tensor tensor, int source, int tag)
    {
        Parts all = Whole(tensor);
        Exchange(communicator, Parts.None, all, tensor.dtype, all.Counts[0], (_, _, receive, _) => communicator.Receive(receive, source, tag));
    }

    public override void Dispose()
    {
        if (_host != 0) _copies!.Free(_host);
        _host = 0;
        _copies?.Dispose();
    }

    private static Parts Whole(Tensor tensor) => tensor.is_contiguous()
        ? new Parts(TensorMemory.Address(tensor), [tensor.numel()])
        : throw new ArgumentException("an exchange needs a contiguous tensor", nameof(tensor));

    private static long[] Counts(in ImageTensor whole, ReadOnlySpan<int> channels)
    {
        long[] counts = new long[channels.Length];
        for (int rank = 0; rank < counts.Length; rank++) counts[rank] = whole.Images * channels[rank] * whole.Area;
        return counts;
    }

    /// <summary>Of each rank that has channels, their place in [N, C, H, W] and their block [N, channels, H, W] of what is packed.</summary>
    private static List<(int Owner, Tensor Place, Tensor? Block)> Blocks(in ImageTensor whole, Tensor? packed, ReadOnlySpan<int> channels, long[] counts)
    {
        List<(int, Tensor, Tensor?)> blocks = [];
        Tensor? flat = packed?.view(-1);
        (long start, long channel) = (0, 0);
        for (int owner = 0; owner < channels.Length; owner++)
        {
            if (channels[owner] == 0) continue;
            Tensor place = whole.Tensor.narrow(1, channel, channels[owner]);
            blocks.Add((owner, place, flat?.narrow(0, start, counts[owner]).view(place.shape)));
            start += counts[owner];
            channel += channels[owner];
        }
        return blocks;
    }

    /// <summary>Does a call for each piece.</summary>
    /// <param name="elements">Of the whole, by which it is cut: the same on all ranks.</param>
    private void Exchange(ICommunicator communicator, in Parts send, in Parts receive, ScalarType scalar, long elements, Call call)
    {
        MpiDataType type = MpiBuffer.TypeOf(scalar);
        if (_copies is null)
        {
            // MPI knows nothing of what the GPU has still to do.
            cuda.synchronize(device);
            call(new MpiBuffer(send.Address, send.Counts.Sum(), type), send.Counts, new MpiBuffer(receive.Address, receive.Counts.Sum(), type), receive.Counts);
            return;
        }
        int elementBytes = MpiBuffer.SizeOf(type), pieces = cut.Pieces(elements * elementBytes);
        Reserve(cut.SlotBytes(communicator.Size));
        _copies.AfterComputing();
        Copy(CopyDirection.ToHost, send, 0, pieces, elementBytes);
        for (int piece = 0; piece < pieces; piece++)
        {
            if (piece + 1 < pieces) Copy(CopyDirection.ToHost, send, piece + 1, pieces, elementBytes);
            int slot = piece % ExchangeCut.Slots;
            _copies.Wait(CopyDirection.ToHost, slot);
            // The slot's last piece, of an exchange before perhaps, is on its way to the device.
            _copies.Wait(CopyDirection.ToDevice, slot);
            (long[] sent, long[] received) = (send.CountsOf(piece, pieces), receive.CountsOf(piece, pieces));
            call(
                new MpiBuffer(HostMemory(CopyDirection.ToHost, slot), sent.Sum(), type), sent,
                new MpiBuffer(HostMemory(CopyDirection.ToDevice, slot), received.Sum(), type), received);
            Copy(CopyDirection.ToDevice, receive, piece, pieces, elementBytes);
        }
        _copies.BeforeComputing();
    }

    /// <summary>Starts the copies of a piece; what is contiguous on both sides goes in one.</summary>
    private void Copy(CopyDirection direction, in Parts parts, int piece, int pieces, int elementBytes)
    {
        int slot = piece % ExchangeCut.Slots;
        nint host = HostMemory(direction, slot), from = 0, hostFrom = 0;
        long bytes = 0, partStart = 0;
        for (int part = 0; part < parts.Counts.Length; part++)
        {
            (long start, long count) = ExchangeCut.Piece(parts.Counts[part], piece, pieces);
            nint address = parts.Address + (nint)((partStart + start) * elementBytes);
            if (part != parts.Known && count > 0)
            {
                if (bytes > 0 && (from + bytes != address || hostFrom + bytes != host)) Flush();
                if (bytes == 0) (from, hostFrom) = (address, host);
                bytes += count * elementBytes;
            }
            host += (nint)(count * elementBytes);
            partStart += parts.Counts[part];
        }
        Flush();
        _copies!.Mark(direction, slot);

        void Flush()
        {
            if (bytes > 0) _copies!.Start(direction, from, hostFrom, bytes);
            bytes = 0;
        }
    }

    private nint HostMemory(CopyDirection direction, int slot) => _host + (nint)(((2 * slot) + (int)direction) * _slotBytes);

    private void Reserve(long slotBytes)
    {
        if (slotBytes <= _slotBytes) return;
        Release();
        _host = _copies!.Allocate(2 * ExchangeCut.Slots * slotBytes);
        _slotBytes = slotBytes;
    }

    private void Release()
    {
        if (_host != 0) _copies!.Free(_host);
        (_host, _slotBytes) = (0, 0);
    }

    /// <summary>Memory of the device in which the parts of some ranks follow each other, in elements.</summary>
    /// <param name="Known">A part that the device has already, and that need not go to it; -1: none.</param>
    private readonly record struct Parts(nint Address, long[] Counts, int Known = -1)
    {
        public static Parts None => new(0, []);

        /// <summary>Elements of each part in a piece.</summary>
        public long[] CountsOf(int piece, int pieces) => [.. Counts.Select(count => ExchangeCut.Piece(count, piece, pieces).Count)];
    }
}
