using System.Text.RegularExpressions;
using LoftHpc.Output;
using LoftHpc.Planning;
using Xunit;

namespace LoftHpc.Tests.Planning;

/// <summary>LoFT's published communication table, and this program's exchange beside it.</summary>
public partial class PublishedTableTests
{
    [Fact]
    public void The_model_reproduces_the_CIFAR_rows_and_the_ImageNet_row_by_order()
    {
        Assert.Equal(5, PublishedTable.Rows.Count);
        foreach (PublishedRow row in PublishedTable.Rows)
        {
            double near = row.Setting.Contains("CIFAR", StringComparison.Ordinal) ? 0.02 : 0.15;
            Assert.All(row.Cells, cell => Assert.InRange(cell.ModelBytes / cell.Unit / cell.Published, 1 - near, 1 + near));
        }
        Assert.Equal(521, PublishedTable.Rows[0].Rounds);
        // 2 x 521 x 4 x (S x 5,044,938 + 16,220,160), and 2 x 4 x values at the cuts x 50,000 x 20.
        PublishedCell[] cells = [.. PublishedTable.Rows[0].Cells];
        Assert.Equal(2.0 * 521 * 4 * ((2 * 5_044_938) + 16_220_160), cells[2].ModelBytes);
        Assert.Equal(2.0 * 521 * 4 * ((4 * 5_044_938) + 16_220_160), cells[3].ModelBytes);
        Assert.Equal(8e6 * 256 * 8 * 8, cells[0].ModelBytes);
        Assert.Equal(8e6 * (32768 + 16384 + 8192), cells[1].ModelBytes);
    }

    [Fact]
    public void Our_round_of_PreResNet34_takes_72_9_and_170_0_MB_where_the_published_one_takes_210_and_291()
    {
        Exchange[] own = [.. PublishedTable.Rows[0].Exchanges];
        Assert.Equal([72.9, 170.0], own.Select(exchange => Math.Round(exchange.LoftRoundBytes / 1e6, 1)));
        // 2 (S-1) x shared, and (S-1)/S x partitioned, summed over the ranks.
        const double shared = 5_044_938 + 9_856, partitioned = 16_220_160 + 5_376;
        Assert.Equal(4 * ((2 * 1 * shared) + (partitioned / 2)), own[0].LoftRoundBytes);
        Assert.Equal(4 * ((2 * 3 * shared) + (partitioned * 3 / 4)), own[1].LoftRoundBytes);
        Assert.Equal([210, 291], own.Select(exchange => Math.Floor(exchange.PublishedLoftRoundBytes / 1e6)));
    }

    [Fact]
    public void Gains_on_CIFAR_are_at_least_3_4_and_5_1()
    {
        foreach (PublishedRow row in PublishedTable.Rows.Take(4))
        {
            Exchange[] own = [.. row.Exchanges];
            Assert.InRange(own[0].Gain, 3.4, 4);
            Assert.InRange(own[1].Gain, 5.1, 6);
        }
        Assert.Equal([1.19, 3.02], PublishedTable.Rows[0].Exchanges.Select(exchange => Math.Round(exchange.PublishedGain, 2)));
        TextTable table = PlanTables.Gains(PublishedTable.Rows);
        Assert.All(table.Rows, row => Assert.Matches(TwoDecimalsX(), row[8]));
        Assert.All(table.Rows, row => Assert.Matches(TwoDecimals(), row[2]));
        Assert.All(PlanTables.Published(PublishedTable.Rows).Rows, row => Assert.Contains(row[2], new[] { "1000 MiB", "10^9 bytes" }));
    }

    [GeneratedRegex(@"^\d+\.\d\dx$")]
    private static partial Regex TwoDecimalsX();

    [GeneratedRegex(@"^[\d,]+\.\d\d$")]
    private static partial Regex TwoDecimals();
}
