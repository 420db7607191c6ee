using System.Reflection;
using LoftHpc.Mpi;
using LoftHpc.Output;

namespace LoftHpc.RankProgram;

/// <summary>
/// Runs one scenario on every rank of an MPI job: <c>rankprogram CLASS.METHOD [arguments]</c>. A scenario is a public
/// static method <c>void Method(ICommunicator world, string[] arguments)</c> of a static class in this assembly; it
/// throws where something is wrong, and rank 0 may print results. The communicator is the program's own binding's, or
/// MPI.NET's where RANKPROGRAM_MPI is mpi.net.
/// </summary>
internal static class Program
{
    /// <summary>MPI as it was started, for scenarios that look at more than the communicator.</summary>
    public static MpiRuntime? Runtime { get; private set; }

    private static int Main(string[] arguments)
    {
        Action<ICommunicator, string[]> scenario = Find(arguments[0]);
        NativeEnvironment.Prepare();
        LauncherTerminal.KeepConsolePlain();
        return MpiJob.Run(mpi =>
        {
            Runtime = mpi;
            // Before a scenario uses TorchSharp, which would take a libtorch of LD_LIBRARY_PATH.
            TorchLibrary.Load();
            bool mpiNet = Environment.GetEnvironmentVariable("RANKPROGRAM_MPI") == "mpi.net";
            scenario(mpiNet ? mpi.WorldThroughMpiNet() : mpi.World, arguments[1..]);
            return 0;
        });
    }

    private static Action<ICommunicator, string[]> Find(string name)
    {
        string[] parts = name.Split('.');
        MethodInfo? method = Assembly.GetExecutingAssembly().GetTypes()
            .FirstOrDefault(t => t.Name == parts[0])?.GetMethod(parts[^1], BindingFlags.Public | BindingFlags.Static);
        return method?.CreateDelegate<Action<ICommunicator, string[]>>() ?? throw new ArgumentException($"no scenario {name}");
    }
}
