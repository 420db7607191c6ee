namespace LoftHpc.Tests.Build;

/// <summary>A temporary folder of stand-in programs, to put on PATH before, or instead of, the real ones.</summary>
internal sealed class StubFolder : IDisposable
{
    public string Path { get; } = Directory.CreateTempSubdirectory("lofthpc-stubs-").FullName;

    /// <summary>The folder before the real PATH.</summary>
    public string First => $"{Path}:{Environment.GetEnvironmentVariable("PATH")}";

    /// <summary>A bash script of the given body.</summary>
    public StubFolder Add(string name, string body)
    {
        string file = System.IO.Path.Combine(Path, name);
        Directory.CreateDirectory(System.IO.Path.GetDirectoryName(file)!);
        File.WriteAllText(file, $"#!/bin/bash\n{body}\n");
        File.SetUnixFileMode(file, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        return this;
    }

    /// <summary>The real programs of these names, for scripts that get nothing but this folder.</summary>
    public StubFolder Link(params string[] names)
    {
        foreach (string name in names)
        {
            string real = ((string[])["/usr/bin", "/bin"]).Select(f => System.IO.Path.Combine(f, name)).First(File.Exists);
            File.CreateSymbolicLink(System.IO.Path.Combine(Path, name), real);
        }
        return this;
    }

    public void Dispose() => Directory.Delete(Path, recursive: true);
}
