using System.Text.RegularExpressions;
using LoftHpc.Fuzz;
using LoftHpc.Tests.Results;
using Xunit;

namespace LoftHpc.Tests.Fuzz;

/// <summary>Whatever is read: it is accepted, or refused by a clear line. "make fuzz" tries more.</summary>
public sealed partial class FuzzTests
{
    private static readonly string Fuzz = Path.Combine(AppContext.BaseDirectory, "fuzz");

    public static TheoryData<string> Formats => [.. FuzzFormat.All.Select(format => format.Name)];

    [Theory]
    [MemberData(nameof(Formats))]
    public void No_input_does_harm(string format)
    {
        (int exitCode, string output, string error) = Repository.Run(Fuzz, ["300", "1", format]);
        Assert.True(exitCode == 0, output + error);
        Match counts = Counts().Match(output);
        Assert.True(counts.Success, output);
        int[] numbers = [.. counts.Groups.Values.Skip(1).Select(group => int.Parse(group.Value))];
        Assert.True(numbers is [> 0, > 0, 0], output);
        Assert.Equal(300, numbers.Sum());
    }

    /// <summary>Inputs that once made the program crash, hang, eat memory or write what is no clear line: in Cases, or made by <see cref="LargeCases"/>.</summary>
    [Theory]
    [MemberData(nameof(Formats))]
    public void What_did_harm_once_does_no_more(string format)
    {
        using TemporaryFolder folder = new();
        LargeCases.Make(format, folder.Path);
        string cases = Repository.File("tests", "LoftHpc.Tests", "Fuzz", "Cases", format);
        foreach (string path in Directory.Exists(cases) ? Directory.EnumerateFiles(cases, "*", SearchOption.AllDirectories) : [])
        {
            string target = folder.File(Path.GetRelativePath(cases, path));
            Directory.CreateDirectory(Path.GetDirectoryName(target)!);
            File.Copy(path, target);
        }
        string[] names = [.. Directory.EnumerateDirectories(folder.Path).Select(path => Path.GetFileName(path)).Order(StringComparer.Ordinal)];
        Assert.NotEmpty(names);
        // In a process of its own: what does harm again ends that alone.
        (int exitCode, string output, string error) = Repository.Run(Fuzz, ["--replay", format, folder.Path]);
        Assert.Equal(string.Concat(names.Select(name => $"{name}: refused\n")), output);
        Assert.True(exitCode == 0, error);
    }

    [GeneratedRegex(@" (\d+) accepted +(\d+) refused +(\d+) failed")]
    private static partial Regex Counts();
}
