using System.Reflection;
using System.Runtime.InteropServices;
using System.Text.Json;

namespace LoftHpc.Results;

/// <summary>What this program was built from.</summary>
/// <param name="Version">The program's.</param>
/// <param name="GitCommit">"unknown" where it was built without git.</param>
/// <param name="GitDirty">True: sources differed from that commit; null: unknown.</param>
/// <param name="Runtime">Of .NET, as it runs.</param>
/// <param name="OperatingSystem">As it runs.</param>
/// <param name="Packages">Versions of the packages that it was built with, by name.</param>
public sealed record BuildRecord(
    string Version, string GitCommit, bool? GitDirty, string Runtime, string OperatingSystem, IReadOnlyDictionary<string, string> Packages)
{
    /// <summary>This program.</summary>
    public static BuildRecord Current { get; } = Read();

    private static BuildRecord Read()
    {
        Assembly assembly = typeof(BuildRecord).Assembly;
        // The SDK writes "version+commit" where it finds a git repository; the build adds whether it was dirty.
        string[] version = assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()!.InformationalVersion.Split('+', 2);
        string? dirty = assembly.GetCustomAttributes<AssemblyMetadataAttribute>().FirstOrDefault(a => a.Key == "GitDirty")?.Value;
        return new BuildRecord(
            version[0], version.Length > 1 ? version[1] : "unknown", bool.TryParse(dirty, out bool value) ? value : null,
            RuntimeInformation.FrameworkDescription, RuntimeInformation.OSDescription, ReadPackages());
    }

    /// <summary>The packages that the host resolved, from the program's .deps.json; empty where there is no such file.</summary>
    private static SortedDictionary<string, string> ReadPackages()
    {
        SortedDictionary<string, string> packages = new(StringComparer.Ordinal);
        string? path = (AppContext.GetData("APP_CONTEXT_DEPS_FILES") as string)?.Split(';')[0];
        if (path is null || !File.Exists(path)) return packages;
        using JsonDocument dependencies = JsonDocument.Parse(File.ReadAllBytes(path));
        foreach (JsonProperty library in dependencies.RootElement.GetProperty("libraries").EnumerateObject())
        {
            if (library.Value.GetProperty("type").GetString() == "package" && library.Name.Split('/') is [string name, string number])
                packages[name] = number;
        }
        return packages;
    }
}
