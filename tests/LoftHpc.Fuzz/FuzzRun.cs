using System.Diagnostics;
using System.Globalization;

namespace LoftHpc.Fuzz;

/// <summary>Tries formats one after the other, each in a process of its own, and sums up.</summary>
internal static class FuzzRun
{
    private const int MaxCrashes = 10;

    private const string FailuresFolder = "failures";

    /// <returns>The exit code: 0 where nothing failed.</returns>
    public static int Run(int count, int seed, IReadOnlyList<FuzzFormat> formats)
    {
        string folder = Directory.CreateTempSubdirectory("lofthpc-fuzz-").FullName;
        List<string> lines = [];
        int failures = 0;
        foreach (FuzzFormat format in formats)
        {
            Stopwatch clock = Stopwatch.StartNew();
            FuzzState done = Run(format, count, seed, Path.Combine(folder, format.Name));
            failures += done.Failed;
            lines.Add(string.Create(CultureInfo.InvariantCulture,
                $"{format.Name,-12}{count,8} inputs{done.Accepted,8} accepted{done.Refused,8} refused{done.Failed,5} failed{clock.Elapsed.TotalSeconds,8:F1} s{done.PeakBytes / 1e6,8:F0} MB"));
            Console.WriteLine(lines[^1]);
        }
        string[] beside = [.. Directory.EnumerateFileSystemEntries(folder).Select(Path.GetFileName).Except([.. formats.Select(format => format.Name), FailuresFolder]).OfType<string>()];
        if (beside.Length > 0) Console.WriteLine($"written outside of the folders of the inputs: {string.Join(", ", beside)}");
        failures += beside.Length;
        if (failures == 0) Directory.Delete(folder, recursive: true);
        else Console.WriteLine($"{failures} failures; the inputs are in {Path.Combine(folder, FailuresFolder)}");
        return failures == 0 ? 0 : 1;
    }

    /// <summary>Keeps an input that failed, and says how to make it again.</summary>
    public static void Keep(FuzzFormat format, int seed, string sandbox, string problem)
    {
        string kept = Path.Combine(Path.GetDirectoryName(sandbox)!, FailuresFolder, string.Create(CultureInfo.InvariantCulture, $"{format.Name}-{seed}"));
        Directory.CreateDirectory(Path.GetDirectoryName(kept)!);
        if (!Directory.Exists(kept)) Directory.Move(Path.Combine(sandbox, FuzzChild.InputFolder), kept);
        Console.WriteLine($"FAILED {format.Name}: {problem}\n  input: {kept}; again: make fuzz COUNT=1 SEED={seed} FORMAT={format.Name}");
    }

    private static FuzzState Run(FuzzFormat format, int count, int seed, string sandbox)
    {
        Directory.CreateDirectory(sandbox);
        string state = Path.Combine(sandbox, FuzzChild.StateFile);
        int crashes = 0;
        for (int first = 0; ; first = FuzzState.Read(state).Next)
        {
            ProcessStartInfo start = new(Environment.ProcessPath!, ["--child", format.Name, $"{count}", $"{seed}", $"{first}", sandbox]);
            using Process child = Process.Start(start)!;
            child.WaitForExit();
            FuzzState done = File.Exists(state) ? FuzzState.Read(state) : throw new InvalidOperationException($"the process ended with {child.ExitCode} before the first input");
            if (child.ExitCode == 0) return done;
            Keep(format, seed + done.Next, sandbox, $"the process ended with {child.ExitCode}");
            done = done with { Next = done.Next + 1, Refused = done.Refused + 1, Failed = done.Failed + 1 };
            done.Write(state);
            if (++crashes >= MaxCrashes || done.Next >= count) return done;
        }
    }
}
