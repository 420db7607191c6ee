using LoftHpc.Statistics;
using Xunit;

namespace LoftHpc.Tests.Statistics;

/// <summary>Tests and intervals against worked examples of textbooks, and against sums done here by hand or by trying all cases.</summary>
public sealed class StatisticsTests
{
    /// <summary>Hours of sleep gained by ten patients with two drugs (Student, The probable error of a mean, 1908; the data set sleep of R).</summary>
    private static readonly double[] FirstDrug = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0], SecondDrug = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4];

    /// <summary>Crossed minus self-fertilised plants of 15 pairs, in eighths of an inch (Darwin's, in Fisher, The Design of Experiments, 1935, chapter 3).</summary>
    private static readonly double[] Plants = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48];

    /// <summary>R's documentation of t.test: t = -4.0621, df = 9, p-value = 0.002833, interval -2.4598858 to -0.7001142, mean -1.58.</summary>
    [Fact]
    public void The_paired_t_test_of_Students_sleep_data()
    {
        PairedTest test = new(FirstDrug, SecondDrug);
        Assert.Equal(-1.58, test.Mean, 1e-12);
        Assert.Equal(-4.0621, test.T!.Value, 5e-5);
        Assert.Equal(0.002833, test.P!.Value, 5e-7);
        Assert.Equal(-2.4598858, test.Interval!.Value.Low, 5e-8);
        Assert.Equal(-0.7001142, test.Interval!.Value.High, 5e-8);
    }

    /// <summary>Fisher has t = 2.148, 14 degrees of freedom, and p a little below 0.05; of 2^15 arrangements 863 have a sum of 314 or more.</summary>
    [Fact]
    public void Both_tests_of_Darwins_plants()
    {
        PairedTest test = new(Plants, new double[15]);
        Assert.Equal(314, test.Differences.Sum());
        Assert.Equal(2.148, test.T!.Value, 5e-4);
        Assert.Equal(0.0497, test.P!.Value, 5e-5);
        Assert.Equal(2 * 863 / 32768.0, SignPermutation.TwoSided(Plants));
    }

    /// <summary>The usual table of t, 95 % to both sides.</summary>
    [Theory]
    [InlineData(1, 12.706)]
    [InlineData(2, 4.303)]
    [InlineData(4, 2.776)]
    [InlineData(9, 2.262)]
    [InlineData(30, 2.042)]
    [InlineData(120, 1.980)]
    public void Critical_values_are_those_of_the_table(int freedom, double expected)
    {
        Assert.Equal(expected, Student.Critical(freedom), 5e-4);
        Assert.Equal(0.05, Student.TwoSided(-Student.Critical(freedom), freedom), 1e-9);
    }

    /// <summary>With 2 degrees of freedom (3 seeds) the distribution is 1/2 + t / (2 sqrt(2 + t^2)), with 1 it is Cauchy's.</summary>
    [Theory]
    [InlineData(0.0)]
    [InlineData(0.3)]
    [InlineData(-2.5)]
    [InlineData(40.0)]
    [InlineData(1e4)]
    public void Probabilities_are_those_of_the_closed_forms(double t)
    {
        // Written so that nothing cancels: 1 - t / sqrt(2 + t^2) = 2 / (sqrt(2 + t^2) (sqrt(2 + t^2) + t)).
        double root = Math.Sqrt(2 + (t * t)), above = 1 / (root * (root + Math.Abs(t)));
        Assert.Equal(1, Student.Above(t, 2) / (t < 0 ? 1 - above : above), 1e-7);
        Assert.Equal(1, Student.TwoSided(t, 2) / (2 * above), 1e-7);
        Assert.Equal(0.5 - (Math.Atan(t) / Math.PI), Student.Above(t, 1), 1e-9);
    }

    /// <summary>3, 5 and 10: mean 6, squares 9 + 1 + 16 = 26, deviation sqrt(13); half the interval 4.302653 sqrt(13 / 3).</summary>
    [Fact]
    public void A_sample_worked_by_hand()
    {
        Sample sample = Sample.Of([3, 5, 10]);
        Assert.Equal((3, 6), (sample.Count, sample.Mean));
        Assert.Equal(Math.Sqrt(13), sample.Deviation!.Value, 1e-12);
        Assert.Equal(6 - (4.302653 * Math.Sqrt(13 / 3.0)), sample.Interval!.Value.Low, 1e-5);
        Assert.Equal(6 + (4.302653 * Math.Sqrt(13 / 3.0)), sample.Interval!.Value.High, 1e-5);
        Assert.Equal(new Sample(1, 7, null, null), Sample.Of([7]));
    }

    /// <summary>Differences 1, 2 and 3: mean 2, standard error 1 / sqrt(3). Against -1 t is 3 sqrt(3), against 2.5 it is -sqrt(3) / 2.</summary>
    [Fact]
    public void Against_a_limit_to_either_side()
    {
        static double Above(double t) => 0.5 - (t / (2 * Math.Sqrt(2 + (t * t))));
        PairedTest test = new([1, 2, 3], [0, 0, 0]);
        Assert.Equal(Above(3 * Math.Sqrt(3)), test.PAbove(-1)!.Value, 1e-9);
        Assert.Equal(Above(Math.Sqrt(3) / 2), test.PBelow(2.5)!.Value, 1e-9);
        Assert.Equal(1, test.PAbove(-1)!.Value + test.PBelow(-1)!.Value, 1e-9);
    }

    /// <summary>0.3 - 0.2 and 0.2 - 0.1 are not the same doubles.</summary>
    [Fact]
    public void Differences_that_do_not_vary_are_not_tested()
    {
        foreach (PairedTest test in (PairedTest[])[new([0.3, 0.2], [0.2, 0.1]), new([1, 2], [1, 2]), new([3], [1])])
        {
            Assert.False(test.Varies);
            Assert.Null(test.P);
            Assert.Null(test.T);
            Assert.Null(test.Interval);
            Assert.Null(test.PAbove(0));
        }
        Assert.True(new PairedTest([0.3, 0.2], [0.2, 0.1 - 1e-9]).Varies);
    }

    /// <summary>Six of one sign are the two extremes of 64; with five the extremes are 2 of 32, and with too many nothing is tried.</summary>
    [Fact]
    public void The_permutation_test_needs_six_pairs()
    {
        Assert.Equal(2 / 64.0, SignPermutation.TwoSided([1, 2, 3, 4, 5, 6]));
        Assert.Equal(2 / 64.0, SignPermutation.TwoSided([-0.1, -0.1, -0.1, -0.1, -0.1, -0.1]));
        Assert.Equal(1, SignPermutation.TwoSided([0, 0, 0, 0, 0, 0]));
        Assert.Equal(1, SignPermutation.TwoSided([1, -1, 2, -2, 3, -3]));
        Assert.Null(SignPermutation.TwoSided([1, 2, 3, 4, 5]));
        Assert.Null(SignPermutation.TwoSided(new double[41]));
        Assert.Equal(2 / Math.Pow(2, 40), SignPermutation.TwoSided([.. Enumerable.Repeat(1.0, 40)]));
    }

    /// <summary>Against all choices of signs, one after the other; thousandths, so that many sums are equal but for rounding.</summary>
    [Fact]
    public void The_permutation_test_counts_every_choice_of_signs()
    {
        Random random = new(1);
        for (int count = SignPermutation.LeastPairs; count < 14; count++)
        {
            int[] thousandths = [.. Enumerable.Range(0, count).Select(_ => random.Next(-5, 12))];
            int found = Math.Abs(thousandths.Sum());
            int reached = Enumerable.Range(0, 1 << count).Count(choice => Math.Abs(thousandths.Select((value, i) => (choice >> i & 1) == 0 ? value : -value).Sum()) >= found);
            Assert.Equal(reached / (double)(1 << count), SignPermutation.TwoSided([.. thousandths.Select(value => value / 1000.0)]));
        }
    }

    /// <summary>By hand: 0.005 x 4 = 0.02; 0.01 x 3 = 0.03; 0.03 x 2 = 0.06; 0.04 x 1 is less than the one before. Ties, and the limit of 1.</summary>
    [Fact]
    public void Holm_by_hand()
    {
        Assert.Equal([0.03, 0.06, 0.06, 0.02], Rounded(Holm.Adjust([0.01, 0.04, 0.03, 0.005])));
        Assert.Equal([1, 1, 1], Rounded(Holm.Adjust([0.4, 0.9, 0.4])));
        Assert.Equal([0.04, 0.04], Rounded(Holm.Adjust([0.02, 0.02])));
        Assert.Equal([0.2], Rounded(Holm.Adjust([0.2])));
        Assert.Empty(Holm.Adjust([]));

        static IEnumerable<double> Rounded(double[] values) => values.Select(value => Math.Round(value, 12));
    }
}
