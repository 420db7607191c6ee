using System.Globalization;
using LoftHpc;
using LoftHpc.Benchmarks;
using LoftHpc.Communication;
using LoftHpc.Configuration;
using LoftHpc.Mpi;
using LoftHpc.Output;
using LoftHpc.Results;

// lofthpc-benchmarks [step] [collectives] [scaling]: measures pairs on 2 ranks of one thread each, all of
// them or those named, and prints one table.
NativeEnvironment.Prepare();
return MpiJob.Run(mpi =>
{
    if (mpi.World.Size != 2) throw new UserError($"benchmarks need 2 ranks, not {mpi.World.Size}: make bench");
    Dictionary<string, Func<AlternatingTimer, IEnumerable<BenchmarkRow>>> benchmarks = new()
    {
        ["step"] = StepBenchmark.Run,
        ["collectives"] = CollectiveBenchmark.Run,
        ["scaling"] = ScalingBenchmark.Run,
    };
    if (args.FirstOrDefault(name => !benchmarks.ContainsKey(name)) is { } unknown)
        throw new UserError($"no benchmark {unknown}; there are {string.Join(", ", benchmarks.Keys)}");

    TorchLibraryInfo torch = TorchLibrary.Load();
    Placement placement = DeviceBinding.Bind(mpi.World, DeviceChoice.Cpu, threads: 1);
    IReporter reporter = ConsoleReporter.Create(mpi.World.Rank, Verbosity.Normal);
    BuildRecord build = BuildRecord.Current;
    foreach (string warning in placement.Warnings) reporter.Warning(warning);
    reporter.Info($"processor  {HostCores.CpuModel}, {HostCores.Read().Cores.Count} cores; 2 ranks of 1 thread");
    reporter.Info($"software   lofthpc {build.Version} ({build.GitCommit}{(build.GitDirty == true ? ", changed" : "")}), {build.Runtime}, " +
        $"TorchSharp {build.Packages.GetValueOrDefault("TorchSharp", "unknown")}, libtorch {torch.Version}, {build.OperatingSystem}");
    reporter.Info($"MPI        {mpi.LibraryVersion?.Split('\n')[0]}");
    reporter.Info($"load       {File.ReadAllText("/proc/loadavg").Trim()} (others on the machine disturb the figures)");

    AlternatingTimer timer = new(mpi.World);
    List<BenchmarkRow> rows = [];
    foreach ((string name, Func<AlternatingTimer, IEnumerable<BenchmarkRow>> run) in benchmarks)
    {
        if (args.Length > 0 && !args.Contains(name)) continue;
        reporter.Info($"measuring  {name}");
        rows.AddRange(run(timer));
    }
    reporter.Table(BenchmarkRow.Table(rows), isResult: true);
    int missed = rows.Count(row => !row.Met);
    reporter.Result(missed == 0 ? "Every ratio is within its limit." : string.Create(CultureInfo.InvariantCulture, $"{missed} of {rows.Count} ratios are outside their limits."));
    return ExitCodes.Done;
});
