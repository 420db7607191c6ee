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
    [InlineData("libLibTorchSharp.so: undefined symbol: _ZN2at4_ops", "is not the 2.10")]
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
}
