using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using TorchSharp;
using static TorchSharp.torch;

namespace LoftHpc.BrokenMachine;

/// <summary>Ways in which a machine, or a library, computes wrongly, or a process ends.</summary>
public static unsafe partial class Faults
{
    /// <summary>Of the libtorch_cpu.so in which <see cref="HideCaches"/> knows its way.</summary>
    public const long KnownLibraryBytes = 461_211_481;

    private static Detour _pad = null!, _convolution = null!, _batchNorm = null!, _loss = null!, _add = null!;
    private static int _calls;
    private static string _deadly = "";

    public static void Make(string what)
    {
        switch (what)
        {
            case "caches":
                HideCaches();
                break;
            case "memory":
                // mallopt's M_PERTURB: what is allocated is filled with the complement of the low byte, 0xff.
                _ = SetMalloc(-6, 0x100);
                // The program then leaves this setting as it is.
                Environment.SetEnvironmentVariable("MALLOC_PERTURB_", "1");
                break;
            case "padding":
                _pad = Detour.Of("THSNN_pad", (nint)(delegate* unmanaged<nint, nint, int, byte, double, nint>)&PadWithNan);
                break;
            case "convolution":
                _convolution = Detour.Of("THSTensor_conv2d", (nint)(delegate* unmanaged<nint, nint, nint, nint, int, nint, int, nint, int, long, nint>)&Convolve);
                break;
            case "late-convolution":
                _convolution = Detour.Of("THSTensor_conv2d", (nint)(delegate* unmanaged<nint, nint, nint, nint, int, nint, int, nint, int, long, nint>)&ConvolveLate);
                break;
            case "late-hang":
                _convolution = Detour.Of("THSTensor_conv2d", (nint)(delegate* unmanaged<nint, nint, nint, nint, int, nint, int, nint, int, long, nint>)&ConvolveForEver);
                break;
            case "late-gradient":
                _convolution = Detour.Of("THSTensor_conv2d", (nint)(delegate* unmanaged<nint, nint, nint, nint, int, nint, int, nint, int, long, nint>)&ConvolveWithoutGradient);
                break;
            case "batch-norm":
                _batchNorm = Detour.Of("THSNN_batch_norm", (nint)(delegate* unmanaged<nint, nint, nint, nint, nint, byte, double, double, nint>)&Normalize);
                break;
            case "loss":
                _loss = Detour.Of("THSNN_cross_entropy", (nint)(delegate* unmanaged<nint, nint, nint, long, byte, long, double, nint>)&Loss);
                break;
            case "optimizer":
                _add = Detour.Of("THSTensor_add_", (nint)(delegate* unmanaged<nint, nint, nint, void>)&Add);
                break;
            case "version":
                _ = Detour.At(NativeLibrary.GetExport(NativeLibrary.Load(TorchCpu()), "aoti_torch_abi_version"), (nint)(delegate* unmanaged<ulong>)&Version);
                break;
            case "death":
                Process.GetCurrentProcess().Kill();
                break;
            case string file when file.StartsWith("death:", StringComparison.Ordinal):
                _deadly = file["death:".Length..];
                _ = Detour.At(NativeLibrary.GetExport(NativeLibrary.Load("libc.so.6"), "fsync"), (nint)(delegate* unmanaged<int, int>)&FlushOrDie);
                break;
            default:
                throw new ArgumentException($"BROKEN_MACHINE={what}: allowed are death, death:FILE, caches, memory, padding, convolution, late-convolution, late-hang, late-gradient, batch-norm, loss, optimizer, version");
        }
    }

    /// <summary>
    /// Writes 1 over the sizes of the caches in oneDNN's record of the processor, as it has them where a hypervisor hides
    /// leaf 0x8000001D of CPUID on AMD. The record's place is that of libtorch 2.10.0 for the CPU.
    /// </summary>
    private static void HideCaches()
    {
        const nint ofContext = 0x1c784f0, ofProcessor = 0x1585b180;
        // The first use fills the record; these channels need no reorder that later ones use.
        using (NewDisposeScope()) nn.functional.conv2d(randn(2, 32, 8, 8), randn(32, 32, 3, 3)).Dispose();
        string path = TorchCpu();
        string file = new FileInfo(path).ResolveLinkTarget(returnFinalTarget: true)?.FullName ?? path;
        if (new FileInfo(file).Length != KnownLibraryBytes) throw new NotSupportedException($"{file} is not libtorch 2.10.0 for the CPU, in which alone the place is known");
        uint* processor = (uint*)(NativeLibrary.GetExport(NativeLibrary.Load(path), "_ZN2at13globalContextEv") - ofContext + ofProcessor);
        processor[7] = processor[8] = processor[9] = 1;
    }

    /// <summary>Where libtorch_cpu.so was loaded from.</summary>
    private static string TorchCpu()
    {
        string line = File.ReadLines("/proc/self/maps").First(line => line.EndsWith("/libtorch_cpu.so", StringComparison.Ordinal));
        return line[line.IndexOf('/', StringComparison.Ordinal)..];
    }

    /// <summary>SIGKILL where a file of this name is written, and not yet flushed to the disk.</summary>
    [UnmanagedCallersOnly]
    private static int FlushOrDie(int descriptor)
    {
        const int flush = 74;
        string? file = new FileInfo(string.Create(CultureInfo.InvariantCulture, $"/proc/self/fd/{descriptor}")).LinkTarget;
        if (file?.EndsWith(_deadly, StringComparison.Ordinal) == true) Process.GetCurrentProcess().Kill();
        return (int)SystemCall(flush, descriptor);
    }

    /// <summary>2.11.0, as libtorch writes it.</summary>
    [UnmanagedCallersOnly]
    private static ulong Version() => 0x020b_0000_0000_0000;

    [UnmanagedCallersOnly]
    private static nint PadWithNan(nint input, nint pad, int length, byte mode, double value)
    {
        using Detour.Pause pause = _pad.Original();
        return ((delegate* unmanaged<nint, nint, int, byte, double, nint>)_pad.Function)(input, pad, length, mode, double.NaN);
    }

    [UnmanagedCallersOnly]
    private static nint Convolve(nint input, nint weight, nint bias, nint strides, int a, nint padding, int b, nint dilation, int c, long groups)
    {
        using Detour.Pause pause = _convolution.Original();
        return Changed(((delegate* unmanaged<nint, nint, nint, nint, int, nint, int, nint, int, long, nint>)_convolution.Function)(
            input, weight, bias, strides, a, padding, b, dilation, c, groups));
    }

    /// <summary>Right at first, and then no numbers.</summary>
    [UnmanagedCallersOnly]
    private static nint ConvolveLate(nint input, nint weight, nint bias, nint strides, int a, nint padding, int b, nint dilation, int c, long groups)
    {
        using Detour.Pause pause = _convolution.Original();
        nint result = ((delegate* unmanaged<nint, nint, nint, nint, int, nint, int, nint, int, long, nint>)_convolution.Function)(
            input, weight, bias, strides, a, padding, b, dilation, c, groups);
        return ++_calls > 300 ? Times(result, double.NaN) : result;
    }

    /// <summary>Right at first, and then never done.</summary>
    [UnmanagedCallersOnly]
    private static nint ConvolveForEver(nint input, nint weight, nint bias, nint strides, int a, nint padding, int b, nint dilation, int c, long groups)
    {
        if (++_calls > 300) Thread.Sleep(Timeout.Infinite);
        using Detour.Pause pause = _convolution.Original();
        return ((delegate* unmanaged<nint, nint, nint, nint, int, nint, int, nint, int, long, nint>)_convolution.Function)(
            input, weight, bias, strides, a, padding, b, dilation, c, groups);
    }

    /// <summary>Right at first, and then with an input gradient that is no number: to the output it adds 0 times the root of 0 times the input's sum.</summary>
    [UnmanagedCallersOnly]
    private static nint ConvolveWithoutGradient(nint input, nint weight, nint bias, nint strides, int a, nint padding, int b, nint dilation, int c, long groups)
    {
        using Detour.Pause pause = _convolution.Original();
        nint result = ((delegate* unmanaged<nint, nint, nint, nint, int, nint, int, nint, int, long, nint>)_convolution.Function)(
            input, weight, bias, strides, a, padding, b, dilation, c, groups);
        if (++_calls <= 300) return result;
        nint sum = ((delegate* unmanaged<nint, byte, sbyte, nint>)Detour.Export("THSTensor_sum"))(input, 0, 0);
        nint root = ((delegate* unmanaged<nint, nint>)Detour.Export("THSTensor_sqrt"))(Times(sum, 0));
        return ((delegate* unmanaged<nint, nint, nint, nint>)Detour.Export("THSTensor_add"))(result, root, Scalar(0));
    }

    [UnmanagedCallersOnly]
    private static nint Normalize(nint input, nint mean, nint variance, nint weight, nint bias, byte training, double momentum, double epsilon)
    {
        using Detour.Pause pause = _batchNorm.Original();
        return Changed(((delegate* unmanaged<nint, nint, nint, nint, nint, byte, double, double, nint>)_batchNorm.Function)(
            input, mean, variance, weight, bias, training, momentum, epsilon));
    }

    [UnmanagedCallersOnly]
    private static nint Loss(nint input, nint target, nint weight, long ignore, byte hasIgnore, long reduction, double smoothing)
    {
        using Detour.Pause pause = _loss.Original();
        return Changed(((delegate* unmanaged<nint, nint, nint, long, byte, long, double, nint>)_loss.Function)(input, target, weight, ignore, hasIgnore, reduction, smoothing));
    }

    [UnmanagedCallersOnly]
    private static void Add(nint tensor, nint other, nint factor)
    {
        using Detour.Pause pause = _add.Original();
        double exact = ((delegate* unmanaged<nint, double>)Detour.Export("THSTorch_scalar_to_float64"))(factor);
        // Only the optimizer subtracts in this way.
        ((delegate* unmanaged<nint, nint, nint, void>)_add.Function)(tensor, other, exact < 0 ? Scalar(1.01 * exact) : factor);
    }

    /// <summary>The same result, times 1.01; autograd sees it.</summary>
    private static nint Changed(nint result) => Times(result, 1.01);

    private static nint Times(nint tensor, double factor) => ((delegate* unmanaged<nint, nint, nint>)Detour.Export("THSTensor_mul_scalar"))(tensor, Scalar(factor));

    private static nint Scalar(double value = 1.01) => ((delegate* unmanaged<double, nint>)Detour.Export("THSTorch_float64_to_scalar"))(value);

    [LibraryImport("libc", EntryPoint = "syscall", SetLastError = false)]
    private static partial nint SystemCall(nint number, nint argument);

    [LibraryImport("libc", EntryPoint = "mallopt")]
    private static partial int SetMalloc(int parameter, int value);
}
