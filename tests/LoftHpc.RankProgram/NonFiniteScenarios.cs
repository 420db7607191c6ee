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
    /// Argument: a method. Where looks come late, as on a GPU, a training names the same step with the same line as where they
    /// do not, and its weights are as they were before that step, whose loss or gradients were not finite.
    /// </summary>
    public static void Late(ICommunicator world, string[] arguments)
    {
        (NetworkSpec network, BatchLoader data) = MethodChecks.Setting(Network);
        PretrainSection config = MethodChecks.Pretrain([$"method={arguments[0]}", "epochs=10", "local_steps=20"]);
        (int Step, string Line, double Changed) End(bool late)
        {
            using ITrainingMethod method = TrainingMethods.Create(Context(world) with { LooksLate = late }, network, config, data, MethodChecks.Seed);
            List<double> largest = [];
            for (int step = 0; ; step++)
            {
                try
                {
                    // Of an epoch's 3 steps the first is the one that fails, and the first look after the third is the next.
                    method.StepAndMeet(step / method.StepsPerEpoch, step % method.StepsPerEpoch, step < 5 ? MethodChecks.LearningRate : 1e30);
                    if ((step + 1) % method.StepsPerEpoch == 0) method.Look();
                }
                catch (NonFiniteException error)
                {
                    Check.True(error.StepsAgo == (late ? 2 : 0), $"{error.StepsAgo} steps ago");
                    int failed = step - error.StepsAgo;
                    return (failed, error.Message, Largest(method) - largest[failed - 1]);
                }
                largest.Add(Largest(method));
            }
        }
        var (found, late) = (End(late: false), End(late: true));
        Check.True(found == late, $"{found} at once, {late} late");
        Check.True(found is { Step: 6, Changed: 0 }, $"in step {found.Step} weights changed by {found.Changed}");
        Check.True(found.Line.Contains("lower the learning rate; weights grew", StringComparison.Ordinal), found.Line);
    }

    /// <summary>Arguments: a method and its settings. Where looks come late an evaluation finds the same, on the same batches, which the ranks do not divide.</summary>
    public static void LateEvaluation(ICommunicator world, string[] arguments)
    {
        (NetworkSpec network, BatchLoader data) = MethodChecks.Setting(Network);
        StepTotals Evaluated(bool late)
        {
            using ITrainingMethod method = TrainingMethods.Create(
                Context(world) with { LooksLate = late }, network, MethodChecks.Pretrain(arguments), data, MethodChecks.Seed);
            method.StepAndMeet(0, 0, MethodChecks.LearningRate);
            return method.Evaluate(data, 7);
        }
        (StepTotals now, StepTotals late) = (Evaluated(late: false), Evaluated(late: true));
        Check.True(now == late && now.Images == data.Count, $"{now} at once, {late} late");
    }

    /// <summary>Argument: whether looks come late. Data-parallel training in which the last rank alone has one gradient that is not finite. Ends the job.</summary>
    public static void WrongGradient(ICommunicator world, string[] arguments)
    {
        (NetworkSpec network, BatchLoader data) = MethodChecks.Setting(Network);
        using ITrainingMethod method = TrainingMethods.Create(
            Context(world) with { LooksLate = bool.Parse(arguments[0]) }, network, MethodChecks.Pretrain(["method=data-parallel"]), data, MethodChecks.Seed);
        for (int step = 0; step < 6; step++)
        {
            // The backward pass adds to it.
            if (step == 4 && world.Rank == world.Size - 1) ((DataParallelTraining)method).State.Gradient("layer2.0.conv1.weight").fill_(double.NaN);
            try
            {
                method.StepAndMeet(step / 3, step % 3, MethodChecks.LearningRate);
                if (step % 3 == 2) method.Look();
            }
            catch (NonFiniteException error)
            {
                throw error.Found.Error("test", $"in step {step - error.StepsAgo}", world.Rank);
            }
        }
    }

    /// <summary>An evaluation by running statistics that are not finite: what grew decides on the advice.</summary>
    public static void Evaluated(ICommunicator world, string[] arguments)
    {
        (NetworkSpec network, BatchLoader data) = MethodChecks.Setting(Network);
        using ITrainingMethod method = TrainingMethods.Create(Context(world), network, MethodChecks.Pretrain(["method=dense"]), data, MethodChecks.Seed);
        ModelState state = ((DataParallelTraining)method).State;
        method.StepAndMeet(0, 0, MethodChecks.LearningRate);
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
