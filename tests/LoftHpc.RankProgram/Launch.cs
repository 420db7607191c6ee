using System.Diagnostics;
using LoftHpc.Communication;
using LoftHpc.Mpi;

namespace LoftHpc.RankProgram;

/// <summary>Scenarios about starting, failing and ending a job.</summary>
public static class Launch
{
    /// <summary>Every rank adds its number; rank 0 prints "world SIZE FAMILY SUM".</summary>
    public static void World(ICommunicator world, string[] arguments)
    {
        int sum = world.Allreduce(world.Rank, MpiOperation.Sum);
        if (world.Rank == 0) Console.WriteLine($"world {world.Size} {Program.Runtime!.Family} {sum}");
    }

    /// <summary>Rank 0 prints what doctor shows of MPI.</summary>
    public static void Describe(ICommunicator world, string[] arguments)
    {
        MpiRuntime mpi = Program.Runtime!;
        LaunchEnvironment launch = mpi.Launch;
        Check.True(launch.Rank == world.Rank && launch.Size == world.Size, $"{launch}");
        Check.True(launch.LocalRank == world.Rank, $"{launch}");
        if (world.Rank != 0) return;
        Console.WriteLine($"{mpi.LibraryPath}\n{mpi.LibraryChoice}\n{mpi.LibraryVersion!.Split('\n')[0]}\n{mpi.ThreadLevel}\n{mpi.IsCudaAware}");
    }

    /// <summary>.NET's null check works after MPI has started, though MPI libraries handle signals too.</summary>
    public static void NullCheck(ICommunicator world, string[] arguments)
    {
        string? nothing = arguments.Length > 0 ? "" : null;
        Check.Throws<NullReferenceException>(() => _ = nothing!.Length, "null");
        if (world.Rank == 0) Console.WriteLine("caught");
    }

    /// <summary>The last rank throws inside a scope with a communicator of its own, while the others wait in a barrier.</summary>
    public static void LastRankThrows(ICommunicator world, string[] arguments)
    {
        Announce(world);
        using ICommunicator all = world.Split(0, world.Rank);
        if (world.Rank == world.Size - 1) throw new InvalidOperationException("marker of the failure");
        all.Barrier();
    }

    /// <summary>The same on a thread of its own.</summary>
    public static void LastRankThrowsOnAThread(ICommunicator world, string[] arguments)
    {
        Announce(world);
        if (world.Rank == world.Size - 1)
        {
            new Thread(() => throw new InvalidOperationException("marker of the failure")).Start();
            Thread.Sleep(Timeout.Infinite);
        }
        world.Barrier();
    }

    /// <summary>The last rank is killed while the others wait for it in a collective.</summary>
    public static void LastRankIsKilled(ICommunicator world, string[] arguments)
    {
        Announce(world);
        if (world.Rank == world.Size - 1) Process.GetCurrentProcess().Kill();
        world.Barrier();
    }

    /// <summary>The last rank alone makes a user's mistake, and nobody asked for agreement.</summary>
    public static void UserErrorOnLastRank(ICommunicator world, string[] arguments)
    {
        Announce(world);
        if (world.Rank == world.Size - 1) throw new UserError("file.bin: cut", ExitCodes.Environment);
        world.Barrier();
    }

    /// <summary>All ranks but the last make a user's mistake in the same moment; the last computes on.</summary>
    public static void UserErrorOnAllRanksButOne(ICommunicator world, string[] arguments)
    {
        Announce(world);
        if (world.Rank == world.Size - 1) Thread.Sleep(Timeout.Infinite);
        throw new UserError("file.bin: cut", ExitCodes.Environment);
    }

    /// <summary>Every rank finds the same mistake by itself.</summary>
    public static void UserErrorOnAllRanks(ICommunicator world, string[] arguments)
    {
        Announce(world);
        using ICommunicator all = world.Split(0, world.Rank);
        throw new UserError("config.yaml, line 3: no such key");
    }

    /// <summary>The two last ranks make mistakes, and the ranks agree on the first of them.</summary>
    public static void AgreedUserError(ICommunicator world, string[] arguments)
    {
        Announce(world);
        int value = Agree.OnAllRanks(world, () => world.Rank + 1);
        Check.True(value == world.Rank + 1, "the result of an action that succeeds");
        AlsoAlone(world);
        Agree.OnAllRanks(world, () =>
        {
            if (world.Rank >= Math.Max(1, world.Size - 2)) throw new UserError($"mistake of rank {world.Rank}", ExitCodes.Environment);
        });
    }

    /// <summary>Rank 0 does something while the others sleep, and then fails at it.</summary>
    private static void AlsoAlone(ICommunicator world)
    {
        int done = 0;
        Agree.OnRootAlone(world, () =>
        {
            Thread.Sleep(50);
            done++;
        });
        Check.True(done == (world.Rank == 0 ? 1 : 0), "work of rank 0");
        try
        {
            Agree.OnRootAlone(world, () => throw new UserError("of the root"));
        }
        catch (UserError error) when (error.Message.StartsWith("of the root", StringComparison.Ordinal))
        {
            return;
        }
        throw new InvalidOperationException("a rank did not hear of rank 0's mistake");
    }

    /// <summary>From this line on the time counts that a failing job may take: all ranks are up.</summary>
    private static void Announce(ICommunicator world)
    {
        world.Barrier();
        if (world.Rank == 0) Console.WriteLine("about to fail");
    }
}
