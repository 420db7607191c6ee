using System.Text.RegularExpressions;
using LoftHpc.Fuzz;
using LoftHpc.Tests.Results;
using Xunit;

namespace LoftHpc.Tests.Fuzz;

/// <summary>Whatever is read: it is accepted, or refused by a clear line. "make fuzz" tries more.</summary>
public sealed partial class FuzzTests
{
    public static TheoryData<string> Formats => [.. FuzzFormat.All.Select(format => format.Name)];

    /// <summary>Inputs that once made the program crash, hang, eat memory or write a trace; in Cases, or made by <see cref="LargeCases"/>.</summary>
    public static TheoryData<string> Cases =>
        [.. Directory.EnumerateDirectories(Repository.File("tests", "LoftHpc.Tests", "Fuzz", "Cases")).SelectMany(Directory.EnumerateDirectories).Order(StringComparer.Ordinal).Select(path => string.Join('/', path.Split('/')[^2..])), .. LargeCases.Names];

    [Theory]
    [MemberData(nameof(Formats))]
    public void No_input_does_harm(string format)
    {
        (int exitCode, string output, string error) = Repository.Run(Path.Combine(AppContext.BaseDirectory, "fuzz"), ["300", "1", format]);
        Assert.True(exitCode == 0, output + error);
        Match counts = Counts().Match(output);
        Assert.True(counts.Success, output);
        int[] numbers = [.. counts.Groups.Values.Skip(1).Select(group => int.Parse(group.Value))];
        Assert.True(numbers is [> 0, > 0, 0], output);
        Assert.Equal(300, numbers.Sum());
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void What_did_harm_once_does_no_more(string name)
    {
        FuzzFormat format = FuzzFormat.All.Single(format => format.Name == name.Split('/')[0]);
        using TemporaryFolder folder = new();
        if (!LargeCases.Make(name, folder.Path))
        {
            string source = Repository.File("tests", "LoftHpc.Tests", "Fuzz", "Cases", name);
            foreach (string path in Directory.EnumerateFiles(source, "*", SearchOption.AllDirectories))
            {
                string target = Path.Combine(folder.Path, Path.GetRelativePath(source, path));
                Directory.CreateDirectory(Path.GetDirectoryName(target)!);
                File.Copy(path, target);
            }
        }
        Task<Verdict> verdict = Task.Run(() => format.Judge(folder.Path));
        Assert.True(verdict.Wait(TimeSpan.FromSeconds(10)), $"{name} takes more than 10 s");
        Assert.Equal(new Verdict(false, null), verdict.Result);
    }

    [GeneratedRegex(@" (\d+) accepted +(\d+) refused +(\d+) failed")]
    private static partial Regex Counts();
}
