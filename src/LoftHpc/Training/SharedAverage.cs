using LoftHpc.Mpi;
using LoftHpc.Networks;
using TorchSharp;
using static TorchSharp.torch;

namespace LoftHpc.Training;

/// <summary>
/// The mean over the ranks of tensors that each of them holds a copy of and trains by itself. The copies lie in one flat
/// buffer, which one allreduce sums where it is. The mean can be looked at without a change to the copies, so that a
/// measurement in the middle of a round does not disturb the training.
/// </summary>
public sealed class SharedAverage(RankContext context) : IDisposable
{
    private readonly Dictionary<string, long> _starts = [];
    private Tensor? _copies, _mean;
    // All ranks start with the same copies.
    private bool _copiesAreMean = true;

    /// <summary>The tensors that are shared from now on; the copies of them are equal. They become views of the flat buffer.</summary>
    public void Share(ModelState state, IEnumerable<string> names)
    {
        Forget();
        _copiesAreMean = true;
        string[] shared = [.. names];
        if (context.Size == 1 || shared.SequenceEqual(_starts.Keys)) return;
        _starts.Clear();
        long start = 0;
        foreach (string name in shared)
        {
            _starts.Add(name, start);
            start += state[name].numel();
        }
        using Tensor? before = _copies;
        _copies = empty([start], context.Type, context.Device).DetachFromDisposeScope();
        TensorMemory.UseHugePages(_copies);
        state.MoveInto(_copies, shared);
    }

    /// <summary>The copies have changed.</summary>
    public void Invalidate()
    {
        Forget();
        _copiesAreMean = false;
    }

    /// <summary>Takes the mean, aside and until the copies change again, unless nothing has changed since the last time. Collective.</summary>
    public void Refresh()
    {
        if (_copiesAreMean || _mean is not null || context.Size == 1) return;
        using DisposeScope scope = NewDisposeScope();
        _mean = Mean(_copies!.clone()).DetachFromDisposeScope();
    }

    /// <summary>Replaces the copies by their mean. Collective.</summary>
    public void Apply()
    {
        if (_copiesAreMean || context.Size == 1) return;
        using DisposeScope scope = NewDisposeScope();
        Mean(_copies!);
        Forget();
        _copiesAreMean = true;
    }

    /// <summary>A tensor as it stands in the network that all ranks make up together, after <see cref="Refresh"/>: its mean if it is shared, else this rank's part.</summary>
    public Tensor Read(ModelState state, string name)
    {
        Tensor own = state[name];
        return _mean is not null && _starts.TryGetValue(name, out long start) ? _mean.narrow(0, start, own.numel()).view(own.shape) : own;
    }

    public void Dispose()
    {
        Forget();
        _copies?.Dispose();
    }

    private Tensor Mean(Tensor copies)
    {
        context.Channels.AllreduceSum(copies);
        return copies.div_(context.Size);
    }

    private void Forget()
    {
        _mean?.Dispose();
        _mean = null;
    }
}
