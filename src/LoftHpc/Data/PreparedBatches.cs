using System.Diagnostics.CodeAnalysis;
using System.Runtime.ExceptionServices;
using LoftHpc.Communication;
using LoftHpc.Mpi;
using TorchSharp;
using static TorchSharp.torch;

namespace LoftHpc.Data;

/// <summary>A batch that will be asked for.</summary>
/// <param name="Samples">Numbers of images in the set; at least one.</param>
public readonly record struct BatchRequest(int[] Samples, int Epoch, bool Augment);

/// <summary>
/// Batches that threads of the host prepare ahead, in memory from which a GPU copies by itself (pinned): for image sets that do
/// not fit on it, and for files that have to be decoded, on any device. One thread, that of the training, asks for batches in the order that it has foretold, and sends each to the
/// device without waiting for it; all calls of CUDA are its own.
/// </summary>
/// <remarks>
/// A slot of memory is written again only when its copy to the device is done: the slots that were sent stand in a queue, and
/// the training thread waits for the mark behind a slot's copy before it gives the slot to a worker again. That is
/// <see cref="InFlight"/> batches later, when the copy is long done, unless the host is as many steps ahead of the device.
/// <para>
/// The workers make no objects, but for an exception. TorchSharp gives libtorch addresses that nothing keeps alive during the
/// call (Directory.Build.props), so no other thread may bring a garbage collection about meanwhile: what a batch is cut out of
/// is drawn by the training thread, and the workers are up before it goes on.
/// </para>
/// <para>
/// A worker takes a whole batch where that is a matter of copying, and one image where it is decoded: then all of them work on the
/// batch that is needed first.
/// </para>
/// </remarks>
internal sealed class PreparedBatches : IDisposable
{
    /// <summary>Batches that are prepared, or being prepared.</summary>
    public const int Ahead = 4;

    /// <summary>Batches sent whose memory is not used again yet.</summary>
    public const int InFlight = 4;

    private const int Alignment = 64;

    /// <summary>Most threads that decode where the config does not say.</summary>
    private const int MostDecoding = 64;

    private readonly ImageSet _set;
    private readonly Device _device;
    private readonly StagingCopies _copies;
    private readonly Thread[] _workers;

    /// <summary>Foretold batches in their order, and the other slots, those first that were sent first. The training thread's own.</summary>
    private readonly Queue<Slot> _ahead = new(Ahead), _free = new(Ahead + InFlight);

    private IEnumerator<BatchRequest>? _coming;
    private BatchLoader? _loader;
    private ScalarType _type;

    /// <summary>Guards what follows, and what is left to do of slots.</summary>
    private readonly object _gate = new();

    /// <summary>Of which no worker has taken some images yet.</summary>
    private readonly Queue<Slot> _toDo = new(Ahead);

    private int _workersUp;
    private bool _ends;

    /// <param name="workers">Threads that prepare batches; null: by the rank's threads.</param>
    public PreparedBatches(ImageSet set, Device device, int? workers = null)
        : this(set, device, StagingCopies.For(device, Ahead + InFlight), workers ?? WorkersOf(get_num_threads(), set.Files is not null))
    {
    }

    /// <param name="copies">With a mark for each of <see cref="Ahead"/> + <see cref="InFlight"/> slots; disposed with this.</param>
    internal PreparedBatches(ImageSet set, Device device, StagingCopies copies, int workers)
    {
        (_set, _device, _copies) = (set, device, copies);
        for (int slot = 0; slot < Ahead + InFlight; slot++) _free.Enqueue(new Slot(slot));
        // Background threads do not keep a process alive.
        _workers = [.. Enumerable.Range(1, workers).Select(number => new Thread(Work) { IsBackground = true, Name = $"batches {number}" })];
        foreach (Thread worker in _workers) worker.Start();
        lock (_gate)
        {
            while (_workersUp < workers) Monitor.Wait(_gate);
        }
    }

    /// <summary>Threads of a rank that has so many cores: one is the training's own, and without decoding a thread prepares a whole batch.</summary>
    public static int WorkersOf(int cores, bool decodes = false) => Math.Clamp(cores - 1, 1, decodes ? MostDecoding : Ahead);

    /// <summary>Batches that were prepared when they were asked for, or at least begun.</summary>
    public long Taken { get; private set; }

    public IReadOnlyList<Thread> Workers => _workers;

    /// <summary>The batch, on the device; null where another one comes next, or none.</summary>
    /// <param name="loader">Whose walk it is of.</param>
    /// <exception cref="Exception">What has gone wrong with it on a worker.</exception>
    public Batch? Take(BatchLoader loader, ReadOnlySpan<int> samples, int epoch, bool augment, ScalarType type)
    {
        if (loader != _loader || type != _type || !_ahead.TryPeek(out Slot? slot)) return null;
        BatchRequest next = slot.Request;
        if (next.Epoch != epoch || next.Augment != augment || !samples.SequenceEqual(next.Samples)) return null;
        _ahead.Dequeue();
        Foresee();
        WaitFor(slot);
        // It may be taken again once its copy, if there is one, is done.
        _free.Enqueue(slot);
        if (slot.Error is Exception error) ExceptionDispatchInfo.Throw(error);
        Taken++;
        return Send(slot, samples.Length);
    }

    /// <summary>Prepares what comes from now on, and forgets what was foretold before.</summary>
    /// <param name="coming">Read as far as batches are prepared.</param>
    public void Begin(BatchLoader loader, IEnumerable<BatchRequest> coming, ScalarType type)
    {
        lock (_gate)
        {
            foreach (Slot slot in _toDo) slot.Forget();
            _toDo.Clear();
        }
        foreach (Slot slot in _ahead)
        {
            WaitFor(slot);
            _free.Enqueue(slot);
        }
        _ahead.Clear();
        _coming?.Dispose();
        (_loader, _coming, _type) = (loader, coming.GetEnumerator(), type);
        Foresee();
    }

    public void Dispose()
    {
        lock (_gate)
        {
            _ends = true;
            Monitor.PulseAll(_gate);
        }
        foreach (Thread worker in _workers) worker.Join();
        foreach (Slot slot in _free.Concat(_ahead).Where(slot => slot.Memory != 0)) _copies.Free(slot.Memory);
        _free.Clear();
        _ahead.Clear();
        _coming?.Dispose();
        _copies.Dispose();
    }

    /// <summary>Gives the workers what comes, as far as there is to be prepared.</summary>
    private void Foresee()
    {
        while (_ahead.Count < Ahead && _coming!.MoveNext())
        {
            BatchRequest request = _coming.Current;
            Slot slot = _free.Dequeue();
            _copies.Wait(CopyDirection.ToDevice, slot.Index);
            long imageBytes = (long)request.Samples.Length * _set.Channels * _set.Height * _set.Width * (_type is ScalarType.Float32 ? sizeof(float) : sizeof(double));
            slot.Labels = Aligned(imageBytes);
            Reserve(slot, slot.Labels + (sizeof(long) * request.Samples.Length));
            (slot.Request, slot.Cutouts, slot.Error) = (request, _loader!.Draw(request.Samples, request.Epoch, request.Augment), null);
            _ahead.Enqueue(slot);
            lock (_gate)
            {
                slot.Begin();
                _toDo.Enqueue(slot);
                Monitor.PulseAll(_gate);
            }
        }
    }

    private void Reserve(Slot slot, long bytes)
    {
        if (bytes <= slot.Bytes) return;
        if (slot.Memory != 0) _copies.Free(slot.Memory);
        (slot.Memory, slot.Bytes) = (0, 0);
        (slot.Memory, slot.Bytes) = (_copies.Allocate(bytes), bytes);
    }

    /// <summary>Until no worker has it or will have it.</summary>
    private void WaitFor(Slot slot)
    {
        lock (_gate)
        {
            while (slot.Left > 0) Monitor.Wait(_gate);
        }
    }

    private Batch Send(Slot slot, int count)
    {
        Tensor images = empty([count, _set.Channels, _set.Height, _set.Width], _type, _device), labels = empty([count], int64, _device);
        // The tensors' memory may be that of others with which the device is still to compute.
        _copies.AfterComputing();
        _copies.Start(CopyDirection.ToDevice, TensorMemory.Address(images), slot.Memory, images.numel() * images.element_size());
        _copies.Start(CopyDirection.ToDevice, TensorMemory.Address(labels), slot.Memory + (nint)slot.Labels, sizeof(long) * (long)count);
        _copies.Mark(CopyDirection.ToDevice, slot.Index);
        _copies.BeforeComputing();
        return new Batch(images, labels);
    }

    [SuppressMessage("Design", "CA1031", Justification = "It comes out where the batch is asked for.")]
    private void Work()
    {
        using ImageDecoder? decoder = _set.Files is null ? null : new(_set.Files.Folder);
        int most = decoder is null ? int.MaxValue : 1;
        long imageValues = _set.ImageBytes;
        lock (_gate)
        {
            _workersUp++;
            Monitor.PulseAll(_gate);
        }
        while (true)
        {
            Slot? slot;
            int first, count;
            lock (_gate)
            {
                while (!_toDo.TryPeek(out slot))
                {
                    if (_ends) return;
                    Monitor.Wait(_gate);
                }
                if (_ends) return;
                if (slot.Take(most, out first, out count)) _toDo.Dequeue();
            }
            Exception? error = null;
            try
            {
                nint images = slot.Memory + (nint)(first * imageValues * (_type is ScalarType.Float32 ? sizeof(float) : sizeof(double)));
                _loader!.Write(images, slot.Memory + (nint)slot.Labels + (sizeof(long) * first), slot.Cutouts.AsSpan(first, count), _type, decoder);
            }
            catch (Exception caught)
            {
                error = caught;
            }
            lock (_gate)
            {
                slot.Error ??= error;
                slot.Left -= count;
                if (slot.Left == 0) Monitor.PulseAll(_gate);
            }
        }
    }

    private static long Aligned(long bytes) => (bytes + Alignment - 1) / Alignment * Alignment;

    /// <summary>Memory of one batch: its images, and at <see cref="Labels"/> its labels.</summary>
    private sealed class Slot(int index)
    {
        public int Index => index;

        public nint Memory { get; set; }

        public long Bytes { get; set; }

        public long Labels { get; set; }

        public BatchRequest Request { get; set; }

        public Cutout[] Cutouts { get; set; } = [];

        public Exception? Error { get; set; }

        /// <summary>Images that are not written yet, though they were to be.</summary>
        public int Left { get; set; }

        private int _next;

        public void Begin() => (_next, Left) = (0, Cutouts.Length);

        /// <summary>Some of the images that nobody has taken yet.</summary>
        /// <returns>Whether none is left to be taken.</returns>
        public bool Take(int most, out int first, out int count)
        {
            (first, count) = (_next, Math.Min(most, Cutouts.Length - _next));
            _next += count;
            return _next == Cutouts.Length;
        }

        /// <summary>Of what nobody has taken yet.</summary>
        public void Forget()
        {
            Left -= Cutouts.Length - _next;
            _next = Cutouts.Length;
        }
    }
}
