using System.Globalization;
using Xunit;

namespace LoftHpc.Tests.Build;

/// <summary>build/test.sh and .ci/run with a stand-in for dotnet: what they count, and that they are never green by mistake.</summary>
public sealed class TestScriptTests : IDisposable
{
    private readonly StubFolder _programs = new();

    public void Dispose() => _programs.Dispose();

    [Theory]
    // Groups of tests are added up.
    [InlineData(0, "10 9 9 0|5 5 5 0", 0, "14 passed, 0 failed, 1 skipped")]
    [InlineData(1, "10 10 8 2", 1, "8 passed, 2 failed, 0 skipped")]
    // dotnet is content, but nothing ran, or nothing was written.
    [InlineData(0, "", 1, "0 passed, 0 failed, 0 skipped")]
    [InlineData(0, "3 0 0 0", 1, "0 passed, 0 failed, 3 skipped")]
    // The test host died half way.
    [InlineData(134, "7 7 7 0", 134, "7 passed, 0 failed, 0 skipped")]
    public void Counts_and_status(int dotnetStatus, string results, int expectedStatus, string lastLine)
    {
        Dotnet(buildStatus: 0, dotnetStatus, results);
        (int exitCode, string output, _) = Repository.Run(Repository.File("build", "test.sh"), [], Environment());
        Assert.Equal(expectedStatus, exitCode);
        Assert.Equal(lastLine, LastLine(output));
    }

    [Fact]
    public void A_build_that_fails_is_no_success()
    {
        Dotnet(buildStatus: 1, testStatus: 0, "5 5 5 0");
        (int exitCode, string output, _) = Repository.Run(Repository.File("build", "test.sh"), [], Environment());
        Assert.Equal((1, "0 passed, 0 failed, 0 skipped"), (exitCode, LastLine(output)));
    }

    [Fact]
    public void Why_tests_were_skipped_is_shown()
    {
        Dotnet(buildStatus: 0, testStatus: 0, "2 1 1 0");
        (_, string output, _) = Repository.Run(Repository.File("build", "test.sh"), [], Environment());
        Assert.Contains("skipped: A.Test: no GPU", output.Split('\n'));
    }

    [Theory]
    [InlineData("echo '3 passed, 0 failed, 1 skipped'", 0, "3 passed, 0 failed, 1 skipped")]
    [InlineData("echo '3 passed, 1 failed, 0 skipped'; echo 'make: *** [test] Error 1' >&2; exit 2", 2, "3 passed, 1 failed, 0 skipped")]
    [InlineData("echo 'cannot install'; exit 2", 2, "0 passed, 0 failed, 0 skipped")]
    [InlineData("exit 0", 1, "0 passed, 0 failed, 0 skipped")]
    public void The_CI_script_keeps_the_status_and_ends_with_the_counts(string make, int expectedStatus, string lastLine)
    {
        _programs.Add("make", $"[[ $* == test ]] || exit 9; {make}");
        (int exitCode, string output, _) = Repository.Run(Repository.File(".ci", "run"), [], Environment());
        Assert.Equal((expectedStatus, lastLine), (exitCode, LastLine(output)));
    }

    /// <summary>Each test belongs to one group of the script, and to all tests where there is a filter.</summary>
    [Fact]
    public void Every_test_is_run_once()
    {
        _programs.Add("dotnet", $$"""
            [[ $1 == test ]] || exit 0
            while (($#)); do [[ $1 == --filter ]] && echo "$2" >>{{_programs.Path}}/filters; shift; done
            """);
        Repository.Run(Repository.File("build", "test.sh"), [], Environment());
        string[][] groups = [.. File.ReadLines(Path.Combine(_programs.Path, "filters")).Select(filter => filter.Split('&'))];
        Assert.InRange(groups.Length, 2, 20);
        string[] tests = [.. from type in typeof(TestScriptTests).Assembly.GetTypes()
                             from method in type.GetMethods()
                             where method.IsDefined(typeof(FactAttribute), inherit: true)
                             select $"{type.FullName}.{method.Name}"];
        bool IsIn(string[] group, string test) => group.All(term => term.Split('~') switch
        {
            ["FullyQualifiedName", string part] => test.Contains(part, StringComparison.Ordinal),
            ["FullyQualifiedName!", string part] => !test.Contains(part, StringComparison.Ordinal),
            _ => throw new FormatException(term),
        });
        Assert.All(tests, test => Assert.Single(groups, group => IsIn(group, test)));
        Assert.All(groups, group => Assert.Contains(tests, test => IsIn(group, test)));

        File.Delete(Path.Combine(_programs.Path, "filters"));
        Repository.Run(Repository.File("build", "test.sh"), [], new Dictionary<string, string?>(Environment()) { ["FILTER"] = "Slurm" });
        Assert.Equal("FullyQualifiedName~Slurm", Assert.Single(File.ReadLines(Path.Combine(_programs.Path, "filters"))));
    }

    /// <summary>
    /// A dotnet that writes result files; <paramref name="results"/> are "total executed passed failed|...", one for each call until
    /// there are no more. The last of these ends with <paramref name="testStatus"/>.
    /// </summary>
    private void Dotnet(int buildStatus, int testStatus, string results)
    {
        string body = $$"""
            [[ $1 == build || $1 == publish ]] && exit {{buildStatus}}
            while (($#)); do [[ $1 == --results-directory ]] && folder=$2; shift; done
            call=0
            until mkdir {{_programs.Path}}/call-$call 2>/dev/null; do ((++call)); done
            mkdir -p "$folder"

            """;
        string[] files = results.Split('|', StringSplitOptions.RemoveEmptyEntries);
        for (int i = 0; i < files.Length; i++)
        {
            string[] n = files[i].Split(' ');
            body += string.Create(CultureInfo.InvariantCulture, $"""
                [[ $call != {i} ]] || cat >"$folder/{i}.trx" <<'TRX'
                <UnitTestResult executionId="1" testName="A.Test" computerName="c" outcome="NotExecuted">
                  <Message>no GPU</Message>
                </UnitTestResult>
                <Counters total="{n[0]}" executed="{n[1]}" passed="{n[2]}" failed="{n[3]}" error="0" timeout="0" aborted="0" notExecuted="0" />
                TRX

                """);
        }
        _programs.Add("dotnet", $"{body}[[ $call != {Math.Max(0, files.Length - 1)} ]] || exit {testStatus}");
    }

    private Dictionary<string, string?> Environment() => new() { ["PATH"] = _programs.First, ["FILTER"] = null };

    private static string LastLine(string output) => output.TrimEnd('\n').Split('\n')[^1];
}
