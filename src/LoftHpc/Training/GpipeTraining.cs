using LoftHpc.Arithmetic;
using LoftHpc.Communication;
using LoftHpc.Configuration;
using LoftHpc.Data;
using LoftHpc.Distances;
using LoftHpc.Networks;
using TorchSharp;
using static TorchSharp.torch;

namespace LoftHpc.Training;

/// <summary>
/// Pipeline-parallel training (GPipe, Huang et al. 2019): each rank holds some units of the network in a row, its
/// stage. A batch goes through the stages in micro-batches, activations forward and their gradients backward from rank
/// to rank, and the gradients of the micro-batches add up. Batch norm sees one micro-batch at a time, so the ranks
/// together compute what one rank would that does the same micro-batches.
/// </summary>
public sealed class GpipeTraining : ITrainingMethod
{
    private readonly RankContext _context;
    private readonly PretrainSection _config;
    private readonly EpochBatches _batches;
    private readonly IReadOnlyList<PipelineStage> _stages;
    private readonly PipelineStage _stage;
    private readonly ModelState _state;
    private readonly ResidualNetwork _network;
    private readonly StepWatch _watch;
    private readonly PendingSends _sends;
    private readonly int _imageSide, _previous, _next;
    private readonly long _imageFlops;
    private readonly TotalsOnDevice _totals;
    private long _images;

    /// <exception cref="UserError">The network cannot be cut into as many stages as there are ranks, or not where config says.</exception>
    public GpipeTraining(RankContext context, NetworkSpec network, PretrainSection config, BatchLoader data, long seed)
    {
        (_context, Network, _config, _batches) = (context, network, config, new EpochBatches(data, config.Batch) { InParts = true });
        _imageSide = data.ImageSide;
        _stages = PipelineStages.Create(network, _imageSide, context.Size, config.Gpipe.Cuts);
        _stage = _stages[context.Rank];
        (_previous, _next) = (context.Rank - 1, context.Rank + 1);
        _state = ModelState.Initialize(_stage.Slices(network), seed, context.Type, context.Device);
        _network = new ResidualNetwork(network, _state, new SerialExchange(), context.Layout);
        _watch = new StepWatch(context, _network, _imageSide);
        _sends = new PendingSends(context.Channels, context.MemoryFormat);
        _totals = new TotalsOnDevice(context.Device);
        _imageFlops = network.Flops(_imageSide, _state.Slices);
    }

    public NetworkSpec Network { get; }

    /// <summary>The tensors of this rank's stage.</summary>
    public ModelState State => _state;

    public int StepsPerEpoch => _batches.StepsPerEpoch;

    public TrainingWork Work { get; private set; }

    public double DataSeconds => _batches.WaitedSeconds;

    public TrainingMemory Memory => TrainingMemory.Of(_state, _context.Channels.BufferBytes);

    /// <summary>Only the last rank knows more than the number of images.</summary>
    public StepTotals RunningTotals => IsLast ? _totals.Read() : new StepTotals(double.NaN, 0, _images);

    public void Look() => _watch.Look();

    public NonFinite Explain(NonFinite found) => _watch.Explain(found);

    private bool IsFirst => _context.Rank == 0;

    private bool IsLast => _context.Rank == _context.Size - 1;

    public void Step(int epoch, int step, double learningRate)
    {
        using DisposeScope scope = NewDisposeScope();
        using IDisposable purpose = _context.Ledger.For(CommunicationPurpose.Step);
        int images = _batches.SizeOf(step), microBatches = Math.Min(_config.Gpipe.MicroBatches, images);

        (Tensor Input, Tensor Output)[] passes = new (Tensor, Tensor)[microBatches];
        for (int i = 0; i < microBatches; i++) passes[i] = Forward(epoch, step, new Shard(i, _config.Gpipe.MicroBatches));
        _context.AfterForward?.Invoke();
        for (int i = 0; i < microBatches; i++)
        {
            Backward(passes[i].Input, passes[i].Output, i == 0 && IsLast ? () => LookAtLosses(epoch, step, passes) : null);
        }
        _sends.Wait();
        _watch.Update(_config.Optimizer, learningRate);

        _images += images;
        Work += TrainingWork.Of(images, _imageFlops);
    }

    public StepTotals TakeTotals()
    {
        using IDisposable purpose = _context.Ledger.For(CommunicationPurpose.Evaluation);
        _images = 0;
        return _totals.Take().SumOverRanks(_context);
    }

    public StepTotals Evaluate(BatchLoader data, int batch)
    {
        using IDisposable purpose = _context.Ledger.For(CommunicationPurpose.Evaluation);
        using IDisposable frozen = no_grad();
        StepTotals totals = default;
        LeaveSignals leave = new(_context);
        foreach ((int start, int count) in Batches.Of(0, data.Count, batch))
        {
            using DisposeScope scope = NewDisposeScope();
            int[] images = [.. Enumerable.Range(start, count)];
            Tensor input = IsFirst
                ? data.Load(images, epoch: 0, augment: false, _context.Device, _context.Type, BatchLoader.InOrder(start + count, data.Count, batch)).Images
                : ReceiveInput(images.Length);
            Tensor output = _network.Forward(input, training: false, _stage.First, _stage.End);
            if (IsLast)
            {
                Tensor labels = data.LoadLabels(images, _context.Device);
                totals += StepTotals.Of(output, labels, nn.functional.cross_entropy(output, labels, reduction: nn.Reduction.Sum));
            }
            // Every stage but the last looks at what it hands on; the first one that is wrong comes first.
            if (totals.Trouble is null && !(IsLast ? double.IsFinite(totals.LossSum) : NonFinite.IsFinite(output)))
                totals = totals with { Trouble = NonFinite.InEvaluation(_network, _imageSide, _context.Device, again => Again(again, input, training: false)) };
            if (!IsLast)
            {
                // One batch ahead of the next rank is enough; a fast stage must not pile up batches.
                _sends.Wait();
                _sends.Start(output, _next);
            }
            if (!leave.AllLeave()) continue;
            totals = totals with { IsCut = true };
            break;
        }
        _sends.Wait();
        leave.Wait();
        return totals.SumOverRanks(_context);
    }

    /// <summary>Every rank measures the filters of its own stage.</summary>
    public IReadOnlyList<FilterNorms> MeasureNorms()
    {
        Dictionary<string, FilterNorms> own = FilterNorms.Measure(_state).ToDictionary(norms => norms.Layer);
        return
        [
            .. from tensor in Network.Tensors
               where tensor.Role is TensorRole.ConvWeight
               let layer = tensor.Name[..^".weight".Length]
               select own.GetValueOrDefault(layer) ?? new FilterNorms(layer, (int)tensor.Shape[0], [], []),
        ];
    }

    public void Save(string path, WeightsIdentity identity, long step)
    {
        using IDisposable purpose = _context.Ledger.For(CommunicationPurpose.Save);
        Dictionary<string, int> holder = (
            from rank in Enumerable.Range(0, _context.Size)
            from slice in _stages[rank].Slices(Network)
            select (slice.Name, rank)).ToDictionary();
        WeightsFile.Save(path, identity, step, Network, _state, _context.Communicator, (tensor, rank) =>
            rank == holder[tensor.Name] ? TensorSlice.Whole(tensor) : null);
    }

    public void Archive(StateArchive archive)
    {
        _state.Archive(archive);
        _totals.Archive(archive);
        _batches.Archive(archive);
        Work = Work.Archived(archive);
        archive.Number("images", ref _images);
    }

    public void Dispose()
    {
        _sends.Dispose();
        _totals.Dispose();
        _watch.Dispose();
        _state.Dispose();
    }

    /// <summary>One micro-batch through this stage: its input, and its output or, on the last rank, its part of the loss.</summary>
    private (Tensor Input, Tensor Output) Forward(int epoch, int step, Shard part)
    {
        // What backward needs, the graph keeps; all else is freed here and not at the end of the step.
        using DisposeScope scope = NewDisposeScope();
        (int start, int end) = part.Of(_batches.SizeOf(step));
        Tensor input = IsFirst ? _batches.Load(epoch, step, part, _context).Images : ReceiveInput(end - start).requires_grad_(true);
        Tensor output = _network.Forward(input, training: true, _stage.First, _stage.End);
        if (IsLast)
        {
            Tensor labels = _batches.LoadLabels(epoch, step, part, _context);
            Tensor lossSum = nn.functional.cross_entropy(output, labels, reduction: nn.Reduction.Sum, label_smoothing: _config.Optimizer.LabelSmoothing);
            _totals.Add(output, labels, lossSum);
            output = lossSum / _batches.SizeOf(step);
        }
        if (!IsLast)
        {
            // Each stage looks at what it hands on, so that the first one that is wrong says so. The send waits for it anyway.
            _watch.Forward(output, again => Again(again, input, training: true), atOnce: true);
            _sends.Start(output, _next);
        }
        return (input.MoveToOuterDisposeScope(), output.MoveToOuterDisposeScope());
    }

    /// <summary>This stage's forward pass once more; what it hands on is the logits of a loss on the last rank only.</summary>
    private Tensor? Again(ResidualNetwork network, Tensor input, bool training)
    {
        Tensor output = network.Forward(input, training, _stage.First, _stage.End);
        return IsLast ? output : null;
    }

    /// <summary>
    /// Looks at the losses of a step's micro-batches. Where a gradient is to be sent, whose send waits for the device anyway, that
    /// costs no wait; where this rank has the whole network it may come late, when only the images can be had again.
    /// </summary>
    private void LookAtLosses(int epoch, int step, (Tensor Input, Tensor Output)[] passes) => _watch.Forward(
        stack([.. passes.Select(pass => pass.Output)]).sum(),
        again =>
        {
            Tensor? logits = null;
            for (int i = 0; i < passes.Length; i++)
            {
                Tensor input = IsFirst ? _batches.Load(epoch, step, new Shard(i, _config.Gpipe.MicroBatches), _context).Images : passes[i].Input;
                logits = Again(again, input, training: true);
            }
            return logits;
        },
        atOnce: _context.Size > 1);

    /// <summary>Adds the micro-batch's gradients to those of the weights, and frees its activations.</summary>
    /// <param name="look">Called when the backward pass is given to the device, before anything of it is sent.</param>
    private void Backward(Tensor input, Tensor output, Action? look)
    {
        using DisposeScope scope = NewDisposeScope();
        if (IsLast) output.backward();
        else output.backward([Receive(output.shape, _next)]);
        look?.Invoke();
        if (!IsFirst) _sends.Start(input.grad!, _previous);
        input.Dispose();
        output.Dispose();
    }

    private Tensor ReceiveInput(int images) => Receive([images, .. Network.UnitOutput(_stage.First - 1, _imageSide)], _previous);

    private Tensor Receive(long[] shape, int source)
    {
        Tensor values = MemoryFormats.Empty(shape, _context.Layout, _context.Device);
        using Tensor rows = MemoryFormats.Rows(values, _context.MemoryFormat);
        _context.Channels.Receive(rows, source);
        return values;
    }
}
