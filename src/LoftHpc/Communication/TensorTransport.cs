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
            tensor, TensorMemory.Address(tensor), (int)TensorMemory.Size(tensor, 0), (int)TensorMemory.Size(tensor, 1),
            TensorMemory.Size(tensor, 2) * TensorMemory.Size(tensor, 3), tensor.dtype);
    }
}

/// <summary>
/// Brings contiguous tensors to memory that MPI can use, and back, image by image. A "piece" is images [start, start +
/// images) of a tensor [N, C, H, W]; a "packed" piece holds the block [images, channels, H, W] of each rank in turn.
/// </summary>
public abstract class TensorTransport : IDisposable
{
    /// <summary>The transport for a device. Direct: MPI takes device pointers.</summary>
    public static TensorTransport For(Device device, bool direct) =>
        device.type is DeviceType.CUDA ? new CudaTransport(device, direct) : new HostTransport();

    /// <summary>Bytes of the buffers that are kept.</summary>
    public abstract long BufferBytes { get; }

    /// <summary>Whether MPI gets copies, in memory that the next call uses again, and not the tensors' own memory.</summary>
    public abstract bool IsStaged { get; }

    /// <summary>Memory that holds a piece, to send from; valid until the next call.</summary>
    public abstract MpiBuffer ToMpi(in ImageTensor tensor, int start, int images);

    /// <summary>Memory to receive a piece into; <see cref="EndFromMpi"/> puts it in place.</summary>
    public abstract MpiBuffer BeginFromMpi(in ImageTensor tensor, int start, int images);

    public abstract void EndFromMpi(in ImageTensor tensor, int start, int images);

    /// <summary>Memory that holds a whole tensor, to be changed by MPI; <see cref="EndInPlace"/> puts it in place.</summary>
    public abstract MpiBuffer BeginInPlace(Tensor tensor);

    public abstract void EndInPlace(Tensor tensor);

    /// <summary>Memory for a packed piece, the same in every call.</summary>
    public abstract MpiBuffer Scratch(long elements, ScalarType type);

    /// <summary>Copies a packed piece into its place in [N, C, H, W].</summary>
    public abstract void Unpack(MpiBuffer packed, in ImageTensor whole, int start, int images, ReadOnlySpan<int> channels);

    /// <summary>The reverse of <see cref="Unpack"/>.</summary>
    public abstract void Pack(in ImageTensor whole, MpiBuffer packed, int start, int images, ReadOnlySpan<int> channels);

    public abstract void Dispose();
}

/// <summary>Tensors on the CPU: MPI reads and writes them where they are.</summary>
internal sealed unsafe class HostTransport : TensorTransport
{
    private readonly NativeBuffer _scratch = new();

    public override long BufferBytes => _scratch.CapacityBytes;

    public override bool IsStaged => false;

    public override MpiBuffer ToMpi(in ImageTensor tensor, int start, int images) => Piece(tensor, start, images);

    public override MpiBuffer BeginFromMpi(in ImageTensor tensor, int start, int images) => Piece(tensor, start, images);

    public override void EndFromMpi(in ImageTensor tensor, int start, int images)
    {
    }

    public override MpiBuffer BeginInPlace(Tensor tensor) => MpiBuffer.Of(tensor);

    public override void EndInPlace(Tensor tensor)
    {
    }

    public override MpiBuffer Scratch(long elements, ScalarType type) => _scratch.View(elements, MpiBuffer.TypeOf(type));

    public override void Unpack(MpiBuffer packed, in ImageTensor whole, int start, int images, ReadOnlySpan<int> channels) =>
        Copy(packed, whole, start, images, channels, toPacked: false);

    public override void Pack(in ImageTensor whole, MpiBuffer packed, int start, int images, ReadOnlySpan<int> channels) =>
        Copy(packed, whole, start, images, channels, toPacked: true);

    public override void Dispose() => _scratch.Dispose();

    private static MpiBuffer Piece(in ImageTensor tensor, int start, int images)
    {
        MpiDataType type = MpiBuffer.TypeOf(tensor.Type);
        return new MpiBuffer(
            tensor.Address + (nint)(start * tensor.ImageElements * MpiBuffer.SizeOf(type)), images * tensor.ImageElements, type);
    }

    private static void Copy(MpiBuffer packed, in ImageTensor whole, int start, int images, ReadOnlySpan<int> channels, bool toPacked)
    {
        long area = whole.Area * packed.ElementBytes, imageBytes = whole.Channels * area;
        byte* block = (byte*)packed.Address, place = (byte*)whole.Address + (start * imageBytes);
        foreach (int own in channels)
        {
            long bytes = own * area;
            for (int image = 0; image < images; image++, block += bytes)
            {
                byte* at = place + (image * imageBytes);
                Buffer.MemoryCopy(toPacked ? at : block, toPacked ? block : at, bytes, bytes);
            }
            place += bytes;
        }
    }
}

/// <summary>
/// Tensors on a GPU: staged through pinned memory of the host, or handed to MPI as they are where it is CUDA-aware.
/// </summary>
internal sealed class CudaTransport(Device device, bool direct) : TensorTransport
{
    private readonly Dictionary<(string Use, ScalarType Type), Tensor> _buffers = [];
    private Tensor? _staged;

    public override long BufferBytes => _buffers.Values.Sum(buffer => buffer.numel() * buffer.element_size());

    public override bool IsStaged => !direct;

    public override MpiBuffer ToMpi(in ImageTensor tensor, int start, int images)
    {
        using DisposeScope scope = NewDisposeScope();
        return ToMpi(tensor.Tensor.narrow(0, start, images));
    }

    public override MpiBuffer BeginFromMpi(in ImageTensor tensor, int start, int images)
    {
        using DisposeScope scope = NewDisposeScope();
        Tensor piece = tensor.Tensor.narrow(0, start, images);
        return Synchronized(_staged = direct ? null : Buffer("receive", piece.numel(), piece.dtype), piece);
    }

    public override void EndFromMpi(in ImageTensor tensor, int start, int images)
    {
        using DisposeScope scope = NewDisposeScope();
        Tensor piece = tensor.Tensor.narrow(0, start, images);
        if (_staged is not null) piece.copy_(_staged.narrow(0, 0, piece.numel()).view(piece.shape));
    }

    public override MpiBuffer BeginInPlace(Tensor tensor) => ToMpi(tensor);

    public override void EndInPlace(Tensor tensor)
    {
        using DisposeScope scope = NewDisposeScope();
        if (!direct) tensor.copy_(Buffer("send", tensor.numel(), tensor.dtype).narrow(0, 0, tensor.numel()).view(tensor.shape));
    }

    public override MpiBuffer Scratch(long elements, ScalarType type) =>
        new(TensorMemory.Address(Buffer("scratch", elements, type)), elements, MpiBuffer.TypeOf(type));

    public override void Unpack(MpiBuffer packed, in ImageTensor whole, int start, int images, ReadOnlySpan<int> channels) =>
        Blocks(packed, whole, start, images, channels, (block, place) => place.copy_(block));

    public override void Pack(in ImageTensor whole, MpiBuffer packed, int start, int images, ReadOnlySpan<int> channels)
    {
        Blocks(packed, whole, start, images, channels, (block, place) => block.copy_(place));
        cuda.synchronize();
    }

    public override void Dispose()
    {
        foreach (Tensor buffer in _buffers.Values) buffer.Dispose();
    }

    private MpiBuffer ToMpi(Tensor tensor)
    {
        if (direct) return Synchronized(null, tensor);
        using DisposeScope scope = NewDisposeScope();
        Tensor buffer = Buffer("send", tensor.numel(), tensor.dtype);
        buffer.narrow(0, 0, tensor.numel()).copy_(tensor.reshape(-1));
        return new MpiBuffer(TensorMemory.Address(buffer), tensor.numel(), MpiBuffer.TypeOf(tensor.dtype));
    }

    private static MpiBuffer Synchronized(Tensor? staged, Tensor tensor)
    {
        cuda.synchronize();
        return new MpiBuffer(TensorMemory.Address(staged ?? tensor), tensor.numel(), MpiBuffer.TypeOf(tensor.dtype));
    }

    private void Blocks(MpiBuffer packed, in ImageTensor whole, int start, int images, ReadOnlySpan<int> channels, Action<Tensor, Tensor> copy)
    {
        using DisposeScope scope = NewDisposeScope();
        Tensor flat = Buffer("scratch", packed.Count, whole.Type), piece = whole.Tensor.narrow(0, start, images);
        long at = 0, channel = 0;
        foreach (int own in channels)
        {
            Tensor place = piece.narrow(1, channel, own);
            copy(flat.narrow(0, at, place.numel()).view(place.shape), place);
            at += place.numel();
            channel += own;
        }
    }

    /// <summary>A buffer that grows and is reused: on the device for direct transfers, else pinned on the host.</summary>
    private Tensor Buffer(string use, long elements, ScalarType type)
    {
        if (_buffers.TryGetValue((use, type), out Tensor? buffer) && buffer.numel() >= elements) return buffer;
        buffer?.Dispose();
        using DisposeScope scope = NewDisposeScope();
        buffer = direct ? empty(elements, type, device) : empty(elements, type).pin_memory();
        return _buffers[(use, type)] = buffer.DetachFromDisposeScope();
    }
}
