using LoftHpc.Mpi;
using LoftHpc.Networks;
using TorchSharp;
using static TorchSharp.torch;

namespace LoftHpc.Training;

/// <summary>
/// The mean over the ranks of tensors that each of them holds a copy of and trains by itself. The copies lie in one stretch
/// (<see cref="ModelState.Copied"/>), which one allreduce sums where it is. The mean can be looked at without a change to the
/// copies, so that a measurement in the middle of a round does not disturb the training.
/// </summary>
public sealed class SharedAverage(RankContext context, ModelState state) : IDisposable
{
    private Tensor? _onHugePages, _mean;
    // All ranks start with the same copies.
    private bool _copiesAreMean = true;

    /// <summary>The copies are equal, as at the start of a round; which ones there are may have changed.</summary>
    public void Share()
    {
        Forget();
        _copiesAreMean = true;
        if (context.Size == 1 || ReferenceEquals(_onHugePages, state.Copied)) return;
        _onHugePages = state.Copied;
        TensorMemory.UseHugePages(state.Copied);
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
        _mean = Mean(state.Copied.clone()).DetachFromDisposeScope();
    }

    /// <summary>Replaces the copies by their mean. Collective.</summary>
    public void Apply()
    {
        if (_copiesAreMean || context.Size == 1) return;
        using DisposeScope scope = NewDisposeScope();
        Mean(state.Copied);
        Forget();
        _copiesAreMean = true;
    }

    /// <summary>A tensor as it stands in the network that all ranks make up together, after <see cref="Refresh"/>: its mean if it is shared, else this rank's part.</summary>
    public Tensor Read(string name)
    {
        Tensor own = state[name];
        return _mean is not null && state.StartInCopied(name) is long start ? _mean.narrow(0, start, own.numel()).view(own.shape) : own;
    }

    /// <summary>Only whether the copies are equal: they themselves are the state's.</summary>
    public void Archive(StateArchive archive)
    {
        long equal = _copiesAreMean ? 1 : 0;
        archive.Number("copies_are_mean", ref equal);
        if (!archive.IsReading) return;
        Share();
        // To other ranks only one network moves.
        _copiesAreMean = equal != 0 || archive.Writers is not null;
    }

    public void Dispose() => Forget();

    private Tensor Mean(Tensor copies)
    {
        using IDisposable frozen = no_grad();
        context.Channels.AllreduceSum(copies);
        return copies.div_(context.Size);
    }

    private void Forget()
    {
        _mean?.Dispose();
        _mean = null;
    }
}
