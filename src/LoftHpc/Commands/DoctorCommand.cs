using System.Globalization;
using System.Text;
using System.Text.Json;
using System.Text.RegularExpressions;
using LoftHpc.Arithmetic;
using LoftHpc.Communication;
using LoftHpc.Configuration;
using LoftHpc.Mpi;
using LoftHpc.Networks;
using LoftHpc.Results;
using LoftHpc.Training;
using TorchSharp;

namespace LoftHpc.Commands;

/// <summary>
/// Says what every rank found (MPI, libtorch, libstdc++, device, processor), does one collective, checks the arithmetic, and
/// tells in one plain line each what is wrong and how to mend it. Works where MPI or libtorch is missing, or launcher and library do not match.
/// </summary>
public static partial class DoctorCommand
{
    private static readonly string[] Order =
        ["program", "launcher", "MPI", "MPI library", "MPI threads", "collective", "libtorch", "arithmetic", "libstdc++", "processor", "limits"];

    /// <summary>What one rank found: pairs of what (one of <see cref="Order"/>) and finding, and problems.</summary>
    private sealed record Examination(IReadOnlyList<string[]> Findings, IReadOnlyList<string> Problems);

    /// <summary>What all ranks find. Collective; rank 0 prints.</summary>
    /// <returns>0, or <see cref="ExitCodes.Environment"/> where something is wrong.</returns>
    public static int Run(MpiRuntime mpi, TextWriter output)
    {
        (List<string[]> findings, List<string> problems) = Begin(mpi.Launch);
        DescribeMpi(mpi, mpi.Launch, findings, problems);
        bool torchLoads = DescribeMachine(findings, problems);
        return Together(mpi, output, torchLoads, findings, problems);
    }

    /// <summary>What this rank finds where MPI cannot be started, so that every rank is alone.</summary>
    /// <returns><see cref="ExitCodes.Environment"/>.</returns>
    public static int Alone(TextWriter output, UserError error)
    {
        (List<string[]> findings, List<string> problems) = Begin(LaunchEnvironment.Current);
        problems.Add(error.Message);
        if (DescribeMachine(findings, problems)) DescribeArithmetic(torch.CPU, findings, problems);
        Print(output, [new Examination(findings, problems)], null);
        return ExitCodes.Environment;
    }

    private static (List<string[]> Findings, List<string> Problems) Begin(LaunchEnvironment launch) =>
        ([["program", Program()], ["launcher", Describe(launch)]], []);

    /// <summary>True where libtorch loads and computes.</summary>
    private static bool DescribeMachine(List<string[]> findings, List<string> problems)
    {
        bool torchLoads = DescribeTorch(findings, problems);
        HostCores cores = HostCores.Read();
        findings.Add(["processor", $"{Processor.Model}, {cores.Cores.Count} core{(cores.Cores.Count == 1 ? "" : "s")} for this rank "
            + $"({string.Join(", ", cores.Cores)}){(cores.ProcessorLimit is int limit ? $", limited to {limit} by a quota" : "")}"]);
        string files = ProcessLimits.OpenFiles?.ToString(CultureInfo.InvariantCulture) ?? "any number of";
        string memory = ProcessLimits.AddressSpaceBytes is long bytes ? FormattableString.Invariant($"{bytes / 1e9:F1} GB of virtual memory (ulimit -v)") : "no limit on virtual memory";
        findings.Add(["limits", $"{files} open files, {memory}"]);
        return torchLoads;
    }

    private static int Together(MpiRuntime mpi, TextWriter output, bool torchLoads, List<string[]> findings, List<string> problems)
    {
        ICommunicator world = mpi.World;
        long sum = world.Allreduce<long>(world.Rank + 1, MpiOperation.Sum), expected = (long)world.Size * (world.Size + 1) / 2;
        findings.Add(["collective", $"allreduce over {world.Size} rank{(world.Size == 1 ? "" : "s")}: {(sum == expected ? "right" : "WRONG")}"]);
        if (sum != expected) problems.Add($"an allreduce of 1 to {world.Size} gave {sum} instead of {expected}: the MPI library or its network is broken");

        Placement? placement = world.Allreduce(torchLoads ? 1 : 0, MpiOperation.Min) == 1
            ? DeviceBinding.Bind(world, DeviceChoice.Auto, threads: null)
            : null;
        if (torchLoads) DescribeArithmetic(placement?.Device ?? torch.CPU, findings, problems);

        Examination[] ranks = [.. world.Allgather(JsonSerializer.Serialize(new Examination(findings, problems)))
            .Select(text => JsonSerializer.Deserialize<Examination>(text)!)];
        if (world.Rank == 0) Print(output, ranks, placement);
        return ranks.Any(r => r.Problems.Count > 0) ? ExitCodes.Environment : ExitCodes.Done;
    }

    private static string Program()
    {
        BuildRecord build = BuildRecord.Current;
        return $"lofthpc {build.Version}, commit {build.GitCommit}{(build.GitDirty == true ? " (changed)" : "")}, {build.Runtime}, {build.OperatingSystem}";
    }

    private static string Describe(LaunchEnvironment launch)
    {
        string name = launch.Launcher switch
        {
            Launcher.OpenMpi => "Open MPI's mpiexec",
            Launcher.Pmi => launch.UnderSlurm ? "PMI (srun --mpi=pmi2, or mpiexec of the MPICH family)" : "mpiexec of the MPICH family (PMI)",
            Launcher.Pmix => "PMIx (srun --mpi=pmix)",
            Launcher.Slurm => "srun without an MPI interface",
            _ => "none (one process)",
        };
        return launch.Size is int size ? $"{name}, {size} task{(size == 1 ? "" : "s")}" : name;
    }

    private static void DescribeMpi(MpiRuntime mpi, LaunchEnvironment launch, List<string[]> findings, List<string> problems)
    {
        if (mpi.Family is MpiFamily family)
        {
            findings.Add(["MPI", $"{Name(family)}, {FirstLine(mpi.LibraryVersion)}"]);
            findings.Add(["MPI library", $"{mpi.LibraryPath} ({mpi.LibraryChoice})"]);
            findings.Add(["MPI threads", $"{mpi.ThreadLevel}{(mpi.IsCudaAware ? ", CUDA-aware" : ", not CUDA-aware")}"]);
            if (mpi.ThreadLevel < MpiThreadLevel.Funneled)
                problems.Add($"MPI provides thread level {mpi.ThreadLevel}; at least Funneled is needed, since .NET has threads of its own: use an MPI built with threads");
            return;
        }
        // One process needs no MPI; say what a job of several ranks would get.
        try
        {
            MpiLibrary library = MpiLibrary.Load(launch);
            findings.Add(["MPI", $"not needed by one process; found {Name(library.Abi.Family)}, {FirstLine(library.Version())}"]);
            findings.Add(["MPI library", $"{library.Path} ({library.Choice})"]);
        }
        catch (UserError error)
        {
            findings.Add(["MPI", $"not needed by one process; several ranks could not run: {error.Message}"]);
        }
    }

    /// <summary>True where libtorch loads and computes.</summary>
    private static bool DescribeTorch(List<string[]> findings, List<string> problems)
    {
        bool works = false;
        try
        {
            TorchLibraryInfo info = TorchLibrary.Load();
            findings.Add(["libtorch", $"{info.Description} in {info.Folder} ({info.Reason})"]);
            using torch.Tensor three = torch.ones(3).sum();
            works = three.item<float>() == 3;
            if (!works) problems.Add("libtorch computes wrongly: the sum of three ones is not 3");
        }
        catch (UserError error)
        {
            problems.Add(error.Message);
        }
        catch (Exception error) when (error is NotSupportedException or DllNotFoundException or TypeInitializationException or EntryPointNotFoundException)
        {
            problems.Add($"TorchSharp does not start: {FirstLine(error.Message)}");
        }
        findings.Add(["libstdc++", DescribeStandardLibrary(works)]);
        return works;
    }

    /// <summary>What the check at the start of a launch says of a usual network, with channels in whole blocks, and beside them.</summary>
    private static void DescribeArithmetic(torch.Device device, List<string[]> findings, List<string> problems)
    {
        const int side = 32;
        int[] widths = [64, 5];
        ActivationLayout layout = new(torch.float32, MemoryFormats.Resolve(null, Precisions.Resolve(null, device), device.type));
        LayerShapes layers = new();
        foreach (int width in widths)
        {
            NetworkSpec network = NetworkCatalog.Create(new NetworkSection { Family = NetworkFamily.PreactResnet, Depth = 18, Width = width }, 3, 10);
            layers.Add(network, side, network.Tensors.Select(TensorSlice.Whole), layout, device.type);
        }
        try
        {
            ArithmeticCheck.Run(layers, layout, device);
            (ArithmeticRepair repair, int repaired) = Convolution.Repairs;
            string convolutions = $"{layers.Convolutions.Count()} convolutions of PreActResNet-18, widths {string.Join(" and ", widths)}";
            findings.Add(["arithmetic", repaired == 0
                ? $"right: {convolutions}, batch norm, loss and optimizer"
                : $"right after a repair ({ConfigName.Of(repair)}): {repaired} of {convolutions}, were wrong; steps take longer"]);
        }
        catch (UserError error)
        {
            findings.Add(["arithmetic", "WRONG"]);
            problems.Add(error.Message);
        }
    }

    private static string DescribeStandardLibrary(bool torchWorks)
    {
        string path = TorchLibrary.MappedPath("libstdc++.so.6");
        if (path.Length == 0) return "not loaded";
        int newest = GlibcxxVersion().Matches(Encoding.Latin1.GetString(File.ReadAllBytes(path)))
            .Max(m => int.Parse(m.Groups[1].ValueSpan, System.Globalization.CultureInfo.InvariantCulture));
        string version = $"{path}, up to GLIBCXX_3.4.{newest}";
        const int wanted = 32;
        return (newest >= wanted, torchWorks) switch
        {
            (true, _) => $"{version}: has the 3.4.{wanted} that TorchSharp asks for",
            (false, true) => $"{version}: lacks the 3.4.{wanted} that TorchSharp asks for; the build has adapted its library",
            (false, false) => $"{version}: lacks the 3.4.{wanted} that TorchSharp asks for",
        };
    }

    private static void Print(TextWriter output, IReadOnlyList<Examination> ranks, Placement? placement)
    {
        // What several ranks found alike is printed once.
        foreach (string what in Order)
        {
            foreach ((string numbers, string finding) in Grouped(ranks, r => r.Findings.Where(f => f[0] == what).Select(f => f[1])))
                output.WriteLine($"{what,-12} {(numbers.Length > 0 ? numbers + ": " : "")}{finding}");
        }
        foreach (RankRecord r in placement?.Ranks ?? [])
            output.WriteLine($"{$"rank {r.Rank}",-12} {r.Host}, local rank {r.LocalRank}, {r.Device}, {r.Threads} thread{(r.Threads == 1 ? "" : "s")}");

        foreach (string warning in placement?.Warnings ?? []) output.WriteLine($"warning: {warning}");
        foreach ((string numbers, string problem) in Grouped(ranks, r => r.Problems))
            output.WriteLine($"wrong: {(numbers.Length > 0 ? numbers + ": " : "")}{problem}");
        if (ranks.All(r => r.Problems.Count == 0)) output.WriteLine("All is well.");
        output.Flush();
    }

    /// <summary>Each different text with the ranks that have it ("" where all do).</summary>
    private static IEnumerable<(string Ranks, string Text)> Grouped(IReadOnlyList<Examination> ranks, Func<Examination, IEnumerable<string>> texts) =>
        ranks.SelectMany((examination, rank) => texts(examination).Select(text => (Text: text, Rank: rank)))
            .GroupBy(pair => pair.Text)
            .Select(group => (group.Count() == ranks.Count ? "" : $"rank{(group.Count() == 1 ? "" : "s")} {string.Join(", ", group.Select(p => p.Rank))}", group.Key));

    private static string Name(MpiFamily family) => family == MpiFamily.OpenMpi ? "Open MPI" : "MPICH family";

    private static string FirstLine(string? text) => text?.Split('\n')[0].Trim().Replace('\t', ' ') ?? "";

    [GeneratedRegex(@"GLIBCXX_3\.4\.(\d+)\0")]
    private static partial Regex GlibcxxVersion();
}
