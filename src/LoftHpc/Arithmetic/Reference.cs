using TorchSharp;
using static TorchSharp.torch;
using static TorchSharp.torch.nn;

namespace LoftHpc.Arithmetic;

/// <summary>
/// Convolution by its definition: the windows of the input laid out as columns, and a matrix product. It shares no code
/// with <see cref="Convolution"/>, which it is the reference of.
/// </summary>
public static class Reference
{
    /// <summary>[N, outputs, H', W'] of x [N, inputs, H, W] and weight [outputs, inputs, k, k]; autograd can differentiate it.</summary>
    public static Tensor Convolve(Tensor x, Tensor weight, int stride, int padding)
    {
        long kernel = weight.size(2);
        long height = ((x.size(2) + (2 * padding) - kernel) / stride) + 1, width = ((x.size(3) + (2 * padding) - kernel) / stride) + 1;
        // A rank may hold no filters, or see no channels.
        if (weight.numel() == 0) return zeros([x.size(0), weight.size(0), height, width], x.dtype, x.device);
        return Rows(weight).matmul(Columns(x, kernel, stride, padding)).view(x.size(0), weight.size(0), height, width);
    }

    /// <summary>Windows of x as columns [N, inputs k k, H' W'].</summary>
    internal static Tensor Columns(Tensor x, long kernel, int stride, int padding) =>
        functional.unfold(x, (kernel, kernel), padding: (padding, padding), stride: (stride, stride));

    /// <summary>The adjoint of <see cref="Columns"/>: [N, inputs, side, side], each value the sum of its places in the columns.</summary>
    internal static Tensor Fold(Tensor columns, long side, long kernel, int stride, int padding) =>
        functional.fold(columns, (side, side), (kernel, kernel), padding: (padding, padding), stride: (stride, stride));

    /// <summary>Filters as rows [outputs, inputs k k].</summary>
    internal static Tensor Rows(Tensor weight) => weight.reshape(weight.size(0), -1);
}
