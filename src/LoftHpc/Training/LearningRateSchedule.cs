using LoftHpc.Configuration;

namespace LoftHpc.Training;

/// <summary>The learning rate as a function of the optimizer steps done: multiplied by the decay at every milestone reached.</summary>
public sealed class LearningRateSchedule(OptimizerSection optimizer, int stepsPerEpoch)
{
    public double At(long step)
    {
        int reached = optimizer.Milestones.Count(milestone => step >= milestone.ToSteps(stepsPerEpoch));
        return optimizer.LearningRate * Math.Pow(optimizer.Decay, reached);
    }
}
