using LoftHpc.Communication;
using LoftHpc.Configuration;
using LoftHpc.Planning;
using LoftHpc.Results;
using LoftHpc.Tests.Mpi;
using LoftHpc.Tests.Results;
using LoftHpc.Training;
using Xunit;

namespace LoftHpc.Tests.Planning;

/// <summary>Short runs on real ranks: what they count equals what the plan says, on every rank.</summary>
public sealed class MeasuredAgainstPlannedTests : IDisposable
{
    // 70 images in batches of 16: the last one of an epoch is odd. Rounds of 3 of the 10 steps end in the middle of
    // epochs, measurements and an epoch end in the middle of rounds, and the last round is short. Weights are saved where a
    // measurement is made in the middle of a round, and where nothing else is done. The 100 test images
    // go in a batch of 80, at the widest in two pieces, and one of 20.
    private const string Config = """
        run: {name: a, seed: 4, device: cpu, threads: 1}
        network: {family: preact-resnet, depth: 18, width: 5}
        data: {set: synthetic, train_images: 70, test_images: 100, synthetic: {channels: 1, size: 28, classes: 3}}
        pretrain: {epochs: 2, batch: 16, local_steps: 3, snapshots: [1], snapshot_steps: [4, 7], optimizer: {learning_rate: 0.05}}
        distance: {every: 2 steps, pairs_max: 4}
        evaluate: {batch: 80}
        """;

    private readonly TemporaryFolder _folder = new();

    /// <summary>At 2 and at 4 ranks.</summary>
    private static readonly (PretrainMethod Method, string Overrides)[] Methods =
    [
        (PretrainMethod.FilterParallel, "data.validation_images=10"),
        (PretrainMethod.FilterParallel, "pretrain.backward=local pretrain.assignment=random network.width=3"),
        (PretrainMethod.FilterParallel, "network.family=resnet"),
        (PretrainMethod.FilterParallel, "run.precision=bfloat16"),
        (PretrainMethod.Gpipe, "run.precision=bfloat16"),
        (PretrainMethod.FilterParallel, "run.memory_format=channels-last"),
        (PretrainMethod.DataParallel, ""),
        (PretrainMethod.DataParallel, "pretrain.batch_norm=per-rank network.family=resnet data.validation_images=10"),
        (PretrainMethod.LocalSgd, ""),
        (PretrainMethod.LocalSgd, "pretrain.samples=shard data.validation_images=10"),
        (PretrainMethod.Loft, "data.validation_images=10"),
        (PretrainMethod.Loft, "pretrain.samples=shard pretrain.loft.running_statistics=average network.family=resnet"),
        (PretrainMethod.Loft, "pretrain.loft.momentum=travel pretrain.loft.warmup_rounds=1 pretrain.loft.first_blocks=true"),
        // More ranks than filters.
        (PretrainMethod.Loft, "network.family=wide-resnet network.depth=16 network.width=1 pretrain.loft.stages=[1,2,3]"),
        // Widths that the ranks divide: shares then have the same sizes, whoever gets which filter.
        (PretrainMethod.Loft, "pretrain.loft.deal=norm network.width=4"),
        (PretrainMethod.Gpipe, ""),
        (PretrainMethod.Gpipe, "data.validation_images=10 pretrain.gpipe.micro_batches=5 network.family=resnet"),
    ];

    public void Dispose() => _folder.Dispose();

    [SkippableTheory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(4)]
    public void Communication_memory_and_work_are_those_that_were_planned(int ranks) => Compare(
        ranks, ranks == 1
            ? [Row(PretrainMethod.Dense, ""), Row(PretrainMethod.Loft, ""), Row(PretrainMethod.Gpipe, "")]
            : [.. Methods.Select(method => Row(method.Method, method.Overrides))],
        ExchangeCut.Host);

    /// <summary>Pieces so small that most exchanges have several, some ranks nothing in some of them.</summary>
    [SkippableTheory]
    [InlineData(2, "pretrain.method=filter-parallel")]
    [InlineData(3, "pretrain.method=filter-parallel run.precision=bfloat16 run.memory_format=channels-last", "pretrain.method=data-parallel", "pretrain.method=loft")]
    [InlineData(4, "pretrain.method=local-sgd", "pretrain.method=gpipe")]
    public void So_are_those_of_staged_exchanges(int ranks, params string[] runs) => Compare(
        ranks, [.. runs.Select(run => $"{run} pretrain.epochs=1 pretrain.snapshots=[] pretrain.snapshot_steps=[] data.train_images=40 data.test_images=30")], ExchangeCut.Staged with { PieceBytes = 5000 });

    /// <summary>All runs in the same ranks, one after the other.</summary>
    /// <param name="runs">Settings of each.</param>
    private void Compare(int ranks, string[] runs, ExchangeCut cut)
    {
        string file = Path.Combine(_folder.Path, "test.yaml");
        File.WriteAllText(file, Config);
        string[][] settings = [.. runs.Select((run, i) => (string[])[.. run.Split(' ', StringSplitOptions.RemoveEmptyEntries), $"run.folder={_folder.Path}/results", $"run.name=run-{i}"])];
        MpiLauncher.RunScenarios(
            MpiLauncher.AnyFamily(), ranks, settings.Select(each => (string[])["CommandScenarios.Command", "pretrain", file, .. each]), Environment(cut)).MustSucceed();
        for (int i = 0; i < runs.Length; i++) Compare(ranks, runs[i], RunConfigLoader.Load(file, settings[i]), RunFolder.At(Path.Combine(_folder.Path, "results", $"run-{i}")), cut);
    }

    private static void Compare(int ranks, string run, RunConfig config, RunFolder folder, ExchangeCut cut)
    {
        PretrainPlan plan = PretrainPlan.Of(PlanSetting.Of(config, ranks) with { Cut = cut });
        bool average = config.Pretrain is { Method: PretrainMethod.Loft, Loft.Deal: DealKind.Norm };

        // Where the plan has an average only, what the average is of is left out.
        CommunicationRow Comparable(CommunicationRow row) => average && row.Collective == "alltoallv"
            ? row with { Seconds = 0, Messages = 0, BytesSent = 0, BytesReceived = 0 }
            : row with { Seconds = 0 };
        string Lines(IEnumerable<CommunicationRow> rows) => string.Join('\n', rows.Select(row => Comparable(row).ToString()).Order(StringComparer.Ordinal));
        IReadOnlyList<CommunicationRow> measured = folder.Communication.Read();
        IEnumerable<CommunicationRow> planned = plan.Whole.Rows;
        Assert.True(Lines(planned) == Lines(measured), $"{run}: planned\n{Lines(planned)}\nbut measured\n{Lines(measured)}");
        if (!average) Assert.Equal((run, planned.Sum(row => row.BytesSent)), (run, measured.Sum(row => row.BytesSent)));
        Assert.Equal((run, measured.Sum(row => row.BytesSent)), (run, measured.Sum(row => row.BytesReceived)));

        IReadOnlyList<ResourcesRow> resources = folder.Resources.Read();
        Assert.Equal((run, ranks), (run, resources.Count));
        foreach (ResourcesRow row in resources)
        {
            Assert.Equal(
                (run, plan.Memory(row.Rank)), (run, new TrainingMemory(row.WeightBytes, row.GradientBytes, row.OptimizerBytes, row.ExchangeBytes)));
            Assert.Equal((run, plan.Work(row.Rank)), (run, new TrainingWork(row.Images, row.Flops)));
        }
    }

    private static Dictionary<string, string>? Environment(ExchangeCut cut) => cut.ByImage ? null : new() { [ExchangeCut.TestVariable] = $"{cut.PieceBytes}" };

    private static string Row(PretrainMethod method, string overrides) => $"pretrain.method={ConfigName.Of(method)} {overrides}".Trim();
}
