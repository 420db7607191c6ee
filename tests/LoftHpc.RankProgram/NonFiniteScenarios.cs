using LoftHpc.Communication;
using LoftHpc.Configuration;
using LoftHpc.Data;
using LoftHpc.Mpi;
using LoftHpc.Networks;
using LoftHpc.SelfTest;
using LoftHpc.Training;
using TorchSharp;
using static TorchSharp.torch;

namespace LoftHpc.RankProgram;

/// <summary>Trainings whose loss is not finite, inside one process.</summary>
internal static class NonFiniteScenarios
{
    private static readonly NetworkSection Network = new() { Family = NetworkFamily.PreactResnet, Depth = 18, Width = 3 };

    /// <summary>
    /// Argument: a method. Where looks wait for the backward pass, as on a GPU, a training ends in the same step with the same
    /// line as where they do not, and its weights are as they were before that step.
    /// </summary>
    public static void Late(ICommunicator world, string[] arguments)
    {
        (NetworkSpec network, BatchLoader data) = MethodChecks.Setting(Network);
        PretrainSection config = MethodChecks.Pretrain([$"method={arguments[0]}", "epochs=10", "local_steps=20"]);
        (int Step, string Line, double Changed) End(bool late)
        {
            using ITrainingMethod method = TrainingMethods.Create(Context(world) with { LooksLate = late }, network, config, data, MethodChecks.Seed);
            double before = 0;
            for (int step = 0; ; step++)
            {
                try
                {
                    method.Step(step / method.StepsPerEpoch, step % method.StepsPerEpoch, learningRate: 1e30);
                }
                catch (NonFiniteException error)
                {
                    return (step, error.Message, Largest(method) - before);
                }
                before = Largest(method);
            }
        }
        var (found, late) = (End(late: false), End(late: true));
        Check.True(found == late, $"{found} at once, {late} late");
        Check.True(found is { Step: 1, Changed: 0 }, $"in step {found.Step} weights changed by {found.Changed}");
        Check.True(found.Line.Contains("lower the learning rate; weights grew", StringComparison.Ordinal), found.Line);
    }

    /// <summary>Data-parallel training in which the last rank alone has one gradient that is not finite. Ends the job.</summary>
    public static void WrongGradient(ICommunicator world, string[] arguments)
    {
        (NetworkSpec network, BatchLoader data) = MethodChecks.Setting(Network);
        using ITrainingMethod method = TrainingMethods.Create(Context(world), network, MethodChecks.Pretrain(["method=data-parallel"]), data, MethodChecks.Seed);
        // The backward pass adds to it.
        if (world.Rank == world.Size - 1) ((DataParallelTraining)method).State.Gradient("layer2.0.conv1.weight").fill_(double.NaN);
        try
        {
            method.Step(0, 0, MethodChecks.LearningRate);
        }
        catch (NonFiniteException error)
        {
            throw error.Found.Error("test", "in the first step", world.Rank);
        }
    }

    /// <summary>An evaluation by running statistics that are not finite: what grew decides on the advice.</summary>
    public static void Evaluated(ICommunicator world, string[] arguments)
    {
        (NetworkSpec network, BatchLoader data) = MethodChecks.Setting(Network);
        using ITrainingMethod method = TrainingMethods.Create(Context(world), network, MethodChecks.Pretrain(["method=dense"]), data, MethodChecks.Seed);
        ModelState state = ((DataParallelTraining)method).State;
        method.Step(0, 0, MethodChecks.LearningRate);
        using IDisposable frozen = no_grad();
        state["layer2.0.bn1.running_var"].fill_(double.NaN);
        string Line() => method.Explain(method.Evaluate(data, 4).Trouble ?? NonFinite.Nothing).Text;
        string line = Line();
        Check.True(line.StartsWith("layer2.0.bn1.running_var is not finite, and so ", StringComparison.Ordinal) && line.Contains(NonFinite.NotToBlame, StringComparison.Ordinal), line);
        foreach (TensorSlice slice in state.Parameters) state[slice.Name].mul_(100);
        line = Line();
        Check.True(line.StartsWith("layer2.0.bn1.running_var is not finite: lower the learning rate; weights grew 1", StringComparison.Ordinal), line);
        state["conv1.weight"].fill_(double.PositiveInfinity);
        state.Momentum("conv1.weight").fill_(3e38);
        line = Line();
        Check.True(line.StartsWith("the weights of conv1.weight left the range of the type in the last update: lower the learning rate; ", StringComparison.Ordinal), line);
    }

    private static RankContext Context(ICommunicator world) => new(world, new CommunicationLedger(), new ChannelExchange(world, TensorTransport.For(CPU, direct: false)), CPU);

    private static double Largest(ITrainingMethod method) =>
        method.MeasureNorms().SelectMany(layer => layer.Norms).Max();
}
