using System.Globalization;
using LoftHpc.Arithmetic;
using LoftHpc.Configuration;
using LoftHpc.Networks;
using TorchSharp;
using static TorchSharp.torch;

namespace LoftHpc.Training;

/// <summary>
/// Ends a training in the step in which a value is no longer finite, before the weights have changed, so that it can be said
/// where it began and what went before. On the CPU it looks at the loss and at one gradient in every step; on a GPU each look
/// would be a wait in the middle of a step, so there the loss is looked at when the step is done.
/// </summary>
public sealed class StepWatch(RankContext context, ModelState state, ResidualNetwork network)
{
    /// <summary>Steps after which the sizes of weights and gradients are noted.</summary>
    private const int NoteEvery = 50;

    private readonly List<Note> _notes = [];
    private Tensor? _finite;
    private long _steps;

    /// <summary>The largest weight and gradient of each parameter in a step.</summary>
    private sealed record Note(long Step, IReadOnlyDictionary<string, (double Weight, double Gradient)> Largest);

    private bool OnHost => context.Device.type is DeviceType.CPU;

    /// <summary>Looks at what a forward pass came to: the loss, or what a part of the network hands on.</summary>
    /// <param name="forward">The same forward pass by the network that it gets. It is done again only if the output is not finite.</param>
    /// <exception cref="NonFiniteException">It is not finite.</exception>
    public void Forward(Tensor output, Action<ResidualNetwork> forward)
    {
        if (!OnHost || NonFinite.IsFinite(output)) return;
        NonFinite found = NonFinite.InForward(network, forward) ?? NonFinite.Elsewhere;
        throw new NonFiniteException(InUpdate() ?? found with { Text = $"{found.Text}; {WhatWentBefore()}" });
    }

    /// <summary>The optimizer's step (<see cref="MomentumSgd"/>), unless the gradients are not finite.</summary>
    /// <returns>Bytes of the gradients.</returns>
    /// <exception cref="NonFiniteException">They are not; the weights are as they were.</exception>
    public long Update(OptimizerSection optimizer, double learningRate)
    {
        if (OnHost)
        {
            // Backpropagation ends at the first parameter: what is not finite on the way there is not finite there.
            if (state.Parameters.FirstOrDefault(parameter => parameter.Count > 0) is TensorSlice first && state[first.Name].grad is Tensor last && !NonFinite.IsFinite(last))
                throw new NonFiniteException(InGradients());
            if (_steps % NoteEvery == 0) TakeNote();
        }
        if (_steps % NoteEvery == 0) LookAtStatistics();
        _steps++;
        return MomentumSgd.Step(state, optimizer, learningRate);
    }

    /// <summary>Looks at the loss of a step that is done, where <see cref="Forward"/> could not.</summary>
    /// <exception cref="NonFiniteException">It is not finite.</exception>
    public void Done(StepTotals totals)
    {
        if (OnHost || double.IsFinite(totals.LossSum)) return;
        string? weights = NonFinite.FirstOf(state.Slices.Select(slice => (slice.Name, (Tensor?)state[slice.Name])));
        throw new NonFiniteException(new NonFinite(0, weights is null
            ? "weights and running statistics are finite after the step"
            : $"after the step {weights} is not finite; on a GPU the step before is over when the loss is looked at, so what came first is not known: lower the learning rate, or run lofthpc selftest"));
    }

    /// <summary>Gradients come to be from the head to the stem.</summary>
    private NonFinite InGradients()
    {
        TensorSlice[] backward = [.. state.Parameters.Reverse()];
        int order = Array.FindIndex(backward, parameter => state[parameter.Name].grad is Tensor gradient && !NonFinite.IsFinite(gradient));
        TensorSlice slice = backward[order];
        double Of(IEnumerable<Tensor?> tensors) => tensors.OfType<Tensor>().Select(NonFinite.Largest).Where(double.IsFinite).DefaultIfEmpty().Max();
        double weights = Of(backward.Select(parameter => state[parameter.Name])), gradients = Of(backward.Select(parameter => state[parameter.Name].grad));
        string what = string.Create(
            CultureInfo.InvariantCulture,
            $"the loss and all weights are finite, and the gradient of {slice.Name} [{string.Join(", ", slice.Shape)}] is not, among weights up to {weights:g3} and gradients up to {gradients:g3}");
        // A layer's backward pass multiplies three things at most: a gradient, a weight, and what the layer got.
        double largest = Math.Max(weights, gradients);
        string why = NonFinite.CanOverflow(state.Type, slice.Count, largest, largest, largest)
            ? "which leave the range of the type: lower the learning rate"
            : $"{NonFinite.WrongArithmetic}; {LookAgain(slice)}";
        return new NonFinite(order, $"{what}, {why}; {WhatWentBefore()}");
    }

    /// <summary>Weights that are not finite since the last step, whose loss and first gradient were.</summary>
    private NonFinite? InUpdate()
    {
        TensorSlice[] parameters = [.. state.Parameters];
        int order = Array.FindIndex(parameters, parameter => !NonFinite.IsFinite(state[parameter.Name]));
        if (order < 0) return null;
        TensorSlice slice = parameters[order];
        using DisposeScope scope = NewDisposeScope();
        // Momentum that is no number had a gradient that was none; what has become too large is infinite.
        return new NonFinite(order, state.Momentum(slice.Name).isnan().any().item<bool>()
            ? $"the gradient of {slice.Name} was no number in the step before, though those of the layers before it were finite, and so are its weights now: "
                + $"the learning rate is not to blame, but arithmetic or data; {LookAgain(slice)}; {WhatWentBefore()}"
            : $"the weights of {slice.Name} left the range of the type in the last update: lower the learning rate; {WhatWentBefore()}");
    }

    /// <summary>
    /// Running statistics take no part in a training step, so what is wrong with them does not show in the loss. The answer of
    /// a GPU is read the next time, when it is long there.
    /// </summary>
    private void LookAtStatistics()
    {
        using DisposeScope scope = NewDisposeScope();
        using IDisposable frozen = no_grad();
        Tensor[] all = [.. state.Slices.Where(slice => slice.Count > 0).Select(slice => state[slice.Name].detach().isfinite().all())];
        if (all.Length == 0) return;
        Tensor finite = stack(all).all();
        using Tensor? earlier = OnHost ? finite : _finite;
        if (!OnHost) _finite = finite.DetachFromDisposeScope();
        if (earlier is null || earlier.item<bool>()) return;
        string name = NonFinite.FirstOf(state.Slices.Select(slice => (slice.Name, (Tensor?)state[slice.Name]))) ?? "something";
        throw new NonFiniteException(new NonFinite(0, $"{name} is not finite, though the loss is: values beyond the square root of the type's range; {WhatWentBefore()}; lower the learning rate"));
    }

    /// <summary>The check of a convolution's arithmetic once more; other layers have no check of their gradient alone.</summary>
    private string LookAgain(TensorSlice slice)
    {
        IReadOnlyList<ConvolutionShape> shapes = slice.Spec.Role is TensorRole.ConvWeight ? Convolution.Using(slice.Shape) : [];
        return NonFinite.LookedAgain(shapes.Select(shape => Convolution.CheckAgain(shape, context.Device)).FirstOrDefault(fault => fault is not null));
    }

    private void TakeNote()
    {
        Dictionary<string, (double, double)> largest = state.Parameters.ToDictionary(
            parameter => parameter.Name,
            parameter => (NonFinite.Largest(state[parameter.Name]), state[parameter.Name].grad is Tensor gradient ? NonFinite.Largest(gradient) : 0));
        // The first one stays, and the newest.
        if (_notes.Count == 2) _notes.RemoveAt(1);
        _notes.Add(new Note(_steps, largest));
    }

    /// <summary>What grew most since the last note, or since the first one.</summary>
    public string WhatWentBefore()
    {
        if (_notes.Count == 0) return "no step came before";
        foreach (Note note in _notes.AsEnumerable().Reverse())
        {
            (string what, double before, double now) = (
                from parameter in state.Parameters
                where note.Largest.ContainsKey(parameter.Name)
                let then = note.Largest[parameter.Name]
                let gradient = state[parameter.Name].grad
                from size in new[]
                {
                    (What: $"the weights of {parameter.Name}", Before: then.Weight, Now: NonFinite.Largest(state[parameter.Name])),
                    (What: $"the gradient of {parameter.Name}", Before: then.Gradient, Now: gradient is null ? 0 : NonFinite.Largest(gradient)),
                }
                where size.Before > 0 && double.IsFinite(size.Now)
                orderby size.Now / size.Before descending
                select size).FirstOrDefault();
            if (now > 10 * before && before > 0)
                return string.Create(CultureInfo.InvariantCulture, $"{what} grew {now / before:g2}-fold, from {before:g3} in step {note.Step + 1} to {now:g3} in step {_steps + 1}");
        }
        (Note last, double largest) = (_notes[^1], state.Parameters.Select(parameter => NonFinite.Largest(state[parameter.Name])).Where(double.IsFinite).DefaultIfEmpty().Max());
        return string.Create(
            CultureInfo.InvariantCulture, $"nothing had grown tenfold: the largest weight is {largest:g3}, and was {last.Largest.Values.Max(size => size.Weight):g3} in step {last.Step + 1}");
    }
}
