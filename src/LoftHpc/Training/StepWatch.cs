using System.Globalization;
using LoftHpc.Configuration;
using LoftHpc.Networks;
using TorchSharp;
using static TorchSharp.torch;

namespace LoftHpc.Training;

/// <summary>
/// Ends a training in the step in which a value is no longer finite, before the weights change by it, and says where it began
/// and what went before. It looks at the loss and at one gradient of every step. On a GPU a look is a wait: there the device
/// notes what was finite, stops changing weights and momentum with the first step that was not, and is asked every
/// <see cref="NoteEvery"/> steps and at the ends of rounds and epochs; what is found is that step's, as it stood in it.
/// </summary>
/// <param name="network">What is trained here, with an exchange by which this rank, or all of them together, can do a forward pass again.</param>
/// <param name="imageSide">In pixels.</param>
public sealed class StepWatch(RankContext context, ResidualNetwork network, int imageSide) : IDisposable
{
    /// <summary>Steps after which the sizes of weights and gradients are noted, but for the first ones.</summary>
    private const int NoteEvery = 50;

    /// <summary>The first note and the newest one.</summary>
    private readonly List<Note> _notes = [];

    private readonly StepsOnDevice? _late = context.LooksLate ? new(context.Device) : null;
    private long _steps;
    private double _learningRate;

    /// <summary>The largest weight and gradient of each parameter in a step.</summary>
    private sealed record Note(long Step, Sizes Sizes);

    private readonly record struct Sizes(IReadOnlyDictionary<string, double> Weights, IReadOnlyDictionary<string, double> Gradients);

    private ModelState State => network.State;

    private TensorSlice[] Parameters => [.. State.Parameters.Where(parameter => parameter.Count > 0)];

    /// <summary>Looks at what a forward pass came to: the loss, or what a part of the network hands on.</summary>
    /// <param name="again">
    /// The same forward pass by the network that it gets, done only if the output is not finite, and possibly some steps later;
    /// see <see cref="NonFinite.InForward"/>.
    /// </param>
    /// <param name="atOnce">Also on a GPU: where the step waits for the output anyway.</param>
    /// <exception cref="NonFiniteException">It is not finite.</exception>
    public void Forward(Tensor output, Func<ResidualNetwork, Tensor?> again, bool atOnce = false)
    {
        if (_late is not null && !atOnce)
        {
            _late.Loss(output, again);
            return;
        }
        if (NonFinite.IsFinite(output)) return;
        Weights();
        throw Trouble(NonFinite.InForward(network, imageSide, context.Device, again));
    }

    /// <summary>
    /// Looks at the gradient that came last: backpropagation ends at the first parameter, so what is not finite on the way there
    /// is not finite in it. (A wrong gradient of another weight alone shows in that weight, in the next step.)
    /// </summary>
    /// <param name="all">All gradients of this rank, before they are summed with those of others: afterwards nobody can tell whose was wrong.</param>
    /// <exception cref="NonFiniteException">It is not finite; the weights are as they were.</exception>
    public void Gradients(Tensor? all = null)
    {
        if (_late is not null)
        {
            if (all is not null) _late.OwnGradients(all);
            // Of a sum over ranks all of it, so that ranks to whose weights others' gradients would do harm stop in the same step.
            else if (_late.HasOwnGradients) _late.Gradients(State.Gradients);
            else _late.Gradients(Parameters.FirstOrDefault() is TensorSlice ofStem ? State.Gradient(ofStem.Name) : null);
            return;
        }
        using DisposeScope scope = NewDisposeScope();
        Tensor? last = all?.sum() ?? (Parameters.FirstOrDefault() is TensorSlice first ? State.Gradient(first.Name) : null);
        if (last is null || NonFinite.IsFinite(last)) return;
        // The sum alone may leave the range of the type.
        if (Parameters.Any(parameter => !NonFinite.IsFinite(State.Gradient(parameter.Name)))) throw Trouble(InGradients());
    }

    /// <summary>The optimizer's step (<see cref="MomentumSgd"/>), unless the gradients are not finite.</summary>
    /// <exception cref="NonFiniteException">They are not, or running statistics are not; the weights are as they were.</exception>
    public void Update(OptimizerSection optimizer, double learningRate)
    {
        Gradients();
        if (_steps < 3 || _steps % NoteEvery == 0)
        {
            Look();
            TakeNote();
        }
        _steps++;
        _learningRate = learningRate;
        using Tensor? go = _late?.AreFinite();
        MomentumSgd.Step(State, optimizer, learningRate, go);
    }

    /// <summary>This rank has no part in a step, the last one of an epoch.</summary>
    public void Skip() => _late?.Skip();

    /// <summary>Looks at the steps since the last time, where looks come late.</summary>
    /// <exception cref="NonFiniteException">One of them was not finite; weights are as they were before it.</exception>
    public void Look()
    {
        if (_late?.Take() is not StepsOnDevice.Fault fault) return;
        // What is said is of that step.
        _steps = fault.Step;
        if (fault.Again is not null)
        {
            State.ZeroGradients();
            throw Trouble(InWeights() ?? NonFinite.InForward(network, imageSide, context.Device, fault.Again), fault.StepsAgo);
        }
        throw Trouble(fault.IsOfOthers ? NonFinite.Nothing : InGradients(), fault.StepsAgo);
    }

    public void Dispose() => _late?.Dispose();

    /// <summary>Looks at the weights after an update, before they go to other ranks.</summary>
    /// <exception cref="NonFiniteException">They are not finite.</exception>
    public void Weights()
    {
        Look();
        if (InWeights() is NonFinite found) throw Trouble(found);
    }

    /// <summary>What an evaluation found, in the light of what went before.</summary>
    public NonFinite Explain(NonFinite found) => WithWhatWentBefore(
        InWeights() ?? (found.Held is string held && Growth() is not null ? new NonFinite(found.Order, $"{held} is not finite: {NonFinite.LowerRate}") : found));

    private NonFinite? InWeights()
    {
        using DisposeScope scope = NewDisposeScope();
        using IDisposable frozen = no_grad();
        TensorSlice[] parameters = Parameters;
        // One wait for all of them.
        if (parameters.Length == 0 || NonFinite.IsFinite(stack([.. parameters.Select(parameter => Size(State[parameter.Name]))]))) return null;
        int order = Array.FindIndex(parameters, parameter => !NonFinite.IsFinite(State[parameter.Name]));
        TensorSlice slice = parameters[order];
        Tensor velocity = State.Momentum(slice.Name);
        // NaN in the momentum was NaN in the gradient; an update by finite numbers can only have been too large.
        return velocity.isnan().any().item<bool>() ? Suspect(order, $"the gradient of {slice.Name} was no number in the step before, with a finite loss", slice.Layer)
            : NonFinite.CanOverflow(State.Type, 2, NonFinite.Largest(velocity), Math.Max(1, _learningRate))
                ? new NonFinite(order, $"the weights of {slice.Name} left the range of the type in the last update: {NonFinite.LowerRate}")
                : Suspect(order, $"the weights of {slice.Name} are not finite, though the last update was", slice.Layer);
    }

    /// <summary>In words, how weights and gradients have grown.</summary>
    private string WhatWentBefore => _notes.Count == 0 ? "no step came before" : Growth() ?? string.Create(
        CultureInfo.InvariantCulture, $"nothing had grown tenfold: the largest weight is {Largest(Now().Weights):g3}, and was {Largest(_notes[0].Sizes.Weights):g3} {Ago(_notes[0])}");

    private NonFiniteException Trouble(NonFinite found, int stepsAgo = 0) => new(WithWhatWentBefore(found)) { StepsAgo = stepsAgo };

    private NonFinite WithWhatWentBefore(NonFinite found) => found with { Text = $"{found.Text}; {WhatWentBefore}" };

    private NonFinite Suspect(int order, string text, string layer) => NonFinite.Suspect(order, text, network, imageSide, context.Device, layer);

    /// <summary>Gradients come to be from the head to the stem.</summary>
    private NonFinite InGradients()
    {
        TensorSlice[] backward = [.. Parameters.Reverse()];
        int order = Array.FindIndex(backward, parameter => !NonFinite.IsFinite(State.Gradient(parameter.Name)));
        TensorSlice slice = backward[order];
        double Of(IEnumerable<Tensor> tensors) => tensors.Select(NonFinite.Largest).Where(double.IsFinite).DefaultIfEmpty().Max();
        double weights = Of(backward.Select(parameter => State[parameter.Name])), gradients = Of(backward.Select(parameter => State.Gradient(parameter.Name)));
        string what = string.Create(
            CultureInfo.InvariantCulture,
            $"the loss and all weights are finite, and the gradient of {slice.Name} [{string.Join(", ", slice.Shape)}] is not, among weights up to {weights:g3} and gradients up to {gradients:g3}");
        // A layer's backward pass multiplies a gradient, a weight, and what the layer got: that is up to a norm's weights times
        // the root of its number of values, for which a factor of a thousand is enough.
        double largest = Math.Max(weights, gradients);
        return NonFinite.CanOverflow(State.Type, 1e3 * slice.Count, largest, largest, largest)
            ? new NonFinite(order, $"{what}, which leave the range of the type: {NonFinite.LowerRate}")
            : Suspect(order, what, LayerAfter(backward, order));
    }

    /// <summary>The layer whose backward pass came last before a gradient was not finite: it gave what this one got.</summary>
    private static string LayerAfter(TensorSlice[] backward, int order) =>
        backward[..order].Select(parameter => parameter.Layer).LastOrDefault(layer => layer != backward[order].Layer) ?? backward[order].Layer;

    /// <summary>
    /// Notes the sizes of weights and gradients, and sees whether all running statistics are finite: those take no part in a
    /// training step, so the loss does not show it.
    /// </summary>
    private void TakeNote()
    {
        using DisposeScope scope = NewDisposeScope();
        using IDisposable frozen = no_grad();
        TensorSlice[] parameters = Parameters;
        Tensor[] statistics = [.. State.Slices.Where(slice => !slice.Spec.IsParameter && slice.Count > 0).Select(slice => Size(State[slice.Name]))];
        double[] values = LayerChecks.Exact(stack([
            .. parameters.Select(parameter => Size(State[parameter.Name])), .. parameters.Select(parameter => Size(State.Gradient(parameter.Name))), .. statistics]));
        if (_notes.Count == 2) _notes.RemoveAt(1);
        _notes.Add(new Note(_steps, Named(values)));
        if (values.Skip(2 * parameters.Length).All(double.IsFinite) || NonFinite.InState(network) is not string name) return;
        string what = $"{name} is not finite, though the loss is";
        throw Trouble(Growth() is null ? Suspect(0, what, name[..name.LastIndexOf('.')]) : new NonFinite(0, $"{what}: {NonFinite.LowerRate}"));
    }

    /// <summary>The largest absolute value, on the device.</summary>
    private static Tensor Size(Tensor values) => values.detach().abs().max();

    /// <summary>
    /// In words, what has grown more than tenfold since the newest note, or else since the first one; null: nothing. What counts
    /// is the largest of all weights, or of all gradients: a single bias may grow a hundredfold from nearly nothing.
    /// </summary>
    private string? Growth()
    {
        if (_notes.Count == 0) return null;
        Sizes now = Now();
        foreach (Note before in _notes.AsEnumerable().Reverse())
        {
            foreach ((string kind, IReadOnlyDictionary<string, double> then, IReadOnlyDictionary<string, double> sizes) in new[]
            {
                ("weights", before.Sizes.Weights, now.Weights), ("gradients", before.Sizes.Gradients, now.Gradients),
            })
            {
                (double from, double to) = (Largest(then), Largest(sizes));
                if (from > 0 && to > 10 * from)
                    return string.Create(
                        CultureInfo.InvariantCulture, $"{kind} grew {to / from:g2}-fold, from {from:g3} {Ago(before)} to {to:g3} in {sizes.First(size => size.Value == to).Key}");
            }
        }
        return null;
    }

    /// <summary>Of all parameters; what is not finite is passed over.</summary>
    private static double Largest(IReadOnlyDictionary<string, double> sizes) => sizes.Values.Where(double.IsFinite).DefaultIfEmpty().Max();

    private string Ago(Note note) => _steps == note.Step ? "in this step" : $"{_steps - note.Step} step{(_steps - note.Step == 1 ? "" : "s")} ago";

    /// <summary>The sizes at this moment.</summary>
    private Sizes Now() => Named([
        .. Parameters.Select(parameter => NonFinite.Largest(State[parameter.Name])),
        .. Parameters.Select(parameter => NonFinite.Largest(State.Gradient(parameter.Name)))]);

    private Sizes Named(double[] values)
    {
        TensorSlice[] parameters = Parameters;
        Dictionary<string, double> From(int start) => parameters.Select((parameter, i) => (parameter.Name, values[start + i])).ToDictionary();
        return new Sizes(From(0), From(parameters.Length));
    }
}
