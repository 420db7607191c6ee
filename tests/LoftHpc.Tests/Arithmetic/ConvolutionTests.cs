using LoftHpc.Arithmetic;
using LoftHpc.Configuration;
using TorchSharp;
using Xunit;
using static TorchSharp.torch;

namespace LoftHpc.Tests.Arithmetic;

/// <summary>Convolution, its reference and the bounds of rounding against cases worked by hand.</summary>
public class ConvolutionTests
{
    public static TheoryData<string> Ways => ["libtorch", "definition"];

    /// <summary>
    /// Input 1 2 3 / 4 5 6 / 7 8 9, filters 1 0 / 0 -1 and 0 1 / 1 0: the first gives 1 - 5, 2 - 6, 4 - 8 and 5 - 9, the second
    /// 2 + 4, 3 + 5, 5 + 7 and 6 + 8.
    /// </summary>
    [Theory]
    [MemberData(nameof(Ways))]
    public void Two_filters_on_one_channel(string way)
    {
        using DisposeScope scope = NewDisposeScope();
        Tensor output = Convolve(way, Image(), Filters(), stride: 1, padding: 0);
        Assert.Equal([1, 2, 2, 2], output.shape);
        Assert.Equal([-4, -4, -4, -4, 6, 8, 12, 14], Values(output));
    }

    /// <summary>With a border of zeros and every second window: the windows at (0,0), (0,2), (2,0), (2,2) of the padded 5 x 5 image.</summary>
    [Theory]
    [MemberData(nameof(Ways))]
    public void Stride_and_padding(string way)
    {
        using DisposeScope scope = NewDisposeScope();
        // Windows 00/01, 00/23, 04/07, 56/89: the first filter takes upper left minus lower right, the second the other two.
        Assert.Equal([-1, -3, -7, 5 - 9, 0, 2, 4, 6 + 8], Values(Convolve(way, Image(), Filters(), stride: 2, padding: 1)));
    }

    /// <summary>Two channels are summed over: the second is ten times the first.</summary>
    [Theory]
    [MemberData(nameof(Ways))]
    public void Channels_are_summed_over(string way)
    {
        using DisposeScope scope = NewDisposeScope();
        Tensor input = cat([Image(), Image() * 10], 1), weight = cat([Filters().narrow(0, 0, 1), Filters().narrow(0, 1, 1)], 1);
        Assert.Equal([-4 + 60, -4 + 80, -4 + 120, -4 + 140], Values(Convolve(way, input, weight, stride: 1, padding: 0)));
    }

    /// <summary>
    /// Of the sum of the first filter's output: each pixel's gradient counts the windows that it lies upper left in, less those
    /// that it lies lower right in; the filter's is the sum of the pixels that each weight meets.
    /// </summary>
    [Theory]
    [MemberData(nameof(Ways))]
    public void Gradients(string way)
    {
        using DisposeScope scope = NewDisposeScope();
        Tensor input = Image().requires_grad_(true), weight = Filters().narrow(0, 0, 1).clone().requires_grad_(true);
        Convolve(way, input, weight, stride: 1, padding: 0).sum().backward();
        Assert.Equal([1, 1, 0, 1, 0, -1, 0, -1, -1], Values(input.grad!));
        Assert.Equal([1 + 2 + 4 + 5, 2 + 3 + 5 + 6, 4 + 5 + 7 + 8, 5 + 6 + 8 + 9], Values(weight.grad!));
    }

    [Fact]
    public void Nothing_is_made_of_no_filters_and_zeros_of_no_channels()
    {
        using DisposeScope scope = NewDisposeScope();
        Assert.Equal([2, 0, 2, 2], Reference.Convolve(ones(2, 3, 4, 4), ones(0, 3, 3, 3), 1, 0).shape);
        Tensor none = Reference.Convolve(ones(2, 0, 4, 4), ones(5, 0, 3, 3), 1, 0);
        Assert.Equal([2, 5, 2, 2], none.shape);
        Assert.All(Values(none), value => Assert.Equal(0, value));
    }

    /// <summary>gamma_n = n u / (1 - n u), with u = 2^-24 or 2^-53, and the same of the float64 reference.</summary>
    [Fact]
    public void Bounds_of_rounding()
    {
        const double of32 = 5.96050000488761e-6, of64 = 1.1102230246251688e-14;
        Assert.Equal(of32 + of64, Rounding.Of(float32).Sum(100), 1e-13);
        Assert.Equal(2 * of64, Rounding.Of(float64).Sum(100), 1e-23);
        Assert.Equal(Rounding.Of(float32).Sum(100), Rounding.OfProducts(float32, DeviceType.CPU).Sum(100));
    }

    [Theory]
    [InlineData(0.5, 0.4, null)]
    [InlineData(0.5, 0.6, "second off by 0.6 where rounding allows 0.5")]
    [InlineData(0.5, double.NaN, "second off by NaN where rounding allows 0.5")]
    public void The_first_fault_is_named_and_NaN_is_one(double allowed, double off, string? fault)
    {
        using DisposeScope scope = NewDisposeScope();
        Tensor right = tensor([1.0, 2.0]), second = tensor([1.0, 2.0 + off]);
        Assert.Equal(fault, ArithmeticFault.FirstOf(("first", right, right, tensor(0.1)), ("second", second, right, tensor(allowed)))?.ToString());
    }

    /// <summary>One bound for each channel: what one may be off by is no excuse for another.</summary>
    [Fact]
    public void Each_channel_has_its_own_bound()
    {
        using DisposeScope scope = NewDisposeScope();
        Tensor right = zeros(2, 3, 4, dtype: float64), off = zeros(2, 3, 4, dtype: float64), allowed = tensor([1.0, 0.1, 1e-3]).view(1, 3, 1);
        off[0, 0, 1] = 0.9;
        off[1, 1, 2] = 0.11;
        off[1, 2, 3] = -0.02;
        Assert.Equal("x off by 0.02 where rounding allows 0.001", ArithmeticFault.FirstOf(("x", off, right, allowed))?.ToString());
        off[1, 2, 3] = 0;
        Assert.Equal("x off by 0.11 where rounding allows 0.1", ArithmeticFault.FirstOf(("x", off, right, allowed))?.ToString());
        off[1, 1, 2] = 0;
        Assert.Null(ArithmeticFault.FirstOf(("x", off, right, allowed)));
    }

    /// <summary>On any machine, repaired or not; the multiples of 16, 8 and of neither, and the strides.</summary>
    [Theory]
    [InlineData(3, 16, 3, 1)]
    [InlineData(16, 24, 3, 2)]
    [InlineData(5, 7, 1, 1)]
    [InlineData(48, 80, 3, 2)]
    [InlineData(1, 64, 7, 2)]
    public void Every_convolution_is_right_here_or_is_made_right(int inputs, int outputs, int kernel, int stride)
    {
        foreach (ActivationLayout layout in from type in new[] { float32, bfloat16, float64 } from format in Enum.GetValues<MemoryFormat>() select new ActivationLayout(type, format))
        {
            ConvolutionShape shape = new(inputs, outputs, kernel, stride, kernel / 2, 14, layout, DeviceType.CPU);
            Assert.Null(Convolution.CheckAndRepair(shape, CPU).Fault);
            Assert.Null(Convolution.CheckAgain(shape, CPU));
        }
    }

    [Fact]
    public void The_multiple_says_with_how_many_channels_it_is_computed()
    {
        ConvolutionShape shape = new(5, 7, 3, 1, 1, 11, new ActivationLayout(float32, MemoryFormat.Contiguous), DeviceType.CPU);
        (int multiple, _) = Convolution.CheckAndRepair(shape, CPU);
        Assert.Equal(multiple == 1 ? (5, 7) : (multiple, multiple), Convolution.ChannelsOf(shape));
    }

    private static Tensor Image() => arange(1, 10, dtype: float32).view(1, 1, 3, 3);

    private static Tensor Filters() => tensor(new float[] { 1, 0, 0, -1, 0, 1, 1, 0 }).view(2, 1, 2, 2);

    private static Tensor Convolve(string way, Tensor input, Tensor weight, int stride, int padding) =>
        way == "libtorch" ? Convolution.Apply("test", input, weight, stride, padding, MemoryFormat.Contiguous) : Reference.Convolve(input, weight, stride, padding);

    private static double[] Values(Tensor values) => values.detach().to(float64).data<double>().ToArray();
}
