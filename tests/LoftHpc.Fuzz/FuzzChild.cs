using System.Diagnostics;
using System.Globalization;

namespace LoftHpc.Fuzz;

/// <summary>How far a process has come: kept in a file, since it may crash.</summary>
/// <param name="Next">The input that is tried.</param>
internal sealed record FuzzState(int Next, int Accepted, int Refused, int Failed, long PeakBytes)
{
    public static FuzzState Read(string path)
    {
        string[] parts = File.ReadAllText(path).Split(' ');
        int[] counts = [.. parts[..4].Select(part => int.Parse(part, CultureInfo.InvariantCulture))];
        return new FuzzState(counts[0], counts[1], counts[2], counts[3], long.Parse(parts[4], CultureInfo.InvariantCulture));
    }

    public void Write(string path) => File.WriteAllText(path, string.Create(CultureInfo.InvariantCulture, $"{Next} {Accepted} {Refused} {Failed} {PeakBytes}"));
}

/// <summary>
/// A process that tries the inputs of one format. Input n of seed s is a function of s + n, whatever came before. Each lies in
/// a folder before it is tried, and is copied beside it where it fails.
/// </summary>
internal static class FuzzChild
{
    /// <summary>Bounds for one input, and for the process.</summary>
    public const long MaxBytes = 1L << 30;

    public const string InputFolder = "input", WorkFolder = "work", StateFile = "state";

    private const int MaxFailures = 20;

    /// <summary>Of the processor for one input, and of the clock: a busy machine is not the input's fault, but one that waits gets no processor.</summary>
    private static readonly TimeSpan MaxWork = TimeSpan.FromSeconds(10), MaxWait = TimeSpan.FromSeconds(30);

    /// <summary>When the input that is tried was begun, by the clock and by the processor's time of this process; 0: none is tried.</summary>
    private static long _begun, _workBefore;

    /// <param name="first">The first input that is tried.</param>
    /// <param name="sandbox">Holds everything; the working folder is in it.</param>
    /// <returns>0 where all inputs were tried, whatever came of them.</returns>
    public static int Run(FuzzFormat format, int count, int seed, int first, string sandbox)
    {
        string input = Path.Combine(sandbox, InputFolder), state = Path.Combine(sandbox, StateFile);
        Directory.CreateDirectory(Path.Combine(sandbox, WorkFolder));
        Environment.CurrentDirectory = Path.Combine(sandbox, WorkFolder);
        TorchLibrary.Load();
        Watch();
        FuzzState done = first == 0 ? new FuzzState(0, 0, 0, 0, 0) : FuzzState.Read(state);
        for (int number = first; number < count; number++)
        {
            Empty(input);
            format.Make(new Mutator(seed + number), input);
            Tidy();
            done = done with { Next = number };
            done.Write(state);
            Verdict verdict = Judge(format, input);
            string? problem = verdict.Problem ?? Outside(sandbox);
            long peak = ProcessMemory.PeakBytes;
            if (peak > MaxBytes) problem ??= $"{peak} bytes of memory";
            done = done with
            {
                Accepted = done.Accepted + (verdict.Accepted ? 1 : 0),
                Refused = done.Refused + (verdict.Accepted ? 0 : 1),
                Failed = done.Failed + (problem is null ? 0 : 1),
                PeakBytes = Math.Max(done.PeakBytes, peak),
            };
            if (problem is null) continue;
            FuzzRun.Keep(format, seed + number, sandbox, problem);
            if (done.Failed >= MaxFailures) break;
        }
        (done with { Next = count }).Write(state);
        return 0;
    }

    /// <summary>Tries inputs that lie in a folder, and says of each what came of it.</summary>
    /// <param name="folder">Of folders, one an input.</param>
    public static int Replay(FuzzFormat format, string folder)
    {
        TorchLibrary.Load();
        Watch();
        foreach (string input in Directory.EnumerateDirectories(folder).Order(StringComparer.Ordinal))
        {
            Console.Write($"{Path.GetFileName(input)}: ");
            Console.Out.Flush();
            Verdict verdict = Judge(format, input);
            string? problem = verdict.Problem ?? (ProcessMemory.PeakBytes > MaxBytes ? $"{ProcessMemory.PeakBytes} bytes of memory" : null);
            Console.WriteLine(problem ?? (verdict.Accepted ? "accepted" : "refused"));
        }
        return 0;
    }

    private static Verdict Judge(FuzzFormat format, string input)
    {
        Volatile.Write(ref _workBefore, Work().Ticks);
        Volatile.Write(ref _begun, Stopwatch.GetTimestamp());
        Verdict verdict = format.Judge(input);
        Volatile.Write(ref _begun, 0);
        return verdict;
    }

    private static TimeSpan Work() => Environment.CpuUsage.TotalTime;

    /// <summary>Ends the process where an input takes too long or too much. It may sit in native code, and then nothing else ends it.</summary>
    private static void Watch()
    {
        // A format may put something else in the console's place.
        TextWriter console = Console.Error;
        Thread watchdog = new(() =>
        {
            while (true)
            {
                Thread.Sleep(20);
                long begun = Volatile.Read(ref _begun);
                bool late = begun != 0
                    && (Stopwatch.GetElapsedTime(begun) > MaxWait || Work() - TimeSpan.FromTicks(Volatile.Read(ref _workBefore)) > MaxWork);
                if (!late && ProcessMemory.ResidentBytes < MaxBytes * 3 / 2) continue;
                console.WriteLine(late ? $"an input took more than {MaxWork.TotalSeconds} s of work or {MaxWait.TotalSeconds} s of waiting" : $"an input took {ProcessMemory.ResidentBytes} bytes of memory");
                Process.GetCurrentProcess().Kill();
            }
        })
        { IsBackground = true };
        watchdog.Start();
    }

    /// <summary>What was written beside the input and the working folder.</summary>
    private static string? Outside(string sandbox) =>
        Directory.EnumerateFileSystemEntries(sandbox).Select(Path.GetFileName).Except([InputFolder, WorkFolder, StateFile]).FirstOrDefault() is string name
            ? $"{name} was written outside of the folder" : null;

    /// <summary>What earlier inputs left, and what it took to make this one, is not this one's memory.</summary>
    private static void Tidy()
    {
        if (ProcessMemory.PeakBytes <= MaxBytes / 4) return;
        // Aggressive: what is free goes back to the system, or it would still count.
        GC.Collect(GC.MaxGeneration, GCCollectionMode.Aggressive, blocking: true, compacting: true);
        ProcessMemory.RestartPeak();
    }

    private static void Empty(string folder)
    {
        if (Directory.Exists(folder)) Directory.Delete(folder, recursive: true);
        Directory.CreateDirectory(folder);
    }
}
