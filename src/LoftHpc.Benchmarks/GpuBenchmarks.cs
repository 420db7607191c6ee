using System.Globalization;
using LoftHpc.Arithmetic;
using LoftHpc.Configuration;
using LoftHpc.Mpi;
using LoftHpc.Output;
using LoftHpc.Stages;
using TorchSharp;
using static TorchSharp.torch;

namespace LoftHpc.Benchmarks;

/// <summary>
/// Training as a launch does it, on the device and in the precision of the launch: of one rank beside PyTorch, and of several
/// beside one. PreActResNet-18 on synthetic images of 3 x 32 x 32; of width 64 on a GPU, and much smaller on a CPU, where the
/// figures only show that it works. Beside the table stand lines "figures: ...", for scripts.
/// </summary>
internal static class GpuBenchmarks
{
    /// <summary>So many batches, over and over: augmented anew each time.</summary>
    private const int Batches = 20;

    private const double RoundSeconds = 0.5;

    private static readonly MemoryFormat[] Formats = Enum.GetValues<MemoryFormat>();

    /// <summary>As PyTorch has them.</summary>
    private static readonly string[] Layouts = ["contiguous", "channels_last"];

    /// <summary>What is measured where.</summary>
    private sealed record Sizes(int Width, int[] Batches, Rounds Rounds, int MostCalls, bool HasLimits)
    {
        public static Sizes Of(Device device) => device.type is DeviceType.CUDA
            ? new(64, [128, 512], new Rounds(WarmUps: 1, Counted: 5), 100, true)
            : new(4, [16], new Rounds(WarmUps: 1, Counted: 3), 2, false);
    }

    /// <summary>One rank, against PyTorch in eager mode in the same precision, both with either memory format.</summary>
    /// <param name="python">A python3 with PyTorch.</param>
    /// <param name="script">pytorch_training.py.</param>
    /// <param name="overrides">section.key=value, as of a launch.</param>
    public static int BesidePyTorch(MpiRuntime mpi, string python, string script, IReadOnlyList<string> overrides)
    {
        if (mpi.World.Size != 1) throw new UserError("PyTorch is measured beside one rank");
        using Launch launch = new(mpi, new LaunchOptions("benchmark", null, overrides, Verbosity.Normal));
        launch.ShowRanks();
        (Device device, Sizes sizes) = (launch.Context.Device, Sizes.Of(launch.Context.Device));
        string precision = ConfigName.Of(launch.Context.Precision), name = device.type is DeviceType.CUDA ? $"cuda:{Math.Max(0, device.index)}" : "cpu";
        using PyTorchProcess peer = new(python, script, name, precision, get_num_threads(), sizes.Width);
        launch.Reporter.Info($"beside     {peer.Version}");
        AlternatingTimer timer = new(mpi.World);
        List<BenchmarkRow> rows = [];
        foreach (int batch in sizes.Batches)
        {
            MemoryFormat[] formats = [.. Formats.Where(format => MemoryFormats.ProblemOf(format, launch.Context.Precision, device.type, get_num_threads()) is null)];
            BenchmarkTraining[] trainings = [.. formats.Select(In)];
            double[] losses = new double[Layouts.Length];
            Action<int>[] ways = [.. trainings.Select(training => (Action<int>)training.Steps), .. Layouts.Select((layout, i) => (Action<int>)(count => losses[i] = peer.Steps(batch, layout, count)))];
            Sample[] seconds = timer.Alternate(sizes.Rounds with { Calls = CallsOf(timer, sizes, ways), Untimed = 1 }, ways);
            MustBeFinite([.. trainings.Select(training => training.Loss), .. losses]);
            (Sample[] ours, Sample[] theirs) = (seconds[..formats.Length], seconds[formats.Length..]);
            // What a launch takes, unless it is told otherwise, and whatever PyTorch is fastest in.
            int used = Array.IndexOf(formats, launch.Context.MemoryFormat), best = theirs[0].Median <= theirs[1].Median ? 0 : 1;
            string what = $"step of PreActResNet-18, width {sizes.Width}, batch {batch}, {precision}, {name}";
            foreach (int i in Enumerable.Range(0, formats.Length))
            {
                foreach (int j in Enumerable.Range(0, Layouts.Length))
                {
                    // With small batches launching kernels takes longer than computing.
                    double least = !sizes.HasLimits || (i, j) != (used, best) ? 0 : batch < 512 ? 0.9 : 0.95;
                    rows.Add(BenchmarkRow.AtLeast(least, $"PyTorch {Layouts[j]} / lofthpc {ConfigName.Of(formats[i])}, times as fast", what, ours[i], theirs[j], "finite losses"));
                }
            }
            BenchmarkRow row = rows[^((formats.Length * Layouts.Length) - (used * Layouts.Length) - best)];
            string both = string.Join(", ", formats.Select((format, i) => string.Create(CultureInfo.InvariantCulture, $"{batch / ours[i].Median:F0} {ConfigName.Of(format)}")));
            launch.Reporter.Result(string.Create(
                CultureInfo.InvariantCulture,
                $"figures: batch {batch}: images/s: {both}, PyTorch {batch / theirs[best].Median:F0} ({Layouts[best]}), ratio in {ConfigName.Of(formats[used])} {row.Ratio:F2}{Limit(row, sizes)}"));
            foreach (BenchmarkTraining training in trainings) training.Dispose();

            BenchmarkTraining In(MemoryFormat format) => new(
                new SelfCommunicator(), sizes.Width, Batches, new PretrainSection { Method = PretrainMethod.Dense, Batch = batch },
                like: launch.Context with { MemoryFormat = format });
        }
        launch.Reporter.Table(BenchmarkRow.Table(rows), isResult: true);
        return ExitCodes.Done;
    }

    /// <summary>All ranks by the methods that exchange in every step and by LoFT, against the dense network on rank 0 alone, on batches of the same size.</summary>
    /// <inheritdoc cref="BesidePyTorch"/>
    public static int BesideOneRank(MpiRuntime mpi, IReadOnlyList<string> overrides)
    {
        ICommunicator world = mpi.World;
        if (world.Size < 2) throw new UserError("ranks are measured on 2 ranks and more");
        using Launch launch = new(mpi, new LaunchOptions("benchmark", null, overrides, Verbosity.Normal));
        launch.ShowRanks();
        Sizes sizes = Sizes.Of(launch.Context.Device);
        int batch = sizes.Batches[^1];
        // A round of LoFT with its exchange; the others need not do so many.
        int round = sizes.HasLimits ? 15 : 2, fewer = sizes.HasLimits ? 3 : 2;
        using BenchmarkTraining? dense = world.Rank == 0
            ? new(new SelfCommunicator(), sizes.Width, Batches, new PretrainSection { Method = PretrainMethod.Dense, Batch = batch }, like: launch.Context)
            : null;
        (string Name, int Calls, BenchmarkTraining? Training)[] trainings =
        [
            ("dense", round, dense),
            ("data-parallel", fewer, Create(new PretrainSection { Method = PretrainMethod.DataParallel })),
            ("filter-parallel", fewer, Create(new PretrainSection { Method = PretrainMethod.FilterParallel })),
            ("loft", round, Create(new PretrainSection { Method = PretrainMethod.Loft, LocalSteps = round, Samples = SampleScope.Shard })),
        ];
        Sample[] seconds = new AlternatingTimer(world).Alternate(
            sizes.Rounds with { Counted = 3 },
            [.. trainings.Select(training => training.Training is null ? null : (Action<int>)(count => training.Training.Steps(count * training.Calls)))]);
        MustBeFinite([.. trainings.Skip(1).Select(training => training.Training!.Loss)]);
        Sample[] perImage = [.. seconds.Select((sample, i) => new Sample([.. sample.Values.Select(value => value / trainings[i].Calls / batch)]))];
        List<BenchmarkRow> rows = [];
        for (int i = 1; i < trainings.Length; i++)
        {
            rows.Add(BenchmarkRow.AtLeast(
                sizes.HasLimits && trainings[i].Name == "loft" ? 0.9 : 0, $"{trainings[i].Name} on {world.Size} ranks / dense on one, times as fast",
                $"an image, PreActResNet-18, width {sizes.Width}, batch {batch} over all ranks", perImage[i], perImage[0], "finite losses"));
        }
        string ratios = string.Join(", ", rows.Select((row, i) => string.Create(
            CultureInfo.InvariantCulture, $"{trainings[i + 1].Name} {1 / perImage[i + 1].Median:F0} ({row.Ratio:F2}){Limit(row, sizes)}")));
        launch.Reporter.Result(string.Create(CultureInfo.InvariantCulture, $"figures: images/s: dense on one rank {1 / perImage[0].Median:F0}, {ratios}"));
        launch.Reporter.Table(BenchmarkRow.Table(rows), isResult: true);
        foreach ((_, _, BenchmarkTraining? training) in trainings.Skip(1)) training!.Dispose();
        return ExitCodes.Done;

        BenchmarkTraining Create(PretrainSection config) => new(world, sizes.Width, Batches, config with { Batch = batch }, like: launch.Context);
    }

    /// <summary>Calls of a way that take about as long as a round is to take.</summary>
    private static int CallsOf(AlternatingTimer timer, Sizes sizes, Action<int>[] ways)
    {
        double seconds = 0;
        foreach (Action<int> way in ways)
        {
            // The first steps choose algorithms and compile.
            way(2);
            seconds = Math.Max(seconds, timer.Time(() => way(1)));
        }
        return (int)Math.Clamp(RoundSeconds / seconds, 1, sizes.MostCalls);
    }

    private static string Limit(BenchmarkRow row, Sizes sizes) => !sizes.HasLimits || row.Allowed == "at least 0.00" ? "" : $" ({row.Allowed}: {(row.Met ? "met" : "MISSED")})";

    private static void MustBeFinite(double[] losses)
    {
        if (!losses.All(double.IsFinite)) throw new InvalidOperationException($"losses are {string.Join(", ", losses)}");
    }
}
