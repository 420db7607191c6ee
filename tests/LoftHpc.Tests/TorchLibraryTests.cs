using System.Text;
using LoftHpc.Tests.Results;
using Xunit;

namespace LoftHpc.Tests;

public class TorchLibraryTests
{
    [Fact]
    public void Libtorch_is_the_version_that_TorchSharp_needs()
    {
        TorchLibraryInfo info = TorchLibrary.Load();
        Assert.Equal(TorchLibrary.NeededVersion, info.Version);
        Assert.True(File.Exists(Path.Combine(info.Folder, "libtorch_cpu.so")));
        Assert.Same(info, TorchLibrary.Load());
    }

    [Theory]
    [InlineData("/lib/libstdc++.so.6: version `GLIBCXX_3.4.32' not found (required by libLibTorchSharp.so)", "make build")]
    [InlineData("/lib/libstdc++.so.6: version `GLIBCXX_3.4.30' not found (required by libtorch_cpu.so)", "GCC 12")]
    [InlineData("/lib/libm.so.6: version `GLIBC_2.34' not found (required by libtorch_cpu.so)", "glibc 2.34")]
    [InlineData("libLibTorchSharp.so: undefined symbol: _ZN2at4_ops", "this libtorch lacks a function that TorchSharp needs; use libtorch 2.10")]
    public void What_does_not_load_is_told_by_its_cause(string loaderText, string mend)
    {
        string line = TorchLibrary.Explain("libLibTorchSharp.so", "/program/libLibTorchSharp.so", "beside the program", loaderText);
        Assert.Contains(loaderText, line, StringComparison.Ordinal);
        Assert.Contains(mend, line, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', line);
    }

    /// <summary>The loader is not asked here: it might find a libtorch of the system.</summary>
    [Fact]
    public void What_the_dynamic_loader_does_not_find_is_to_be_named() => Assert.StartsWith(
        "libtorch.so is not found by the dynamic loader; name the folder of libtorch ",
        TorchLibrary.Explain("libtorch.so", null, "found by the dynamic loader", "libtorch.so: cannot open shared object file: No such file or directory"),
        StringComparison.Ordinal);

    [Theory]
    [InlineData("2.10", "2.10", false)]
    [InlineData("2.11", "2.11 (TorchSharp is built for 2.10)", true)]
    [InlineData("older than 2.9", "older than 2.9 (TorchSharp is built for 2.10)", true)]
    public void Another_version_is_recorded_with_the_one_that_is_wanted_and_warned_of(string version, string recorded, bool warned)
    {
        TorchLibraryInfo info = new(version, "/torch/lib", "a test");
        Assert.Equal((recorded, warned), (info.Description, info.Warning is not null));
        if (warned) Assert.StartsWith($"libtorch {version} in /torch/lib is not the version that TorchSharp is built for (2.10)", info.Warning, StringComparison.Ordinal);
    }

    /// <summary>
    /// As in a PyTorch installation: a library that needs one which lies in nvidia/NAME/lib, where the dynamic loader does not
    /// look. (The pair is glibc's own, with the name of one changed in both.)
    /// </summary>
    [SkippableFact]
    public void A_library_that_the_loader_does_not_find_is_taken_from_the_folders_beside()
    {
        using TemporaryFolder folder = new();
        string library = Path.Combine(folder.Path, "torch", "lib", "libneeding.so"), neighbours = Path.Combine(folder.Path, "nvidia");
        string needed = Path.Combine(neighbours, "cublas", "lib", "libq.so.6");
        Renamed(Needing, library, "libm.so.6", "libq.so.6");
        Renamed(Needed, needed, "libm.so.6", "libq.so.6");

        string missing = Assert.Throws<DllNotFoundException>(() => TorchLibrary.LoadWithNeighbours(library, Path.Combine(folder.Path, "none"))).Message;
        Assert.Contains("libq.so.6: cannot open shared object file", missing, StringComparison.Ordinal);
        Assert.NotEqual(0, TorchLibrary.LoadWithNeighbours(library, neighbours));
        Assert.Equal(needed, TorchLibrary.MappedPath("libq.so.6"));
    }

    /// <summary>Days before anything calls the function.</summary>
    [SkippableFact]
    public void A_function_that_is_missing_is_named_at_once()
    {
        using TemporaryFolder folder = new();
        string library = Path.Combine(folder.Path, "libneeding.so");
        Renamed(Needing, library, "cosf", "qosf");
        DllNotFoundException error = Assert.Throws<DllNotFoundException>(() => TorchLibrary.LoadWhole(library));
        Assert.Matches("undefined symbol: [a-z]*qosf", NativeEnvironment.LoaderText(error));
    }

    private static string Needed => TorchLibrary.MappedPath("libm.so.6");

    private static string Needing
    {
        get
        {
            string library = Path.Combine(Path.GetDirectoryName(Needed) ?? "", "libmvec.so.1");
            Skip.IfNot(File.Exists(library), "this glibc has no libmvec.so.1, which needs libm.so.6");
            return library;
        }
    }

    /// <summary>A copy of a library in which a name is another one, as long.</summary>
    private static void Renamed(string from, string to, string name, string other)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(to)!);
        byte[] bytes = File.ReadAllBytes(from), old = Encoding.ASCII.GetBytes(name), now = Encoding.ASCII.GetBytes(other);
        for (int at = bytes.AsSpan().IndexOf(old); at >= 0; at = bytes.AsSpan().IndexOf(old)) now.CopyTo(bytes, at);
        File.WriteAllBytes(to, bytes);
    }

    [Fact]
    public void The_loaders_own_text_is_found_in_a_failed_load()
    {
        string file = Path.GetTempFileName();
        try
        {
            Exception error = Assert.Throws<DllNotFoundException>(() => System.Runtime.InteropServices.NativeLibrary.Load(file));
            Assert.Equal($"{file}: file too short", NativeEnvironment.LoaderText(error));
        }
        finally
        {
            File.Delete(file);
        }
    }

    /// <summary>Loaded, a cut library would end the process by SIGBUS without a word.</summary>
    [Fact]
    public void A_library_that_was_cut_is_told_by_its_name()
    {
        string folder = Directory.CreateTempSubdirectory("lofthpc-").FullName, library = Path.Combine(folder, "libLibTorchSharp.so");
        try
        {
            byte[] whole = File.ReadAllBytes(Path.Combine(AppContext.BaseDirectory, "libLibTorchSharp.so"));
            File.WriteAllBytes(library, whole);
            // As in Debian's PyTorch: a link to what is not installed.
            File.CreateSymbolicLink(Path.Combine(folder, "libnot_installed.so"), Path.Combine(folder, "elsewhere", "libnot_installed.so"));
            TorchLibrary.RefuseCut(folder, "a test");
            foreach (int length in (int[])[whole.Length - 1, whole.Length / 2, 100, 10, 0])
            {
                File.WriteAllBytes(library, whole[..length]);
                UserError error = Assert.Throws<UserError>(() => TorchLibrary.RefuseCut(folder, "a test"));
                Assert.Equal((ExitCodes.Environment, $"{library} is cut (a test): install it again"), (error.ExitCode, error.Message));
            }
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }
}
