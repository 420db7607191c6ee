using LoftHpc.Configuration;
using LoftHpc.Mpi;
using LoftHpc.Networks;
using LoftHpc.Output;
using LoftHpc.SelfTest;
using static TorchSharp.torch;

namespace LoftHpc.RankProgram;

/// <summary>The self-test of ranks on which something is broken.</summary>
internal static class SelfTestScenarios
{
    /// <summary>
    /// Arguments: an <see cref="ExchangeFault"/>; "norm" where the last rank has the values of the norms in its slices one
    /// channel off, or "none"; the part that is done, or "all" (then without measurements). Prints what the self-test
    /// prints, and whether it passed. And "bfloat16" where that is to be tested too.
    /// </summary>
    public static void Broken(ICommunicator world, string[] arguments)
    {
        ICommunicator faulty = new FaultyCommunicator(world, Enum.Parse<ExchangeFault>(arguments[0]));
        Action<ModelState>? tamper = arguments[1] is "norm" && world.Rank == world.Size - 1 ? Roll : null;
        RunConfig config = new() { Run = new RunSection { Precision = arguments.Length > 3 ? Precision.Bfloat16 : null } };
        bool passed = new SelfTestRun(faulty, CPU, direct: false, config, tamper)
            .Run(ConsoleReporter.Create(world.Rank, Verbosity.Normal), part => arguments[2] is "all" || part == arguments[2]);
        if (world.Rank == 0) Console.WriteLine($"self-test passed: {passed}");
    }

    private static void Roll(ModelState state)
    {
        using IDisposable frozen = no_grad();
        foreach (TensorSlice slice in state.Slices.Where(slice => slice.Spec.Role is TensorRole.NormWeight))
            state[slice.Name].copy_(state[slice.Name].roll(1, 0));
    }
}
