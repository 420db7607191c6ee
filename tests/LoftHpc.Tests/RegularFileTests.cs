using System.Diagnostics;
using Xunit;

namespace LoftHpc.Tests;

public sealed class RegularFileTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("lofthpc-").FullName;

    [Fact]
    public void A_file_is_read_through_a_link()
    {
        string file = Path.Combine(_folder, "file"), link = Path.Combine(_folder, "link");
        File.WriteAllText(file, "text");
        File.CreateSymbolicLink(link, file);
        Assert.Null(RegularFile.WhatElse(link));
        using StreamReader reader = new(RegularFile.OpenRead(link));
        Assert.Equal("text", reader.ReadToEnd());
    }

    [Fact]
    public void A_pipe_a_folder_and_a_device_are_refused_at_once()
    {
        string pipe = Path.Combine(_folder, "pipe");
        Process.Start("mkfifo", pipe).WaitForExit();
        foreach ((string path, string what) in ((string, string)[])[(pipe, "a pipe"), (_folder, "a folder"), ("/dev/zero", "a device")])
        {
            Assert.Equal(what, RegularFile.WhatElse(path));
            Assert.Contains($"it is {what}", Assert.Throws<IOException>(() => RegularFile.OpenRead(path)).Message);
        }
    }

    [Fact]
    public void Where_there_is_nothing_the_usual_exception_says_so()
    {
        string path = Path.Combine(_folder, "none");
        Assert.Null(RegularFile.WhatElse(path));
        Assert.Throws<FileNotFoundException>(() => RegularFile.OpenRead(path));
    }

    public void Dispose() => Directory.Delete(_folder, recursive: true);
}
