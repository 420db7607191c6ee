using System.Buffers.Binary;
using System.IO.Hashing;
using System.Text;

namespace LoftHpc;

/// <summary>
/// Random numbers that are a function of (seed, purpose, indices) alone: the same on every rank and at every rank
/// count, whatever was drawn before. The key is hashed by XxHash128 into the state of SplitMix64 streams.
/// </summary>
public sealed class RandomStream
{
    private ulong _state;
    private readonly ulong _increment;
    private double _spare = double.NaN;

    private RandomStream(ulong state, ulong increment)
    {
        _state = state;
        _increment = increment | 1;
    }

    /// <summary>The stream of one purpose, for example <c>For(seed, "init", "conv1", filter)</c>.</summary>
    public static RandomStream For(long seed, string purpose, params ReadOnlySpan<long> indices)
    {
        int textBytes = Encoding.UTF8.GetByteCount(purpose);
        Span<byte> key = stackalloc byte[8 + textBytes + (8 * indices.Length)];
        BinaryPrimitives.WriteInt64LittleEndian(key, seed);
        Encoding.UTF8.GetBytes(purpose, key[8..]);
        for (int i = 0; i < indices.Length; i++)
            BinaryPrimitives.WriteInt64LittleEndian(key[(8 + textBytes + (8 * i))..], indices[i]);
        UInt128 hash = XxHash128.HashToUInt128(key);
        return new RandomStream((ulong)hash, (ulong)(hash >> 64));
    }

    /// <summary>64 uniform random bits (SplitMix64 with a per-stream increment).</summary>
    public ulong NextBits()
    {
        ulong z = _state += _increment;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9UL;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebUL;
        return z ^ (z >> 31);
    }

    /// <summary>Uniform in [0, 1), 53 bits.</summary>
    public double NextDouble() => (NextBits() >> 11) * (1.0 / (1UL << 53));

    /// <summary>Uniform integer in [0, <paramref name="exclusiveMax"/>).</summary>
    public int NextInt(int exclusiveMax)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(exclusiveMax);
        return (int)(((UInt128)NextBits() * (ulong)exclusiveMax) >> 64);
    }

    /// <summary>Standard normal (Box and Muller 1958).</summary>
    public double NextNormal()
    {
        if (!double.IsNaN(_spare))
        {
            double spare = _spare;
            _spare = double.NaN;
            return spare;
        }
        double radius = Math.Sqrt(-2 * Math.Log(1 - NextDouble()));
        (double sin, double cos) = Math.SinCos(2 * Math.PI * NextDouble());
        _spare = radius * sin;
        return radius * cos;
    }

    /// <summary>A random permutation of 0..count-1 (Fisher and Yates).</summary>
    public int[] Permutation(int count)
    {
        int[] order = new int[count];
        for (int i = 0; i < count; i++)
        {
            int j = NextInt(i + 1);
            order[i] = order[j];
            order[j] = i;
        }
        return order;
    }
}
