using Xunit;

namespace LoftHpc.Tests.Build;

/// <summary>build/run.sh: into which run folder, and with which flags of mpiexec.</summary>
public sealed class QuickRunScriptTests : IDisposable
{
    private readonly StubFolder _tree = new();

    public QuickRunScriptTests()
    {
        Directory.CreateDirectory(Path.Combine(_tree.Path, "build"));
        foreach (string script in (string[])["run.sh", "launch.sh"])
            File.Copy(Repository.File("build", script), Path.Combine(_tree.Path, "build", script));
    }

    public void Dispose() => _tree.Dispose();

    [Fact]
    public void The_first_free_folder_is_taken()
    {
        string results = Path.Combine(_tree.Path, "results");
        Assert.Contains(" run.name=quick ", Run("MPICH"), StringComparison.Ordinal);
        Directory.CreateDirectory(Path.Combine(results, "quick"));
        Assert.Contains(" run.name=quick-2 ", Run("MPICH"), StringComparison.Ordinal);
        Directory.CreateDirectory(Path.Combine(results, "quick-2"));
        Directory.CreateDirectory(Path.Combine(results, "quick-4"));
        Assert.Contains(" run.name=quick-3 ", Run("MPICH"), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("--resume=auto")]
    [InlineData("run.resume=auto")]
    public void What_was_stopped_goes_on_in_the_last_folder(string resume)
    {
        Assert.Contains(" run.name=quick ", Run("MPICH", resume), StringComparison.Ordinal);
        foreach (string name in (string[])["quick", "quick-2"]) Directory.CreateDirectory(Path.Combine(_tree.Path, "results", name));
        Assert.Contains($" run.name=quick-2 {resume} ", Run("MPICH", resume), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("MPICH")]
    [InlineData("mpiexec (OpenRTE) 4.1.4")]
    public void Only_Open_MPI_gets_its_flags_and_root_alone_its_own(string version)
    {
        string command = Run(version);
        bool openMpi = version != "MPICH";
        Assert.StartsWith("mpiexec -n 3 ", command, StringComparison.Ordinal);
        Assert.Equal(openMpi, command.Contains(" --bind-to none --map-by :OVERSUBSCRIBE ", StringComparison.Ordinal));
        Assert.Equal(openMpi && Environment.IsPrivilegedProcess, command.Contains("--allow-run-as-root", StringComparison.Ordinal));
        Assert.Contains(" dist/lofthpc run --config configs/quick.yaml run.name=quick run.seed=2 \n", command, StringComparison.Ordinal);
    }

    /// <summary>Whoever kills make by SIGKILL wants to go on at once.</summary>
    [SkippableFact]
    public void A_make_that_is_killed_ends_the_run()
    {
        Skip.IfNot(Repository.HasProgram("setpriv"), "setpriv is not installed");
        Skip.IfNot(Repository.HasProgram("make"), "make is not installed");
        _tree.Add("mpiexec", $"[[ $1 == --version ]] && exit; trap 'touch {_tree.Path}/ended; exit' TERM; touch {_tree.Path}/begun; while true; do sleep 0.02; done");
        File.WriteAllText(Path.Combine(_tree.Path, "Makefile"), "SHELL := /bin/bash\nrun:\n\t@build/run.sh configs/quick.yaml\n");
        (int exitCode, string output, string error) = Repository.Run("bash", ["-c", $"""
            cd {_tree.Path}; make run & make=$!
            until [[ -e begun ]]; do kill -0 $make || exit 98; sleep 0.02; done
            kill -9 $make
            until [[ -e ended ]]; do sleep 0.02; done
            """], new Dictionary<string, string?> { ["PATH"] = _tree.First, ["RANKS"] = "2", ["MPIEXEC"] = null, ["MAKELEVEL"] = null, ["MAKEFLAGS"] = null });
        Assert.True(exitCode == 0, output + error);
    }

    private string Run(string version, string argument = "run.seed=2")
    {
        _tree.Add("mpiexec", $"[[ $1 == --version ]] && {{ echo '{version}'; exit 0; }}; echo mpiexec \"$@\" ''");
        (int exitCode, string output, string error) = Repository.Run(
            Path.Combine(_tree.Path, "build", "run.sh"), ["configs/quick.yaml", argument],
            new Dictionary<string, string?> { ["PATH"] = _tree.First, ["RANKS"] = "3", ["MPIEXEC"] = null });
        Assert.True(exitCode == 0, error);
        return output[output.IndexOf("mpiexec", StringComparison.Ordinal)..];
    }
}
