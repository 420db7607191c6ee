using System.Runtime.Intrinsics.X86;
using Xunit;

namespace LoftHpc.Tests;

/// <summary>Programs on a machine that computes wrongly: what LoftHpc.BrokenMachine does to them before their Main.</summary>
internal static class BrokenMachine
{
    /// <summary>Variables for a program. What is broken for the tests themselves stays broken, on all ranks.</summary>
    /// <param name="what">What is broken: see the hook; with commas between.</param>
    /// <param name="rank">The only rank on which it is broken; null: on all.</param>
    public static Dictionary<string, string> With(string what, int? rank = null)
    {
        string? already = Environment.GetEnvironmentVariable("BROKEN_MACHINE");
        IEnumerable<string> items = what.Split(',').Select(item => rank is int one ? $"{item}@{one}" : item);
        return new Dictionary<string, string>
        {
            ["DOTNET_STARTUP_HOOKS"] = Path.Combine(AppContext.BaseDirectory, "broken-machine.dll"),
            ["BROKEN_MACHINE"] = string.Join(',', already is null ? items : items.Prepend(already)),
            // Small pieces of memory would come from a list that is not filled.
            ["GLIBC_TUNABLES"] = "glibc.malloc.tcache_count=0",
        };
    }

    /// <summary>Skips a test, with the reason, where the sizes of the caches cannot be taken from oneDNN, or do not matter to it.</summary>
    public static void SkipUnlessCachesMatter() => Skip.If(WhyCachesDoNotMatter() is not null, WhyCachesDoNotMatter());

    /// <summary>Null where the sizes of the caches can be taken from oneDNN, and matter to it.</summary>
    public static string? WhyCachesDoNotMatter()
    {
        string library = Path.Combine(TorchLibrary.Load().Folder, "libtorch_cpu.so");
        FileInfo file = new(library);
        long bytes = ((file.ResolveLinkTarget(returnFinalTarget: true) as FileInfo) ?? file).Length;
        if (bytes != global::LoftHpc.BrokenMachine.Faults.KnownLibraryBytes) return $"{library} is not libtorch 2.10.0 for the CPU";
        return Avx2.IsSupported ? null : "oneDNN blocks channels with AVX2 and AVX-512 only";
    }
}
