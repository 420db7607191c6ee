using System.Runtime.InteropServices;

namespace LoftHpc.Communication;

/// <summary>Ways that copies go.</summary>
internal enum CopyDirection
{
    ToHost,
    ToDevice,
}

/// <summary>
/// Copies between a device's memory and memory of the host for messages. There is a queue for each direction; the two run
/// beside each other and beside what the device computes, and in each the copies follow each other.
/// </summary>
internal abstract class StagingCopies : IDisposable
{
    /// <summary>The copies for a device: a GPU's, or those that stand for them in tests.</summary>
    /// <param name="slots">Slots of memory that have marks.</param>
    public static StagingCopies For(TorchSharp.torch.Device device, int slots = ExchangeCut.Slots) =>
        device.type is TorchSharp.DeviceType.CUDA ? new CudaCopies(Math.Max(0, device.index), slots) : new LateCopies(slots);

    /// <summary>Memory of the host that copies are fast with; given back by <see cref="Free"/>.</summary>
    public abstract nint Allocate(long bytes);

    /// <summary>Waits for all copies before.</summary>
    public abstract void Free(nint memory);

    /// <summary>Copies from now on come after all that the device was given to compute until now.</summary>
    public abstract void AfterComputing();

    /// <summary>Puts a copy into the queue of its direction.</summary>
    public abstract void Start(CopyDirection direction, nint device, nint host, long bytes);

    /// <summary>Sets a mark behind the last copy of a direction; a slot has one mark a direction.</summary>
    public abstract void Mark(CopyDirection direction, int slot);

    /// <summary>Waits until all copies before a slot's mark are done; returns at once where there is none.</summary>
    public abstract void Wait(CopyDirection direction, int slot);

    /// <summary>What the device is given to compute from now on comes after all copies to it until now.</summary>
    public abstract void BeforeComputing();

    public abstract void Dispose();
}

/// <summary>
/// Copies of a GPU, by the CUDA driver's own interface: TorchSharp has neither streams nor events, and the driver's library
/// has one name and the same functions wherever there is a GPU. libtorch computes on the legacy default stream.
/// </summary>
internal sealed unsafe partial class CudaCopies : StagingCopies
{
    private const string Driver = "libcuda.so.1";

    /// <summary>CU_STREAM_LEGACY.</summary>
    private const nint Computing = 1;

    private readonly int _device;
    private readonly nint _context, _computed, _copied;
    private readonly nint[] _streams = new nint[2];
    private readonly nint[,] _marks;

    /// <param name="index">Of the GPU among those that this process sees.</param>
    public CudaCopies(int index, int slots)
    {
        const uint withoutTiming = 2, besideLegacy = 1;
        _marks = new nint[2, slots];
        int device;
        nint context;
        Must(Init(0), "cuInit");
        Must(DeviceGet(&device, index), "cuDeviceGet");
        // The context that libtorch uses too.
        Must(PrimaryContext(&context, device), "cuDevicePrimaryCtxRetain");
        (_device, _context) = (device, context);
        using Current current = new(context);
        for (int direction = 0; direction < 2; direction++)
        {
            nint stream;
            Must(StreamCreate(&stream, besideLegacy), "cuStreamCreate");
            _streams[direction] = stream;
            for (int slot = 0; slot < slots; slot++) _marks[direction, slot] = NewEvent();
        }
        (_computed, _copied) = (NewEvent(), NewEvent());

        static nint NewEvent()
        {
            nint created;
            Must(EventCreate(&created, withoutTiming), "cuEventCreate");
            return created;
        }
    }

    /// <summary>Bytes of a GPU's memory that no process holds; what libtorch keeps to use again is held.</summary>
    /// <inheritdoc cref="CudaCopies(int, int)"/>
    public static long FreeBytes(int index)
    {
        int device;
        nint context;
        nuint free, total;
        Must(Init(0), "cuInit");
        Must(DeviceGet(&device, index), "cuDeviceGet");
        Must(PrimaryContext(&context, device), "cuDevicePrimaryCtxRetain");
        try
        {
            using Current current = new(context);
            Must(MemoryInfo(&free, &total), "cuMemGetInfo");
            return (long)free;
        }
        finally
        {
            _ = ReleaseContext(device);
        }
    }

    public override nint Allocate(long bytes)
    {
        const uint portable = 1;
        using Current current = new(_context);
        nint memory;
        Must(HostAlloc(&memory, (nuint)bytes, portable), "cuMemHostAlloc");
        return memory;
    }

    public override void Free(nint memory)
    {
        using Current current = new(_context);
        // After a failure there is nothing to be done about another.
        foreach (nint stream in _streams) _ = StreamSynchronize(stream);
        _ = HostFree(memory);
    }

    public override void AfterComputing()
    {
        using Current current = new(_context);
        Must(EventRecord(_computed, Computing), "cuEventRecord");
        foreach (nint stream in _streams) Must(StreamWaitEvent(stream, _computed, 0), "cuStreamWaitEvent");
    }

    public override void Start(CopyDirection direction, nint device, nint host, long bytes)
    {
        using Current current = new(_context);
        nint stream = _streams[(int)direction];
        if (direction is CopyDirection.ToHost) Must(CopyToHost(host, device, (nuint)bytes, stream), "cuMemcpyDtoHAsync");
        else Must(CopyToDevice(device, host, (nuint)bytes, stream), "cuMemcpyHtoDAsync");
    }

    public override void Mark(CopyDirection direction, int slot)
    {
        using Current current = new(_context);
        Must(EventRecord(_marks[(int)direction, slot], _streams[(int)direction]), "cuEventRecord");
    }

    public override void Wait(CopyDirection direction, int slot)
    {
        using Current current = new(_context);
        Must(EventSynchronize(_marks[(int)direction, slot]), "cuEventSynchronize");
    }

    public override void BeforeComputing()
    {
        using Current current = new(_context);
        Must(EventRecord(_copied, _streams[(int)CopyDirection.ToDevice]), "cuEventRecord");
        Must(StreamWaitEvent(Computing, _copied, 0), "cuStreamWaitEvent");
    }

    public override void Dispose()
    {
        using (Current current = new(_context))
        {
            foreach (nint stream in _streams) _ = StreamDestroy(stream);
            foreach (nint mark in _marks) _ = EventDestroy(mark);
            _ = EventDestroy(_computed);
            _ = EventDestroy(_copied);
        }
        _ = ReleaseContext(_device);
    }

    private static void Must(int result, string call)
    {
        if (result != 0) throw new InvalidOperationException($"{call}: CUDA error {result}");
    }

    /// <summary>Makes a context the thread's own for a while: libtorch leaves that of another GPU, or none.</summary>
    private readonly struct Current : IDisposable
    {
        public Current(nint context) => Must(PushContext(context), "cuCtxPushCurrent");

        public void Dispose()
        {
            nint popped;
            _ = PopContext(&popped);
        }
    }

    [LibraryImport(Driver, EntryPoint = "cuInit")]
    private static partial int Init(uint flags);

    [LibraryImport(Driver, EntryPoint = "cuDeviceGet")]
    private static partial int DeviceGet(int* device, int index);

    [LibraryImport(Driver, EntryPoint = "cuDevicePrimaryCtxRetain")]
    private static partial int PrimaryContext(nint* context, int device);

    [LibraryImport(Driver, EntryPoint = "cuDevicePrimaryCtxRelease_v2")]
    private static partial int ReleaseContext(int device);

    [LibraryImport(Driver, EntryPoint = "cuCtxPushCurrent_v2")]
    private static partial int PushContext(nint context);

    [LibraryImport(Driver, EntryPoint = "cuCtxPopCurrent_v2")]
    private static partial int PopContext(nint* context);

    [LibraryImport(Driver, EntryPoint = "cuStreamCreate")]
    private static partial int StreamCreate(nint* stream, uint flags);

    [LibraryImport(Driver, EntryPoint = "cuStreamDestroy_v2")]
    private static partial int StreamDestroy(nint stream);

    [LibraryImport(Driver, EntryPoint = "cuStreamSynchronize")]
    private static partial int StreamSynchronize(nint stream);

    [LibraryImport(Driver, EntryPoint = "cuStreamWaitEvent")]
    private static partial int StreamWaitEvent(nint stream, nint mark, uint flags);

    [LibraryImport(Driver, EntryPoint = "cuEventCreate")]
    private static partial int EventCreate(nint* created, uint flags);

    [LibraryImport(Driver, EntryPoint = "cuEventDestroy_v2")]
    private static partial int EventDestroy(nint mark);

    [LibraryImport(Driver, EntryPoint = "cuEventRecord")]
    private static partial int EventRecord(nint mark, nint stream);

    [LibraryImport(Driver, EntryPoint = "cuEventSynchronize")]
    private static partial int EventSynchronize(nint mark);

    [LibraryImport(Driver, EntryPoint = "cuMemcpyDtoHAsync_v2")]
    private static partial int CopyToHost(nint host, nint device, nuint bytes, nint stream);

    [LibraryImport(Driver, EntryPoint = "cuMemcpyHtoDAsync_v2")]
    private static partial int CopyToDevice(nint device, nint host, nuint bytes, nint stream);

    [LibraryImport(Driver, EntryPoint = "cuMemGetInfo_v2")]
    private static partial int MemoryInfo(nuint* free, nuint* total);

    [LibraryImport(Driver, EntryPoint = "cuMemHostAlloc")]
    private static partial int HostAlloc(nint* memory, nuint bytes, uint flags);

    [LibraryImport(Driver, EntryPoint = "cuMemFreeHost")]
    private static partial int HostFree(nint memory);
}

/// <summary>
/// Stands for a GPU's copies where tensors lie on the CPU: each copy is done as late as it may be, when somebody waits for
/// it. Who reads or overwrites memory before, as a GPU would mostly let pass, has wrong values for certain.
/// </summary>
internal sealed unsafe class LateCopies(int slots) : StagingCopies
{
    private readonly Queue<(nint From, nint To, long Bytes)>[] _queues = [new(), new()];
    private readonly long[] _started = new long[2], _done = new long[2];
    private readonly long[,] _marks = new long[2, slots];
    private bool _afterComputing;

    public override nint Allocate(long bytes)
    {
        void* memory = NativeMemory.AlignedAlloc((nuint)bytes, 64);
        // Values that no message may have.
        NativeMemory.Fill(memory, (nuint)bytes, 0xff);
        return (nint)memory;
    }

    public override void Free(nint memory)
    {
        foreach (CopyDirection direction in (CopyDirection[])[CopyDirection.ToHost, CopyDirection.ToDevice]) Do(direction, _started[(int)direction]);
        NativeMemory.AlignedFree((void*)memory);
    }

    public override void AfterComputing() => _afterComputing = true;

    public override void Start(CopyDirection direction, nint device, nint host, long bytes)
    {
        if (!_afterComputing) throw new InvalidOperationException("a copy may come before what makes its values");
        _queues[(int)direction].Enqueue(direction is CopyDirection.ToHost ? (device, host, bytes) : (host, device, bytes));
        _started[(int)direction]++;
    }

    public override void Mark(CopyDirection direction, int slot) => _marks[(int)direction, slot] = _started[(int)direction];

    public override void Wait(CopyDirection direction, int slot) => Do(direction, _marks[(int)direction, slot]);

    public override void BeforeComputing()
    {
        Do(CopyDirection.ToDevice, _started[(int)CopyDirection.ToDevice]);
        _afterComputing = false;
    }

    public override void Dispose()
    {
    }

    private void Do(CopyDirection direction, long until)
    {
        for (int d = (int)direction; _done[d] < until; _done[d]++)
        {
            (nint from, nint to, long bytes) = _queues[d].Dequeue();
            Buffer.MemoryCopy((void*)from, (void*)to, bytes, bytes);
        }
    }
}
