using LoftHpc.Communication;
using LoftHpc.Configuration;
using LoftHpc.Distances;
using LoftHpc.Planning;
using Xunit;

namespace LoftHpc.Tests.Planning;

/// <summary>Plans of trainings that nobody could walk through step by step.</summary>
public sealed class PlanExtremesTests
{
    [Theory]
    [InlineData(0, 100, 3, 4, 6)]
    [InlineData(37, 211, 2, 3, 5)]
    [InlineData(10, 11, 1, 1, 1)]
    [InlineData(5, 64, 7, 1, 100)]
    public void Kinds_of_steps_are_those_that_are_found_one_by_one(long after, long last, long a, long b, long c)
    {
        static (bool, bool, bool) Kind(long step, long a, long b, long c) => (step % a == 0, step % b == 0, step % c == 0);
        Dictionary<(bool, bool, bool), long> expected = [];
        for (long step = after + 1; step <= last; step++) expected[Kind(step, a, b, c)] = expected.GetValueOrDefault(Kind(step, a, b, c)) + 1;
        StepKind[] found = [.. StepKinds.Of(after, last, a, b, c)];
        Assert.All(found, kind => Assert.InRange(kind.Step, after + 1, last));
        Assert.Equal(expected.OrderBy(pair => pair.Key), found.ToDictionary(kind => Kind(kind.Step, a, b, c), kind => kind.Count).OrderBy(pair => pair.Key));
    }

    [Fact]
    public void Pairs_of_measurements_are_counted_without_a_list()
    {
        for (int measurements = 1; measurements < 40; measurements++)
        {
            for (int most = 2; most < 12; most++)
                Assert.Equal(RankingTracker.PairsRemaining(measurements, most).Count, RankingTracker.CountRemaining(measurements, most));
        }
        Assert.Equal(999L * 999, RankingTracker.CountRemaining(10_000_000_000_001, 1000));
    }

    private static RunConfig Config(string overrides) =>
        RunConfigLoader.Parse("", "x", overrides.Split(' ', StringSplitOptions.RemoveEmptyEntries).Select(item => item.Replace('_', ' ').Replace('~', '_')));

    public static TheoryData<string> Walked
    {
        get
        {
            string[] times =
            [
                "pretrain.local~steps=3 distance.every=2_steps pretrain.snapshot~steps=[1,4,5]", "pretrain.local~steps=5 distance.every=5_steps pretrain.snapshots=[1,4]",
                "pretrain.local~steps=1000 distance.every=1_epoch pretrain.snapshots=[3]", "pretrain.local~steps=1 distance.every=7_steps data.validation~images=9", "pretrain.epochs=0",
                "pretrain.local~steps=4 distance.every=3_epochs pretrain.loft.warmup~rounds=2 pretrain.snapshots=[1,2,4]",
                "pretrain.local~steps=2 distance.every=1_step pretrain.loft.warmup~rounds=9", "pretrain.local~steps=2 distance.every=3_steps pretrain.loft.warmup~rounds=900",
            ];
            string[] methods =
            [
                "filter-parallel", "data-parallel", "data-parallel pretrain.batch~norm=per-rank", "local-sgd", "loft", "loft pretrain.loft.deal=norm",
                "loft pretrain.samples=shard pretrain.loft.running~statistics=average", "gpipe pretrain.gpipe.micro~batches=5",
            ];
            return [.. from time in times from method in methods select $"data.set=synthetic data.train~images=70 data.test~images=33 network.width=5 pretrain.epochs=4 pretrain.batch=16 distance.pairs~max=6 evaluate.batch=7 {time} pretrain.method={method}"];
        }
    }

    /// <summary>The same training, planned step by step.</summary>
    [Theory]
    [MemberData(nameof(Walked))]
    public void Steps_of_a_kind_cost_what_each_of_them_costs(string overrides)
    {
        PlanSetting setting = PlanSetting.Of(Config(overrides), 3);
        PretrainPlan plan = PretrainPlan.Of(setting);
        MethodPlan method = MethodPlan.Create(setting);
        CommunicationPlan whole = new(3);
        int measured = 0;
        long pairs = setting.Network.Convolutions.Count();
        void Measure()
        {
            method.MeasureNorms(whole);
            long[] filters = [.. Enumerable.Range(0, 3).Select(method.FiltersMeasured)];
            if (measured == 0)
            {
                whole.Allgather(CommunicationPurpose.Distance, 1, 8);
                whole.Allgatherv(CommunicationPurpose.Distance, filters, 4);
            }
            whole.Allgatherv(CommunicationPurpose.Distance, filters, 8);
            int compared = RankingTracker.PairsAt(measured++).Count;
            if (compared > 0) whole.Reduce(CommunicationPurpose.Distance, compared * pairs, 8);
        }
        method.Save(whole);
        Measure();
        long every = setting.Config.Distance.Every.ToSteps(setting.StepsPerEpoch);
        if (setting.Steps == 0) method.Evaluate(whole, setting.Images.TestImages);
        for (long step = 1; step <= setting.Steps; step++)
        {
            method.Step(whole, step - 1);
            bool saves = setting.Pretrain.SnapshotSteps.Contains((int)step);
            if (saves || method.MeetsAfter(step - 1) || step % every == 0 || step % setting.StepsPerEpoch == 0 || step == setting.Steps) whole.Allreduce(CommunicationPurpose.Control, 1, 4);
            if (step % every == 0 || step == setting.Steps) Measure();
            if (saves) method.Save(whole);
            if (step % setting.StepsPerEpoch != 0) continue;
            method.TakeTotals(whole);
            foreach (int images in setting.Images.Evaluated) method.Evaluate(whole, images);
            if (setting.Pretrain.Snapshots.Contains((int)(step / setting.StepsPerEpoch))) method.Save(whole);
        }
        int left = RankingTracker.PairsRemaining(measured, setting.Config.Distance.PairsMax).Count;
        if (left > 0) whole.Reduce(CommunicationPurpose.Distance, left * pairs, 8);
        method.MoveFilters(whole);
        method.Save(whole);
        Assert.Equal(whole.Rows, plan.Whole.Rows);
        Assert.All(Enumerable.Range(0, 3), rank => Assert.Equal((method.Work(rank), method.Memory(rank)), (plan.Work(rank), plan.Memory(rank))));
    }

    public static TheoryData<string> Extremes
    {
        get
        {
            string[] networks = ["network.width=1", "network.family=wide-resnet network.depth=1000 network.width=1 distance.pairs~max=300"];
            string[] times =
            [
                "distance.every=1_step pretrain.batch=1 evaluate.batch=1 pretrain.gpipe.micro~batches=1",
                "distance.every=1000000000_epochs pretrain.batch=1000000 pretrain.gpipe.micro~batches=1000000 pretrain.local~steps=1000000",
                "pretrain.local~steps=1 pretrain.batch=7 pretrain.loft.deal=norm pretrain.batch~norm=per-rank pretrain.loft.warmup~rounds=1000000",
            ];
            return [.. from method in Enum.GetValues<PretrainMethod>() from network in networks from time in times
                select $"{network} {time} pretrain.samples=shard data.train~images=1000 data.test~images=100 pretrain.method={ConfigName.Of(method)}"];
        }
    }

    /// <summary>A million epochs on the most ranks compute a million times what one does.</summary>
    [Theory(Timeout = 60_000)]
    [MemberData(nameof(Extremes))]
    public async Task The_plan_of_a_million_epochs_ends(string overrides) => await Task.Run(() =>
    {
        PretrainMethod method = Config(overrides).Pretrain.Method;
        int ranks = method switch { PretrainMethod.Dense => 1, PretrainMethod.Gpipe => 10, _ => 1024 };
        PretrainPlan Of(int epochs) => PretrainPlan.Of(PlanSetting.Of(Config($"{overrides} pretrain.epochs={epochs}"), ranks));
        PretrainPlan all = Of(1_000_000), one = Of(1);
        Assert.Equal(1_000_000 * one.Work(0).Images, all.Work(0).Images);
        Assert.InRange(one.Work(0).Images, 1, 1000);
        if (ranks > 1) Assert.InRange((double)all.Whole.BytesSent / one.Whole.BytesSent, 1000, 2_000_000);
    });

    [Fact]
    public void Sums_beyond_64_bits_are_a_line() => Assert.StartsWith(
        "pretrain: the FLOPs or bytes of all steps",
        Assert.Throws<UserError>(() => PretrainPlan.Of(PlanSetting.Of(Config("network.width=1500 pretrain.epochs=1000000 pretrain.method=local-sgd"), 1024))).Message);
}
