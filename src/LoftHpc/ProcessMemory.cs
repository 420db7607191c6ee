using System.Globalization;
using System.Runtime.InteropServices;

namespace LoftHpc;

/// <summary>Memory of this process as the kernel counts it.</summary>
public static partial class ProcessMemory
{
    /// <summary>The peak before <see cref="GrowthDuring"/> made the kernel forget it.</summary>
    private static long _earlierPeak;

    /// <summary>Most bytes that were ever resident (VmHWM), or since <see cref="RestartPeak"/>.</summary>
    public static long PeakBytes => Math.Max(_earlierPeak, Read("VmHWM:"));

    /// <summary>Bytes that are resident now (VmRSS).</summary>
    public static long ResidentBytes => Read("VmRSS:");

    /// <summary>Makes <see cref="PeakBytes"/> count from what is resident now (man 5 proc: clear_refs).</summary>
    public static void RestartPeak()
    {
        ForgetPeak();
        _earlierPeak = 0;
    }

    /// <summary>
    /// Most bytes that were resident during some work above those before it, to some hundred KB: first what is free of the heap goes back to the
    /// kernel, so that what the work takes of it counts. <see cref="PeakBytes"/> stays what it is.
    /// </summary>
    /// <returns>Null: this kernel does not restart its count.</returns>
    public static long? GrowthDuring(Action work)
    {
        long earlier = PeakBytes;
        GC.Collect();
        _ = TrimHeap(0);
        try
        {
            ForgetPeak();
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            return null;
        }
        _earlierPeak = earlier;
        long before = ResidentBytes;
        work();
        return Math.Max(0, Read("VmHWM:") - before);
    }

    private static void ForgetPeak() => File.WriteAllText("/proc/self/clear_refs", "5");

    [LibraryImport("libc", EntryPoint = "malloc_trim")]
    private static partial int TrimHeap(nuint kept);

    /// <summary>From a line such as "VmHWM:   12345 kB".</summary>
    private static long Read(string name)
    {
        string line = File.ReadLines("/proc/self/status").First(l => l.StartsWith(name, StringComparison.Ordinal));
        return 1024 * long.Parse(line[name.Length..].Replace("kB", "", StringComparison.Ordinal), NumberStyles.AllowLeadingWhite | NumberStyles.AllowTrailingWhite, CultureInfo.InvariantCulture);
    }
}
