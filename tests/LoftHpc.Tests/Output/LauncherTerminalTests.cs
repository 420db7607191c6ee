using LoftHpc.Output;
using LoftHpc.Tests.Results;
using Xunit;

namespace LoftHpc.Tests.Output;

public sealed class LauncherTerminalTests : IDisposable
{
    private readonly TemporaryFolder _proc = new();

    public void Dispose() => _proc.Dispose();

    [Theory]
    [InlineData("mpiexec.openmpi")]
    [InlineData("mpiexec.hydra")]
    [InlineData("orterun")]
    public void TheLaunchersOutputCounts(string launcher)
    {
        AddProcess(100, "lofthpc", 50, "pipe:[7]");
        AddProcess(50, "hydra_pmi_proxy", 40, "pipe:[8]");
        AddProcess(40, launcher, 10, "/dev/pts/3");
        AddProcess(10, "bash", 1, "/dev/pts/9");
        Assert.Equal("/dev/pts/3", Find(100, launched: true)?.Device);
    }

    [Fact]
    public void TheRanksOwnPseudoTerminalDoesNotCount()
    {
        AddProcess(100, "lofthpc", 50, "/dev/pts/5");
        AddProcess(50, "mpirun", 1, "/home/user/run.log");
        Assert.Null(Find(100, launched: true));
    }

    [Fact]
    public void AnUnknownLauncherHasNoTerminal()
    {
        AddProcess(100, "lofthpc", 50, "/dev/pts/5");
        AddProcess(50, "starter", 1, "/dev/pts/3");
        Assert.Null(Find(100, launched: true));
    }

    [Fact]
    public void WithoutALauncherTheOwnOutputCounts()
    {
        AddProcess(100, "lofthpc (x) 1", 50, "/dev/pts/5");
        AddProcess(50, "bash", 1, "/dev/pts/3");
        Assert.Equal("/dev/pts/5", Find(100, launched: false)?.Device);
        AddProcess(101, "lofthpc", 50, "pipe:[9]");
        Assert.Null(Find(101, launched: false));
    }

    [Fact]
    public void UnderSrunTheOutputIsALog()
    {
        AddProcess(100, "lofthpc", 50, "/dev/pts/5");
        AddProcess(50, "slurmstepd", 1, "/dev/pts/3");
        Assert.Null(Find(100, launched: true));
        Assert.Null(Find(100, launched: false));
    }

    [Fact]
    public void AGoneProcessHasNoTerminal() => Assert.Null(Find(100, launched: false));

    [Fact]
    public void ATerminalThatDoesNotSayHasEightyColumns() => Assert.Equal(80, new LauncherTerminal(_proc.File("absent")).Columns());

    private LauncherTerminal? Find(int process, bool launched) => LauncherTerminal.Find(_proc.Path, process, launched);

    private void AddProcess(int id, string name, int parent, string output)
    {
        Directory.CreateDirectory(_proc.File($"{id}/fd"));
        File.WriteAllText(_proc.File($"{id}/stat"), $"{id} ({name}) S {parent} {id} {id} 0 -1\n");
        File.CreateSymbolicLink(_proc.File($"{id}/fd/1"), output);
    }
}
