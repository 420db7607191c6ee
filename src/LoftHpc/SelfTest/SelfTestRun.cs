using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using LoftHpc.Arithmetic;
using LoftHpc.Communication;
using LoftHpc.Configuration;
using LoftHpc.Data;
using LoftHpc.Mpi;
using LoftHpc.Networks;
using LoftHpc.Output;
using LoftHpc.Training;
using TorchSharp;
using static TorchSharp.torch;

namespace LoftHpc.SelfTest;

/// <summary>
/// Proves an installation on the ranks, devices and MPI that a job would use: arithmetic, collectives, every training method
/// against one process, and memory; and measures bandwidth and speed. All ranks do the same.
/// </summary>
/// <param name="world">All ranks.</param>
/// <param name="direct">Whether MPI takes addresses in the device's memory.</param>
/// <param name="config">Whose network is timed.</param>
/// <param name="tamper">Changes what a rank holds before it trains, to see that the self-test finds it; null: nothing.</param>
public sealed class SelfTestRun(ICommunicator world, Device device, bool direct, RunConfig config, Action<ModelState>? tamper = null)
{
    /// <summary>Failures that are shown; a broken machine has thousands.</summary>
    private const int Shown = 40;

    /// <summary>
    /// Of the convolutions looked at: channels that fill the blocks of vector units, and counts beside them. The sides, taken in
    /// turn, meet every kernel with every stride, since 11 and 6 have no factor in common.
    /// </summary>
    private static readonly int[] Channels = [1, 2, 3, 5, 8, 16, 17, 24, 31, 48, 63, 64], Kernels = [1, 3, 7], Strides = [1, 2], Sides = [32, 28, 16, 14, 8, 7, 5, 4, 3, 2, 1];
    private static readonly int[] Features = [1, 5, 64, 512], Classes = [2, 10, 100];
    private static readonly string[] MethodNames = ["filter-parallel", "data-parallel", "local-sgd", "loft", "gpipe"];

    private static readonly NetworkSection[] Families =
    [
        new() { Family = NetworkFamily.PreactResnet, Depth = 18, Width = 3 },
        new() { Family = NetworkFamily.Resnet, Depth = 18, Width = 3 },
        new() { Family = NetworkFamily.WideResnet, Depth = 10, Width = 2, WidenFactor = 2 },
    ];

    /// <summary>What was found in one part, over all ranks.</summary>
    private sealed record PartResult(string Name, long Checks, long Failed, double Worst, double Seconds, IReadOnlyList<string> Failures);

    /// <summary>What one rank found.</summary>
    private sealed record RankResult(long Checks, long Failed, double Worst, IReadOnlyList<string> Failures);

    /// <summary>Ranks whose rounds are replayed in one process, at most: its time grows with them.</summary>
    private const int ReplayedRanks = 8;

    private readonly bool _inBfloat16 = config.Run.Precision is Precision.Bfloat16;

    /// <summary>In which the config would have it all computed.</summary>
    private readonly MemoryFormat _format = MemoryFormats.Resolve(config.Run.MemoryFormat, Precisions.Resolve(config.Run.Precision, device), device.type);

    private LargeMessages? _messages;

    /// <summary>The parts, in their order: each proves what later ones rely on.</summary>
    private IReadOnlyList<(string Name, bool NeededByAll, Action<Findings> Run)> Parts =>
    [
        ("convolutions", true, Convolutions),
        ("batch norm, head, loss, optimizer", true, OtherLayers),
        ("collectives", true, findings => new CollectiveChecks(findings).All(world)),
        .. world.Size > 1 ? new (string, bool, Action<Findings>)[] { ("large messages", false, LargeMessages) } : [],
        ("images", false, findings => ImageChecks.All(device, findings)),
        ("training methods", false, findings => InFullPrecision(() => TrainingMethods(findings))),
        ("rounds of loft and local-sgd", false, findings => InFullPrecision(() => Rounds(findings))),
        ("live tensors over 100 steps", false, LiveTensors),
    ];

    /// <summary>What can be done alone.</summary>
    public IReadOnlyList<string> PartNames => [.. Parts.Select(part => part.Name)];

    /// <summary>Does all of it and prints a table, and then how many checks passed, or what failed. Collective.</summary>
    /// <param name="only">Parts that are done; null: all, and the measurements.</param>
    /// <returns>Whether all passed; the same on every rank.</returns>
    public bool Run(IReporter reporter, Func<string, bool>? only = null)
    {
        List<PartResult> results = [];
        foreach ((string name, bool neededByAll, Action<Findings> run) in Parts.Where(part => only is null || only(part.Name)))
        {
            reporter.Verbose(name);
            Stopwatch clock = Stopwatch.StartNew();
            Findings findings = new();
            OrFail(name, () => run(findings));
            results.Add(Gather(name, findings, clock.Elapsed.TotalSeconds));
            if (neededByAll && results[^1].Failed > 0) break;
        }
        long checks = results.Sum(part => part.Checks), failed = results.Sum(part => part.Failed);
        reporter.Table(Table(results), isResult: true);
        (ArithmeticRepair repair, int convolutions) = Convolution.Repairs;
        string[] repairs = world.Allgather(convolutions == 0 ? "" : string.Create(CultureInfo.InvariantCulture, $"{ConfigName.Of(repair)}, {convolutions} convolutions"));
        foreach (var alike in repairs.Select((text, rank) => (text, rank)).Where(pair => pair.text.Length > 0).GroupBy(pair => pair.text))
            reporter.Result($"repaired on rank{(alike.Count() == 1 ? "" : "s")} {string.Join(", ", alike.Select(pair => pair.rank))}: {alike.Key}");
        if (failed == 0 && only is null) OrFail("measurement", () => Measure(reporter));
        string[] failures = [.. results.SelectMany(part => part.Failures)];
        foreach (string failure in failures.Take(Shown)) reporter.Result($"failed: {failure}");
        if (failed > Shown || failed > failures.Length) reporter.Result(string.Create(CultureInfo.InvariantCulture, $"failed: {failed - Math.Min(Shown, failures.Length)} more"));
        reporter.Result(failed == 0
            ? string.Create(CultureInfo.InvariantCulture, $"{checks} checks passed")
            : string.Create(CultureInfo.InvariantCulture, $"{failed} of {checks} checks FAILED{(results.Count < Parts.Count && only is null ? "; what depends on them was not done" : "")}"));
        return failed == 0;
    }

    private static void OrFail(string part, Action run)
    {
        try
        {
            run();
        }
        catch (Exception error) when (error is NonFiniteException or UserError)
        {
            // The other ranks may be in the middle of a step: the job ends here.
            throw new UserError($"self-test, {part}: {error.Message}", ExitCodes.Failure);
        }
    }

    private PartResult Gather(string name, Findings findings, double seconds)
    {
        RankResult own = new(findings.Checks, findings.Failed, double.IsFinite(findings.Worst) ? findings.Worst : double.MaxValue, findings.Failures);
        RankResult[] all = [.. world.Allgather(JsonSerializer.Serialize(own)).Select(text => JsonSerializer.Deserialize<RankResult>(text)!)];
        return new PartResult(
            name, all.Sum(rank => rank.Checks), all.Sum(rank => rank.Failed), all.Max(rank => rank.Worst), seconds,
            [.. all.SelectMany((rank, number) => rank.Failures.Select(failure => string.Create(CultureInfo.InvariantCulture, $"rank {number}: {failure}")))]);
    }

    private static TextTable Table(IEnumerable<PartResult> results) => new(
        "", ["part", "checks", "failed", "largest error / allowed", "seconds"],
        [.. results.Select(part => (IReadOnlyList<string>)
        [
            part.Name, string.Create(CultureInfo.InvariantCulture, $"{part.Checks:N0}"), string.Create(CultureInfo.InvariantCulture, $"{part.Failed:N0}"),
            part.Worst == 0 ? "" : part.Worst == double.MaxValue ? "no number" : string.Create(CultureInfo.InvariantCulture, $"{part.Worst:g2}"),
            string.Create(CultureInfo.InvariantCulture, $"{part.Seconds:F1}"),
        ])],
        new HashSet<int> { 1, 2, 3, 4 });

    /// <summary>
    /// Every pair of channel counts with every kernel and stride, the side going round from another one on each rank; and those of
    /// the network that is timed.
    /// </summary>
    private void Convolutions(Findings findings)
    {
        LayerShapes timed = new();
        (NetworkSpec network, int side) = SpeedMeasurement.Network(config);
        ScalarType[] types = _inBfloat16 ? [float32, bfloat16] : [float32];
        foreach (ScalarType type in types) timed.Add(network, side, network.Tensors.Select(TensorSlice.Whole), new ActivationLayout(type, _format), device.type);
        int number = world.Rank;
        ConvolutionShape[] shapes =
        [
            .. from type in types from i in Channels from o in Channels from k in Kernels from s in Strides
               select new ConvolutionShape(i, o, k, s, k / 2, Sides[number++ % Sides.Length], new ActivationLayout(type, _format), device.type),
            .. timed.Convolutions.Select(convolution => convolution.Shape),
        ];
        ArithmeticFault?[] faults;
        ArithmeticRepair before;
        do
        {
            before = Convolution.Repairs.Repair;
            faults = [.. shapes.Select(shape => Convolution.CheckAndRepair(shape, device).Fault)];
        }
        // Without oneDNN all are computed by other code, those that were looked at before too.
        while (before is not ArithmeticRepair.OnednnOff && Convolution.Repairs.Repair is ArithmeticRepair.OnednnOff);
        for (int i = 0; i < shapes.Length; i++)
            findings.True(faults[i] is null, $"convolution {shapes[i]}{(shapes[i].Type is ScalarType.BFloat16 ? ", in bfloat16" : "")}: {faults[i]}; no repair helps");
    }

    private void OtherLayers(Findings findings)
    {
        void Right(string what, ArithmeticFault? fault) => findings.True(fault is null, $"{what}: {fault}");
        foreach (ScalarType type in (ScalarType[])[float32, float64, .. _inBfloat16 ? [bfloat16] : Array.Empty<ScalarType>()])
        {
            ActivationLayout layout = new(type, _format);
            foreach (NormShape shape in from c in Channels from s in Sides select new NormShape(c, s))
            {
                string what = $"batch norm of {shape.Channels} channels, {shape.Side} x {shape.Side}, {type}";
                Right(what, LayerChecks.Norm(shape, layout, device, new SerialExchange()));
                Right($"synchronised {what}", ArithmeticCheck.SynchronisedNorm(shape, layout, device));
            }
            foreach ((int features, int classes) in from f in Features from c in Classes select (f, c))
                Right($"head of {features} features and {classes} classes, {type}", LayerChecks.HeadAndLoss(new HeadShape(features, 4, classes), layout, device));
            if (type is not ScalarType.BFloat16) Right($"step of the optimizer, {type}", ArithmeticCheck.Optimizer(type, device));
        }
    }

    private void LargeMessages(Findings findings)
    {
        _messages = new LargeMessages(world, device, direct, findings);
        _messages.Run();
    }

    private MethodChecks Methods(ICommunicator ranks, Findings findings) => new(ranks, device, direct, findings, tamper)
    {
        Steps64 = 3,
        Format = _format,
        In = _inBfloat16 ? [CheckedIn.Float32, CheckedIn.Float64, CheckedIn.Bfloat16] : [CheckedIn.Float32, CheckedIn.Float64],
    };

    /// <summary>Does a check in groups of neighbouring ranks, all at the same time.</summary>
    private void InGroups(int atMost, Findings findings, Action<MethodChecks> check)
    {
        using ICommunicator? group = world.Size > atMost ? world.Split(world.Rank / atMost, world.Rank) : null;
        check(Methods(group ?? world, findings));
    }

    /// <summary>Without TF32 on GPUs, which the part of convolutions proves: methods are then held to the limits of float32.</summary>
    private void InFullPrecision(Action check)
    {
        bool tf32 = device.type is DeviceType.CUDA && Precisions.Tf32Allowed;
        if (tf32) Precisions.AllowTf32(false);
        check();
        if (tf32) Precisions.AllowTf32(true);
    }

    private void TrainingMethods(Findings findings)
    {
        MethodChecks methods = Methods(world, findings);
        foreach (NetworkSection family in Families)
        {
            (NetworkSpec network, BatchLoader data) = MethodChecks.Setting(family);
            string of = $"of {ConfigName.Of(family.Family)}";
            methods.FilterParallel($"filter-parallel {of}", network, data, AssignmentKind.Random, BackwardKind.Exact);
            methods.DataParallel($"data-parallel {of}", network, data, BatchNormScope.Synchronised);
            // A stage has one unit at least.
            InGroups(network.UnitCount, findings, group => group.Gpipe($"gpipe {of}", network, data, new GpipeSection { MicroBatches = 3 }));
            if (family.Family is not NetworkFamily.PreactResnet) continue;
            methods.FilterParallel($"filter-parallel, local backward, {of}", network, data, AssignmentKind.Contiguous, BackwardKind.Local);
            methods.DataParallel($"data-parallel, batch norm per rank, {of}", network, data, BatchNormScope.PerRank);
        }
    }

    /// <summary>Two epochs of three steps in rounds of two: each round's end lies at another place of an epoch.</summary>
    private void Rounds(Findings findings) => InGroups(ReplayedRanks, findings, group =>
    {
        foreach (NetworkSection family in Families)
        {
            (NetworkSpec network, BatchLoader data) = MethodChecks.Setting(family);
            string of = $"of {ConfigName.Of(family.Family)}";
            string stages = family.Family is NetworkFamily.WideResnet ? "loft.first_blocks=true" : "loft.first_blocks=false";
            group.Rounds($"loft {of}", network, data, MethodChecks.Pretrain(["method=loft", "epochs=2", "local_steps=2", stages]));
            group.Rounds($"local-sgd {of}", network, data, MethodChecks.Pretrain(["method=local-sgd", "epochs=2", "local_steps=2"]));
            if (family.Family is not NetworkFamily.PreactResnet) continue;
            group.Rounds($"loft, all travels, {of}", network, data, MethodChecks.Pretrain(
                ["method=loft", "epochs=2", "local_steps=2", "loft.momentum=travel", "loft.running_statistics=average", "loft.deal=norm", "samples=shard"]));
        }
    });

    private void LiveTensors(Findings findings)
    {
        (NetworkSpec network, BatchLoader data) = MethodChecks.Setting(Families[^1] with { Width = 1 });
        foreach (string method in MethodNames)
        {
            InGroups(method == "gpipe" ? network.UnitCount : int.MaxValue, findings, group => group.LiveTensors(
                method, network, data, MethodChecks.Pretrain([$"method={method}", "local_steps=3", "epochs=100", "loft.first_blocks=true", "batch_norm=per-rank"])));
        }
    }

    private void Measure(IReporter reporter)
    {
        if (_messages is not null) reporter.Table(_messages.Bandwidths, isResult: true);
        double[] speeds = new double[world.Size];
        world.Allgather<double>([SpeedMeasurement.ImagesPerSecond(device, config)], speeds);
        NetworkSection network = config.Network;
        reporter.Result(string.Create(
            CultureInfo.InvariantCulture,
            $"{ConfigName.Of(network.Family)} {network.Depth} of width {network.Width}, batch {SpeedMeasurement.Images}: {speeds.Min():F0} to {speeds.Max():F0} images/s a rank: every rank trains a network of its own, all at the same time"));
    }
}
