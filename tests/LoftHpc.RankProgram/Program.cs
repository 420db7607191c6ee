using System.Reflection;
using LoftHpc.Mpi;
using LoftHpc.Output;

namespace LoftHpc.RankProgram;

/// <summary>
/// Runs one scenario on every rank of an MPI job: <c>rankprogram CLASS.METHOD [arguments]</c>, or several, one after the
/// other: <c>rankprogram CLASS.METHOD [arguments] + CLASS.METHOD [arguments] ...</c>. A scenario is a public
/// static method <c>void Method(ICommunicator world, string[] arguments)</c> of a static class in this assembly; it
/// throws where something is wrong, and rank 0 may print results. The communicator is the program's own binding's, or
/// MPI.NET's where RANKPROGRAM_MPI is mpi.net; one of several scenarios has a communicator of its own over all ranks.
/// </summary>
internal static class Program
{
    /// <summary>MPI as it was started, for scenarios that look at more than the communicator.</summary>
    public static MpiRuntime? Runtime { get; private set; }

    private static int Main(string[] arguments)
    {
        List<string[]> parts = [];
        for (string[] rest = arguments; rest.Length > 0;)
        {
            string[] part = [.. rest.TakeWhile(argument => argument != "+")];
            parts.Add(part);
            rest = rest[Math.Min(rest.Length, part.Length + 1)..];
        }
        (Action<ICommunicator, string[]> Run, string[] Arguments)[] scenarios = [.. parts.Select(part => (Find(part[0]), part[1..]))];
        NativeEnvironment.Prepare();
        LauncherTerminal.KeepConsolePlain();
        return MpiJob.Run(mpi =>
        {
            Runtime = mpi;
            // Before a scenario uses TorchSharp, which would take a libtorch of LD_LIBRARY_PATH.
            TorchLibrary.Load();
            bool mpiNet = Environment.GetEnvironmentVariable("RANKPROGRAM_MPI") == "mpi.net";
            ICommunicator world = mpiNet ? mpi.WorldThroughMpiNet() : mpi.World;
            if (scenarios is [var single])
            {
                single.Run(world, single.Arguments);
                return 0;
            }
            for (int i = 0; i < scenarios.Length; i++)
            {
                // A scenario may end its communicator.
                using ICommunicator own = world.Split(0, world.Rank);
                try
                {
                    scenarios[i].Run(own, scenarios[i].Arguments);
                }
                catch (Exception) when (Tell(parts[i]))
                {
                }
            }
            return 0;
        });
    }

    /// <summary>Says what failed; the exception goes on to the job's own filters, before anything is unwound (see <see cref="MpiJob"/>).</summary>
    private static bool Tell(string[] scenario)
    {
        Console.Error.WriteLine($"in scenario {string.Join(' ', scenario)}:");
        return false;
    }

    private static Action<ICommunicator, string[]> Find(string name)
    {
        string[] parts = name.Split('.');
        MethodInfo? method = Assembly.GetExecutingAssembly().GetTypes()
            .FirstOrDefault(t => t.Name == parts[0])?.GetMethod(parts[^1], BindingFlags.Public | BindingFlags.Static);
        return method?.CreateDelegate<Action<ICommunicator, string[]>>() ?? throw new ArgumentException($"no scenario {name}");
    }
}
