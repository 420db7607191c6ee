using Xunit;

namespace LoftHpc.Tests.Build;

/// <summary>What the build does to the native libraries.</summary>
public sealed class NativeLibraryTests
{
    private const string Library = "libLibTorchSharp.so";

    [SkippableFact]
    public void Only_the_copy_of_TorchSharps_library_is_adapted_by_one_flag_and_only_where_it_is_needed()
    {
        string output = Path.Combine(AppContext.BaseDirectory, Library);
        string package = Path.Combine(PackageFolder(), "torchsharp", "0.107.0", "runtimes", "linux-x64", "native", Library);
        Skip.IfNot(File.Exists(package), $"no package cache at {PackageFolder()}");

        byte[] ours = File.ReadAllBytes(output), original = File.ReadAllBytes(package);
        Assert.Equal(original.Length, ours.Length);
        int[] changed = [.. Enumerable.Range(0, ours.Length).Where(i => ours[i] != original[i])];
        string standardLibrary = TorchLibrary.MappedPath("libstdc++.so.6");
        bool needed = File.ReadAllBytes(standardLibrary).AsSpan().IndexOf("GLIBCXX_3.4.32\0"u8) < 0;
        if (needed)
        {
            // VER_FLG_WEAK in the low byte of vna_flags.
            int flag = Assert.Single(changed);
            Assert.Equal(0, original[flag]);
            Assert.Equal(2, ours[flag]);
            // The package's time stamp, so that the next build does not copy it again.
            Assert.Equal(File.GetLastWriteTimeUtc(package), File.GetLastWriteTimeUtc(output));
        }
        else
        {
            Assert.Empty(changed);
        }
    }

    [SkippableFact]
    public void A_build_without_libtorch_takes_it_from_a_folder_that_the_user_names()
    {
        string folder = TorchLibrary.Load().Folder;
        string project = Repository.File("src", "LoftHpc");
        (int exitCode, string output, _) = Repository.Run(
            "dotnet", ["build", project, "-c", "Release", "-p:Device=external", "-v", "quiet", "--nologo"], timeoutSeconds: 300);
        Assert.True(exitCode == 0, output);
        string built = Path.Combine(project, "bin", "external", "Release", "net10.0", "linux-x64");
        Assert.False(File.Exists(Path.Combine(built, "libtorch_cpu.so")));
        Assert.True(File.Exists(Path.Combine(built, Library)));

        (int, string Output, string) Doctor(string? named, string? path) => Repository.Run(
            Path.Combine(built, "lofthpc"), ["doctor"],
            new Dictionary<string, string?> { [TorchLibrary.FolderVariable] = named, ["LD_LIBRARY_PATH"] = path, ["OMP_NUM_THREADS"] = "1" });

        Assert.Contains($"2.10 in {folder} (LOFTHPC_LIBTORCH)", Doctor(folder, null).Output, StringComparison.Ordinal);
        Assert.Contains($"2.10 in {folder} (found by the dynamic loader", Doctor(null, folder).Output, StringComparison.Ordinal);

        (int code, string text, _) = Doctor(null, null);
        Assert.Equal(ExitCodes.Environment, code);
        Assert.Contains("is not found by the dynamic loader; name the folder of libtorch 2.10 in LOFTHPC_LIBTORCH",
            Assert.Single(text.Split('\n'), l => l.StartsWith("wrong: ", StringComparison.Ordinal)), StringComparison.Ordinal);
        Assert.Contains("no libtorch.so in /usr (LOFTHPC_LIBTORCH)", Doctor("/usr", null).Output, StringComparison.Ordinal);
    }

    private static string PackageFolder() =>
        Environment.GetEnvironmentVariable("NUGET_PACKAGES")
        ?? Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.UserProfile), ".nuget", "packages");
}
