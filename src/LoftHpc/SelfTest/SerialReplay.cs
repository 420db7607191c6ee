using LoftHpc.Arithmetic;
using LoftHpc.Communication;
using LoftHpc.Configuration;
using LoftHpc.Data;
using LoftHpc.Distances;
using LoftHpc.Networks;
using TorchSharp;
using static TorchSharp.torch;

namespace LoftHpc.SelfTest;

/// <summary>
/// What all ranks of loft or local-sgd do, one rank after the other in one process: the whole network in plain tensors,
/// cut up at the start of every round and put together at its end, without any communication.
/// </summary>
internal sealed class SerialReplay : IDisposable
{
    private readonly NetworkSpec _network;
    private readonly BatchLoader _data;
    private readonly PretrainSection _config;
    private readonly int _ranks;
    private readonly ScalarType _type;
    private readonly bool _byDefinition;
    private readonly ActivationLayout? _layout;
    private readonly IReadOnlyList<BlockSpec> _blocks;
    private readonly ModelState[] _states;
    private readonly long[] _imagesSinceAverage;
    private readonly Dictionary<string, Tensor> _momentum = [];
    private readonly Dictionary<(string Collective, int Rank), (long Calls, long Sent, long Received)> _transfers = [];
    private FilterPartition _partition;
    private Dictionary<string, Tensor>? _recomputed;

    /// <param name="prepare">Changes the initial network.</param>
    /// <param name="byDefinition">True: gradients come from <see cref="SerialReference"/>. False: from the code that trains, so that they have its bits.</param>
    /// <param name="layout">Of activations where gradients come from the code that trains; null: contiguous, in the type of the weights.</param>
    public SerialReplay(
        NetworkSpec network, BatchLoader data, PretrainSection config, int ranks, ScalarType type, Action<ModelState> prepare, bool byDefinition = false, ActivationLayout? layout = null)
    {
        (_network, _data, _config, _ranks, _type, _byDefinition, _layout) = (network, data, config, ranks, type, byDefinition, layout);
        _blocks = IsLoft ? FilterPartition.BlocksOf(network, config.Loft.Stages, config.Loft.FirstBlocks) : [];
        using ModelState initial = ModelState.InitializeWhole(network, MethodChecks.Seed, type, CPU);
        prepare(initial);
        using IDisposable frozen = no_grad();
        foreach (TensorSlice slice in initial.Slices) Whole.Add(slice.Name, initial[slice.Name].detach().clone().DetachFromDisposeScope());
        _partition = Deal(0);
        _states = new ModelState[ranks];
        _imagesSinceAverage = new long[ranks];
        CutUp();
    }

    /// <summary>The network as it is saved: put together at the last round's end.</summary>
    public Dictionary<string, Tensor> Whole { get; } = [];

    /// <summary>How the exchanges that are counted are cut into calls.</summary>
    public ExchangeCut Cut { get; init; } = ExchangeCut.Host;

    /// <summary>Whether <see cref="Whole"/> has the running statistics that are saved.</summary>
    public bool HasStatistics => !IsLoft || _config.Loft.RunningStatistics is RunningStatisticsKind.Average;

    private bool IsLoft => _config.Method is PretrainMethod.Loft;

    private bool Travels => IsLoft && _config.Loft.Momentum is MomentumKind.Travel;

    /// <summary>What a rank holds now.</summary>
    public ModelState Of(int rank) => _states[rank];

    /// <summary>One step of every rank; and at the end of a round, what follows it.</summary>
    public void Step(int step, int steps)
    {
        int stepsPerEpoch = (_data.Count + _config.Batch - 1) / _config.Batch, epoch = step / stepsPerEpoch, start = step % stepsPerEpoch * _config.Batch;
        for (int rank = 0; rank < _ranks; rank++)
        {
            using DisposeScope scope = NewDisposeScope();
            BatchLoader walk = _config.Samples is SampleScope.Whole ? _data.Walk(rank) : _data;
            int[] images = walk.EpochOrder(epoch).Skip(start).Take(_config.Batch).ToArray();
            if (_config.Samples is SampleScope.Shard)
            {
                // The first ranks get one image more where the batch cannot be dealt evenly.
                int share = images.Length / _ranks, more = images.Length % _ranks;
                images = images.Skip((rank * share) + Math.Min(rank, more)).Take(share + (rank < more ? 1 : 0)).ToArray();
            }
            if (images.Length == 0) continue;
            _imagesSinceAverage[rank] += images.Length;
            Train(_states[rank], walk.Load(images, epoch, augment: true, CPU, _type));
        }
        if ((step + 1) % _config.LocalSteps != 0 && step + 1 != steps) return;
        EndRound(step / _config.LocalSteps, isLast: step + 1 == steps);
    }

    /// <summary>A tensor as the ranks make it up together now, in the middle of a round too: the mean of the copies, or the parts put together.</summary>
    public Tensor Now(TensorSpec tensor)
    {
        using IDisposable frozen = no_grad();
        Tensor now = _states[0][tensor.Name].detach().clone();
        if (_partition.Cuts(tensor))
        {
            now = zeros([.. tensor.Shape], _type);
            for (int rank = 0; rank < _ranks; rank++) _partition.Slice(tensor, rank).Place(_states[rank][tensor.Name].detach(), now);
        }
        else if (IsShared(tensor))
        {
            for (int rank = 1; rank < _ranks; rank++) now.add_(_states[rank][tensor.Name].detach());
            now /= _ranks;
        }
        return now;
    }

    /// <summary>Of local-sgd: what is done to running statistics before an evaluation.</summary>
    public void AverageStatistics()
    {
        if (IsLoft || _imagesSinceAverage.Sum() == 0) return;
        using DisposeScope scope = NewDisposeScope();
        using IDisposable frozen = no_grad();
        foreach (TensorSpec tensor in _network.Tensors.Where(tensor => !tensor.IsParameter))
        {
            Tensor mean = zeros([.. tensor.Shape], float64);
            for (int rank = 0; rank < _ranks; rank++) mean.add_(_states[rank][tensor.Name].to(float64), alpha: (double)_imagesSinceAverage[rank] / _imagesSinceAverage.Sum());
            for (int rank = 0; rank < _ranks; rank++) _states[rank][tensor.Name].copy_(mean);
            Whole[tensor.Name].copy_(mean);
        }
        Array.Clear(_imagesSinceAverage);
    }

    /// <summary>
    /// The statistics that <see cref="Whole"/> has on some training images: of each norm the batches' means and unbiased
    /// variances, weighted by their images.
    /// </summary>
    public IReadOnlyDictionary<string, Tensor> RecomputedStatistics => _recomputed ??= Recompute();

    /// <summary>What a rank must have sent and received in the exchanges at the ends of rounds, by collective.</summary>
    public IReadOnlyDictionary<string, (long Calls, long Sent, long Received)> RoundTransfers(int rank) =>
        _transfers.Where(pair => pair.Key.Rank == rank).ToDictionary(pair => pair.Key.Collective, pair => pair.Value);

    public void Dispose()
    {
        foreach (ModelState state in _states) state.Dispose();
        foreach (Tensor tensor in Whole.Values.Concat(_momentum.Values).Concat(_recomputed is null ? [] : _recomputed.Values)) tensor.Dispose();
    }

    private Dictionary<string, Tensor> Recompute()
    {
        using DisposeScope scope = NewDisposeScope();
        using IDisposable frozen = no_grad();
        using ModelState whole = ModelState.Load([.. _network.Tensors.Select(TensorSlice.Whole)], tensor => Whole[tensor.Name].clone(), _type, CPU);
        using SerialReference reference = new(_network, whole);
        string[] statistics = [.. _network.Tensors.Where(tensor => !tensor.IsParameter).Select(tensor => tensor.Name)];
        Dictionary<string, Tensor> sums = statistics.ToDictionary(name => name, name => zeros_like(reference.Tensors[name]));
        int[] images = [.. RandomStream.For(MethodChecks.Seed, "loft/statistics").Permutation(_data.Count).Take(_config.Loft.StatisticsImages)];
        for (int start = 0; start < images.Length; start += _config.Batch)
        {
            int[] batch = images[start..Math.Min(images.Length, start + _config.Batch)];
            foreach (string name in statistics) reference.Tensors[name].zero_();
            reference.Forward(_data.Load(batch, 0, augment: true, CPU, _type).Images, training: true);
            // From zero, a tenth of the batch's own value is there.
            foreach (string name in statistics) sums[name].add_(reference.Tensors[name], alpha: 10.0 * batch.Length / images.Length);
        }
        foreach (Tensor sum in sums.Values) sum.DetachFromDisposeScope();
        return sums;
    }

    private void Train(ModelState state, Batch batch)
    {
        using SerialReference? reference = _byDefinition ? new(_network, state) : null;
        Tensor logits = reference?.Forward(batch.Images) ?? new ResidualNetwork(_network, state, new SerialExchange(), _layout).Forward(batch.Images, training: true);
        nn.functional.cross_entropy(logits, batch.Labels, label_smoothing: _config.Optimizer.LabelSmoothing).backward();
        using IDisposable frozen = no_grad();
        foreach (string name in reference?.Tensors.Keys ?? Enumerable.Empty<string>())
        {
            if (reference!.Tensors[name].grad is Tensor gradient) state.Gradient(name).copy_(gradient);
            else state[name].copy_(reference.Tensors[name]);
        }
        foreach (TensorSlice parameter in state.Parameters)
        {
            Tensor weight = state[parameter.Name], velocity = state.Momentum(parameter.Name);
            velocity.mul_(_config.Optimizer.Momentum);
            velocity.add_(state.Gradient(parameter.Name));
            velocity.add_(weight, alpha: _config.Optimizer.WeightDecay);
            if (_config.Optimizer.Nesterov)
            {
                // Gradient, decay and momentum once more.
                weight.add_(state.Gradient(parameter.Name) + (_config.Optimizer.WeightDecay * weight) + (_config.Optimizer.Momentum * velocity), alpha: -MethodChecks.LearningRate);
            }
            else
            {
                weight.add_(velocity, alpha: -MethodChecks.LearningRate);
            }
            state.Gradient(parameter.Name).zero_();
        }
    }

    private void EndRound(long round, bool isLast)
    {
        using IDisposable frozen = no_grad();
        long shared = 0;
        foreach (TensorSpec tensor in _network.Tensors)
        {
            using DisposeScope scope = NewDisposeScope();
            if (_partition.Cuts(tensor))
            {
                for (int rank = 0; rank < _ranks; rank++)
                {
                    _partition.Slice(tensor, rank).Place(_states[rank][tensor.Name].detach(), Whole[tensor.Name]);
                    if (!Travels || !tensor.IsParameter) continue;
                    if (!_momentum.TryGetValue(tensor.Name, out Tensor? momentum))
                        _momentum.Add(tensor.Name, momentum = zeros([.. tensor.Shape], _type).DetachFromDisposeScope());
                    _partition.Slice(tensor, rank).Place(_states[rank].Momentum(tensor.Name), momentum);
                }
            }
            else if (IsShared(tensor))
            {
                Tensor sum = _states[0][tensor.Name].detach().clone();
                for (int rank = 1; rank < _ranks; rank++) sum.add_(_states[rank][tensor.Name].detach());
                Whole[tensor.Name].copy_(sum / _ranks);
                shared += tensor.Count;
            }
        }
        CountAllreduce(shared);
        FilterPartition before = _partition;
        if (!isLast)
        {
            _partition = Deal(round + 1);
            CountMoves(before);
        }
        CutUp();
    }

    /// <summary>Gives every rank its part of the whole; shared momentum stays on its rank, unless it restarts.</summary>
    private void CutUp()
    {
        using IDisposable frozen = no_grad();
        for (int rank = 0; rank < _ranks; rank++)
        {
            int own = rank;
            // Laid out as in the training: bits may depend on where a tensor lies.
            ModelState state = ModelState.Load(
                [.. _network.Tensors.Select(tensor => _partition.Slice(tensor, own))], tensor => Whole[tensor.Name].clone(), _type, CPU, IsShared);
            ModelState before = _states[rank];
            foreach (TensorSlice slice in before is null ? [] : state.Slices)
            {
                using DisposeScope scope = NewDisposeScope();
                bool cut = _partition.Cuts(slice.Spec);
                // Statistics of copies stay on their rank until an evaluation.
                if (!slice.Spec.IsParameter && !IsLoft) state[slice.Name].copy_(before![slice.Name]);
                if (!slice.Spec.IsParameter || (IsLoft && !Travels)) continue;
                // From a warm-up round on, a rank cuts its part out of its own momentum.
                Tensor momentum = !cut ? before!.Momentum(slice.Name)
                    : _momentum.TryGetValue(slice.Name, out Tensor? whole) ? slice.Take(whole) : slice.Take(before!.Momentum(slice.Name));
                state.Momentum(slice.Name).copy_(momentum);
            }
            before?.Dispose();
            _states[rank] = state;
        }
    }

    private bool IsShared(TensorSpec tensor) => !_partition.Cuts(tensor) && (tensor.IsParameter || (IsLoft && HasStatistics));

    private FilterPartition Deal(long round)
    {
        if (!IsLoft || round < _config.Loft.WarmupRounds) return FilterPartition.None;
        return _config.Loft.Deal is DealKind.Norm && round > _config.Loft.WarmupRounds && _ranks > 1
            ? FilterPartition.ByNorm(_blocks, MethodChecks.Seed, round, _ranks, space => FilterNorms.OfRows(Whole[$"{_blocks.Single(b => b.Inner == space).Conv1.Name}.weight"], null))
            : FilterPartition.AtRandom(_blocks, MethodChecks.Seed, round, _ranks);
    }

    private int ElementBytes => _type is ScalarType.Float64 ? 8 : 4;

    private void Count(string collective, int rank, long sent, long received, long calls = 1)
    {
        (long callsBefore, long sentBefore, long receivedBefore) = _transfers.GetValueOrDefault((collective, rank));
        _transfers[(collective, rank)] = (callsBefore + calls, sentBefore + sent, receivedBefore + received);
    }

    private void CountAllreduce(long values)
    {
        int pieces = Cut.Pieces(values * ElementBytes);
        for (int piece = 0; piece < pieces; piece++)
        {
            long summed = (values / pieces) + (piece < values % pieces ? 1 : 0);
            for (int rank = 0; rank < _ranks; rank++)
            {
                long own = (summed / _ranks) + (rank < summed % _ranks ? 1 : 0), bytes = ((summed - own) + ((_ranks - 1) * own)) * ElementBytes;
                Count("allreduce", rank, bytes, bytes);
            }
        }
    }

    private void CountMoves(FilterPartition before)
    {
        if (!before.CutsAnything || !_partition.CutsAnything) return;
        for (int rank = 0; rank < _ranks; rank++)
        {
            long sent = 0, received = 0, filters = 0, all = 0, room = 0;
            foreach (BlockSpec block in _blocks)
            {
                long parameters = block.Conv1.FilterSize + 2 + ((long)block.Conv2.Out.Count * 9);
                long values = (Travels ? 2 * parameters : parameters) + (HasStatistics ? 2 : 0);
                int[] old = before.Of(block.Inner)!.Owned[rank], now = _partition.Of(block.Inner)!.Owned[rank];
                room += values * ((block.Inner.Count + _ranks - 1) / _ranks);
                sent += values * old.Except(now).Count();
                received += values * now.Except(old).Count();
                filters += old.Length;
                all += block.Inner.Count;
            }
            Count("alltoallv", rank, sent * ElementBytes, received * ElementBytes, Cut.Pieces(room * ElementBytes));
            if (_config.Loft.Deal is DealKind.Norm) Count("allgatherv", rank, (_ranks - 1) * filters * 8, (all - filters) * 8);
        }
    }
}
