using LoftHpc.Arithmetic;
using LoftHpc.Networks;
using LoftHpc.Training;
using TorchSharp;
using static TorchSharp.torch;

namespace LoftHpc.SelfTest;

/// <summary>
/// How far one step in bfloat16 may be from exact. A bound for the worst case, which grows with the product of all layers' sums,
/// would allow anything; this one is of root mean squares, norm by norm.
/// </summary>
internal static class Bfloat16Error
{
    /// <summary>
    /// What is added to the biases of all norms. Their results then have a mean of 4 and a deviation of 1, so that relu is next to
    /// never near its corner, where an error in the last bit takes or gives a whole gradient: of values around zero an error of
    /// e deviations turns e / pi of them over, which makes the root of 2 e / pi of the gradient, 11 % at 2 %.
    /// </summary>
    private const double Offset = 4;

    /// <summary>Of a single block or tensor: small ones are off by more than the root mean square over many.</summary>
    public const double OfOneTensor = 3;

    /// <summary>
    /// Relative error of all gradients together, and of the loss. One rounding is off by up to u = 2^-8 of a value, evenly
    /// distributed, which is u / sqrt(3) in the root mean square; those of R tensors one after the other are independent, so
    /// their squares add up: sqrt(R / 3) u. Forward there are rounded: the images, the weights and the output of every convolution,
    /// the result of every norm, and the sum of every block; and as many gradients backward. A batch norm takes off the mean
    /// that its input has, and leaves the error: with values of mean 4 and deviation 1 that is sqrt(1 + 4^2) times as much.
    /// </summary>
    public static double Of(NetworkSpec network)
    {
        int norms = network.Tensors.Count(tensor => tensor.Role is TensorRole.NormWeight);
        int rounded = 1 + (2 * network.Convolutions.Count()) + norms + network.Blocks.Count;
        return Rounding.OfBfloat16 * Math.Sqrt(2 * rounded / 3.0) * Math.Sqrt(1 + (Offset * Offset));
    }

    /// <summary>Norms whose channels differ, and whose results are above zero.</summary>
    public static Action<ModelState> Prepare(NetworkSpec network) => state =>
    {
        MethodChecks.Vary(state);
        using DisposeScope scope = NewDisposeScope();
        using IDisposable frozen = no_grad();
        // Without pre-activation the sum of a block goes on into relu: one of those that are added is enough, and offsets would pile up.
        HashSet<string> left = network.PreActivation ? [] : [.. network.Blocks.Select(block => block.Norm2.Name)];
        foreach (TensorSlice slice in state.Slices.Where(slice => slice.Spec.Role is TensorRole.NormBias && !left.Contains(slice.Layer))) state[slice.Name].add_(Offset);
    };

    /// <summary>
    /// What is looked at as one gradient: that of all tensors of a block, or of its shortcut. The gradient of a norm alone all but
    /// cancels, since the next norm takes off what is common to all images, and scale, while its error is that of what was added.
    /// </summary>
    public static string Gradient(TensorSpec tensor) => $"gradient of {(tensor.Name.Split('.') is [.. { Length: > 0 } block, _, _] ? string.Join('.', block) : "what stands outside of blocks")}";
}
