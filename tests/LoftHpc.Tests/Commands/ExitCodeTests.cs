using System.Reflection;
using System.Text.RegularExpressions;
using Xunit;

namespace LoftHpc.Tests.Commands;

/// <summary>The exit codes are a closed list: those of <see cref="ExitCodes"/>, and the documentation has the same.</summary>
public sealed partial class ExitCodeTests
{
    [Fact]
    public void The_documented_codes_are_those_of_the_program()
    {
        int[] codes = [.. typeof(ExitCodes).GetFields(BindingFlags.Public | BindingFlags.Static).Select(field => (int)field.GetRawConstantValue()!)];
        int[] expected = [.. codes.Except([ExitCodes.BySignal]), ExitCodes.BySignal + 1, ExitCodes.BySignal + 2, ExitCodes.BySignal + 15];
        IEnumerable<int> documented = File.ReadLines(Repository.File("docs", "usage.md")).Select(line => Row().Match(line)).Where(match => match.Success)
            .SelectMany(match => match.Groups[1].Value.Split(", ")).Select(int.Parse);
        Assert.Equal(expected.Order(), documented.Order());
    }

    /// <summary>No error has a number of its own, and nothing but the start of the program ends the process by itself.</summary>
    [Fact]
    public void No_code_is_written_as_a_number()
    {
        foreach (string file in Directory.EnumerateFiles(Repository.File("src", "LoftHpc"), "*.cs", SearchOption.AllDirectories).Where(file => !file.Contains("/obj/", StringComparison.Ordinal)))
        {
            string code = File.ReadAllText(file);
            Assert.DoesNotMatch(@"new UserError\([^;]*,\s*\d+\)", code);
            Assert.DoesNotMatch(@"Environment\.Exit\((?!exitCode\))|exitCode\s*[:=]\s*[1-9]", code);
        }
    }

    [Fact]
    public void An_error_is_one_line_whatever_stands_in_it()
    {
        Assert.Equal(@"a\x0ab\x1b[2J\u202ec", new UserError("a\nb\u001b[2J\u202ec").Message);
        Assert.Equal("a\\x0a\nb", UserError.OfLines(["a\n", "b"]).Message);
    }

    [GeneratedRegex(@"^\| ([0-9, ]+) \|")]
    private static partial Regex Row();
}
