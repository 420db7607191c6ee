using LoftHpc.Arithmetic;
using LoftHpc.Mpi;
using LoftHpc.Results;
using LoftHpc.Tests.Commands;
using LoftHpc.Tests.Mpi;
using Xunit;

namespace LoftHpc.Tests.Arithmetic;

/// <summary>The program on machines that compute wrongly: what is repaired is said and recorded, and what cannot be is refused.</summary>
public sealed class ArithmeticCheckTests : ProgramTests
{
    [SkippableTheory]
    [InlineData(MpiFamily.OpenMpi)]
    [InlineData(MpiFamily.Mpich)]
    public void Convolutions_that_nothing_repairs_end_the_launch_before_anything_is_written(MpiFamily family)
    {
        LaunchResult result = Start(family, 3, BrokenMachine.With("convolution", rank: 1), "run", "run.name=a");
        Assert.Equal(ExitCodes.Environment, result.ExitCode);
        string line = Assert.Single(result.Error.Split('\n'), line => line.StartsWith("lofthpc: ", StringComparison.Ordinal));
        Assert.Matches(
            "^lofthpc: error: arithmetic: conv1, a convolution 3 x 3 from 1 to 1 channels, stride 1, images of 28 x 28, is computed wrongly here: "
            + "output off by [0-9.]+ where rounding allows [0-9.e-]+; padded channels and oneDNN switched off do not help \\(.+, libtorch [0-9.]+ in /.+\\); "
            + "try ONEDNN_MAX_CPU_ISA=SSE41 in the environment, another libtorch \\(LOFTHPC_LIBTORCH\\) or another machine; .* \\(rank 1 on [^ ]+\\)$", line);
        Assert.False(Directory.Exists(Folder("a").Path));
    }

    [SkippableTheory]
    [InlineData("batch-norm", "layer1\\.0\\.bn1, a batch norm over [12] channels of 28 x 28, is computed wrongly here: output in evaluation off by")]
    [InlineData("loss", "the head and the loss, (12|24) features and 3 classes, is computed wrongly here: [a-z ]+ off by")]
    [InlineData("optimizer", "a step of the optimizer, is computed wrongly here: weights off by")]
    public void So_does_all_else_that_is_computed_wrongly(string broken, string message)
    {
        LaunchResult result = Start(MpiLauncher.AnyFamily(), 2, BrokenMachine.With(broken), "run", "run.name=a");
        Assert.Equal(ExitCodes.Environment, result.ExitCode);
        string line = Assert.Single(result.Error.Split('\n'), line => line.StartsWith("lofthpc: ", StringComparison.Ordinal));
        Assert.Matches($"^lofthpc: error: .*arithmetic: {message} [0-9.e-]+ where rounding allows [0-9.e-]+ \\(.+, libtorch [0-9.]+ in /.+\\); try ", line);
        Assert.False(Directory.Exists(Folder("a").Path));
    }

    /// <summary>Also stages that only read and measure.</summary>
    [SkippableFact]
    public void Every_stage_looks_first()
    {
        MpiFamily family = MpiLauncher.AnyFamily();
        Start(family, 1, "pretrain", "run.name=a").MustSucceed();
        foreach (string command in (string[])["extract", "retrain", "evaluate"])
        {
            string[] files = [.. Directory.EnumerateFiles(Folder("a").Path).Order()];
            LaunchResult result = Start(family, 2, BrokenMachine.With("convolution"), command, "run.name=a");
            Assert.True(result.ExitCode == ExitCodes.Environment, $"{command}: {result.ExitCode}\n{result.Error}");
            Assert.True(Occurrences(result.Error, "is computed wrongly here") == 1, $"{command}: {result.Error}");
            Assert.Equal(files, Directory.EnumerateFiles(Folder("a").Path).Order());
            if (command != "evaluate") Start(family, 1, command, "run.name=a").MustSucceed();
        }
    }

    [SkippableFact]
    public void What_is_repaired_is_said_once_and_recorded()
    {
        BrokenMachine.SkipUnlessCachesMatter();
        MpiFamily family = MpiLauncher.AnyFamily();
        Start(family, 2, "run", "run.name=as-it-is").MustSucceed();
        ArithmeticRecord[] sound = Arithmetic("as-it-is");
        foreach ((string broken, string repair, int seed) in ((string, string, int)[])[("caches", "channels-padded", 5), ("caches,padding", "onednn-off", 6)])
        {
            LaunchResult result = Start(family, 2, BrokenMachine.With(broken, rank: 1), "run", $"run.name={repair}", $"run.seed={seed}").MustSucceed();

            ArithmeticRecord[] records = Arithmetic(repair);
            Assert.Equal(sound[0], records[0]);
            Assert.Equal((repair, sound[1].Checked), (records[1].Repair, records[1].Checked));
            Assert.InRange(records[1].Convolutions, 1, records[1].Checked);
            ArithmeticRepair[] repairs = [.. records.Select(record => Enum.Parse<ArithmeticRepair>(record.Repair.Replace("-", "", StringComparison.Ordinal), ignoreCase: true))];
            Assert.All(Folder(repair).Resources.Read(), row => Assert.Equal((repairs[row.Rank], records[row.Rank].Convolutions), (row.Repair, row.RepairedConvolutions)));
            Assert.Equal(1, Occurrences(result.Error, "warning: arithmetic: "));
            // A machine may have the fault by itself.
            string who = records[0] with { Rank = 1 } == records[1] ? "ranks 0, 1" : "rank 1";
            Assert.Contains($"{records[1].Convolutions} of {records[1].Checked} on {who} ({repair})", result.Error, StringComparison.Ordinal);
        }
        if (sound.Any(record => record.Convolutions > 0)) return;
        Assert.All(Folder("as-it-is").Resources.Read(), row => Assert.Equal((ArithmeticRepair.None, 0), (row.Repair, row.RepairedConvolutions)));
        LaunchResult compared = MpiLauncher.RunAlone(
            [MpiLauncher.LoftHpc, "compare", Path.GetDirectoryName(Folder("as-it-is").Path)!, "--output", Path.Combine(TemporaryPath, "compared.csv")]).MustSucceed();
        Assert.Contains(
            "runs differ in their arithmetic: as libtorch has it (as-it-is); repaired (channels-padded) (channels-padded); repaired (onednn-off) (onednn-off)",
            compared.Output + compared.Error, StringComparison.Ordinal);
    }

    private ArithmeticRecord[] Arithmetic(string run) =>
        [.. Assert.Single(RunManifest.Read(Folder(run).Manifest).Launches).Arithmetic!.OrderBy(record => record.Rank)];

    /// <summary>The first step of every rank computes nothing that was not looked at before.</summary>
    [SkippableTheory]
    [InlineData(1, "pretrain.method=dense")]
    [InlineData(3, "pretrain.method=filter-parallel", "latency.batches=[2]", "latency.rounds=1")]
    [InlineData(3, "run.precision=bfloat16")]
    [InlineData(2, "run.memory_format=channels-last", "network.family=resnet")]
    [InlineData(4, "pretrain.assignment=random", "extract.first_blocks=true")]
    [InlineData(2, "pretrain.backward=local", "network.form=imagenet")]
    [InlineData(3, "pretrain.method=data-parallel")]
    [InlineData(2, "pretrain.method=local-sgd", "network.family=resnet")]
    [InlineData(3, "pretrain.method=loft", "pretrain.local_steps=1")]
    [InlineData(2, "pretrain.method=loft", "pretrain.loft.warmup_rounds=1", "pretrain.local_steps=2", "pretrain.loft.first_blocks=true")]
    [InlineData(2, "pretrain.method=loft", "network.family=wide-resnet", "network.depth=16", "pretrain.loft.stages=[2,3]", "pretrain.loft.running_statistics=recompute")]
    [InlineData(3, "pretrain.method=gpipe")]
    public void A_run_meets_no_convolution_that_was_not_checked_before(int ranks, params string[] overrides) => MpiLauncher.RunScenario(
        MpiLauncher.AnyFamily(), ranks, ["ArithmeticScenarios.NothingUnchecked", "run", ConfigFile, $"run.folder={TemporaryPath}/results", "run.name=a", .. overrides]).MustSucceed();

    [SkippableFact]
    public void Nor_do_the_stages_one_by_one()
    {
        foreach (string command in new[] { "pretrain", "extract", "retrain", "evaluate" })
            MpiLauncher.RunScenario(
                MpiLauncher.AnyFamily(), 2, ["ArithmeticScenarios.NothingUnchecked", command, ConfigFile, $"run.folder={TemporaryPath}/results", "run.name=a", "latency.batches=[2]", "latency.rounds=1"]).MustSucceed();
    }

    [SkippableFact]
    public void Memory_that_is_filled_with_NaN_stays_so() => Assert.Equal(
        "NaN", MpiLauncher.Run(
            MpiLauncher.AnyFamily(), 1, [MpiLauncher.RankProgram, "ArithmeticScenarios.MemoryStaysNaN"], environment: BrokenMachine.With("memory")).MustSucceed().Output.Trim());

    /// <summary>
    /// Nothing that a run computes comes from memory that was never written: the same bits where all that is allocated holds
    /// NaN first.
    /// </summary>
    [SkippableTheory]
    // The self-test does the steps of all methods on such memory.
    [InlineData("filter-parallel", 3)]
    [InlineData("loft", 2)]
    public void A_run_whose_memory_begins_as_NaN_has_the_same_bits(string method, int ranks)
    {
        MpiFamily family = MpiLauncher.AnyFamily();
        Start(family, ranks, "run", "run.name=a", $"pretrain.method={method}").MustSucceed();
        Start(family, ranks, BrokenMachine.With("memory"), "run", "run.name=b", $"pretrain.method={method}").MustSucceed();
        MustBeAlike("a", "b");
    }
}
