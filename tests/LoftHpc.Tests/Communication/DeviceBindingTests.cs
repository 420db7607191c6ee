using LoftHpc.Communication;
using LoftHpc.Configuration;
using LoftHpc.Mpi;
using LoftHpc.Results;
using TorchSharp;
using Xunit;

namespace LoftHpc.Tests.Communication;

public class DeviceBindingTests
{
    private static HostCores Cores(string list, int? limit = null) => new([.. HostCores.ParseList(list)], limit);

    [Theory]
    // One rank has all it may run on.
    [InlineData("0-7", "8")]
    // Ranks that may run everywhere share alike, and never have more threads than there are cores.
    [InlineData("0-7|0-7", "4 4")]
    [InlineData("0-7|0-7|0-7", "2 2 2")]
    [InlineData("0-1|0-1|0-1|0-1", "1 1 1 1")]
    // Bound apart: each has its own.
    [InlineData("0-3|4-7", "4 4")]
    [InlineData("0|1", "1 1")]
    // Six sixths are one, whatever their sum in floating point is.
    [InlineData("0-5|0-5|0-5|0-5|0-5|0-5", "1 1 1 1 1 1")]
    // Partly shared: cores 0-3 by all three, 4-7 by the last alone.
    [InlineData("0-5|0-5|0-7", "2 2 4")]
    // A gap in the numbers.
    [InlineData("0,2,4-5|8-11", "4 4")]
    public void Threads_share_out_the_cores(string masks, string expected)
    {
        HostCores[] ranks = [.. masks.Split('|').Select(m => Cores(m))];
        int[] threads = [.. Enumerable.Range(0, ranks.Length).Select(r => HostCores.ThreadShare(ranks, r))];
        Assert.Equal(expected, string.Join(' ', threads));
    }

    [Theory]
    [InlineData(4, 2, 2)]
    [InlineData(3, 2, 1)]
    [InlineData(1, 4, 1)]
    public void A_quota_is_shared_out_too(int limit, int ranks, int expected)
    {
        HostCores[] all = [.. Enumerable.Repeat(Cores("0-15", limit), ranks)];
        Assert.All(Enumerable.Range(0, ranks), r => Assert.Equal(expected, HostCores.ThreadShare(all, r)));
    }

    [Fact]
    public void Cores_survive_the_way_to_other_ranks()
    {
        HostCores sent = Cores("0-3,8", 2), received = HostCores.FromLine(sent.ToLine());
        Assert.Equal(sent.Cores, received.Cores);
        Assert.Equal(2, received.ProcessorLimit);
        Assert.Null(HostCores.FromLine(Cores("5").ToLine()).ProcessorLimit);
    }

    [Fact]
    public void This_process_has_cores_within_its_processors()
    {
        HostCores own = HostCores.Read();
        Assert.NotEmpty(own.Cores);
        Assert.Equal(own.Cores.Count, own.Cores.Distinct().Count());
        Assert.True(own.ProcessorLimit is not null || own.Cores.Count <= Environment.ProcessorCount);
        Assert.True(HostCores.CountOfParent() >= 1);
        Assert.NotEqual("", Processor.Model);
    }

    [Theory]
    [InlineData("4", 4)]
    [InlineData("8,2", 8)]
    [InlineData("", null)]
    [InlineData(null, null)]
    [InlineData("0", null)]
    [InlineData("many", null)]
    public void OMP_NUM_THREADS_counts_where_it_is_a_number(string? variable, int? expected) =>
        Assert.Equal(expected, DeviceBinding.ThreadsFromEnvironment(variable));

    [Fact]
    public void One_process_takes_the_threads_that_it_is_told()
    {
        int before = torch.get_num_threads();
        try
        {
            Placement placement = DeviceBinding.Bind(new SelfCommunicator(), DeviceChoice.Cpu, threads: 2);
            Assert.Equal(2, torch.get_num_threads());
            Assert.Equal(DeviceType.CPU, placement.Device.type);
            Assert.Equal(new RankRecord(0, Environment.MachineName, 0, "cpu", 2, Processor.Model), Assert.Single(placement.Ranks));
        }
        finally
        {
            torch.set_num_threads(before);
        }
    }

    [SkippableFact]
    public void Cuda_without_a_gpu_is_one_clear_line()
    {
        Skip.If(CudaDevices.Count() > 0, "there is a GPU");
        UserError error = Assert.Throws<UserError>(() => DeviceBinding.Bind(new SelfCommunicator(), DeviceChoice.Cuda, threads: 1));
        Assert.StartsWith("run.device: cuda is asked for, but no GPU is seen: ", error.Message, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', error.Message);
        Assert.Equal(ExitCodes.Environment, error.ExitCode);
    }

    [SkippableFact]
    public void A_rank_computes_on_its_gpu()
    {
        Skip.If(CudaDevices.Count() == 0, "no GPU");
        Placement placement = DeviceBinding.Bind(new SelfCommunicator(), DeviceChoice.Auto, threads: 1);
        Assert.Equal("cuda:0", placement.Ranks[0].Device);
        using torch.Tensor ones = torch.ones(3, device: placement.Device);
        using torch.Tensor sum = ones.sum().cpu();
        Assert.Equal(3, sum.item<float>());
        Assert.Equal(32, CudaDevices.Identity(0).Length);
    }

    [Fact]
    public void Ranks_that_share_a_gpu_or_cores_are_told_of()
    {
        RankRecord Rank(int rank, string host, string device, int threads = 1) => new(rank, host, 0, device, threads, "");

        // The same number is another GPU on another host, or where each rank sees only its own.
        Assert.Empty(DeviceBinding.Warnings(
            [Rank(0, "a", "cuda:0"), Rank(1, "a", "cuda:0"), Rank(2, "b", "cuda:0")], ["u1", "u2", "u1"], [8, 8, 8], [0, 0, 0]));
        Assert.Equal(
            ["ranks 0, 2 share one GPU (cuda:0 of a), and slow each other down"],
            DeviceBinding.Warnings([Rank(0, "a", "cuda:0"), Rank(1, "a", "cuda:1"), Rank(2, "a", "cuda:0")], ["u1", "u2", "u1"], [8, 8, 8], [0, 0, 0]));
        // Where the driver does not say which GPU it is, its number counts.
        Assert.Single(DeviceBinding.Warnings([Rank(0, "a", "cuda:0"), Rank(1, "a", "cuda:0")], ["", ""], [8, 8], [0, 0]));

        Assert.Empty(DeviceBinding.Warnings([Rank(0, "a", "cpu", 4), Rank(1, "a", "cpu", 4)], ["", ""], [8, 8], [8, 8]));
        Assert.Equal(
            ["ranks 0, 1 have 10 threads on 8 cores of a, and slow each other down"],
            DeviceBinding.Warnings([Rank(0, "a", "cpu", 5), Rank(1, "a", "cpu", 5), Rank(2, "b", "cpu", 8)], ["", "", ""], [8, 8, 8], [0, 0, 0]));
        Assert.Equal(
            ["Open MPI binds the ranks of a to 2 of 16 cores; mpiexec --bind-to none gives them all"],
            DeviceBinding.Warnings([Rank(0, "a", "cpu"), Rank(1, "a", "cpu")], ["", ""], [2, 2], [16, 16]));
    }
}
