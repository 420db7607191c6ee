using LoftHpc.Mpi;

namespace LoftHpc.RankProgram;

/// <summary>Scenarios about starting and ending a job.</summary>
public static class Launch
{
    /// <summary>Every rank adds its number; rank 0 prints "world SIZE FAMILY SUM".</summary>
    public static void World(ICommunicator world, string[] arguments)
    {
        int sum = world.Allreduce(world.Rank, MpiOperation.Sum);
        if (world.Rank == 0) Console.WriteLine($"world {world.Size} {Program.Runtime!.Family} {sum}");
    }
}
