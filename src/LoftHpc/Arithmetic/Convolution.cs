using System.Runtime.Intrinsics.X86;
using LoftHpc.Configuration;
using TorchSharp;
using static TorchSharp.torch;
using static TorchSharp.torch.nn;

namespace LoftHpc.Arithmetic;

/// <summary>What was done, in this process, to convolutions that libtorch computes wrongly.</summary>
public enum ArithmeticRepair
{
    None,

    /// <summary>Channels of those convolutions are padded with zeros.</summary>
    ChannelsPadded,

    /// <summary>libtorch computes all convolutions without oneDNN.</summary>
    OnednnOff,
}

/// <summary>A convolution as far as libtorch may take other code for it: each of them is checked by itself.</summary>
/// <param name="Inputs">Channels that are summed over, as held by this rank.</param>
/// <param name="Outputs">Filters of this rank.</param>
/// <param name="Side">Of the input, in pixels.</param>
/// <param name="Layout">Of input and output.</param>
public readonly record struct ConvolutionShape(int Inputs, int Outputs, int Kernel, int Stride, int Padding, int Side, ActivationLayout Layout, DeviceType Device)
{
    public ScalarType Type => Layout.Type;

    /// <summary>Of input [N, inputs, H, H] and weight [outputs, inputs, k, k].</summary>
    public static ConvolutionShape Of(Tensor input, Tensor weight, int stride, int padding, MemoryFormat format)
    {
        long[] from = input.shape, filters = weight.shape;
        return new ConvolutionShape((int)filters[1], (int)filters[0], (int)filters[2], stride, padding, (int)from[2], new ActivationLayout(input.dtype, format), input.device_type);
    }

    public int OutputSide => ((Side + (2 * Padding) - Kernel) / Stride) + 1;

    public override string ToString() =>
        FormattableString.Invariant($"{Kernel} x {Kernel} from {Inputs} to {Outputs} channels, stride {Stride}, images of {Side} x {Side}{(Layout.Format is MemoryFormat.ChannelsLast ? ", channels-last" : "")}");
}

/// <summary>
/// The one place that calls libtorch's convolution. Each is checked against <see cref="Reference"/> before its first use
/// in this process, and repaired where it is wrong: oneDNN 3.7 (libtorch 2.10), where a virtual machine hides the sizes of
/// the caches from it, leaves the padding of incomplete blocks of channels unset, and 3 x 3 convolutions are then wrong
/// wherever their channels do not fill such blocks.
/// </summary>
public static class Convolution
{
    /// <summary>
    /// Multiples to which channels are padded, in the order in which they are tried: a block of oneDNN has 16 channels with
    /// AVX-512, 8 with AVX2; gradients at stride 2 take two blocks at a time.
    /// </summary>
    private static readonly int[] Multiples = [16, 32, 64];

    private static readonly Lock Gate = new();

    /// <summary>Shapes that were found right, with the multiple to which their channels are padded (1: they are not).</summary>
    private static readonly Dictionary<ConvolutionShape, int> Checked = [];

    /// <summary>Shapes that were wrong as libtorch has them, and how.</summary>
    private static readonly Dictionary<ConvolutionShape, ArithmeticFault> Wrong = [];

    private static bool _oneDnnOff;

    /// <summary>What was repaired in this process so far, and how many different convolutions needed it.</summary>
    public static (ArithmeticRepair Repair, int Convolutions) Repairs
    {
        get
        {
            lock (Gate) return (_oneDnnOff ? ArithmeticRepair.OnednnOff : Wrong.Count > 0 ? ArithmeticRepair.ChannelsPadded : ArithmeticRepair.None, Wrong.Count);
        }
    }

    /// <summary>How many different convolutions were found right so far.</summary>
    internal static int Known
    {
        get
        {
            lock (Gate) return Checked.Count;
        }
    }

    /// <summary>Convolution without bias: [N, outputs, H', W'] of input [N, inputs, H, W] and weight [outputs, inputs, k, k].</summary>
    /// <param name="layer">Its name, for errors.</param>
    /// <param name="format">Of the input; libtorch gives the output the same.</param>
    /// <exception cref="UserError">It was not checked before, is wrong on this machine, and no repair helps.</exception>
    public static Tensor Apply(string layer, Tensor input, Tensor weight, int stride, int padding, MemoryFormat format)
    {
        ConvolutionShape shape = ConvolutionShape.Of(input, weight, stride, padding, format);
        return Run(input, weight, shape, Check(layer, shape, input.device));
    }

    /// <summary>Checks a convolution as libtorch has it, unless that was done before; repairs nothing.</summary>
    /// <returns>What is wrong; null where it is right, or was repaired.</returns>
    public static ArithmeticFault? Look(ConvolutionShape shape, Device device)
    {
        lock (Gate)
        {
            if (Checked.ContainsKey(shape)) return null;
            if (Wrong.TryGetValue(shape, out ArithmeticFault? known)) return known;
            if (FaultOf(shape, device, 1) is not ArithmeticFault fault)
            {
                Checked[shape] = 1;
                return null;
            }
            return Wrong[shape] = fault;
        }
    }

    /// <summary>Checks a convolution, unless that was done before, and repairs it where it is wrong.</summary>
    /// <returns>The multiple to which its channels are padded from now on (1: they are not), and what stays wrong; null: nothing.</returns>
    public static (int Multiple, ArithmeticFault? Fault) CheckAndRepair(ConvolutionShape shape, Device device)
    {
        lock (Gate)
        {
            if (Look(shape, device) is not ArithmeticFault fault) return (Checked[shape], null);
            if (!_oneDnnOff)
            {
                // A multiple that changes nothing would only be a second try.
                IEnumerable<int> multiples = Multiples.Where(multiple => Missing(shape.Inputs, multiple) + Missing(shape.Outputs, multiple) > 0);
                if (multiples.FirstOrDefault(padded => FaultOf(shape, device, padded) is null) is int helps and not 0) return (Checked[shape] = helps, null);
                if (shape.Device is not DeviceType.CPU || !TorchContext.UseOwnConvolutions()) return (1, fault);
                _oneDnnOff = true;
                // All convolutions are now computed by other code.
                Checked.Clear();
            }
            return FaultOf(shape, device, 1) is ArithmeticFault left ? (1, left) : (Checked[shape] = 1, null);
        }
    }

    /// <summary>As <see cref="CheckAndRepair"/>.</summary>
    /// <returns>The multiple to which its channels are padded from now on; 1: they are not.</returns>
    /// <exception cref="UserError">It is wrong and no repair helps.</exception>
    public static int Check(string layer, ConvolutionShape shape, Device device)
    {
        (int multiple, ArithmeticFault? fault) = CheckAndRepair(shape, device);
        if (fault is null) return multiple;
        bool onHost = shape.Device is DeviceType.CPU;
        throw new UserError(
            $"arithmetic: {layer}, a convolution {shape}, is computed wrongly here: {fault}; padded channels{(onHost && _oneDnnOff ? " and oneDNN switched off" : "")} do not help " +
            $"({Processor.Of(device)}, {TorchLibrary.Load()}); try {(onHost ? "ONEDNN_MAX_CPU_ISA=SSE41 in the environment, " : "")}" +
            $"another libtorch ({TorchLibrary.FolderVariable}) or another machine; lofthpc selftest shows whether that helps",
            ExitCodes.Environment);
    }

    /// <summary>
    /// Channels of the input and of the output that a convolution is computed with in this process; more than it has where
    /// they are padded.
    /// </summary>
    public static (int Inputs, int Outputs) ChannelsOf(ConvolutionShape shape)
    {
        lock (Gate)
        {
            int multiple = Checked.GetValueOrDefault(shape, 1);
            return (shape.Inputs + Missing(shape.Inputs, multiple), shape.Outputs + Missing(shape.Outputs, multiple));
        }
    }

    /// <summary>Looks at a convolution again, repaired as it is.</summary>
    /// <returns>What is wrong; null where it is right.</returns>
    public static ArithmeticFault? CheckAgain(ConvolutionShape shape, Device device)
    {
        lock (Gate) return FaultOf(shape, device, Checked.GetValueOrDefault(shape, 1));
    }

    private static Tensor Run(Tensor input, Tensor weight, ConvolutionShape shape, int multiple)
    {
        int moreInputs = Missing(shape.Inputs, multiple), moreOutputs = Missing(shape.Outputs, multiple);
        if (moreInputs + moreOutputs == 0) return Plain(input, weight, shape);
        // What the backward pass needs of these its graph keeps.
        using Tensor wideWeight = functional.pad(weight, [0, 0, 0, 0, 0, moreInputs, 0, moreOutputs]);
        using Tensor wideInput = moreInputs > 0 ? functional.pad(input, [0, 0, 0, 0, 0, moreInputs]) : input.alias();
        Tensor wide = Plain(wideInput, wideWeight, shape);
        if (moreOutputs == 0) return wide;
        // A copy: what follows then has a tensor of its own, laid out as without padding, and may change it in place.
        using (wide)
        {
            using Tensor narrow = wide.narrow(1, 0, shape.Outputs);
            return narrow.clone();
        }
    }

    /// <summary>Channels that a count lacks to a multiple.</summary>
    private static int Missing(int channels, int multiple) => (multiple - (channels % multiple)) % multiple;

    private static Tensor Plain(Tensor input, Tensor weight, ConvolutionShape shape) => functional.conv2d(
        input, weight, strides: [shape.Stride, shape.Stride], padding: [shape.Padding, shape.Padding]);

    /// <summary>
    /// Output and both gradients of a small batch, and of its first image alone, against float64 by <see cref="Reference"/>:
    /// libtorch has other code for single images, and for 1 x 1 windows at stride 1 in batches below 16.
    /// </summary>
    private static ArithmeticFault? FaultOf(ConvolutionShape shape, Device device, int multiple)
    {
        long batch = shape is { Kernel: 1, Stride: 1 } ? 16 : 2, pixels = (long)shape.OutputSide * shape.OutputSide, window = (long)shape.Kernel * shape.Kernel;
        using DisposeScope scope = NewDisposeScope();
        using NanMemory nan = NanMemory.Begin(device);
        using Generator generator = new(1, CPU);
        using IDisposable frozen = no_grad();
        Tensor Draw(params long[] size) => rand(size, float32, generator: generator).mul_(2).sub_(1).to(shape.Type, device);
        Tensor input = Draw(batch, shape.Inputs, shape.Side, shape.Side), gradient = Draw(batch, shape.Outputs, shape.OutputSide, shape.OutputSide);
        Tensor weight = Draw(shape.Outputs, shape.Inputs, shape.Kernel, shape.Kernel).requires_grad_(true);

        static Tensor Exact(Tensor tensor) => tensor.detach().cpu().to(float64);
        Tensor columns = Reference.Columns(Exact(input), shape.Kernel, shape.Stride, shape.Padding);
        Tensor rows = Reference.Rows(Exact(weight)), coming = Exact(gradient).view(batch, shape.Outputs, pixels);
        Tensor expectedOutput = rows.matmul(columns).view(gradient.shape);
        Tensor expectedInput = Reference.Fold(rows.t().matmul(coming), shape.Side, shape.Kernel, shape.Stride, shape.Padding);

        // A sum of n products of two vectors is off by gamma_n times the product of their lengths at most (Cauchy and Schwarz).
        // What a pixel's gradient sums over are the gradients of the windows that it lies in.
        Rounding rounding = Rounding.OfProducts(shape.Type, shape.Device);
        static Tensor Longest(Tensor squares) => squares.max().sqrt();
        Tensor seen = Reference.Fold(coming.square().sum([1], keepdim: true).expand(batch, window, pixels), shape.Side, shape.Kernel, shape.Stride, shape.Padding);
        Tensor squares = rows.square().view(shape.Outputs, shape.Inputs, window), values = columns.square();
        (long ofSums, long ofFolds, long ofBatches) = PartialRoundings(shape, batch);
        Tensor Bound(long terms, long partial, Tensor lengths) => (rounding.Sum(terms) + (rounding.Result * partial)) * lengths;
        Tensor ofOutput = Bound(shape.Inputs * window, ofSums, Longest(squares.sum([1, 2])) * Longest(values.sum([1])));
        Tensor ofInput = Bound(shape.Outputs * window, ofFolds, Longest(squares.sum([0, 2])) * Longest(seen));
        Tensor ofWeight = Bound(batch * pixels, ofBatches, Longest(coming.square().sum([0, 2])) * Longest(values.sum([0, 2])));
        foreach (long images in (long[])[batch, 1])
        {
            using DisposeScope own = NewDisposeScope();
            MemoryFormat format = shape.Layout.Format;
            Tensor x = MemoryFormats.To(input.narrow(0, 0, images).clone(), format).requires_grad_(true), output;
            weight.grad = null;
            using (enable_grad())
            {
                output = Run(x, weight, shape, multiple);
                output.backward([MemoryFormats.To(gradient.narrow(0, 0, images), format)]);
            }
            Tensor expectedWeight = coming.narrow(0, 0, images).transpose(0, 1).reshape(shape.Outputs, -1)
                .matmul(columns.narrow(0, 0, images).permute(0, 2, 1).reshape(-1, rows.size(1))).view(weight.shape);
            (string, Tensor, Tensor, Tensor) Result(string what, Tensor found, Tensor expected, Tensor allowed) => (what, found, expected, rounding.Stored(allowed, expected));
            if (ArithmeticFault.FirstOf(
                Result("output", output, expectedOutput.narrow(0, 0, images), ofOutput), Result("input gradient", x.grad!, expectedInput.narrow(0, 0, images), ofInput),
                Result("weight gradient", weight.grad!, expectedWeight, ofWeight)) is ArithmeticFault fault) return fault;
        }
        return null;
    }

    /// <summary>
    /// How often sums of bfloat16 are rounded to it on the way, besides in the end, for the output, the input's gradient and the
    /// weights' gradient. oneDNN adds up in float32. libtorch's own code, which it takes on processors without AVX-512 and where
    /// oneDNN is switched off, rounds the gradient of every window and every step of their sum, and sums up weights' gradients image
    /// by image. Of cuDNN's algorithms some sum up parts in the type: a few are allowed.
    /// </summary>
    private static (long OfSums, long OfFolds, long OfBatches) PartialRoundings(ConvolutionShape shape, long batch)
    {
        if (shape.Device is not DeviceType.CPU) return (3, 3, 3);
        bool own = _oneDnnOff || !(Avx512BW.IsSupported && Avx512DQ.IsSupported);
        return own ? (0, 2L * shape.Kernel * shape.Kernel, batch) : (0, 0, 0);
    }
}
