using System.Runtime.InteropServices;
using TorchSharp;
using static TorchSharp.torch;

namespace LoftHpc.Arithmetic;

/// <summary>
/// Makes memory that nobody has written show: while it lasts, most of what is allocated holds NaN. Code that reads what was
/// never written gives the right result wherever the memory happens to hold zeros, and may do so for years.
/// </summary>
internal sealed partial class NanMemory : IDisposable
{
    /// <summary>glibc's M_PERTURB.</summary>
    private const int Perturb = -6;

    /// <summary>
    /// glibc fills what it allocates with the complement of the low byte, 0xff: NaN in every floating-point type. The bit
    /// above it keeps the whole from being zero, which would mean off. (What a thread has just freed in small pieces it gives
    /// out again unfilled.)
    /// </summary>
    private const int FillWithOnes = 0x100;

    private static readonly int[] BlockBytes = [1 << 12, 1 << 15, 1 << 18, 1 << 21, 1 << 23];

    private NanMemory()
    {
    }

    /// <summary>Where the user has glibc fill memory in his own way, nothing is changed.</summary>
    private static bool IsSetByUser => Environment.GetEnvironmentVariable("MALLOC_PERTURB_") is not null
        || Environment.GetEnvironmentVariable("GLIBC_TUNABLES")?.Contains("malloc.perturb", StringComparison.Ordinal) == true;

    /// <summary>Fills and frees blocks of several sizes on a device, and has the host's allocations filled until it is disposed.</summary>
    public static NanMemory Begin(Device device)
    {
        using DisposeScope scope = NewDisposeScope();
        // All at once, so that each block is another piece of memory.
        // NaN of bfloat16, two of which are one of float32.
        foreach (int bytes in BlockBytes) full([bytes / sizeof(short)], float.NaN, bfloat16, device);
        if (!IsSetByUser) _ = SetMalloc(Perturb, FillWithOnes);
        return new NanMemory();
    }

    public void Dispose()
    {
        if (!IsSetByUser) _ = SetMalloc(Perturb, 0);
    }

    [LibraryImport("libc", EntryPoint = "mallopt")]
    private static partial int SetMalloc(int parameter, int value);
}
