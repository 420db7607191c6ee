using System.Globalization;

namespace LoftHpc.Communication;

/// <summary>The processor of this host, as far as this process may use it.</summary>
/// <param name="Cores">Physical cores that the process may run on (its affinity mask), each by the number of its first hardware thread.</param>
/// <param name="ProcessorLimit">Processors that a container's or batch system's quota grants; null where there is no quota below the mask.</param>
public sealed record HostCores(IReadOnlyList<int> Cores, int? ProcessorLimit)
{
    /// <summary>This process's cores, read from /proc and /sys.</summary>
    public static HostCores Read()
    {
        int[] processors = AllowedProcessors("self");
        int limit = Environment.ProcessorCount;
        return new HostCores([.. processors.Select(CoreOf).Distinct()], limit < processors.Length ? limit : null);
    }

    /// <summary>The number of cores that the process which started this one may run on.</summary>
    public static int CountOfParent()
    {
        // The fourth field of stat is the parent; the second, the program's name in parentheses, may hold spaces.
        string stat = File.ReadAllText("/proc/self/stat");
        return AllowedProcessors(stat[(stat.LastIndexOf(')') + 2)..].Split(' ')[1]).Select(CoreOf).Distinct().Count();
    }

    /// <summary>
    /// Threads for one of the ranks of a host, so that all ranks together have no more threads than cores: a core that n
    /// ranks may run on counts 1/n for each of them, and a quota is shared out alike. At least 1.
    /// </summary>
    /// <param name="ranks">The cores of every rank of the host, by local rank.</param>
    public static int ThreadShare(IReadOnlyList<HostCores> ranks, int localRank)
    {
        Dictionary<int, int> users = [];
        foreach (int core in ranks.SelectMany(r => r.Cores)) users[core] = users.GetValueOrDefault(core) + 1;
        HostCores own = ranks[localRank];
        double share = own.Cores.Sum(core => 1.0 / users[core]);
        if (own.ProcessorLimit is int limit) share = Math.Min(share, (double)limit / ranks.Count);
        return Math.Max(1, (int)(share + 1e-9));
    }

    /// <summary>Numbers of a list as the kernel writes it, for example "0-3,8".</summary>
    internal static IEnumerable<int> ParseList(string list)
    {
        foreach (string range in list.Split(',', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries))
        {
            string[] ends = range.Split('-');
            int first = int.Parse(ends[0], CultureInfo.InvariantCulture), last = int.Parse(ends[^1], CultureInfo.InvariantCulture);
            for (int i = first; i <= last; i++) yield return i;
        }
    }

    /// <summary>One line: the limit (0: none), a space, the cores.</summary>
    internal string ToLine() => FormattableString.Invariant($"{ProcessorLimit ?? 0} ") + string.Join(',', Cores);

    internal static HostCores FromLine(string line)
    {
        string[] parts = line.Split(' ');
        int limit = int.Parse(parts[0], CultureInfo.InvariantCulture);
        return new HostCores([.. ParseList(parts[1])], limit == 0 ? null : limit);
    }

    private static int[] AllowedProcessors(string process)
    {
        const string key = "Cpus_allowed_list:";
        string? line = File.ReadLines($"/proc/{process}/status").FirstOrDefault(l => l.StartsWith(key, StringComparison.Ordinal));
        return line is null ? [.. Enumerable.Range(0, Environment.ProcessorCount)] : [.. ParseList(line[key.Length..])];
    }

    private static int CoreOf(int processor)
    {
        string siblings = FormattableString.Invariant($"/sys/devices/system/cpu/cpu{processor}/topology/thread_siblings_list");
        // Containers may hide /sys; every hardware thread then counts as a core.
        return File.Exists(siblings) ? ParseList(File.ReadAllText(siblings)).First() : processor;
    }
}
