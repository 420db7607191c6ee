using LoftHpc.Distances;
using Xunit;

namespace LoftHpc.Tests.Distances;

public class FilterDistanceTests
{
    private static double Between(int[] ranking, int[] other) => FilterDistance.Between(ranking, other);

    [Fact]
    public void Identity_is_at_distance_zero() => Assert.Equal(0, Between([1, 2, 3, 4], [1, 2, 3, 4]));

    [Theory]
    [InlineData(2)]
    [InlineData(16)]
    public void Swap_of_the_top_two_is_one_and_a_half_ln_two(int filters)
    {
        // Terms 1/1 * |ln 1 - ln 2| and 1/2 * |ln 2 - ln 1|.
        int[] swapped = [.. Enumerable.Range(1, filters)];
        (swapped[0], swapped[1]) = (2, 1);
        Assert.Equal(1.5 * Math.Log(2), Between([.. Enumerable.Range(1, filters)], swapped), 1e-15);
        Assert.Equal(1.0397, Between([.. Enumerable.Range(1, filters)], swapped), 1e-4);
    }

    [Fact]
    public void Swap_of_the_last_two_is_about_two_over_n_squared()
    {
        int[] ranking = [.. Enumerable.Range(1, 200)], swapped = [.. ranking];
        (swapped[198], swapped[199]) = (200, 199);
        Assert.Equal(2.0 / (200 * 200), Between(ranking, swapped), 2e-6);
    }

    [Fact]
    public void Three_filters_moved_round_by_hand()
    {
        // Filters a, b, c stand 1, 2, 3 in R and 2, 3, 1 in R^.
        double expected = Math.Log(2) + (Math.Log(1.5) / 2) + (Math.Log(3) / 3);
        Assert.Equal(expected, Between([1, 2, 3], [2, 3, 1]), 1e-15);
        // The other way the weights are those of R^: 1/2 ln 2 + 1/3 ln 1.5 + ln 3.
        Assert.Equal((Math.Log(2) / 2) + (Math.Log(1.5) / 3) + Math.Log(3), Between([2, 3, 1], [1, 2, 3]), 1e-15);
    }

    [Fact]
    public void Position_one_is_the_largest_norm_and_ties_go_to_the_lower_filter() =>
        Assert.Equal([3, 1, 2, 4], FilterDistance.Positions([1.0, 5.0, 5.0, 0.5]));

    // The means were sampled, to about 0.1; the next test holds the closed form against all permutations.
    [Theory]
    [InlineData(16, 4.0, 5.6)]
    [InlineData(32, 5.9, 8.1)]
    [InlineData(64, 8.3, 11.2)]
    [InlineData(128, 11.1, 14.7)]
    [InlineData(256, 14.6, 18.7)]
    [InlineData(512, 18.4, 23.1)]
    [InlineData(1024, 22.6, 28.1)]
    public void Chance_and_reversal_are_the_known_values(int filters, double mean, double reversal)
    {
        int[] ranking = [.. Enumerable.Range(1, filters)];
        Assert.Equal(mean, FilterDistance.RandomMean(filters), 0.1);
        Assert.Equal(reversal, Between(ranking, [.. ranking.Reverse()]), 0.05);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(5)]
    public void Chance_is_the_mean_over_all_permutations(int filters)
    {
        int[] ranking = [.. Enumerable.Range(1, filters)];
        double[] all = [.. Permutations(ranking).Select(other => Between(ranking, other))];
        Assert.Equal(all.Average(), FilterDistance.RandomMean(filters), 1e-14);
    }

    [Fact]
    public void Evenly_spaced_measurements_hold_the_first_and_the_last()
    {
        Assert.Equal([0, 1, 2], RankingTracker.EvenlySpaced(3, 100));
        Assert.Equal([0, 3, 6, 9], RankingTracker.EvenlySpaced(10, 4));
        int[] spaced = RankingTracker.EvenlySpaced(1001, 100);
        Assert.Equal((100, 0, 1000), (spaced.Distinct().Count(), spaced[0], spaced[^1]));
    }

    private static IEnumerable<int[]> Permutations(int[] items) => items.Length <= 1
        ? [items]
        : items.SelectMany(first => Permutations([.. items.Where(item => item != first)]).Select(rest => (int[])[first, .. rest]));
}
