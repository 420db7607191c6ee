using System.Diagnostics;
using System.Runtime.CompilerServices;

namespace LoftHpc.Tests;

/// <summary>The source tree that the tests were built from, and its scripts.</summary>
internal static class Repository
{
    public static string Root { get; } = FindRoot();

    public static string File(params string[] parts) => Path.Combine([Root, .. parts]);

    /// <summary>Runs a program to its end, in the repository unless told otherwise; killed with its children on time-out.</summary>
    /// <param name="environment">On top of this process's; null removes a variable.</param>
    public static (int ExitCode, string Output, string Error) Run(
        string file, IEnumerable<string> arguments, IReadOnlyDictionary<string, string?>? environment = null,
        string? folder = null, int timeoutSeconds = 120)
    {
        ProcessStartInfo start = new(file, arguments)
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            RedirectStandardInput = true,
            WorkingDirectory = folder ?? Root,
        };
        foreach ((string name, string? value) in environment ?? new Dictionary<string, string?>())
        {
            if (value is null) start.Environment.Remove(name);
            else start.Environment[name] = value;
        }
        using Process process = Process.Start(start)!;
        process.StandardInput.Close();
        Task<string> output = process.StandardOutput.ReadToEndAsync(), error = process.StandardError.ReadToEndAsync();
        if (!process.WaitForExit(TimeSpan.FromSeconds(timeoutSeconds)))
        {
            process.Kill(entireProcessTree: true);
            throw new TimeoutException($"{file} {string.Join(' ', start.ArgumentList)} ran for more than {timeoutSeconds} s");
        }
        return (process.ExitCode, output.Result, error.Result);
    }

    /// <summary>Whether a program is on PATH, or where programs of the administrator lie.</summary>
    public static bool HasProgram(string name) =>
        $"{Environment.GetEnvironmentVariable("PATH")}:/usr/sbin:/sbin".Split(':').Any(folder => System.IO.File.Exists(Path.Combine(folder, name)));

    private static string FindRoot([CallerFilePath] string path = "") =>
        Path.GetFullPath(Path.Combine(Path.GetDirectoryName(path)!, "..", ".."));
}
