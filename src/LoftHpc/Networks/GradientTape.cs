using static TorchSharp.torch;

namespace LoftHpc.Networks;

/// <summary>
/// Backpropagation through a network that is cut into pieces. Autograd differentiates each piece; between pieces stands
/// an operation with a backward of its own, called in plain C# on the caller's thread, where it may talk to other ranks
/// and throw. Every path between two pieces must go through the tape: a path around it meets a graph that has been
/// freed, which autograd reports.
/// </summary>
public sealed class GradientTape
{
    private sealed record Cut(Tensor End, Tensor Start, Func<Tensor, Tensor> Backward);

    private readonly Stack<Cut> _cuts = [];

    /// <summary>
    /// Ends a piece at <paramref name="x"/> and starts the next at what <paramref name="forward"/> makes of it.
    /// </summary>
    /// <param name="x">Not used again by the caller: it is gone when the backward pass has come by.</param>
    /// <param name="backward">Maps the gradient of the result to the gradient of <paramref name="x"/>.</param>
    public Tensor Apply(Tensor x, Func<Tensor, Tensor> forward, Func<Tensor, Tensor> backward)
    {
        Tensor start;
        using (no_grad()) start = forward(x.detach());
        start.requires_grad_(true);
        _cuts.Push(new Cut(x, start, backward));
        return start;
    }

    /// <summary>
    /// Gradients of <paramref name="loss"/> (a scalar) for every leaf of every piece, the last piece first. All ranks
    /// meet the same cuts in the same order.
    /// </summary>
    public void Backward(Tensor loss)
    {
        loss.backward();
        while (_cuts.TryPop(out Cut? cut))
        {
            // A rank that owns no filter of a layer has no gradient for its input, but the others wait for its part.
            Tensor gradient = cut.Start.grad ?? zeros_like(cut.Start);
            // The later piece's graph, which lives as long as the end that it leads to, would keep the gradient.
            cut.Start.grad = null;
            cut.Start.Dispose();
            Tensor previous = cut.Backward(gradient);
            if (cut.End.requires_grad) cut.End.backward([previous]);
            // A leaf may be the start of an earlier cut.
            if (!cut.End.is_leaf) cut.End.Dispose();
            gradient.Dispose();
            previous.Dispose();
        }
    }
}
