using System.Globalization;
using LoftHpc;
using LoftHpc.Benchmarks;
using LoftHpc.Communication;
using LoftHpc.Configuration;
using LoftHpc.Mpi;
using LoftHpc.Output;
using LoftHpc.Results;

// lofthpc-benchmarks pytorch PYTHON SCRIPT [section.key=value ...], on 1 rank, and ranks [section.key=value ...], on 2 and more:
// training on the device of a launch. lofthpc-benchmarks NAME ...: measures pairs on ranks of one thread each, and prints one
// table. On 2 ranks: step, precision, collectives, staging, scaling, loft, checkpoint, and mpi.net, which needs a library of the MPICH family;
// on 4: methods.
NativeEnvironment.Prepare();
LauncherTerminal.KeepConsolePlain();
return MpiJob.Run(mpi =>
{
    switch (args)
    {
        case ["pytorch", string python, string script, .. string[] overrides]: return GpuBenchmarks.BesidePyTorch(mpi, python, script, overrides);
        case ["ranks", .. string[] overrides]: return GpuBenchmarks.BesideOneRank(mpi, overrides);
    }
    int ranks = mpi.World.Size;
    IReporter reporter = ConsoleReporter.Create(mpi.World.Rank, Verbosity.Normal);
    Dictionary<string, Func<AlternatingTimer, IEnumerable<BenchmarkRow>>> benchmarks = ranks switch
    {
        2 => new()
        {
            ["step"] = StepBenchmark.Run,
            ["precision"] = StepBenchmark.Precisions,
            ["collectives"] = CollectiveBenchmark.Run,
            ["staging"] = timer => StagingBenchmark.Run(timer, reporter.Result),
            ["scaling"] = ScalingBenchmark.Run,
            ["loft"] = LoftBenchmark.Run,
            ["checkpoint"] = CheckpointBenchmark.Run,
            ["mpi.net"] = timer => MpiNetBenchmark.Run(timer, mpi.WorldThroughMpiNet()),
        },
        4 => new() { ["methods"] = MethodsBenchmark.Run },
        _ => throw new UserError($"benchmarks go on 2 or 4 ranks, not {ranks}: make bench"),
    };
    if (args.DefaultIfEmpty("without a name").FirstOrDefault(name => !benchmarks.ContainsKey(name)) is { } unknown)
        throw new UserError($"no benchmark {unknown} on {ranks} ranks; there are {string.Join(", ", benchmarks.Keys)}");

    TorchLibraryInfo torch = TorchLibrary.Load();
    Placement placement = DeviceBinding.Bind(mpi.World, DeviceChoice.Cpu, threads: 1);
    BuildRecord build = BuildRecord.Current;
    foreach (string warning in placement.Warnings) reporter.Warning(warning);
    reporter.Info($"processor  {Processor.Model}, {HostCores.Read().Cores.Count} cores; {ranks} ranks of 1 thread");
    reporter.Info($"software   lofthpc {build.Version} ({build.GitCommit}{(build.GitDirty == true ? ", changed" : "")}), {build.Runtime}, " +
        $"TorchSharp {build.Packages.GetValueOrDefault("TorchSharp", "unknown")}, libtorch {torch.Version}, {build.OperatingSystem}");
    reporter.Info($"MPI        {mpi.LibraryVersion?.Split('\n')[0]}");
    reporter.Info($"load       {File.ReadAllText("/proc/loadavg").Trim()} (others on the machine disturb the figures)");

    AlternatingTimer timer = new(mpi.World);
    List<BenchmarkRow> rows = [];
    foreach ((string name, Func<AlternatingTimer, IEnumerable<BenchmarkRow>> run) in benchmarks)
    {
        if (!args.Contains(name)) continue;
        reporter.Info($"measuring  {name}");
        rows.AddRange(run(timer));
    }
    reporter.Table(BenchmarkRow.Table(rows), isResult: true);
    int missed = rows.Count(row => !row.Met);
    reporter.Result(missed == 0 ? "Every ratio is within its limit." : string.Create(CultureInfo.InvariantCulture, $"{missed} of {rows.Count} ratios are outside their limits."));
    return ExitCodes.Done;
});
