using System.Globalization;
using LoftHpc.Configuration;
using LoftHpc.Mpi;
using TorchSharp;

namespace LoftHpc.Communication;

/// <summary>What this rank computes on, and where all ranks run.</summary>
/// <param name="Device">This rank's.</param>
/// <param name="Threads">This rank's; libtorch has been told.</param>
/// <param name="Ranks">Every rank, the same list on all of them.</param>
/// <param name="Warnings">Lines for rank 0 to show, the same on all ranks.</param>
/// <param name="AllHaveBfloat16">Whether every rank's processor has instructions for bfloat16.</param>
public sealed record Placement(
    torch.Device Device, int Threads, IReadOnlyList<RankRecord> Ranks, IReadOnlyList<string> Warnings, bool AllHaveBfloat16 = false);

/// <summary>Where one rank runs.</summary>
/// <param name="LocalRank">From 0 among the ranks of its host.</param>
/// <param name="Device">cpu, cuda:0, ...</param>
/// <param name="Threads">Threads that libtorch computes with.</param>
public sealed record RankRecord(int Rank, string Host, int LocalRank, string Device, int Threads, string CpuModel);

/// <summary>Gives every rank its device and its threads.</summary>
public static class DeviceBinding
{
    /// <summary>
    /// Binds this rank (collective). A rank takes the GPU of its local rank modulo the number visible. With
    /// <see cref="DeviceChoice.Auto"/> GPUs are used where every rank sees one, otherwise the CPU. Threads are as given,
    /// else OMP_NUM_THREADS, else the rank's share of its host's cores (<see cref="HostCores.ThreadShare"/>).
    /// </summary>
    /// <exception cref="UserError">On all ranks: libtorch cannot be loaded, or the config asks for a GPU that a rank does not see.</exception>
    public static Placement Bind(ICommunicator world, DeviceChoice choice, int? threads)
    {
        using ICommunicator host = world.SplitByHost();
        int gpus = Agree.OnAllRanks(world, CudaDevices.Count);
        (string device, string gpu) = Agree.OnAllRanks(world, () => ChooseDevice(world, host, choice, gpus));

        HostCores[] cores = [.. host.Allgather(HostCores.Read().ToLine()).Select(HostCores.FromLine)];
        int count = threads ?? ThreadsFromEnvironment(Environment.GetEnvironmentVariable("OMP_NUM_THREADS"))
            ?? HostCores.ThreadShare(cores, host.Rank);
        torch.set_num_threads(count);

        int hostCores = cores.SelectMany(c => c.Cores).Distinct().Count();
        int launcherCores = LaunchEnvironment.Current.Launcher == Launcher.OpenMpi ? HostCores.CountOfParent() : 0;
        string own = string.Join('\t', Environment.MachineName, host.Rank, device, gpu, count, hostCores, launcherCores, Processor.Model);
        string[][] all = [.. world.Allgather(own).Select(line => line.Split('\t'))];
        RankRecord[] ranks = [.. all.Select((f, r) => new RankRecord(r, f[0], Number(f[1]), f[2], Number(f[4]), f[7]))];
        List<string> warnings = Warnings(ranks, [.. all.Select(f => f[3])], [.. all.Select(f => Number(f[5]))], [.. all.Select(f => Number(f[6]))]);
        if (choice == DeviceChoice.Auto && device == "cpu" && world.Allreduce(gpus, MpiOperation.Max) > 0)
            warnings.Add("some ranks see a GPU and some do not: all run on the CPU");
        return new Placement(new torch.Device(device), count, ranks, warnings, world.Allreduce(Processor.HasBfloat16 ? 1 : 0, MpiOperation.Min) == 1);
    }

    /// <summary>The first number of OMP_NUM_THREADS ("8" or, for nested levels, "8,2"); null where there is none.</summary>
    internal static int? ThreadsFromEnvironment(string? variable) =>
        int.TryParse(variable?.Split(',')[0], NumberStyles.None, CultureInfo.InvariantCulture, out int count) && count > 0 ? count : null;

    /// <summary>Ranks that share a GPU, hosts with more threads than cores, and hosts whose launcher keeps cores from the ranks.</summary>
    /// <param name="gpus">Identity of each rank's GPU; empty where it has none or it is not known.</param>
    /// <param name="hostCores">Cores of each rank's host that its ranks may use.</param>
    /// <param name="launcherCores">Cores of each rank's host that Open MPI's launcher may use; 0 under another launcher.</param>
    internal static List<string> Warnings(
        IReadOnlyList<RankRecord> ranks, IReadOnlyList<string> gpus, IReadOnlyList<int> hostCores, IReadOnlyList<int> launcherCores)
    {
        List<string> warnings = [];
        foreach (IGrouping<(string Host, string Gpu), RankRecord> shared in ranks
            .Where(r => r.Device != "cpu")
            .GroupBy(r => (r.Host, gpus[r.Rank].Length > 0 ? gpus[r.Rank] : r.Device)))
        {
            if (shared.Count() > 1)
                warnings.Add($"ranks {List(shared)} share one GPU ({shared.First().Device} of {shared.Key.Host}), and slow each other down");
        }
        foreach (IGrouping<string, RankRecord> host in ranks.Where(r => r.Device == "cpu").GroupBy(r => r.Host))
        {
            int used = host.Sum(r => r.Threads), cores = hostCores[host.First().Rank], launcher = launcherCores[host.First().Rank];
            string on = $"{used} threads on {cores} core{(cores == 1 ? "" : "s")} of {host.Key}";
            if (used > cores)
                warnings.Add(host.Count() == 1 ? $"rank {List(host)} has {on}, which slow each other down" : $"ranks {List(host)} have {on}, and slow each other down");
            if (cores < launcher)
                warnings.Add($"Open MPI binds the ranks of {host.Key} to {cores} of {launcher} cores; mpiexec --bind-to none gives them all");
        }
        return warnings;
    }

    private static (string Device, string Gpu) ChooseDevice(ICommunicator world, ICommunicator host, DeviceChoice choice, int gpus)
    {
        if (choice == DeviceChoice.Cpu) return ("cpu", "");
        int fewest = world.Allreduce(gpus, MpiOperation.Min);
        if (choice == DeviceChoice.Auto && fewest == 0) return ("cpu", "");
        if (gpus == 0)
        {
            string cause = TorchLibrary.MappedPath("libtorch_cuda.so").Length > 0
                ? "the driver shows none (see nvidia-smi and CUDA_VISIBLE_DEVICES)"
                : "this build's libtorch is for the CPU; build with: make build DEVICE=cuda";
            throw new UserError($"run.device: cuda is asked for, but no GPU is seen: {cause}", ExitCodes.Environment);
        }
        int index = host.Rank % gpus;
        return (FormattableString.Invariant($"cuda:{index}"), CudaDevices.Identity(index));
    }

    private static string List(IEnumerable<RankRecord> ranks) => string.Join(", ", ranks.Select(r => r.Rank));

    private static int Number(string text) => int.Parse(text, CultureInfo.InvariantCulture);
}
