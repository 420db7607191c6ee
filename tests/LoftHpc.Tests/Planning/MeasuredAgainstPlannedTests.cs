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
    // epochs, measurements and an epoch end in the middle of rounds, and the last round is short. The 100 test images
    // go in a batch of 80, at the widest in two pieces, and one of 20.
    private const string Config = """
        run: {name: a, seed: 4, device: cpu, threads: 1}
        network: {family: preact-resnet, depth: 18, width: 5}
        data: {set: synthetic, train_images: 70, test_images: 100, synthetic: {channels: 1, size: 28, classes: 3}}
        pretrain: {epochs: 2, batch: 16, local_steps: 3, snapshots: [1], optimizer: {learning_rate: 0.05}}
        distance: {every: 2 steps, pairs_max: 4}
        evaluate: {batch: 80}
        """;

    private readonly TemporaryFolder _folder = new();

    public static TheoryData<int, string> Runs
    {
        get
        {
            (PretrainMethod Method, string Overrides)[] methods =
            [
                (PretrainMethod.FilterParallel, ""),
                (PretrainMethod.FilterParallel, "pretrain.backward=local pretrain.assignment=random network.width=3"),
                (PretrainMethod.FilterParallel, "network.family=resnet"),
                (PretrainMethod.FilterParallel, "run.precision=bfloat16"),
                (PretrainMethod.Gpipe, "run.precision=bfloat16"),
                (PretrainMethod.FilterParallel, "run.memory_format=channels-last"),
                (PretrainMethod.DataParallel, ""),
                (PretrainMethod.DataParallel, "pretrain.batch_norm=per-rank network.family=resnet"),
                (PretrainMethod.LocalSgd, ""),
                (PretrainMethod.LocalSgd, "pretrain.samples=shard"),
                (PretrainMethod.Loft, ""),
                (PretrainMethod.Loft, "pretrain.samples=shard pretrain.loft.running_statistics=average network.family=resnet"),
                (PretrainMethod.Loft, "pretrain.loft.momentum=travel pretrain.loft.warmup_rounds=1 pretrain.loft.first_blocks=true"),
                // More ranks than filters.
                (PretrainMethod.Loft, "network.family=wide-resnet network.depth=16 network.width=1 pretrain.loft.stages=[1,2,3]"),
                // Widths that the ranks divide: shares then have the same sizes, whoever gets which filter.
                (PretrainMethod.Loft, "pretrain.loft.deal=norm network.width=4"),
                (PretrainMethod.Gpipe, ""),
                (PretrainMethod.Gpipe, "pretrain.gpipe.micro_batches=5 network.family=resnet"),
            ];
            TheoryData<int, string> runs = new() { { 1, Row(PretrainMethod.Dense, "") }, { 1, Row(PretrainMethod.Loft, "") }, { 1, Row(PretrainMethod.Gpipe, "") } };
            foreach ((PretrainMethod method, string overrides) in methods)
            {
                foreach (int ranks in new[] { 2, 4 }) runs.Add(ranks, Row(method, overrides));
            }
            return runs;
        }
    }

    public void Dispose() => _folder.Dispose();

    [SkippableTheory]
    [MemberData(nameof(Runs))]
    public void Communication_memory_and_work_are_those_that_were_planned(int ranks, string overrides) => Compare(ranks, overrides, ExchangeCut.Host);

    /// <summary>Pieces so small that most exchanges have several, some ranks nothing in some of them.</summary>
    [SkippableTheory]
    [InlineData(2, "pretrain.method=filter-parallel")]
    [InlineData(3, "pretrain.method=filter-parallel run.precision=bfloat16 run.memory_format=channels-last")]
    [InlineData(3, "pretrain.method=data-parallel")]
    [InlineData(4, "pretrain.method=local-sgd")]
    [InlineData(3, "pretrain.method=loft")]
    [InlineData(4, "pretrain.method=gpipe")]
    public void So_are_those_of_staged_exchanges(int ranks, string overrides) =>
        Compare(ranks, $"{overrides} pretrain.epochs=1 pretrain.snapshots=[] data.train_images=40 data.test_images=30", ExchangeCut.Staged with { PieceBytes = 5000 });

    private void Compare(int ranks, string overrides, ExchangeCut cut)
    {
        string file = Path.Combine(_folder.Path, "test.yaml");
        File.WriteAllText(file, Config);
        string[] settings = [.. overrides.Split(' ', StringSplitOptions.RemoveEmptyEntries), $"run.folder={_folder.Path}/results"];
        MpiLauncher.Run(MpiLauncher.AnyFamily(), ranks, [MpiLauncher.LoftHpc, "pretrain", "--config", file, .. settings], environment: Environment(cut)).MustSucceed();
        RunFolder folder = RunFolder.At(Path.Combine(_folder.Path, "results", "a"));
        RunConfig config = RunConfigLoader.Load(file, settings);
        PretrainPlan plan = PretrainPlan.Of(PlanSetting.Of(config, ranks) with { Cut = cut });
        bool average = config.Pretrain is { Method: PretrainMethod.Loft, Loft.Deal: DealKind.Norm };

        // Where the plan has an average only, what the average is of is left out.
        CommunicationRow Comparable(CommunicationRow row) => average && row.Collective == "alltoallv"
            ? row with { Seconds = 0, Messages = 0, BytesSent = 0, BytesReceived = 0 }
            : row with { Seconds = 0 };
        string Lines(IEnumerable<CommunicationRow> rows) => string.Join('\n', rows.Select(row => Comparable(row).ToString()).Order(StringComparer.Ordinal));
        IReadOnlyList<CommunicationRow> measured = folder.Communication.Read();
        IEnumerable<CommunicationRow> planned = plan.Whole.Rows;
        Assert.True(Lines(planned) == Lines(measured), $"planned\n{Lines(planned)}\nbut measured\n{Lines(measured)}");
        if (!average) Assert.Equal(planned.Sum(row => row.BytesSent), measured.Sum(row => row.BytesSent));
        Assert.Equal(measured.Sum(row => row.BytesSent), measured.Sum(row => row.BytesReceived));

        IReadOnlyList<ResourcesRow> resources = folder.Resources.Read();
        Assert.Equal(ranks, resources.Count);
        foreach (ResourcesRow row in resources)
        {
            Assert.Equal(
                plan.Memory(row.Rank), new TrainingMemory(row.WeightBytes, row.GradientBytes, row.OptimizerBytes, row.ExchangeBytes));
            Assert.Equal(plan.Work(row.Rank), new TrainingWork(row.Images, row.Flops));
        }
    }

    private static Dictionary<string, string>? Environment(ExchangeCut cut) => cut.ByImage ? null : new() { [ExchangeCut.TestVariable] = $"{cut.PieceBytes}" };

    private static string Row(PretrainMethod method, string overrides) => $"pretrain.method={ConfigName.Of(method)} {overrides}".Trim();
}
