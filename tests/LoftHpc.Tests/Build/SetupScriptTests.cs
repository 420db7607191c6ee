using Xunit;

namespace LoftHpc.Tests.Build;

/// <summary>build/setup.sh on machines that lack something, played by a PATH of stand-ins.</summary>
public sealed class SetupScriptTests : IDisposable
{
    /// <summary>Where the script looks for them.</summary>
    private static readonly string[] Certificates =
        ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem"];

    private const string Sdk = "echo '10.0.100 [/usr/share/dotnet/sdk]'";

    private readonly StubFolder _programs = new StubFolder().Link("bash", "dirname", "flock", "grep", "mktemp", "rm", "tail", "cat", "touch");

    public SetupScriptTests()
    {
        Directory.CreateDirectory(Path.Combine(_programs.Path, "build"));
        File.Copy(Repository.File("build", "setup.sh"), Path.Combine(_programs.Path, "build", "setup.sh"));
    }

    public void Dispose() => _programs.Dispose();

    [Theory]
    [InlineData("run")]
    [InlineData("test")]
    public void A_missing_SDK_is_one_line_on_how_to_get_it(string what)
    {
        (int exitCode, string output, string error) = Setup(what);
        Assert.Equal(1, exitCode);
        Assert.Equal("", output);
        Assert.Contains("dotnet-install.sh | bash -s -- --channel 10.0", Assert.Single(Lines(error)), StringComparison.Ordinal);
    }

    [Fact]
    public void An_old_SDK_is_a_missing_one()
    {
        _programs.Add("dotnet", "echo '8.0.100 [/usr/share/dotnet/sdk]'");
        (int exitCode, _, string error) = Setup("run");
        Assert.Equal(1, exitCode);
        Assert.Contains(".NET 10 SDK", Assert.Single(Lines(error)), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("run", "openmpi-bin")]
    [InlineData("test", "openmpi-bin mpich slurm-client chromium")]
    [InlineData("bench", "openmpi-bin mpich")]
    public void Without_root_the_one_command_is_printed(string what, string packages)
    {
        _programs.Add("dotnet", Sdk).Add("apt-get", "echo 'apt-get was called' >&2; exit 1");
        (int exitCode, _, string error) = Setup(what, ("LOFTHPC_NO_INSTALL", "1"));
        Assert.Equal(1, exitCode);
        string command = Assert.Single(Lines(error), line => line.StartsWith("sudo apt-get install -y ", StringComparison.Ordinal));
        Assert.All(packages.Split(' '), package => Assert.Contains(package, command.Split(' ')));
        Assert.DoesNotContain("was called", error, StringComparison.Ordinal);
    }

    [SkippableFact]
    public void Root_gets_what_is_missing_and_nothing_else()
    {
        Skip.IfNot(Environment.IsPrivilegedProcess, "not root");
        // The first time apt knows no package: its lists are empty, as in a fresh container.
        string log = Path.Combine(_programs.Path, "log");
        _programs.Add("dotnet", Sdk).Add("apt-get", $"echo \"$*\" >>{log}; [[ $* == *update* ]] && touch {log}.updated; [[ -e {log}.updated ]]");
        (int exitCode, _, string error) = Setup("run");
        Assert.True(exitCode == 0, error);
        string[] calls = [.. File.ReadLines(log)];
        Assert.Equal(3, calls.Length);
        Assert.Contains("install --no-install-recommends", calls[0], StringComparison.Ordinal);
        Assert.Contains("openmpi-bin", calls[0], StringComparison.Ordinal);
        Assert.DoesNotContain("mpich", calls[0], StringComparison.Ordinal);
        Assert.EndsWith("update", calls[1], StringComparison.Ordinal);
        Assert.Equal(calls[0], calls[2]);
    }

    [SkippableFact]
    public void It_is_silent_where_all_is_there()
    {
        Skip.IfNot(Certificates.Any(File.Exists), "no certificates are installed");
        Directory.CreateDirectory(Path.Combine(_programs.Path, ".data", "fashion-mnist"));
        File.WriteAllText(Path.Combine(_programs.Path, ".data", "fashion-mnist", "train-images-idx3-ubyte.gz"), "");
        _programs.Add("dotnet", Sdk).Add("mpiexec", "exit 1").Add("apt-get", "echo 'apt-get was called'; exit 1");
        Assert.Equal((0, "", ""), Setup("run"));
    }

    private (int ExitCode, string Output, string Error) Setup(string what, params (string Name, string Value)[] variables)
    {
        Dictionary<string, string?> environment = new()
        {
            ["PATH"] = _programs.Path,
        };
        foreach ((string name, string value) in variables) environment[name] = value;
        return Repository.Run("/bin/bash", [Path.Combine(_programs.Path, "build", "setup.sh"), what], environment);
    }

    private static string[] Lines(string text) => text.Split('\n', StringSplitOptions.RemoveEmptyEntries);
}
