using System.Reflection;
using System.Text.RegularExpressions;
using Xunit;

namespace LoftHpc.Tests.Commands;

/// <summary>docs/failure.md: every row is a test, which is there.</summary>
public sealed partial class FailureTableTests
{
    [Fact]
    public void Every_row_names_tests_that_are_there()
    {
        HashSet<string> tests = [.. from type in Assembly.GetExecutingAssembly().GetTypes()
                                    from method in type.GetMethods()
                                    where method.GetCustomAttributes<FactAttribute>(inherit: true).Any()
                                    select $"{type.Name}.{method.Name}"];
        string[][] rows = [.. File.ReadLines(Repository.File("docs", "failure.md")).Where(line => line.StartsWith("| ", StringComparison.Ordinal)).Select(line => line.Trim('|', ' ').Split(" | "))];
        Assert.Equal(3, rows.Count(row => row[^1] == "test"));
        bool named = false;
        foreach (string[] row in rows.Where(row => row[^1] != "test"))
        {
            Assert.Equal(5, row.Length);
            string[] names = [.. Name().Matches(row[^1]).Select(match => match.Groups[1].Value)];
            // A row may point to the one above, or to SIGKILL's.
            named = names.Length > 0 || (named && (row[^1] == "the same test" || row[^1] == "as for SIGKILL"));
            Assert.True(named, row[0]);
            Assert.All(names, name => Assert.Contains(name, tests));
        }
    }

    [GeneratedRegex(@"`(\w+Tests\.\w+)`")]
    private static partial Regex Name();
}
