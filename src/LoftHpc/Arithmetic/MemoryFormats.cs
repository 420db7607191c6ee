using LoftHpc.Configuration;
using TorchSharp;
using static TorchSharp.torch;

namespace LoftHpc.Arithmetic;

/// <summary>How activations are held.</summary>
/// <param name="Type">Of their values; weights and statistics are of <see cref="Precisions.TypeHeld"/>.</param>
public readonly record struct ActivationLayout(ScalarType Type, MemoryFormat Format);

/// <summary>
/// What run.memory_format means. TorchSharp has no argument for it: a tensor [N, C, H, W] is channels-last where its strides say
/// that it is a permuted [N, H, W, C], and libtorch then keeps it so through convolutions, norms and sums.
/// </summary>
public static class MemoryFormats
{
    /// <summary>
    /// What is used where the config does not say it. Tensor cores read channels-last, and cuDNN would rearrange for them what is
    /// not; in float32 they have no part.
    /// </summary>
    public static MemoryFormat Resolve(MemoryFormat? asked, Precision precision, DeviceType device) =>
        asked ?? (device is DeviceType.CUDA && precision is not Precision.Float32 ? MemoryFormat.ChannelsLast : MemoryFormat.Contiguous);

    /// <summary>
    /// Why libtorch cannot compute in a format; null: it can. oneDNN 3.7 (libtorch 2.10) writes beyond the memory in which several
    /// threads add up a bfloat16 convolution's gradient of weights, channels-last: the process then crashes, or would be wrong.
    /// </summary>
    public static string? ProblemOf(MemoryFormat format, Precision precision, DeviceType device, int threads) =>
        format is MemoryFormat.ChannelsLast && precision is Precision.Bfloat16 && device is DeviceType.CPU && threads > 1
            ? $"channels-last in bfloat16 on a CPU corrupts memory with several threads, and a rank has {threads} here; allowed: run.threads=1, run.memory_format=contiguous, or another run.precision"
            : null;

    /// <summary>The same [N, C, H, W] in channels-last memory; the tensor itself where it lies so, or where contiguous is asked for. Autograd can differentiate it.</summary>
    public static Tensor To(Tensor x, MemoryFormat format)
    {
        if (format is MemoryFormat.Contiguous || x.numel() == 0 || x.stride().AsSpan().SequenceEqual(Strides(x.shape, format))) return x;
        (long n, long c, long h, long w) = Sizes(x.shape);
        using DisposeScope scope = NewDisposeScope();
        // With one channel, or one pixel, both formats are the same memory: there is no copy, and the view sets the strides that libtorch goes by.
        return x.permute(0, 2, 3, 1).contiguous().view(n * h * w * c).view(n, h, w, c).permute(0, 3, 1, 2).MoveToOuterDisposeScope();
    }

    /// <summary>An uninitialised tensor [N, C, H, W].</summary>
    public static Tensor Empty(ReadOnlySpan<long> shape, ActivationLayout layout, Device device) =>
        empty_strided(shape.ToArray(), Strides(shape, layout.Format), layout.Type, device);

    /// <summary>
    /// [N, C, H, W] as a contiguous tensor for exchanges: itself, or, channels-last, its pixels [N H W, C, 1, 1] as images of one
    /// pixel. It shares the tensor's memory where that is in the format already; else it is a copy.
    /// </summary>
    public static Tensor Rows(Tensor x, MemoryFormat format)
    {
        if (format is MemoryFormat.Contiguous) return x.contiguous();
        (long n, long c, long h, long w) = Sizes(x.shape);
        using DisposeScope scope = NewDisposeScope();
        return x.permute(0, 2, 3, 1).contiguous().view(n * h * w, c, 1, 1).MoveToOuterDisposeScope();
    }

    private static long[] Strides(ReadOnlySpan<long> shape, MemoryFormat format)
    {
        (_, long c, long h, long w) = Sizes(shape);
        // As of a tensor that has values: libtorch takes no stride of 0 for the size of an empty one.
        (c, h, w) = (Math.Max(1, c), Math.Max(1, h), Math.Max(1, w));
        return format is MemoryFormat.ChannelsLast ? [h * w * c, 1, w * c, c] : [c * h * w, h * w, w, 1];
    }

    private static (long N, long C, long H, long W) Sizes(ReadOnlySpan<long> shape) => (shape[0], shape[1], shape[2], shape[3]);
}
