using LoftHpc.Networks;
using TorchSharp;
using static TorchSharp.torch;

namespace LoftHpc.Training;

/// <summary>Which steps were finite, noted on the device without a wait; once one is not, none is any more.</summary>
internal sealed class StepsOnDevice(Device device) : IDisposable
{
    /// <summary>Zero, until something is added that is not finite: then NaN.</summary>
    private readonly Tensor _sum = zeros([], float64, device).DetachFromDisposeScope();

    /// <summary>Steps, [3], of which the loss, this rank's gradients, and the gradients by which weights change were finite.</summary>
    private readonly Tensor _passed = zeros([3], int64, device).DetachFromDisposeScope();

    private readonly List<Func<ResidualNetwork, Tensor?>> _again = [];
    private long _first;
    private int _steps, _skipped;

    /// <summary>The first step that was not finite.</summary>
    /// <param name="Step">Its number, from 0.</param>
    /// <param name="StepsAgo">How many were begun after it.</param>
    /// <param name="Again">Does its forward pass again, where that was not finite; null: the gradients were not.</param>
    /// <param name="IsOfOthers">Whether it came with the gradients of other ranks.</param>
    public sealed record Fault(long Step, int StepsAgo, Func<ResidualNetwork, Tensor?>? Again, bool IsOfOthers);

    /// <summary>Whether <see cref="OwnGradients"/> are noted.</summary>
    public bool HasOwnGradients { get; private set; }

    /// <summary>Notes a loss.</summary>
    public void Loss(Tensor loss, Func<ResidualNetwork, Tensor?> again)
    {
        _again.Add(again);
        Note(loss, 0);
    }

    /// <summary>Notes the gradients of this rank alone, before they are summed with those of others.</summary>
    public void OwnGradients(Tensor gradients)
    {
        HasOwnGradients = true;
        Note(gradients, 1);
    }

    /// <summary>Notes gradients by which weights change, and ends a step.</summary>
    public void Gradients(Tensor? gradients)
    {
        _steps++;
        Note(gradients, 2);
    }

    /// <summary>A step in which nothing was done.</summary>
    public void Skip() => _skipped++;

    /// <summary>Whether all was finite so far: a truth value, [], on the device.</summary>
    public Tensor AreFinite() => _sum.eq(_sum);

    /// <summary>Waits for the device, and starts anew after the steps so far.</summary>
    /// <returns>Null: all were finite.</returns>
    public Fault? Take()
    {
        using DisposeScope scope = NewDisposeScope();
        long[] passed = _steps == 0 ? [0, 0, 0] : [.. _passed.cpu().data<long>()];
        int at = (int)passed[2];
        if (at < _steps)
        {
            bool lossIsFinite = _again.Count == 0 || passed[0] > at;
            return new Fault(_first + at, _steps - 1 - at + _skipped, lossIsFinite ? null : _again[at], HasOwnGradients && passed[1] > at);
        }
        _first += _steps;
        (_steps, _skipped) = (0, 0);
        _again.Clear();
        _passed.zero_();
        return null;
    }

    public void Dispose()
    {
        _sum.Dispose();
        _passed.Dispose();
    }

    private void Note(Tensor? values, int kind)
    {
        using DisposeScope scope = NewDisposeScope();
        using IDisposable frozen = no_grad();
        if (values is not null) _sum.add_(values.dim() == 0 ? values : values.abs().max(), alpha: 0);
        _passed[kind].add_(AreFinite());
    }
}
