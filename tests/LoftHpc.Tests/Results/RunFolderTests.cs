using LoftHpc.Results;
using Xunit;

namespace LoftHpc.Tests.Results;

public sealed class RunFolderTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void AnExistingFolderIsNeverOverwrittenUnasked()
    {
        RunFolder run = RunFolder.Create(_folder.File("results"), "first", overwrite: false);
        File.WriteAllText(run.Config, "kept");
        UserError error = Assert.Throws<UserError>(() => RunFolder.Create(_folder.File("results"), "first", overwrite: false));
        Assert.Contains("run.name", error.Message, StringComparison.Ordinal);
        Assert.Contains("run.overwrite=true", error.Message, StringComparison.Ordinal);
        Assert.Equal("kept", File.ReadAllText(run.Config));
        Assert.Equal("first", run.Name);
    }

    [Fact]
    public void OverwritingStartsFromAnEmptyFolder()
    {
        RunFolder run = RunFolder.Create(_folder.Path, "first", overwrite: false);
        File.WriteAllText(run.Config, "old");
        File.WriteAllText(run.DenseWeights, "old");
        RunFolder again = RunFolder.Create(_folder.Path, "first", overwrite: true);
        Assert.Empty(Directory.GetFileSystemEntries(again.Path));
        Assert.Equal([again.Path], Directory.GetFileSystemEntries(_folder.Path));
    }

    [Fact]
    public void ARunInProgressIsNotOverwritten()
    {
        RunFolder run = RunFolder.Create(_folder.Path, "first", overwrite: false);
        File.WriteAllText(run.Config, "old");
        using (run.Lock())
            Assert.Contains("another launch works", Assert.Throws<UserError>(() => RunFolder.Create(_folder.Path, "first", overwrite: true)).Message, StringComparison.Ordinal);
        Assert.Equal("old", File.ReadAllText(run.Config));
        RunFolder.Create(_folder.Path, "first", overwrite: true);
        Assert.False(File.Exists(run.Config));
    }

    /// <summary>What a launch leaves that is killed before it has written its config.</summary>
    [Fact]
    public void OverwritingClearsAFolderThatDiedEarly()
    {
        RunFolder run = RunFolder.Create(_folder.Path, "first", overwrite: false);
        File.WriteAllText(Path.Combine(run.Path, ".lock"), "");
        File.WriteAllText(run.Config + ".part", "run:");
        Assert.Empty(Directory.GetFileSystemEntries(RunFolder.Create(_folder.Path, "first", overwrite: true).Path));
    }

    [Fact]
    public void OverwritingNeverTouchesAFolderThatIsNoRunFolder()
    {
        string path = Directory.CreateDirectory(_folder.File("thesis")).FullName;
        File.WriteAllText(Path.Combine(path, "chapter1.tex"), "text");
        Assert.Throws<UserError>(() => RunFolder.Create(_folder.Path, "thesis", overwrite: true));
        Assert.Equal("text", File.ReadAllText(Path.Combine(path, "chapter1.tex")));
        File.WriteAllText(_folder.File("note"), "text");
        Assert.Throws<UserError>(() => RunFolder.Create(_folder.Path, "note", overwrite: true));
        Assert.Equal("text", File.ReadAllText(_folder.File("note")));
    }

    [Theory]
    [InlineData("")]
    [InlineData(".")]
    [InlineData("..")]
    [InlineData("a/b")]
    [InlineData("/etc")]
    public void ANameIsOneFolder(string name) =>
        Assert.Contains("run.name", Assert.Throws<UserError>(() => RunFolder.Create(_folder.Path, name, overwrite: true)).Message, StringComparison.Ordinal);

    [Fact]
    public void OnlyRunFoldersAreOpened()
    {
        Assert.Throws<UserError>(() => RunFolder.Open(_folder.File("absent")));
        Assert.Throws<UserError>(() => RunFolder.Open(_folder.Path));
        File.WriteAllText(_folder.File("config.yaml"), "");
        Assert.Equal(_folder.File("epoch-3.safetensors"), RunFolder.Open(_folder.Path).SnapshotWeights(3));
    }

    [Fact]
    public void FilesThatExistOrAreMissingAreNamed()
    {
        RunFolder run = RunFolder.Create(_folder.Path, "run", overwrite: false);
        run.RefuseExisting("extract", run.PrunedWeights, run.Ticket.Path);
        File.WriteAllText(run.Ticket.Path, "");
        UserError refused = Assert.Throws<UserError>(() => run.RefuseExisting("extract", run.PrunedWeights, run.Ticket.Path));
        Assert.Contains("ticket.csv", refused.Message, StringComparison.Ordinal);
        Assert.DoesNotContain("pruned.safetensors", refused.Message, StringComparison.Ordinal);
        run.RequireExisting("extract", run.Ticket.Path);
        UserError missing = Assert.Throws<UserError>(() => run.RequireExisting("extract", run.PrunedWeights, run.Ticket.Path));
        Assert.Contains("pruned.safetensors", missing.Message, StringComparison.Ordinal);
        Assert.DoesNotContain("ticket.csv", missing.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void FreeNamesCountFromTwo()
    {
        Assert.Equal("quick", RunFolder.FreeName(_folder.Path, "quick"));
        Directory.CreateDirectory(_folder.File("quick"));
        Assert.Equal("quick-2", RunFolder.FreeName(_folder.Path, "quick"));
        Directory.CreateDirectory(_folder.File("quick-2"));
        Assert.Equal("quick-3", RunFolder.FreeName(_folder.Path, "quick"));
    }
}
