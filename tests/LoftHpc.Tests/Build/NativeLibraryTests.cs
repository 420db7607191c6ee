using LoftHpc.Tests.Mpi;
using LoftHpc.Tests.Results;
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

    [Fact]
    public void A_build_without_libtorch_takes_it_from_a_folder_that_the_user_names()
    {
        TorchLibraryInfo own = TorchLibrary.Load();
        string project = Repository.File("src", "LoftHpc");
        (int exitCode, string output, _) = Repository.Run(
            "dotnet", ["build", project, "-c", "Release", "-p:Device=external", "-p:LibTorch=", "-v", "quiet", "--nologo"], timeoutSeconds: 300);
        Assert.True(exitCode == 0, output);
        string built = Path.Combine(project, "bin", "external", "Release", "net10.0", "linux-x64");
        Assert.False(File.Exists(Path.Combine(built, "libtorch_cpu.so")));
        Assert.True(File.Exists(Path.Combine(built, Library)));

        LaunchResult Doctor(string named, string path) => MpiLauncher.RunAlone(
            [Path.Combine(built, "lofthpc"), "doctor"],
            environment: new Dictionary<string, string> { [TorchLibrary.FolderVariable] = named, ["LD_LIBRARY_PATH"] = path });

        Assert.Contains($"{own.Version} in {own.Folder} (LOFTHPC_LIBTORCH)", Doctor(own.Folder, "").Output, StringComparison.Ordinal);
        Assert.Contains($"{own.Version} in {own.Folder} (found by the dynamic loader", Doctor("", own.Folder).Output, StringComparison.Ordinal);

        using TemporaryFolder empty = new();
        LaunchResult wrong = Doctor(empty.Path, own.Folder);
        Assert.Equal(ExitCodes.Environment, wrong.ExitCode);
        Assert.StartsWith(
            $"wrong: no libtorch.so in {empty.Path} (LOFTHPC_LIBTORCH); name the folder of libtorch ",
            Assert.Single(wrong.Output.Split('\n'), l => l.StartsWith("wrong: ", StringComparison.Ordinal)), StringComparison.Ordinal);
    }

    private static string PackageFolder() =>
        Environment.GetEnvironmentVariable("NUGET_PACKAGES")
        ?? Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.UserProfile), ".nuget", "packages");
}
