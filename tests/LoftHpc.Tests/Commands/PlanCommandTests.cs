using LoftHpc.Tests.Mpi;
using Xunit;

namespace LoftHpc.Tests.Commands;

/// <summary>The commands that plan, as users start them.</summary>
public sealed class PlanCommandTests
{
    private static readonly string[] Plan = [MpiLauncher.LoftHpc, "plan", "--config", Repository.File("configs", "quick.yaml"), "data.folder=/nowhere"];

    [Fact]
    public void Plan_needs_nothing_and_tells_of_counts_that_do_not_work()
    {
        LaunchResult result = MpiLauncher.RunAlone([.. Plan, "pretrain.method=gpipe", "plan.ranks=[1,2,99]"]).MustSucceed();
        Assert.Contains("176,034 parameters, 14,343,680 FLOPs", result.Output, StringComparison.Ordinal);
        Assert.Contains("not on 99 ranks: pretrain.method: gpipe", result.Output, StringComparison.Ordinal);
        Assert.Contains("2 ranks: what all of them send", result.Output, StringComparison.Ordinal);
        LaunchResult wrong = MpiLauncher.RunAlone([.. Plan, "plan.ranks=[0]"]);
        Assert.Equal(ExitCodes.Configuration, wrong.ExitCode);
        Assert.Contains("plan.ranks", wrong.Error, StringComparison.Ordinal);
    }

    [SkippableFact]
    public void Under_a_launcher_it_is_printed_once()
    {
        LaunchResult result = MpiLauncher.Run(MpiLauncher.AnyFamily(), 3, Plan).MustSucceed();
        Assert.Equal(2, result.Output.Split("176,034 parameters").Length);
    }

    [Fact]
    public void Comm_table_prints_units_gains_and_slips()
    {
        string output = MpiLauncher.RunAlone([MpiLauncher.LoftHpc, "comm-table"]).MustSucceed().Output;
        foreach (string part in new[] { "1000 MiB", "10^9 bytes", "3.45x", "5.18x", "1.19x", "3.02x", "21.60", "26.49" })
            Assert.Contains(part, output, StringComparison.Ordinal);
    }

    /// <summary>The command fails where a round's counted bytes are not those planned for its partitions; on average they are the formula's.</summary>
    [SkippableTheory]
    [InlineData(2, 72.9)]
    [InlineData(4, 170.0)]
    public void Comm_table_under_a_launcher_measures_rounds(int ranks, double average)
    {
        string output = MpiLauncher.Run(MpiLauncher.AnyFamily(), ranks, [MpiLauncher.LoftHpc, "comm-table"]).MustSucceed().Output;
        System.Text.RegularExpressions.Match line = System.Text.RegularExpressions.Regex.Match(output, $@"{ranks} ranks: ([\d.]+) MB a round");
        Assert.True(line.Success, output);
        Assert.InRange(double.Parse(line.Groups[1].Value, System.Globalization.CultureInfo.InvariantCulture) / average, 0.99, 1.01);
    }
}
