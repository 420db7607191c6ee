using System.Diagnostics;
using LoftHpc.Mpi;

namespace LoftHpc.Benchmarks;

/// <summary>One number for each round.</summary>
internal sealed record Sample(double[] Values)
{
    public double Median => Quantile(0.5);

    /// <summary>Linear between the two nearest values.</summary>
    public double Quantile(double share)
    {
        double[] sorted = [.. Values.Order()];
        double at = share * (sorted.Length - 1);
        int below = (int)at;
        return sorted[below] + ((at - below) * (sorted[Math.Min(below + 1, sorted.Length - 1)] - sorted[below]));
    }

    /// <summary>The ratio of each round.</summary>
    public Sample Over(Sample reference) => new([.. Values.Zip(reference.Values, (value, other) => value / other)]);
}

/// <param name="WarmUps">Rounds before those that count.</param>
/// <param name="Calls">Calls that are timed together.</param>
/// <param name="Untimed">Calls before them, which find the caches as another way left them.</param>
internal readonly record struct Rounds(int WarmUps, int Counted, int Calls = 1, int Untimed = 0);

/// <summary>Times several ways of doing something in turns, so that what disturbs the machine meets all of them.</summary>
internal sealed class AlternatingTimer(ICommunicator world)
{
    public ICommunicator World => world;

    /// <summary>Seconds of one call of each way in each round. Collective; a rank that has no part in a way gives null for it.</summary>
    /// <param name="ways">Take a number of calls.</param>
    public Sample[] Alternate(Rounds rounds, params Action<int>?[] ways)
    {
        double[][] seconds = [.. ways.Select(_ => new double[rounds.Counted])];
        for (int round = -rounds.WarmUps; round < rounds.Counted; round++)
        {
            for (int i = 0; i < ways.Length; i++)
            {
                // Every other round goes backwards, so that no way always follows the same one.
                int index = round % 2 == 0 ? i : ways.Length - 1 - i;
                Action<int>? way = ways[index];
                way?.Invoke(rounds.Untimed);
                double time = Time(way is null ? null : () => way(rounds.Calls));
                if (round >= 0) seconds[index][round] = time / rounds.Calls;
            }
        }
        return [.. seconds.Select(values => new Sample(values))];
    }

    /// <summary>Seconds of the slowest rank.</summary>
    public double Time(Action? work)
    {
        world.Barrier();
        long start = Stopwatch.GetTimestamp();
        work?.Invoke();
        double seconds = Stopwatch.GetElapsedTime(start).TotalSeconds;
        // Who is done sleeps: a rank that spins in MPI takes memory bandwidth and clock rate from one that still works.
        IMpiRequest barrier = world.StartBarrier();
        while (!barrier.Test()) Thread.Sleep(2);
        return world.Allreduce(work is null ? 0 : seconds, MpiOperation.Max);
    }
}
