using TorchSharp;
using static TorchSharp.torch;

namespace LoftHpc.Arithmetic;

/// <summary>
/// How far a right computation may be from the exact result: bounds for any order of the additions, with or without fused
/// multiply-add (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 3.1).
/// </summary>
/// <param name="Unit">Unit roundoff u of the type: half the distance from 1 to the next number.</param>
/// <param name="Factor">Relative error with which factors of a product are rounded before it; 0 where they are not.</param>
/// <param name="Result">Unit roundoff of the type of the result, where that is another than the one that is computed in; else 0.</param>
public readonly record struct Rounding(double Unit, double Factor, double Result = 0)
{
    /// <summary>Bfloat16 has 8 bits of significand, so numbers lie 2^-7 apart at 1, and rounding is off by half of that.</summary>
    public const double OfBfloat16 = 1.0 / (1 << 8);

    /// <summary>Of the float64 reference itself, which is not exact either.</summary>
    private const double ReferenceUnit = 1.0 / (1L << 53);

    /// <summary>
    /// The additions of this type, and elementwise operations on any device. Of bfloat16: in float32, the result rounded once.
    /// </summary>
    public static Rounding Of(ScalarType type) =>
        new(type is ScalarType.Float64 ? ReferenceUnit : 1.0 / (1 << 24), 0, type is ScalarType.BFloat16 ? OfBfloat16 : 0);

    /// <summary>
    /// Convolutions and matrix products: on a GPU the factors of float32 products are cut to TF32 (10 bits) where that is
    /// allowed (<see cref="Precisions"/>). Where it is not, cuDNN may still transform them first (Winograd), which rounds some
    /// times more: a thousandth of that.
    /// </summary>
    public static Rounding OfProducts(ScalarType type, DeviceType device) =>
        Of(type) with { Factor = !(type is ScalarType.Float32 && device is DeviceType.CUDA) ? 0 : Precisions.Tf32Allowed ? 1.0 / (1 << 10) : 1.0 / (1 << 20) };

    /// <summary>
    /// The bound on the error of a sum of <paramref name="terms"/> products (or of as many roundings in a row), relative to
    /// the sum of their absolute values: gamma_n = n u / (1 - n u), and what rounded factors add to it.
    /// </summary>
    public double Sum(double terms) => Gamma(terms, Unit) + Gamma(terms, ReferenceUnit) + (Factor * (2 + Factor));

    /// <summary>
    /// What a result may be off by when it stands in its own type: it is rounded once more, from at most its exact value and what
    /// it is off by.
    /// </summary>
    /// <param name="allowed">Before that, broadcast over the result; float64, as the expected result.</param>
    public Tensor Stored(Tensor allowed, Tensor expected) => Result == 0 ? allowed : (allowed * (1 + Result)) + (expected.abs() * Result);

    private static double Gamma(double terms, double unit) => terms * unit < 1 ? terms * unit / (1 - (terms * unit)) : double.PositiveInfinity;
}

/// <summary>A result that is further from the exact one than rounding can bring it.</summary>
/// <param name="What">Which result of the operation: output, input gradient, ...</param>
/// <param name="Error">Of the value that is furthest from what is allowed; NaN where it is no number.</param>
/// <param name="Allowed">What rounding allows there.</param>
public sealed record ArithmeticFault(string What, double Error, double Allowed)
{
    /// <summary>The first of some results that is wrong; null where all are right.</summary>
    /// <param name="results">Allowed is a tensor in float64 that is broadcast over the result: one bound, or one for each channel.</param>
    public static ArithmeticFault? FirstOf(params ReadOnlySpan<(string What, Tensor Actual, Tensor Expected, Tensor Allowed)> results)
    {
        foreach ((string what, Tensor actual, Tensor expected, Tensor allowed) in results)
        {
            using DisposeScope scope = NewDisposeScope();
            if (expected.numel() == 0) continue;
            Tensor error = expected.sub(actual.detach().cpu()).abs_(), bound = allowed.expand_as(error), right = error.le(bound);
            // A comparison with NaN is false.
            if (right.all().item<bool>()) continue;
            Tensor share = error.div(bound).nan_to_num(double.PositiveInfinity, double.PositiveInfinity, double.NegativeInfinity);
            long worst = share.masked_fill(right, -1).argmax().item<long>();
            return new ArithmeticFault(what, error.flatten()[worst].item<double>(), bound.flatten()[worst].item<double>());
        }
        return null;
    }

    public override string ToString() => FormattableString.Invariant($"{What} off by {Error:g3} where rounding allows {Allowed:g3}");
}
