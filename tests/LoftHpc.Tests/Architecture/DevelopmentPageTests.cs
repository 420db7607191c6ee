using System.Text.RegularExpressions;
using Xunit;

namespace LoftHpc.Tests.Architecture;

public sealed partial class DevelopmentPageTests
{
    [Fact]
    public void Every_path_that_the_page_names_is_there()
    {
        string[] paths = [.. Path().Matches(File.ReadAllText(Repository.File("docs", "development.md"))).Select(match => match.Groups[1].Value).Distinct()];
        Assert.True(paths.Length > 20);
        Assert.DoesNotContain(paths, path => !File.Exists(Repository.File(path)) && !Directory.Exists(Repository.File(path)));
    }

    /// <summary>A whole path from the top of the repository.</summary>
    [GeneratedRegex(@"`((?:src|tests|docs|results)/[\w./-]+)`")]
    private static partial Regex Path();
}
