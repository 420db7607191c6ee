using System.Diagnostics;
using System.Globalization;
using LoftHpc.Arithmetic;
using LoftHpc.Commands;
using LoftHpc.Configuration;
using LoftHpc.Mpi;
using LoftHpc.Networks;
using LoftHpc.Output;
using LoftHpc.Stages;
using LoftHpc.Training;
using static TorchSharp.torch;

namespace LoftHpc.RankProgram;

/// <summary>The check of a launch's arithmetic.</summary>
public static class ArithmeticScenarios
{
    /// <summary>Arguments: of "run", after --config. A whole run meets no convolution that its check at the start has not met.</summary>
    public static void NothingUnchecked(ICommunicator world, string[] arguments)
    {
        using Session session = new(Program.Runtime!, new LaunchOptions("run", arguments[0], arguments[1..], Verbosity.Quiet));
        session.CheckArithmetic(pretraining: true, RunCommands.TicketOf(session, session.Dense));
        int known = Convolution.Known;
        RunCommands.Run(session);
        RankProgram.Check.True(known > 5 && Convolution.Known == known, $"{known} convolutions checked at the start, {Convolution.Known} in the end");
    }

    /// <summary>Arguments: family, depth, width, form, side. Prints what the check of the whole network repaired, and how long it took.</summary>
    public static void Check(ICommunicator world, string[] arguments)
    {
        set_num_threads(1);
        NetworkSection section = new()
        {
            Family = Enum.Parse<NetworkFamily>(arguments[0]),
            Depth = int.Parse(arguments[1], CultureInfo.InvariantCulture),
            Width = int.Parse(arguments[2], CultureInfo.InvariantCulture),
            Form = Enum.Parse<NetworkForm>(arguments[3]),
        };
        int side = int.Parse(arguments[4], CultureInfo.InvariantCulture);
        NetworkSpec network = NetworkCatalog.Create(section, 3, 10);
        NetworkSpec ticket = network.WithInnerCounts(network.Blocks.Where(b => b.Index > 0).ToDictionary(b => b.Inner.Name, b => (b.Inner.Count + 1) / 2));
        LayerShapes layers = new();
        foreach (NetworkSpec each in new[] { network, ticket }) layers.Add(each, side, each.Tensors.Select(TensorSlice.Whole), float32, TorchSharp.DeviceType.CPU);
        zeros(1).Dispose();
        for (int i = 0; i < 2; i++)
        {
            Stopwatch clock = Stopwatch.StartNew();
            ArithmeticCheck.Run(layers, float32, CPU);
            (ArithmeticRepair repair, int convolutions) = Convolution.Repairs;
            Console.WriteLine(string.Create(
                CultureInfo.InvariantCulture, $"{layers.Convolutions.Count()} convolutions, {layers.Norms.Count()} norms: {repair} {convolutions}, {clock.Elapsed.TotalSeconds:f2} s"));
        }
    }
}
