using System.Text.RegularExpressions;
using LoftHpc.Mpi;
using LoftHpc.Tests.Mpi;
using LoftHpc.Tests.Results;
using Xunit;

namespace LoftHpc.Tests.Build;

/// <summary>
/// The bundle for machines without .NET: packed, unpacked into another folder, and its gpu-check.sh run with no dotnet in sight,
/// on the CPU. PyTorch is Debian's, which is too old for TorchSharp: libtorch is that of the tests.
/// </summary>
public sealed class GpuCheckTests(GpuCheckTests.Bundle bundle) : IClassFixture<GpuCheckTests.Bundle>
{
    private const string Python = "/usr/bin/python3";

    [SkippableFact]
    public void It_passes_on_a_CPU_without_dotnet()
    {
        Require(MpiFamily.OpenMpi);
        (int exitCode, string output, string error) = bundle.Check([]);
        Assert.True(exitCode == 0 && error.Length == 0, $"{exitCode}\n{output}\n{error}");
        Dictionary<string, string[]> table = Table(output);
        Assert.All(table.Values, row => Assert.Equal("passed", row[1]));
        string[] names = [.. table.Keys];
        Assert.Equal(["pytorch", "doctor-1", "doctor-2"], names[..3]);
        Assert.Contains(names, name => name.StartsWith("selftest-2", StringComparison.Ordinal));
        Assert.Equal(["speed-2", "staging", "quick-1", "quick-2"], names[^4..]);
        Assert.Matches("rank\\(s\\): 2 on cpu; MPI (not )?CUDA-aware; arithmetic right", table["doctor-2"][3]);
        foreach ((string name, string[] row) in table)
        {
            Assert.Matches("^[0-9]+$", row[2]);
            if (name.StartsWith("selftest", StringComparison.Ordinal)) Assert.Matches("^[0-9]+ checks passed", row[3]);
            if (name == "speed" || name.StartsWith("speed-f", StringComparison.Ordinal))
                Assert.Matches("^batch 16: images/s: [0-9]+ contiguous, [0-9]+ channels-last, PyTorch [0-9]+ \\((contiguous|channels_last)\\), ratio in contiguous [0-9.]+$", row[3]);
            if (name.StartsWith("quick", StringComparison.Ordinal)) Assert.Matches("accuracy of the dense network [0-9.]+ %, of the ticket [0-9.]+ %; [0-9]+ images/s", row[3]);
        }
        Assert.Matches("dense on one rank [0-9]+, data-parallel [0-9]+ \\([0-9.]+\\), filter-parallel [0-9]+ \\([0-9.]+\\), loft [0-9]+ \\([0-9.]+\\)$", table["speed-2"][3]);
        Assert.Matches("^staged gather [^;]*: [0-9.]+ \\(no GPU: not judged\\); staged reduce-scatter [^;]*; staged allreduce [^;]*$", table["staging"][3]);
        Assert.Contains("tf32 is not checked", output, StringComparison.Ordinal);
        Assert.Matches($"(?m)^{table.Count} checks passed in [0-9]+ s$", output);
        // Each launch brought its own .NET.
        Assert.True(File.Exists(Path.Combine(bundle.Folder, "program", "libcoreclr.so")));
        Assert.Contains("includedFrameworks", File.ReadAllText(Path.Combine(bundle.Folder, "program", "lofthpc.runtimeconfig.json")), StringComparison.Ordinal);
    }

    /// <summary>Convolutions are wrong, and there is no mpiexec: what needs either fails, each by its name, and the rest passes.</summary>
    [SkippableFact]
    public void What_fails_is_named_and_is_the_exit_code()
    {
        Require(MpiFamily.OpenMpi);
        (int exitCode, string output, _) = bundle.Check([.. BrokenMachine.With("convolution").Select(pair => (pair.Key, (string?)pair.Value)), ("MPIEXEC", "/nowhere/mpiexec")]);
        Assert.Equal(1, exitCode);
        Dictionary<string, string[]> table = Table(output);
        Assert.Equal("passed", table["pytorch"][1]);
        string[] failed = [.. table.Where(pair => pair.Value[1] == "FAILED").Select(pair => pair.Key)];
        Assert.Equal(table.Keys.Where(name => name != "pytorch"), failed);
        Assert.Matches("^exit code 3: wrong: arithmetic: conv1, a convolution 3 x 3 from 3 to 64 channels", table["doctor-1"][3]);
        Assert.Equal("/nowhere/mpiexec is not there; load an MPI, or name its mpiexec in MPIEXEC", table["doctor-2"][3]);
        Assert.Matches("^exit code 3: lofthpc: error: arithmetic: ", table["quick-1"][3]);
        Assert.Matches($"(?m)^{failed.Length} of {table.Count} checks FAILED: {string.Join(' ', failed)}; see /", output);
    }

    /// <summary>What has no time left is not passed over.</summary>
    [SkippableFact]
    public void What_was_not_done_in_time_has_failed()
    {
        Require(MpiFamily.OpenMpi);
        (int exitCode, string output, _) = bundle.Check([("GPU_CHECK_SECONDS", "1"), ("PYTHON", "/nowhere/python3")]);
        Assert.Equal(1, exitCode);
        Dictionary<string, string[]> table = Table(output);
        Assert.Contains("name a python3 that has PyTorch in PYTHON", table["pytorch"][3], StringComparison.Ordinal);
        Assert.Equal("FAILED", table["quick-2"][1]);
        Assert.Equal("not done: the 1 seconds were over (GPU_CHECK_SECONDS)", table["quick-2"][3]);
    }

    /// <summary>The parts of the self-test that the script asks for are parts that it has.</summary>
    [Fact]
    public void The_scripts_parts_are_the_self_tests()
    {
        string script = File.ReadAllText(Repository.File("build", "bundle", "gpu-check.sh"));
        string[] asked = [.. Regex.Matches(script, "--part (?:'([^']+)'|([a-z]+))").Select(match => match.Groups[1].Value + match.Groups[2].Value).Distinct()];
        Assert.True(asked.Length > 3, string.Join(", ", asked));
        string error = MpiLauncher.RunAlone([MpiLauncher.LoftHpc, "selftest", "--part", "none"]).Error;
        string[] allowed = error[(error.IndexOf("allowed are ", StringComparison.Ordinal) + "allowed are ".Length)..].TrimEnd().Split("; ");
        Assert.Subset(allowed.ToHashSet(), asked.ToHashSet());
    }

    private static void Require(MpiFamily family)
    {
        MpiLauncher.SkipIfAbsent(family);
        Skip.IfNot(File.Exists(Python) && Repository.Run(Python, ["-c", "import torch"]).ExitCode == 0, $"{Python} has no torch (Debian: python3-torch)");
    }

    /// <summary>The rows of the table in the end, by the name of the check.</summary>
    private static Dictionary<string, string[]> Table(string output)
    {
        string[][] rows = [.. output.Split('\n').Where(line => line.StartsWith("| ", StringComparison.Ordinal)).Select(line => line.Trim('|', ' ').Split('|', StringSplitOptions.TrimEntries))];
        Assert.True(rows.Length > 2, output);
        Assert.Equal(["check", "outcome", "seconds", "figures"], rows[0]);
        return rows[2..].ToDictionary(row => row[0]);
    }

    /// <summary>The archive, made or there already, unpacked into a folder whose name has a space.</summary>
    public sealed class Bundle : IDisposable
    {
        private readonly TemporaryFolder _folder = new();
        private readonly StubFolder _programs = new();
        private readonly string _unpacked;

        public Bundle()
        {
            // Fast packing: tests need no small archive, and the script refuses what is too large.
            (int exitCode, string output, string error) = Repository.Run(
                Repository.File("build", "bundle.sh"), [], new Dictionary<string, string?> { ["BUNDLE_PRESET"] = "1" }, timeoutSeconds: 600);
            Assert.True(exitCode == 0, output + error);
            _unpacked = Path.Combine(_folder.Path, "gpu check");
            Directory.CreateDirectory(_unpacked);
            (exitCode, output, error) = Repository.Run("tar", ["-C", _unpacked, "-xf", Repository.File("dist", "lofthpc-bundle.tar.xz")]);
            Assert.True(exitCode == 0, output + error);
            // All of the system's programs but .NET.
            foreach (string file in ((string[])["/usr/bin", "/bin"]).SelectMany(Directory.EnumerateFiles))
            {
                string link = Path.Combine(_programs.Path, Path.GetFileName(file));
                if (Path.GetFileName(file) != "dotnet" && !File.Exists(link)) File.CreateSymbolicLink(link, file);
            }
        }

        public string Folder => Path.Combine(_unpacked, "lofthpc-bundle");

        public (int ExitCode, string Output, string Error) Check((string Name, string? Value)[] variables)
        {
            Dictionary<string, string?> environment = new()
            {
                ["PATH"] = _programs.Path,
                ["DOTNET_ROOT"] = null,
                ["DOTNET_ROOT_X64"] = null,
                ["PYTHON"] = Python,
                ["MPIEXEC"] = "mpiexec.openmpi",
                [TorchLibrary.FolderVariable] = TorchLibrary.Load().Folder.TrimEnd('/'),
                ["CUDA_VISIBLE_DEVICES"] = "",
                ["OMP_NUM_THREADS"] = "1",
                ["GPU_CHECK_SECONDS"] = "1200",
            };
            foreach ((string name, string? value) in variables) environment[name] = value;
            return Repository.Run(Path.Combine(Folder, "gpu-check.sh"), ["--brief", Path.Combine(_folder.Path, "results")], environment, _unpacked, timeoutSeconds: 1200);
        }

        public void Dispose()
        {
            _programs.Dispose();
            _folder.Dispose();
        }
    }
}
