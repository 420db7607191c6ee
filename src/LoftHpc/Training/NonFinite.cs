using System.Globalization;
using LoftHpc.Networks;
using TorchSharp;
using static TorchSharp.torch;

namespace LoftHpc.Training;

/// <summary>The first tensor of a rank that is not finite, and why.</summary>
/// <param name="Order">How early it came, among those of all ranks.</param>
/// <param name="Text">What it is and what that means.</param>
public sealed record NonFinite(int Order, string Text)
{
    /// <summary>Where finite numbers were too large.</summary>
    public const string LowerRate = "lower the learning rate";

    /// <summary>Where finite numbers gave one that is not.</summary>
    public const string NotToBlame = "the learning rate is not to blame, but arithmetic or data";

    /// <summary>A weight or running statistic that was not finite before an evaluation; null: all were.</summary>
    public string? Held { get; init; }

    /// <summary>More than there are layers.</summary>
    private const int Later = 1 << 20;

    /// <summary>Where a rank has seen nothing that is not finite: another rank's reason comes first.</summary>
    public static NonFinite Nothing { get; } = new(int.MaxValue, "this rank has seen nothing that is not finite");

    /// <summary>The line in which a training, an evaluation or an extraction ends; of all ranks that throw it, the first in order is shown.</summary>
    /// <param name="when">In which step, or on which images.</param>
    public UserError Error(string stage, string when, int rank) =>
        new($"{stage}: the loss is not finite {when} on rank {rank}: {Text}", ExitCodes.NonFiniteLoss) { Order = Order };

    /// <summary>A suspected layer, with the result of a new check of all layers. A rank whose check finds a fault is shown first.</summary>
    /// <param name="order">Its place among what comes to be in a step.</param>
    public static NonFinite Suspect(int order, string text, ResidualNetwork network, int imageSide, Device device, string layer)
    {
        (string again, bool wrong) = ArithmeticCheck.Again(network, imageSide, device, layer);
        return new NonFinite(wrong ? order - Later : order, $"{text}: {NotToBlame}; {again}");
    }

    /// <summary>Does a forward pass again and looks at every layer. With an exchange between ranks all of them must do so.</summary>
    /// <param name="imageSide">In pixels.</param>
    /// <param name="forward">The same forward pass by the network that it gets; its output, or null where that is not the logits of a loss.</param>
    public static NonFinite InForward(ResidualNetwork network, int imageSide, Device device, Func<ResidualNetwork, Tensor?> forward)
    {
        NonFinite? first = null;
        using DisposeScope scope = NewDisposeScope();
        using IDisposable frozen = no_grad();
        Tensor? logits = forward(network.Observed((layer, input, weight, output) => first ??= InLayer(network, imageSide, device, layer, input, weight, output)));
        if (first is not null) return first;
        // Another rank that finds more comes first.
        if (logits is null) return new NonFinite(int.MaxValue, $"all that this rank computes is finite when it is done again: {NotToBlame}, and the fault does not repeat");
        double largest = Largest(logits);
        string text = Invariant($"the logits are finite when they are computed again, up to {largest:g3}, and the loss was not");
        return CanOverflow(logits.dtype, 2 * logits.size(0), largest)
            ? new NonFinite(Later, $"{text}, since their sum leaves the range of the type: {LowerRate}")
            : Suspect(Later, text, network, imageSide, device, "linear");
    }

    /// <summary>The same for an evaluation by running statistics.</summary>
    public static NonFinite InEvaluation(ResidualNetwork network, int imageSide, Device device, Func<ResidualNetwork, Tensor?> forward)
    {
        NonFinite found = InForward(network, imageSide, device, forward);
        return InState(network) is string held ? found with { Held = held, Text = $"{held} is not finite, and so {found.Text}" } : found;
    }

    /// <summary>The first weight or running statistic of a network that is not finite; null where all are.</summary>
    public static string? InState(ResidualNetwork network) =>
        network.State.Slices.FirstOrDefault(slice => !IsFinite(network.State[slice.Name]))?.Name;

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
        // The exponents of bfloat16 are those of float32; its largest number has 8 bits.
        return !(bound < type switch { ScalarType.Float64 => double.MaxValue, ScalarType.BFloat16 => 255.0 / 256 * Math.Pow(2, 128), _ => float.MaxValue });
    }

    private static NonFinite? InLayer(ResidualNetwork network, int imageSide, Device device, string layer, Tensor input, Tensor weight, Tensor output)
    {
        // The place in the network, so that ranks with and without a share of a layer count alike.
        int order = network.Spec.Tensors.TakeWhile(tensor => tensor.Name != $"{layer}.weight").Count();
        if (!IsFinite(input))
        {
            // Whatever came before was finite: only a sum of a block stands between.
            return layer == network.Spec.Stem.Name
                ? new NonFinite(order, $"the images that go into {layer} are not all finite: the data are wrong, not the learning rate")
                : new NonFinite(order, $"the sum that goes into {layer} is not finite, though what was added is: values near the end of the type's range; {LowerRate}");
        }
        if (!IsFinite(weight)) return new NonFinite(order, $"the weights of {layer} are not finite");
        if (IsFinite(output)) return null;

        (double got, double held) = (Largest(input), Largest(weight));
        // A convolution or the head sums over a row of weights; a norm sums squares of its input, for the variance.
        bool overflows = weight.dim() == 1
            ? CanOverflow(input.dtype, (double)input.numel() / input.size(1), got, Math.Max(got, held))
            : CanOverflow(input.dtype, (double)weight.numel() / weight.size(0), got, held);
        string text = Invariant($"the output of {layer} [{string.Join(", ", output.shape)}] is not finite, from an input up to {got:g3} and weights up to {held:g3}, ");
        return overflows
            ? new NonFinite(order, $"{text}which leave the range of the type: {LowerRate}")
            : Suspect(order, $"{text}too small for that in right arithmetic", network, imageSide, device, layer);
    }

    private static string Invariant(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);
}

/// <summary>A step met a value that is not finite.</summary>
public sealed class NonFiniteException(NonFinite found) : Exception(found.Text)
{
    public NonFinite Found { get; } = found;

    /// <summary>How many steps before the last one it was, where looks come late.</summary>
    public int StepsAgo { get; init; }
}
