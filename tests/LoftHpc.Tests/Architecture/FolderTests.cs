using System.Text.RegularExpressions;
using Xunit;

namespace LoftHpc.Tests.Architecture;

/// <summary>
/// The folders of the program depend on each other one way only, so that each can be read without those above it. What a
/// file names of another folder is read from its source: usings, and names with the folder in front.
/// </summary>
public sealed partial class FolderTests
{
    /// <summary>The files beside the folders, but for the program's start, which stands above all of them.</summary>
    private const string Root = "(root)";

    private static readonly string Source = Repository.File("src", "LoftHpc");

    [Fact]
    public void Folders_depend_one_way_only()
    {
        Dictionary<string, SortedSet<string>> uses = Dependences();
        // It sees what is there: folders that stand high and low.
        Assert.Contains("Mpi", uses["Communication"]);
        Assert.Contains("Stages", uses["Commands"]);
        // All folders use the files beside them, so those use none.
        Assert.Empty(uses[Root]);

        // Folders that depend on none but those taken away already go first; what is left stands on a circle.
        List<string> left = [.. uses.Keys];
        while (left.FirstOrDefault(folder => !uses[folder].Intersect(left).Any()) is string lowest) left.Remove(lowest);
        Assert.True(left.Count == 0, string.Join('\n', left.Select(folder => $"{folder} uses {string.Join(", ", uses[folder].Intersect(left))}")));
    }

    [Fact]
    public void Networks_know_nothing_of_MPI_and_communication_nothing_of_layers()
    {
        Dictionary<string, SortedSet<string>> uses = Dependences();
        Assert.Empty(uses["Networks"].Intersect(["Mpi", "Communication"]));
        Assert.Empty(uses["Mpi"].Concat(uses["Communication"]).Intersect(["Networks", "Training"]));
    }

    [Fact]
    public void The_namespace_of_a_file_is_its_folder()
    {
        foreach ((string folder, string file) in Files().Where(f => f.File != "Program.cs"))
        {
            string expected = folder == Root ? "LoftHpc" : $"LoftHpc.{folder}";
            Assert.Equal(expected, NamespaceLine().Match(File.ReadAllText(Path.Combine(Source, file))).Groups[1].Value);
        }
    }

    private static Dictionary<string, SortedSet<string>> Dependences()
    {
        string[] folders = [.. Files().Select(f => f.Folder).Where(f => f != Root).Distinct()];
        Dictionary<string, SortedSet<string>> uses = folders.Append(Root).ToDictionary(f => f, _ => new SortedSet<string>(StringComparer.Ordinal));
        foreach ((string folder, string file) in Files().Where(f => f.File != "Program.cs"))
        {
            string code = File.ReadAllText(Path.Combine(Source, file));
            string usings = string.Join('\n', code.Split('\n').Where(line => line.StartsWith("using ", StringComparison.Ordinal)));
            string rest = string.Join('\n', code.Split('\n').Where(line => !line.StartsWith("using ", StringComparison.Ordinal)));
            foreach (string other in folders.Where(f => f != folder))
            {
                if (Regex.IsMatch(usings, $@"\bLoftHpc\.{other}\b") || Regex.IsMatch(rest, $@"(?<![\w.]){other}\.[A-Z]\w*[.(<\s]|\bLoftHpc\.{other}\.")) uses[folder].Add(other);
            }
        }
        return uses;
    }

    /// <summary>Every source file, with the first folder on its path.</summary>
    private static IEnumerable<(string Folder, string File)> Files() =>
        from path in Directory.EnumerateFiles(Source, "*.cs", SearchOption.AllDirectories)
        let file = Path.GetRelativePath(Source, path)
        let parts = file.Split('/')
        where parts[0] is not ("bin" or "obj")
        select (parts.Length == 1 ? Root : parts[0], file);

    [GeneratedRegex(@"^namespace ([\w.]+);", RegexOptions.Multiline)]
    private static partial Regex NamespaceLine();
}
