using System.Numerics;
using LoftHpc.Communication;
using LoftHpc.Mpi;

namespace LoftHpc.SelfTest;

/// <summary>Every call of a communicator against values worked out in plain C#, with uneven counts and empty parts.</summary>
internal sealed class CollectiveChecks(Findings findings)
{
    /// <summary>Elements behind every buffer that no call may touch.</summary>
    private const int Guard = 3;

    /// <summary>
    /// All calls through the binding that the world is of. Through our own three times: as they are; with a small limit on
    /// counts, so that counts past it take the large-count calls where the library has them; and with that limit and in
    /// pieces. Collective.
    /// </summary>
    public void All(ICommunicator world)
    {
        Calls(world);
        if (world is MpiCommunicator mpi)
        {
            // An alltoallv cannot go in pieces; each rank's has at most two elements more than there are ranks.
            int limit = Math.Max(5, world.Size + 2);
            foreach (bool large in new[] { true, false })
            {
                using MpiCommunicator limited = mpi.Duplicate(limit, useLargeCounts: large);
                Calls(limited);
            }
            using MpiCommunicator pieces = mpi.Duplicate(limit, useLargeCounts: false);
            PointToPoint(pieces);
        }
        if (world is not SelfCommunicator) PointToPoint(world);
        Splits(world);
        Spans(world);
    }

    private void Calls(ICommunicator world)
    {
        // Every call in one type, and in the other types what depends on the type.
        Calls<float>(world);
        Types<byte>(world);
        Types<int>(world);
        Types<long>(world);
        Types<double>(world);
        // Bfloat16 travels as whole numbers of 16 bits, and is not reduced.
        Allgatherv<short>(world, CountSets(world.Size)[0]);
        Alltoallv<short>(world);
    }

    private void Calls<T>(ICommunicator world) where T : unmanaged, INumber<T>
    {
        Barriers(world);
        foreach (int count in new[] { 0, 5, 17 })
        {
            foreach (int root in new[] { 0, world.Size - 1 }.Distinct())
            {
                Broadcast<T>(world, count, root);
                Reduce<T>(world, count, root);
            }
            Allreduce<T>(world, count);
            Allgather<T>(world, count);
        }
        foreach (long[] counts in CountSets(world.Size))
        {
            Allgatherv<T>(world, counts);
            ReduceScatter<T>(world, counts);
        }
        Alltoallv<T>(world);
    }

    private void Types<T>(ICommunicator world) where T : unmanaged, INumber<T>
    {
        Allreduce<T>(world, 6);
        Allgatherv<T>(world, CountSets(world.Size)[0]);
    }

    private void Barriers(ICommunicator world)
    {
        world.Barrier();
        IMpiRequest request = world.StartBarrier();
        request.Wait();
        findings.True(request.Test(), "a request that was waited for has completed");
    }

    private void Broadcast<T>(ICommunicator world, int count, int root) where T : unmanaged, INumber<T>
    {
        foreach (bool start in new[] { false, true })
        {
            using Memory<T> buffer = new(findings, count, i => world.Rank == root ? Value<T>(root, i) : T.Zero);
            if (start) Finish(world.StartBroadcast(buffer.View, root));
            else world.Broadcast(buffer.View, root);
            buffer.MustEqual(i => Value<T>(root, i), $"broadcast of {count} from {root}, start {start}");
        }
    }

    private void Reduce<T>(ICommunicator world, int count, int root) where T : unmanaged, INumber<T>
    {
        foreach (MpiOperation operation in Enum.GetValues<MpiOperation>())
        {
            foreach (bool inPlace in new[] { false, true })
            {
                using Memory<T> send = new(findings, count, i => Value<T>(world.Rank, i));
                using Memory<T> receive = new(findings, count, i => inPlace ? Value<T>(world.Rank, i) : T.Zero);
                bool isRoot = world.Rank == root;
                world.Reduce(
                    inPlace && isRoot ? MpiBuffer.InPlace : send.View, isRoot ? receive.View : default, operation, root);
                string what = $"reduce of {count} by {operation} to {root}, in place {inPlace}";
                if (isRoot) receive.MustEqual(i => Reduced<T>(world.Size, i, operation), what);
                send.MustEqual(i => Value<T>(world.Rank, i), what + ", send buffer");
            }
        }
    }

    private void Allreduce<T>(ICommunicator world, int count) where T : unmanaged, INumber<T>
    {
        foreach (MpiOperation operation in Enum.GetValues<MpiOperation>())
        {
            if (typeof(T) == typeof(byte) && operation != MpiOperation.Sum) continue;
            foreach ((bool inPlace, bool start) in Ways)
            {
                using Memory<T> send = new(findings, count, i => Value<T>(world.Rank, i));
                using Memory<T> receive = new(findings, count, i => inPlace ? Value<T>(world.Rank, i) : T.Zero);
                MpiBuffer from = inPlace ? MpiBuffer.InPlace : send.View;
                if (start) Finish(world.StartAllreduce(from, receive.View, operation));
                else world.Allreduce(from, receive.View, operation);
                receive.MustEqual(
                    i => Reduced<T>(world.Size, i, operation), $"allreduce of {count} by {operation}, in place {inPlace}, start {start}");
            }
        }
    }

    private void Allgather<T>(ICommunicator world, int count) where T : unmanaged, INumber<T>
    {
        foreach (bool inPlace in new[] { false, true })
        {
            using Memory<T> send = new(findings, count, i => Value<T>(world.Rank, i));
            using Memory<T> receive = new(
                findings, count * world.Size, i => inPlace && i / count == world.Rank ? Value<T>(world.Rank, i % count) : T.Zero);
            world.Allgather(inPlace ? MpiBuffer.InPlace : send.View, receive.View);
            receive.MustEqual(i => Value<T>(i / count, i % count), $"allgather of {count}, in place {inPlace}");
        }
    }

    private void Allgatherv<T>(ICommunicator world, long[] counts) where T : unmanaged, INumber<T>
    {
        foreach ((bool inPlace, bool start) in Ways)
        {
            // The parts stand in reverse order of the ranks, with a gap after each where no limit forbids it.
            int gap = world is MpiCommunicator { CountLimit: < int.MaxValue } ? 0 : 1;
            long[] displacements = new long[world.Size];
            long end = 0;
            for (int r = world.Size - 1; r >= 0; r--)
            {
                displacements[r] = end;
                end += counts[r] + gap;
            }
            T[] expected = Enumerable.Repeat(T.CreateChecked(99), (int)end).ToArray();
            T[] before = [.. expected];
            for (int r = 0; r < world.Size; r++)
            {
                for (int i = 0; i < counts[r]; i++)
                {
                    expected[displacements[r] + i] = Value<T>(r, i);
                    if (inPlace && r == world.Rank) before[displacements[r] + i] = Value<T>(r, i);
                }
            }
            using Memory<T> send = new(findings, (int)counts[world.Rank], i => Value<T>(world.Rank, i));
            using Memory<T> receive = new(findings, (int)end, i => before[i]);
            MpiBuffer from = inPlace ? MpiBuffer.InPlace : send.View;
            if (start) Finish(world.StartAllgatherv(from, receive.View, counts, displacements));
            else world.Allgatherv(from, receive.View, counts, displacements);
            receive.MustEqual(i => expected[i], $"allgatherv of [{string.Join(",", counts)}], in place {inPlace}, start {start}");
        }
    }

    private void ReduceScatter<T>(ICommunicator world, long[] counts) where T : unmanaged, INumber<T>
    {
        int total = (int)counts.Sum(), own = (int)counts[world.Rank], first = (int)counts[..world.Rank].Sum();
        foreach (MpiOperation operation in Enum.GetValues<MpiOperation>())
        {
            foreach ((bool inPlace, bool start) in Ways)
            {
                using Memory<T> send = new(findings, total, i => Value<T>(world.Rank, i));
                using Memory<T> receive = new(findings, inPlace ? total : own, i => inPlace ? Value<T>(world.Rank, i) : T.Zero);
                MpiBuffer from = inPlace ? MpiBuffer.InPlace : send.View;
                if (start) Finish(world.StartReduceScatter(from, receive.View, counts, operation));
                else world.ReduceScatter(from, receive.View, counts, operation);
                receive.MustEqual(
                    i => Reduced<T>(world.Size, first + i, operation),
                    $"reduce-scatter of [{string.Join(",", counts)}] by {operation}, in place {inPlace}, start {start}", upTo: own);
                send.MustEqual(i => Value<T>(world.Rank, i), "reduce-scatter's send buffer");
            }
        }
    }

    private void Alltoallv<T>(ICommunicator world) where T : unmanaged, INumber<T>
    {
        int rank = world.Rank;
        // Rank s sends (2 s + d) mod 3 elements to rank d, zero among them: three in a row are 3, so a rank's are at most two more than there are ranks.
        static int Count(int source, int destination) => ((2 * source) + destination) % 3;
        long[] sendCounts = [.. Enumerable.Range(0, world.Size).Select(d => (long)Count(rank, d))];
        long[] receiveCounts = [.. Enumerable.Range(0, world.Size).Select(s => (long)Count(s, rank))];
        long[] sendAt = Displacements.Of(sendCounts), receiveAt = Displacements.Of(receiveCounts);
        foreach (bool start in new[] { false, true })
        {
            using Memory<T> send = new(findings, (int)sendCounts.Sum(), i =>
            {
                int destination = Array.FindLastIndex(sendAt, a => a <= i);
                return Value<T>(rank, (10 * destination) + i - (int)sendAt[destination]);
            });
            using Memory<T> receive = new(findings, (int)receiveCounts.Sum(), _ => T.Zero);
            if (start) Finish(world.StartAlltoallv(send.View, sendCounts, sendAt, receive.View, receiveCounts, receiveAt));
            else world.Alltoallv(send.View, sendCounts, sendAt, receive.View, receiveCounts, receiveAt);
            receive.MustEqual(
                i =>
                {
                    int source = Array.FindLastIndex(receiveAt, a => a <= i);
                    return Value<T>(source, (10 * rank) + i - (int)receiveAt[source]);
                },
                $"alltoallv, start {start}");
        }
    }

    private void PointToPoint(ICommunicator world)
    {
        int next = (world.Rank + 1) % world.Size, last = (world.Rank + world.Size - 1) % world.Size;
        foreach (int count in new[] { 0, 3, 12 })
        {
            using Memory<float> send = new(findings, count, i => Value<float>(world.Rank, i));
            using Memory<float> receive = new(findings, count, _ => 0);
            IMpiRequest receiving = world.StartReceive(receive.View, last, 7), sending = world.StartSend(send.View, next, 7);
            while (!receiving.Test()) Thread.Yield();
            Finish(sending);
            receive.MustEqual(i => Value<float>(last, i), $"non-blocking ring of {count}");

            if (world.Size == 1) continue;
            if (world.Rank == 0) world.Send(send.View, next, 8);
            receive.Fill(_ => 0);
            world.Receive(receive.View, last, 8);
            if (world.Rank != 0) world.Send(send.View, next, 8);
            receive.MustEqual(i => Value<float>(last, i), $"blocking ring of {count}");
        }
    }

    private void Splits(ICommunicator world)
    {
        using (ICommunicator half = world.Split(world.Rank % 2, -world.Rank))
        {
            int[] members = [.. Enumerable.Range(0, world.Size).Where(r => r % 2 == world.Rank % 2).Reverse()];
            findings.True(half.Size == members.Length && half.Rank == Array.IndexOf(members, world.Rank), "rank after a split");
            int[] gathered = new int[half.Size];
            half.Allgather<int>([world.Rank], gathered);
            findings.Equal<int>(members, gathered, "members of a split");
        }
        using ICommunicator host = world.SplitByHost();
        findings.True(host.Allgather(Environment.MachineName).Distinct().Count() == 1, "the ranks of one host");
    }

    private void Spans(ICommunicator world)
    {
        long[] counts = CountSets(world.Size)[0];
        double[] own = [.. Enumerable.Range(0, (int)counts[world.Rank]).Select(i => Value<double>(world.Rank, i))];
        double[] all = new double[counts.Sum()];
        world.Allgatherv<double>(own, all, counts);
        double[] expected = [.. counts.SelectMany((c, r) => Enumerable.Range(0, (int)c).Select(i => Value<double>(r, i)))];
        findings.Equal<double>(expected, all, "allgatherv of spans");

        double[] part = new double[own.Length];
        world.ReduceScatter<double>(all, part, counts, MpiOperation.Sum);
        int first = (int)counts[..world.Rank].Sum();
        findings.Equal<double>([.. expected[first..(first + own.Length)].Select(v => v * world.Size)], part, "reduce-scatter of spans");

        int[] values = [world.Rank, 1];
        world.Reduce(values.AsSpan(), MpiOperation.Max, world.Size - 1);
        findings.Equal<int>([world.Rank, 1], values, "reduce of spans");
        world.Broadcast(values.AsSpan(), world.Size - 1);
        findings.Equal<int>([world.Size - 1, 1], values, "broadcast of spans");

        string[] texts = world.Allgather(string.Concat(Enumerable.Repeat("é", world.Rank)));
        findings.Equal<string>([.. Enumerable.Range(0, world.Size).Select(r => new string('é', r))], texts, "texts");
        findings.True(world.Broadcast(world.Rank == 0 ? "naïve" : "", 0) == "naïve", "broadcast of a text");
    }

    private static readonly (bool InPlace, bool Start)[] Ways = [(false, false), (false, true), (true, false), (true, true)];

    /// <summary>Counts of each rank: uneven, with empty ones, one rank alone, nothing at all.</summary>
    private static long[][] CountSets(int size) =>
    [
        [.. Enumerable.Range(0, size).Select(r => (3L * r) + 2)],
        [.. Enumerable.Range(0, size).Select(r => r % 2 == 0 ? 0L : 4)],
        [.. Enumerable.Range(0, size).Select(r => r == 0 ? 1L : 5)],
        [.. Enumerable.Range(0, size).Select(r => r == size - 1 ? 7L : 0)],
        new long[size],
    ];

    /// <summary>A small number of rank and position, negative too where the type has such. Sums of bytes wrap around, in MPI and here.</summary>
    private static T Value<T>(int rank, int i) where T : INumber<T> =>
        T.CreateChecked(((rank * 31) + (i * 17) + 5) % 60) - (typeof(T) == typeof(byte) ? T.Zero : T.CreateChecked(30));

    private static T Reduced<T>(int ranks, int i, MpiOperation operation) where T : INumber<T>
    {
        T result = Value<T>(0, i);
        for (int r = 1; r < ranks; r++)
        {
            T value = Value<T>(r, i);
            result = operation switch
            {
                MpiOperation.Sum => result + value,
                MpiOperation.Min => T.Min(result, value),
                _ => T.Max(result, value),
            };
        }
        return result;
    }

    private static void Finish(IMpiRequest request)
    {
        request.Wait();
        request.Wait();
    }

    /// <summary>Native elements with a guard behind them.</summary>
    private sealed class Memory<T> : IDisposable where T : unmanaged, INumber<T>
    {
        private readonly NativeBuffer _memory = new();
        private readonly Findings _findings;
        private readonly int _count;

        public Memory(Findings findings, int count, Func<int, T> value)
        {
            (_findings, _count) = (findings, count);
            Fill(value);
        }

        public MpiBuffer View
        {
            get
            {
                MpiDataType type =
                    typeof(T) == typeof(byte) ? MpiDataType.Byte : typeof(T) == typeof(int) ? MpiDataType.Int32
                    : typeof(T) == typeof(long) ? MpiDataType.Int64 : typeof(T) == typeof(short) ? MpiDataType.Bfloat16 : typeof(T) == typeof(float) ? MpiDataType.Float32 : MpiDataType.Float64;
                return _memory.View(_count, type);
            }
        }

        public void Fill(Func<int, T> value)
        {
            Span<T> span = _memory.Span<T>(_count + Guard);
            for (int i = 0; i < span.Length; i++) span[i] = i < _count ? value(i) : T.CreateChecked(77);
        }

        public void MustEqual(Func<int, T> expected, string what, int? upTo = null)
        {
            Span<T> span = _memory.Span<T>(_count + Guard);
            T[] values = [.. Enumerable.Range(0, upTo ?? _count).Select(expected)];
            _findings.Equal<T>(values, span[..values.Length], $"{what} ({typeof(T).Name})");
            _findings.True(span[_count..].IndexOfAnyExcept(T.CreateChecked(77)) < 0, what + " wrote past the end");
        }

        public void Dispose() => _memory.Dispose();
    }
}
