using System.Diagnostics;
using LoftHpc.Mpi;
using LoftHpc.Results;
using LoftHpc.Tests.Mpi;
using Xunit;

namespace LoftHpc.Tests.Commands;

/// <summary>A disk that becomes full and a folder that vanishes: one line, what was there stays whole, the manifest has its end.</summary>
public sealed class DiskTests : ProgramTests
{
    /// <summary>From too small for the first weights to too small for the last, in KiB.</summary>
    [SkippableTheory]
    [InlineData(1, 200)]
    [InlineData(1, 1500)]
    [InlineData(2, 2300)]
    public void A_full_disk_ends_the_launch_in_one_line(int ranks, int kibibytes)
    {
        MpiFamily family = MpiLauncher.AnyFamily();
        LaunchResult result = OnSmallDisk(kibibytes, ranks == 1 ? "" : Launcher(family, ranks), $"run --config {ConfigFile} run.folder=disk run.name=a network.width=8 pretrain.epochs=1 retrain.epochs=1");
        MustBeOneLine(result, ExitCodes.Environment, ": cannot be written: No space left on device");
        RunFolder folder = RunFolder.At($"{TemporaryPath}/kept/a");
        Assert.Empty(Directory.EnumerateFiles(folder.Path, "*.part"));
        Assert.Empty(Directory.EnumerateFiles(folder.Path, ".lock"));
        LaunchRecord launch = Assert.Single(RunManifest.Read(folder.Manifest).Launches);
        Assert.Equal(ExitCodes.Environment, launch.ExitCode);
        Assert.NotNull(launch.End);
        foreach (string weights in Directory.EnumerateFiles(folder.Path, "*.safetensors")) SafetensorsFile.Open(weights).Dispose();
        if (folder.Summary.Exists) folder.Summary.Read();
    }

    [SkippableTheory]
    [InlineData(1)]
    [InlineData(2)]
    public void A_folder_that_vanishes_ends_the_launch_in_one_line(int ranks)
    {
        string launcher = ranks == 1 ? "" : Launcher(MpiLauncher.AnyFamily(), ranks);
        LaunchResult result = MpiLauncher.RunAlone(["bash", "-c", $"""
            {launcher} {MpiLauncher.LoftHpc} run --config {ConfigFile} run.folder={TemporaryPath}/results run.name=a pretrain.epochs=100000 > {TemporaryPath}/log & job=$!
            until grep -q 'epoch  *1/' {TemporaryPath}/log; do kill -0 $job || exit 99; sleep 0.05; done
            mv {TemporaryPath}/results {TemporaryPath}/moved; wait $job; exit $?
            """], TimeSpan.FromMinutes(1), new Dictionary<string, string> { ["LOFTHPC_PROGRESS"] = "lines" });
        MustBeOneLine(result, ExitCodes.Environment, $"{TemporaryPath}/results/a/", ": cannot be written: ");
    }

    [Fact]
    public void Output_goes_through_links_and_over_nothing_but_regular_files()
    {
        // Compare needs a finished run.
        MpiLauncher.RunAlone([MpiLauncher.LoftHpc, "run", "--config", ConfigFile, $"run.folder={TemporaryPath}/results", "run.name=a", "pretrain.epochs=0", "retrain.epochs=0", "pretrain.snapshots=[]"]).MustSucceed();
        LaunchResult To(string output, params string[] more) => MpiLauncher.RunAlone([MpiLauncher.LoftHpc, "compare", $"{TemporaryPath}/results", "--output", output, .. more]);
        string pipe = $"{TemporaryPath}/pipe", link = $"{TemporaryPath}/link", target = $"{TemporaryPath}/target.csv";
        Process.Start("mkfifo", pipe).WaitForExit();
        File.CreateSymbolicLink(link, target);
        MustBeOneLine(To(pipe), ExitCodes.Configuration, $"{pipe}: it is a pipe, and only a regular file is written to or replaced");
        MustBeOneLine(To("/dev/full"), ExitCodes.Configuration, "/dev/full: it is a device");
        MustBeOneLine(To(TemporaryPath), ExitCodes.Configuration, $"{TemporaryPath}: it is a folder");
        // Before the first file is written.
        MustBeOneLine(To($"{TemporaryPath}/table.csv", "--summary", pipe), ExitCodes.Configuration, $"{pipe}: it is a pipe");
        MustBeOneLine(To(target, "--summary", target), ExitCodes.Configuration, "two of --output, --statistics and --summary name the same file");
        MustBeOneLine(To("/proc/nothing/table.csv"), ExitCodes.Environment, "/proc/nothing/table.csv: cannot be written: ");
        Assert.False(File.Exists($"{TemporaryPath}/table.csv"));
        Assert.Equal("a pipe", RegularFile.WhatElse(pipe));
        Assert.Equal("a device", RegularFile.WhatElse("/dev/full"));
        To(link).MustSucceed();
        Assert.Equal(target, new FileInfo(link).LinkTarget);
        Assert.Single(new CsvTable<ComparisonRow>(target).Read());
        File.WriteAllText(target, "");
        To(link).MustSucceed();
        Assert.Single(new CsvTable<ComparisonRow>(target).Read());
    }

    /// <summary>Runs the program in a folder "disk" that has only so much room; then its files are copied to "kept".</summary>
    private LaunchResult OnSmallDisk(int kibibytes, string launcher, string command)
    {
        string mount = $"cd {TemporaryPath} && mkdir disk kept && mount -t tmpfs -o size={kibibytes}k none disk";
        Skip.If(MpiLauncher.RunAlone(["unshare", "-rm", "bash", "-c", $"mkdir -p {TemporaryPath}/try && mount -t tmpfs none {TemporaryPath}/try"]).ExitCode != 0, "this system allows no mounts of one's own (unshare -rm)");
        return MpiLauncher.RunAlone(["unshare", "-rm", "bash", "-c", $"{mount} && {{ {launcher} {MpiLauncher.LoftHpc} {command}; code=$?; cp -a disk/. kept; exit $code; }}"]);
    }
}
