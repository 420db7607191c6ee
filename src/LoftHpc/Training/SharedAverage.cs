using LoftHpc.Networks;
using TorchSharp;
using static TorchSharp.torch;

namespace LoftHpc.Training;

/// <summary>
/// The mean over the ranks of tensors that each of them holds a copy of and trains by itself, by one allreduce over one
/// flat buffer. The mean can be looked at without a change to the copies, so that a measurement in the middle of a round
/// does not disturb the training.
/// </summary>
public sealed class SharedAverage(RankContext context) : IDisposable
{
    private readonly FlatBuffer _flat = new(context.Type, context.Device);
    private readonly Dictionary<string, int> _places = [];
    // All ranks start with the same copies.
    private bool _copiesAreMean = true, _bufferIsSum;

    /// <summary>Bytes of the buffer.</summary>
    public long BufferBytes => _flat.Bytes;

    /// <summary>The tensors that are shared from now on; the copies of them are equal.</summary>
    public void Share(IEnumerable<string> names)
    {
        _places.Clear();
        foreach (string name in names) _places.Add(name, _places.Count);
        (_copiesAreMean, _bufferIsSum) = (true, false);
    }

    /// <summary>The copies have changed.</summary>
    public void Invalidate() => _copiesAreMean = _bufferIsSum = false;

    /// <summary>Takes the mean, unless nothing has changed since the last time. Collective.</summary>
    public void Refresh(ModelState state)
    {
        if (_copiesAreMean || _bufferIsSum || context.Size == 1) return;
        using DisposeScope scope = NewDisposeScope();
        _flat.Pack([.. _places.Keys.Select(name => state[name]).Select(tensor => ((Tensor?)tensor, tensor.shape))]);
        _flat.Sum(context.Channels);
        _bufferIsSum = true;
    }

    /// <summary>Takes the mean and replaces the copies by it. Collective.</summary>
    public void Apply(ModelState state)
    {
        if (_copiesAreMean || context.Size == 1) return;
        Refresh(state);
        using DisposeScope scope = NewDisposeScope();
        using IDisposable frozen = no_grad();
        foreach ((string name, int place) in _places) state[name].copy_(_flat.Part(place)).div_(context.Size);
        _copiesAreMean = true;
    }

    /// <summary>A tensor as it stands in the network that all ranks make up together, after <see cref="Refresh"/>: its mean if it is shared, else this rank's part.</summary>
    public Tensor Read(ModelState state, string name) =>
        context.Size > 1 && !_copiesAreMean && _places.TryGetValue(name, out int place) ? _flat.Part(place) / context.Size : state[name];

    public void Dispose() => _flat.Dispose();
}
