using System.Globalization;

namespace LoftHpc;

/// <summary>Memory of this process as the kernel counts it.</summary>
public static class ProcessMemory
{
    /// <summary>Most bytes that were ever resident (VmHWM), or since <see cref="RestartPeak"/>.</summary>
    public static long PeakBytes => Read("VmHWM:");

    /// <summary>Bytes that are resident now (VmRSS).</summary>
    public static long ResidentBytes => Read("VmRSS:");

    /// <summary>Makes <see cref="PeakBytes"/> count from what is resident now (man 5 proc: clear_refs).</summary>
    public static void RestartPeak() => File.WriteAllText("/proc/self/clear_refs", "5");

    /// <summary>From a line such as "VmHWM:   12345 kB".</summary>
    private static long Read(string name)
    {
        string line = File.ReadLines("/proc/self/status").First(l => l.StartsWith(name, StringComparison.Ordinal));
        return 1024 * long.Parse(line[name.Length..].Replace("kB", "", StringComparison.Ordinal), NumberStyles.AllowLeadingWhite | NumberStyles.AllowTrailingWhite, CultureInfo.InvariantCulture);
    }
}
