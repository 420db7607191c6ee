using LoftHpc.Configuration;
using LoftHpc.Networks;
using LoftHpc.Training;
using TorchSharp;
using Xunit;
using static TorchSharp.torch;

namespace LoftHpc.Tests.Training;

/// <summary>Learning rates and updates, by hand.</summary>
public sealed class OptimizerTests
{
    private static readonly OptimizerSection Plain = new() { LearningRate = 0.1 };

    private static double[] Rates(OptimizerSection optimizer, long steps, params long[] at)
    {
        LearningRateSchedule schedule = new(optimizer, stepsPerEpoch: 2, steps);
        return [.. at.Select(schedule.At)];
    }

    private static void Near(double[] expected, double[] actual) => Assert.All(expected.Zip(actual), pair => Assert.Equal(pair.First, pair.Second, 1e-12));

    /// <summary>Two epochs of two steps: a quarter, a half, three quarters, and all of the rate; a milestone after three epochs.</summary>
    [Fact]
    public void A_warm_up_rises_in_a_straight_line_and_milestones_follow() => Near(
        [0.025, 0.05, 0.075, 0.1, 0.1, 0.1, 0.02, 0.02],
        Rates(Plain with { Warmup = TrainingTime.Epochs(2), Milestones = [TrainingTime.Epochs(3)], Decay = 0.2 }, 10, 0, 1, 2, 3, 4, 5, 6, 9));

    /// <summary>cos 0 = 1, cos(pi / 2) = 0, cos(pi / 3) = 1/2.</summary>
    [Fact]
    public void A_cosine_falls_to_zero()
    {
        Near([0.1, 0.05], Rates(Plain with { Schedule = ScheduleKind.Cosine }, 10, 0, 5));
        Near([0.075], Rates(Plain with { Schedule = ScheduleKind.Cosine }, 12, 4));
        // Of ten steps two rise, and the middle of the other eight is step 6.
        Near([0.05, 0.1, 0.1, 0.05], Rates(Plain with { Schedule = ScheduleKind.Cosine, Warmup = TrainingTime.Steps(2) }, 10, 0, 1, 2, 6));
    }

    /// <summary>
    /// Of 20 steps the top is number 0.3 * 20 - 1 = 5, and the last one 19: 0.1 / 25 first, 0.1 / 25 / 10^4 last, and between step 5 and 19,
    /// in step 12, half of the sum of both ends.
    /// </summary>
    [Fact]
    public void One_cycle_rises_and_falls()
    {
        OptimizerSection cycle = Plain with { Schedule = ScheduleKind.OneCycle };
        Near([0.004, 0.1, (0.1 + 4e-7) / 2, 4e-7], Rates(cycle, 20, 0, 5, 12, 19));
        // 10 steps: the top is number 2, and step 1 half-way up.
        Near([0.004, (0.004 + 0.1) / 2, 0.1, 4e-7], Rates(cycle, 10, 0, 1, 2, 9));
        // So few that nothing rises.
        Near([0.1, 4e-7], Rates(cycle, 2, 0, 1));
        Near([0.1], Rates(cycle, 1, 0));
    }

    /// <summary>
    /// w = 1, a gradient of 0.5 in both steps, rate 0.1, momentum 0.9, decay 0.1. Step 1: g = 0.5 + 0.1 = 0.6, v = 0.6, w = 1 - 0.1 (0.6 + 0.54) = 0.886.
    /// Step 2: g = 0.5886, v = 0.54 + 0.5886 = 1.1286, w = 0.886 - 0.1 (0.5886 + 1.01574) = 0.725566.
    /// </summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Nesterov_looks_ahead(bool late)
    {
        using DisposeScope scope = NewDisposeScope();
        OptimizerSection optimizer = new() { LearningRate = 0.1, Momentum = 0.9, WeightDecay = 0.1, Nesterov = true };
        using ModelState state = ModelState.InitializeWhole(NetworkCatalog.Create(new NetworkSection { Width = 1 }, 1, 2), 1, float64, CPU);
        using IDisposable frozen = no_grad();
        state.Weights.fill_(1);
        foreach (double expected in (double[])[0.886, 0.725566])
        {
            state.Gradients.fill_(0.5);
            MomentumSgd.Step(state, optimizer, 0.1, late ? tensor(true) : null);
            Assert.Equal(expected, state.Weights.min().item<double>(), 1e-12);
            Assert.Equal(expected, state.Weights.max().item<double>(), 1e-12);
            Assert.Equal(0, state.Gradients.abs().max().item<double>());
        }
        // Not finite: nothing is changed but for the decay in the momentum.
        state.Gradients.fill_(double.NaN);
        if (late) MomentumSgd.Step(state, optimizer, 0.1, tensor(false));
        Assert.Equal(0.725566, state.Weights.min().item<double>(), 1e-12);
    }
}
