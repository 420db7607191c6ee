using System.Globalization;
using System.Runtime.InteropServices;

namespace LoftHpc;

/// <summary>Memory of this process, as the kernel and the C library count it.</summary>
public static partial class ProcessMemory
{
    /// <summary>Most bytes that were ever resident (VmHWM), or since <see cref="RestartPeak"/>.</summary>
    public static long PeakBytes => Read("VmHWM:");

    /// <summary>Bytes that are resident now (VmRSS).</summary>
    public static long ResidentBytes => Read("VmRSS:");

    /// <summary>Makes <see cref="PeakBytes"/> count from what is resident now (man 5 proc: clear_refs).</summary>
    public static void RestartPeak() => File.WriteAllText("/proc/self/clear_refs", "5");

    /// <summary>Bytes that native code has allocated and not freed, in all arenas of glibc; on the CPU libtorch takes its memory from there.</summary>
    public static long AllocatedBytes
    {
        get
        {
            MallocInfo info = ReadMallocInfo();
            return (long)(info.InUse + info.Mapped);
        }
    }

    /// <summary>From a line such as "VmHWM:   12345 kB".</summary>
    private static long Read(string name)
    {
        string line = File.ReadLines("/proc/self/status").First(l => l.StartsWith(name, StringComparison.Ordinal));
        return 1024 * long.Parse(line[name.Length..].Replace("kB", "", StringComparison.Ordinal), NumberStyles.AllowLeadingWhite | NumberStyles.AllowTrailingWhite, CultureInfo.InvariantCulture);
    }

    /// <summary>glibc's struct mallinfo2.</summary>
    [StructLayout(LayoutKind.Sequential)]
    private readonly struct MallocInfo
    {
        private readonly nuint _arena, _freeChunks, _fastChunks, _mappedBlocks;

        /// <summary>Bytes in blocks that are mapped one by one.</summary>
        public readonly nuint Mapped;

        private readonly nuint _unused, _fastBytes;

        /// <summary>Bytes in chunks that are in use.</summary>
        public readonly nuint InUse;

        private readonly nuint _freeBytes, _releasable;
    }

    [LibraryImport("libc", EntryPoint = "mallinfo2")]
    private static partial MallocInfo ReadMallocInfo();
}
