using LoftHpc.Configuration;

namespace LoftHpc.Training;

/// <summary>The learning rate as a function of the optimizer steps done.</summary>
/// <param name="steps">Of the whole training.</param>
public sealed class LearningRateSchedule(OptimizerSection optimizer, int stepsPerEpoch, long steps)
{
    /// <summary>Of one-cycle: the share of the steps in which the rate rises, and by what the first and the last rate are divided (the defaults of PyTorch's OneCycleLR).</summary>
    private const double RisingShare = 0.3, FirstDivisor = 25, LastDivisor = 25e4;

    /// <param name="step">From 0.</param>
    public double At(long step)
    {
        if (optimizer.Schedule is ScheduleKind.OneCycle) return OneCycle(step);
        long warmup = optimizer.Warmup?.ToSteps(stepsPerEpoch) ?? 0;
        if (step < warmup) return optimizer.LearningRate * (step + 1) / warmup;
        // Loshchilov and Hutter 2017, one period, down to zero.
        if (optimizer.Schedule is ScheduleKind.Cosine) return Between(optimizer.LearningRate, 0, (double)(step - warmup) / (steps - warmup));
        int reached = optimizer.Milestones.Count(milestone => step >= milestone.ToSteps(stepsPerEpoch));
        return optimizer.LearningRate * Math.Pow(optimizer.Decay, reached);
    }

    /// <summary>Smith and Topin 2018, with cosines as PyTorch's OneCycleLR has it: up to the learning rate, and down to nearly nothing in the last step.</summary>
    private double OneCycle(long step)
    {
        double top = Math.Max((RisingShare * steps) - 1, 0), last = steps - 1;
        return step < top ? Between(optimizer.LearningRate / FirstDivisor, optimizer.LearningRate, step / top)
            : step == top || last <= top ? optimizer.LearningRate
            : Between(optimizer.LearningRate, optimizer.LearningRate / LastDivisor, (step - top) / (last - top));
    }

    /// <summary>Half a cosine from one rate to another.</summary>
    private static double Between(double from, double to, double share) => to + ((from - to) / 2 * (1 + Math.Cos(Math.PI * share)));
}
