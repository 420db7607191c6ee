using LoftHpc.Mpi;
using LoftHpc.Tests.Mpi;
using Xunit;

namespace LoftHpc.Tests.Commands;

/// <summary>Launches that were started wrongly: one line, the right exit code, nothing written, and nobody waits.</summary>
public sealed class LaunchMistakesTests : ProgramTests
{
    private static readonly TimeSpan Soon = TimeSpan.FromSeconds(60);

    public static TheoryData<MpiFamily, string, string, string> Differences
    {
        get
        {
            TheoryData<MpiFamily, string, string, string> data = [];
            foreach (MpiFamily family in Enum.GetValues<MpiFamily>())
            {
                data.Add(family, "run", "pretrain", "'run' on rank 0 (HOST), 'pretrain' on rank 1 (HOST)");
                data.Add(family, "run", "doctor", "'run' on rank 0 (HOST), 'doctor' on rank 1 (HOST)");
                data.Add(family, "doctor", "run", "'doctor' on rank 0 (HOST), 'run' on rank 1 (HOST)");
                data.Add(family, "plan", "run", "'plan' on rank 0 (HOST), 'run' on rank 1 (HOST)");
                data.Add(family, "run", "--help", "'run' on rank 0 (HOST), '--help' on rank 1 (HOST)");
                data.Add(family, "run", "run run.seed=5", "nothing more on rank 0 (HOST), 'run.seed=5' on rank 1 (HOST)");
                data.Add(family, "run", "run --typo", "nothing more on rank 0 (HOST), '--typo' on rank 1 (HOST)");
                data.Add(family, "run network.depth=18", "run network.depth=34", "'network.depth=18' on rank 0 (HOST), 'network.depth=34' on rank 1 (HOST)");
            }
            return data;
        }
    }

    [SkippableTheory]
    [MemberData(nameof(Differences))]
    public void Ranks_that_were_started_otherwise_are_named(MpiFamily family, string first, string second, string difference)
    {
        string[] Line(string command) => command is "doctor" or "--help"
            ? [MpiLauncher.LoftHpc, command]
            : [MpiLauncher.LoftHpc, command.Split(' ')[0], "--config", ConfigFile, $"run.folder={TemporaryPath}/results", .. command.Split(' ').Skip(1)];
        LaunchResult result = MpiLauncher.Run(family, 1, [.. Line(first), ":", "-n", "1", .. Line(second)], Soon);
        MustBeOneLine(result, ExitCodes.Configuration, $"the command line is not the same on all ranks: {difference.Replace("HOST", Environment.MachineName, StringComparison.Ordinal)}; start all ranks by the same command line");
    }

    [SkippableTheory]
    [InlineData(MpiFamily.OpenMpi)]
    [InlineData(MpiFamily.Mpich)]
    public void A_mistyped_command_line_is_told_once(MpiFamily family)
    {
        LaunchResult result = MpiLauncher.Run(family, 3, [MpiLauncher.LoftHpc, "run", "--config", ConfigFile, "--vebose"], Soon);
        MustBeOneLine(result, ExitCodes.Configuration, "not of the form section.key=value", "--vebose");
    }

    [SkippableFact]
    public void A_config_that_differs_on_a_rank_is_named_with_the_line()
    {
        // The same name in two working folders, as on disks of two hosts.
        MpiFamily family = MpiLauncher.AnyFamily();
        foreach (string folder in new[] { "a", "b" })
        {
            Directory.CreateDirectory($"{TemporaryPath}/{folder}");
            File.WriteAllText($"{TemporaryPath}/{folder}/c.yaml", File.ReadAllText(ConfigFile).Replace("seed: 4", folder == "a" ? "seed: 4" : "seed: 5", StringComparison.Ordinal));
        }
        LaunchResult Two(string second) => MpiLauncher.Run(
            family, 1, ["bash", "-c", $"cd {TemporaryPath}/a && exec {MpiLauncher.LoftHpc} run --config c.yaml", ":", "-n", "1",
                "bash", "-c", $"cd {TemporaryPath}/{second} && exec {MpiLauncher.LoftHpc} run --config c.yaml"], Soon);
        MustBeOneLine(Two("b"), ExitCodes.Configuration, "c.yaml is not the same on all ranks: 'run: {seed: 4, device: cpu, threads: 1}' on rank 0", "'run: {seed: 5, device: cpu, threads: 1}' on rank 1");
        File.Delete($"{TemporaryPath}/b/c.yaml");
        MustBeOneLine(Two("b"), ExitCodes.Configuration, "c.yaml: there is no such file", "(rank 1 on ");
    }

    [SkippableFact]
    public void Data_that_differ_on_a_rank_are_named()
    {
        MpiFamily family = MpiLauncher.AnyFamily();
        foreach (string folder in new[] { "a", "b" }) WriteMnist($"{TemporaryPath}/{folder}/data", folder == "a" ? (byte)1 : (byte)2);
        string Line(string folder) => $"cd {TemporaryPath}/{folder} && exec {MpiLauncher.LoftHpc} run --config {ConfigFile} data.set=mnist data.folder=data data.train_images=9 data.test_images=9";
        LaunchResult result = MpiLauncher.Run(family, 1, ["bash", "-c", Line("a"), ":", "-n", "1", "bash", "-c", Line("b")], Soon);
        MustBeOneLine(result, ExitCodes.Configuration, "the data is not the same on all ranks: 'mnist test, 9 images, hash ", "give all hosts the same files (data.folder)");
    }

    /// <summary>Variables of a launcher that is not there: this process is the only one that can say it.</summary>
    [SkippableFact]
    public void A_rank_above_0_without_a_launcher_says_what_is_wrong()
    {
        MpiLauncher.SkipIfAbsent(MpiFamily.OpenMpi);
        LaunchResult result = MpiLauncher.RunAlone([MpiLauncher.LoftHpc, "run", "--config", ConfigFile], environment: new Dictionary<string, string>
        {
            ["OMPI_COMM_WORLD_RANK"] = "1",
            ["OMPI_COMM_WORLD_SIZE"] = "2",
            ["OMPI_ALLOW_RUN_AS_ROOT"] = "1",
            ["OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] = "1",
        });
        MustBeOneLine(result, ExitCodes.Environment, "Open MPI's mpiexec started 2 tasks, but MPI sees 1");
    }

    [SkippableTheory]
    [InlineData(MpiFamily.OpenMpi)]
    [InlineData(MpiFamily.Mpich)]
    public void An_MPI_that_cannot_be_loaded_is_told_once(MpiFamily family)
    {
        LaunchResult result = MpiLauncher.Run(
            family, 3, [MpiLauncher.LoftHpc, "run", "--config", ConfigFile], Soon, new Dictionary<string, string> { ["LOFTHPC_MPI_LIBRARY"] = "/nowhere/libmpi.so" });
        MustBeOneLine(result, ExitCodes.Environment, "LOFTHPC_MPI_LIBRARY=/nowhere/libmpi.so: cannot be loaded");
    }

    [Theory]
    [InlineData("LOFTHPC_MPI", "abc", "LOFTHPC_MPI=abc: allowed are openmpi and mpich")]
    [InlineData("LOFTHPC_PROGRESS", "abc", "LOFTHPC_PROGRESS=abc: allowed are bar, lines and none")]
    [InlineData("LOFTHPC_PROGRES", "bar", "the environment variable LOFTHPC_PROGRES is none that lofthpc knows; allowed are LOFTHPC_LIBTORCH, ")]
    public void A_variable_that_means_nothing_is_refused(string name, string value, string message) => MustBeOneLine(
        MpiLauncher.RunAlone([MpiLauncher.LoftHpc, "run", "--config", ConfigFile], environment: new Dictionary<string, string> { [name] = value }),
        ExitCodes.Configuration, message);

    [Fact]
    public void A_working_folder_that_is_gone_is_told()
    {
        Directory.CreateDirectory($"{TemporaryPath}/gone");
        MustBeOneLine(
            MpiLauncher.RunAlone(["bash", "-c", $"cd {TemporaryPath}/gone && rmdir ../gone && exec {MpiLauncher.LoftHpc} run --config {ConfigFile}"]),
            ExitCodes.Environment, "the working folder has been deleted");
    }

    [SkippableTheory]
    [InlineData(1)]
    [InlineData(2)]
    public void Too_few_open_files_are_told_once(int ranks)
    {
        // The launcher itself needs some: the ranks set the limit.
        string[] command = ["bash", "-c", $"ulimit -n 32; exec {MpiLauncher.LoftHpc} run --config {ConfigFile}"];
        MustBeOneLine(
            ranks == 1 ? MpiLauncher.RunAlone(command) : MpiLauncher.Run(MpiLauncher.AnyFamily(), ranks, command, Soon),
            ExitCodes.Environment, "only 32 files may be open at a time, and 256 are needed: raise the limit (ulimit -n 256)");
    }

    [SkippableFact]
    public void Too_little_memory_for_libtorch_is_told_once() => MustBeOneLine(
        MpiLauncher.Run(MpiLauncher.AnyFamily(), 2, ["bash", "-c", $"ulimit -v 2300000; exec {MpiLauncher.LoftHpc} run --config {ConfigFile}"], Soon),
        ExitCodes.Environment, "libtorch_cpu.so cannot be loaded", "may not have as much memory");

    private static void WriteMnist(string folder, byte pixel)
    {
        Directory.CreateDirectory(folder);
        foreach (string split in new[] { "train", "t10k" })
        {
            byte[] images = new byte[16 + (9 * 28 * 28)], labels = new byte[8 + 9];
            (images[2], images[3], images[7], images[11], images[15]) = (8, 3, 9, 28, 28);
            (labels[2], labels[3], labels[7]) = (8, 1, 9);
            // They differ in the last pixel of the test images alone.
            if (split == "t10k") images[^1] = pixel;
            File.WriteAllBytes($"{folder}/{split}-images-idx3-ubyte", images);
            File.WriteAllBytes($"{folder}/{split}-labels-idx1-ubyte", labels);
        }
    }
}
