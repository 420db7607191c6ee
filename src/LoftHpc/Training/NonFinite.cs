using System.Globalization;
using LoftHpc.Arithmetic;
using LoftHpc.Networks;
using TorchSharp;
using static TorchSharp.torch;

namespace LoftHpc.Training;

/// <summary>The first tensor of a rank that is not finite, and why.</summary>
/// <param name="Order">How early it came, among those of all ranks.</param>
/// <param name="Text">What it is and what that means.</param>
public sealed record NonFinite(int Order, string Text)
{
    /// <summary>Where nothing on this rank is at fault: another rank's reason comes first.</summary>
    public static NonFinite Elsewhere { get; } = new(int.MaxValue, "nothing on this rank is at fault: it came from another one");

    /// <summary>What follows where finite numbers gave one that is not.</summary>
    public const string WrongArithmetic = "too small for that in right arithmetic: the learning rate is not to blame, but arithmetic or data";

    /// <summary>
    /// Does a forward pass again and looks at every layer. With an exchange between ranks all of them must do so.
    /// </summary>
    /// <param name="forward">The same forward pass by the network that it gets.</param>
    /// <returns>Null where all is finite this time.</returns>
    public static NonFinite? InForward(ResidualNetwork network, Action<ResidualNetwork> forward)
    {
        NonFinite? first = null;
        int seen = 0;
        using DisposeScope scope = NewDisposeScope();
        using IDisposable frozen = no_grad();
        forward(network.Observed((layer, kind, input, weight, output) =>
        {
            first ??= InLayer(seen, layer, kind, input, weight, output);
            seen++;
        }));
        return first;
    }

    /// <summary>The same for an evaluation, whose norms use running statistics.</summary>
    public static NonFinite InEvaluation(ResidualNetwork network, Action<ResidualNetwork> forward)
    {
        NonFinite? found = InForward(network, forward);
        string? state = FirstOf(network.State.Slices.Select(slice => (slice.Name, (Tensor?)network.State[slice.Name])));
        if (state is null) return found ?? Elsewhere;
        // A running variance is a sum of squares of what a layer's weights made of its input.
        double largest = network.State.Parameters.Select(parameter => Largest(network.State[parameter.Name])).Where(double.IsFinite).DefaultIfEmpty().Max();
        return new NonFinite(0, Invariant($"{state} is not finite, with weights up to {largest:g3}, ") + (CanOverflow(network.State.Type, network.State[state].numel(), largest, largest, largest)
            ? "whose squares leave the range of the type: lower the learning rate" : WrongArithmetic));
    }

    /// <summary>Among tensors in the order in which they come to be; null where all are finite.</summary>
    public static string? FirstOf(IEnumerable<(string Name, Tensor? Values)> tensors) =>
        tensors.Where(tensor => tensor.Values is not null && !IsFinite(tensor.Values)).Select(tensor => tensor.Name).FirstOrDefault();

    /// <summary>Whether all values are finite.</summary>
    public static bool IsFinite(Tensor values)
    {
        using DisposeScope scope = NewDisposeScope();
        return values.numel() == 0 || values.detach().isfinite().all().item<bool>();
    }

    /// <summary>The largest absolute value; 0 for an empty tensor.</summary>
    public static double Largest(Tensor values)
    {
        using DisposeScope scope = NewDisposeScope();
        return values.numel() == 0 ? 0 : values.detach().abs().max().to(float64).item<double>();
    }

    /// <summary>Whether a sum of so many products of factors up to these can leave the range of the type.</summary>
    public static bool CanOverflow(ScalarType type, double terms, params ReadOnlySpan<double> factors)
    {
        double bound = terms;
        foreach (double factor in factors) bound *= factor;
        return !(bound < (type is ScalarType.Float64 ? double.MaxValue : float.MaxValue));
    }

    private static NonFinite? InLayer(int order, string layer, LayerKind kind, Tensor input, Tensor weight, Tensor output)
    {
        if (!IsFinite(input))
        {
            // Whatever came before was finite: only a sum of a block stands between.
            return order == 0
                ? new NonFinite(order, $"the images that go into {layer} are not all finite: the data are wrong, not the learning rate")
                : new NonFinite(order, $"the sum that goes into {layer} is not finite, though what was added is: values near the end of the type's range; lower the learning rate");
        }
        if (!IsFinite(weight)) return new NonFinite(order, $"the weights of {layer} are not finite");
        if (IsFinite(output)) return null;

        // The squares of a norm's input are summed, for its variance.
        (double terms, double a, double b) = kind switch
        {
            { Convolution: ConvolutionShape shape } => (shape.Inputs * shape.Kernel * shape.Kernel, Largest(input), Largest(weight)),
            { IsHead: true } => (input.size(1), Largest(input), Largest(weight)),
            _ => (input.numel() / input.size(1), Largest(input), Math.Max(Largest(input), Largest(weight))),
        };
        string what = Invariant($"the output of {layer} [{string.Join(", ", output.shape)}] is not finite, from an input up to {Largest(input):g3} and weights up to {Largest(weight):g3}");
        return CanOverflow(input.dtype, terms, a, b)
            ? new NonFinite(order, $"{what}, which leave the range of the type: lower the learning rate")
            : new NonFinite(order, $"{what}, {WrongArithmetic}; {LookAgain(kind, input, weight)}");
    }

    /// <summary>The check of a launch's start once more, on one layer.</summary>
    private static string LookAgain(LayerKind kind, Tensor input, Tensor weight)
    {
        ArithmeticFault? fault = kind switch
        {
            { Convolution: ConvolutionShape shape } => Convolution.CheckAgain(shape, input.device),
            { IsHead: true } => LayerChecks.HeadAndLoss(new HeadShape((int)weight.size(1), (int)input.size(2), (int)weight.size(0)), input.dtype, input.device),
            _ => LayerChecks.Norm(new NormShape((int)input.size(1), (int)input.size(2)), input.dtype, input.device),
        };
        return LookedAgain(fault);
    }

    /// <summary>What a repeated check means.</summary>
    public static string LookedAgain(ArithmeticFault? fault) => fault is null
        ? "the check of this layer, done again, finds it right (so not always wrong: look at the data, at memory and at the machine)"
        : $"the check of this layer, done again, finds it wrong: {fault}";

    private static string Invariant(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);
}

/// <summary>A step met a value that is not finite, and has changed nothing.</summary>
public sealed class NonFiniteException(NonFinite found) : Exception(found.Text)
{
    public NonFinite Found { get; } = found;
}
