using System.Numerics;

namespace LoftHpc.Planning;

/// <summary>One step, counted from 1, that stands for all steps of its kind, and how many those are.</summary>
public readonly record struct StepKind(long Step, long Count);

/// <summary>Sorts steps by what happens at them, without walking over them: a training may have 10^13.</summary>
public static class StepKinds
{
    /// <summary>
    /// The steps above <paramref name="after"/> up to and with <paramref name="last"/>, by which of the periods they are
    /// multiples of.
    /// </summary>
    /// <param name="periods">Each at least 1; a few, since there may be a kind for each set of them.</param>
    public static IEnumerable<StepKind> Of(long after, long last, params IReadOnlyList<long> periods)
    {
        int sets = 1 << periods.Count;
        long[] multiples = new long[sets], least = new long[sets];
        for (int set = 0; set < sets; set++)
        {
            least[set] = 1;
            for (int i = 0; i < periods.Count; i++)
            {
                if ((set >> i & 1) == 1) least[set] = LeastMultiple(least[set], periods[i], last);
            }
            multiples[set] = (last / least[set]) - (after / least[set]);
        }
        for (int set = 0; set < sets; set++)
        {
            // Of these periods and no other: inclusion and exclusion.
            long count = 0;
            for (int larger = set; larger < sets; larger++)
            {
                if ((larger & set) == set) count += BitOperations.PopCount((uint)(larger ^ set)) % 2 == 0 ? multiples[larger] : -multiples[larger];
            }
            if (count == 0) continue;
            // Multiples of the others come in between, but never many in a row.
            long step = ((after / least[set]) + 1) * least[set];
            while (SetOf(step, periods) != set) step += least[set];
            yield return new StepKind(step, count);
        }
    }

    private static int SetOf(long step, IReadOnlyList<long> periods)
    {
        int set = 0;
        for (int i = 0; i < periods.Count; i++)
        {
            if (step % periods[i] == 0) set |= 1 << i;
        }
        return set;
    }

    /// <summary>The least common multiple; where it is above <paramref name="last"/>, something above that.</summary>
    private static long LeastMultiple(long a, long b, long last)
    {
        Int128 multiple = (Int128)a * b / (Int128)BigInteger.GreatestCommonDivisor(a, b);
        return multiple > last ? last + 1 : (long)multiple;
    }
}
