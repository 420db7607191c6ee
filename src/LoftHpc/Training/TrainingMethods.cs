using LoftHpc.Configuration;
using LoftHpc.Data;
using LoftHpc.Networks;

namespace LoftHpc.Training;

/// <summary>The methods that a config can name.</summary>
public static class TrainingMethods
{
    /// <summary>Refuses weights to be saved after steps that there will not be.</summary>
    /// <exception cref="UserError">Names the first such step.</exception>
    public static void CheckSnapshots(PretrainSection config, int stepsPerEpoch)
    {
        long steps = (long)config.Epochs * stepsPerEpoch;
        if (config.SnapshotSteps.FirstOrDefault(step => step > steps) is > 0 and int late)
            throw new UserError($"pretrain.snapshot_steps: {late}; allowed: {(steps == 0 ? "none ([]), since there is no epoch" : $"1 to {steps}, the steps of {config.Epochs} epochs")}");
    }

    /// <summary>Refuses what cannot work, before anything is done: a function of the config alone.</summary>
    /// <param name="imageSide">In pixels.</param>
    /// <exception cref="UserError">The method does not work on so many ranks, or not on this network.</exception>
    public static void Check(NetworkSpec network, int imageSide, PretrainSection config, int ranks)
    {
        switch (config.Method)
        {
            case PretrainMethod.Dense when ranks > 1:
                throw new UserError(
                    $"pretrain.method: dense trains on one rank, and there are {ranks}; on several, data-parallel trains the same network");
            case PretrainMethod.Loft when FilterPartition.BlocksOf(network, config.Loft.Stages, config.Loft.FirstBlocks).Count == 0:
                throw new UserError(
                    $"pretrain.loft.stages: [{string.Join(", ", config.Loft.Stages)}] names no block of this network that can be partitioned; " +
                    $"it has stages 1 to {network.Blocks[^1].Stage}, whose first blocks count only with pretrain.loft.first_blocks: true");
            case PretrainMethod.Gpipe:
                PipelineStages.Create(network, imageSide, ranks, config.Gpipe.Cuts);
                break;
        }
    }

    /// <summary>One optimizer step, and the exchange at the end of a round where one ends with it.</summary>
    public static void StepAndMeet(this ITrainingMethod method, int epoch, int step, double learningRate)
    {
        method.Step(epoch, step, learningRate);
        long index = ((long)epoch * method.StepsPerEpoch) + step;
        if (method.MeetsAfter(index)) method.Meet(index);
    }

    /// <summary>Sets up the pre-training of a network from its initial weights, on all ranks.</summary>
    /// <exception cref="UserError">The method does not work on so many ranks.</exception>
    public static ITrainingMethod Create(RankContext context, NetworkSpec network, PretrainSection config, BatchLoader data, long seed)
    {
        Check(network, data.ImageSide, config, context.Size);
        return config.Method switch
        {
            PretrainMethod.FilterParallel => new FilterParallelTraining(context, network, config, data, seed),
            PretrainMethod.Loft => new LoftTraining(context, network, config, data, seed),
            PretrainMethod.LocalSgd => new LocalSgdTraining(context, network, config, data, seed),
            PretrainMethod.Gpipe => new GpipeTraining(context, network, config, data, seed),
            PretrainMethod.DataParallel => DataParallel(config.BatchNorm),
            PretrainMethod.Dense => DataParallel(BatchNormScope.Synchronised),
            _ => throw new InvalidOperationException($"no method {config.Method}"),
        };

        DataParallelTraining DataParallel(BatchNormScope batchNorm) => new(
            context, network, ModelState.InitializeWhole(network, seed, context.Type, context.Device), config.Batch, batchNorm, config.Optimizer, data);
    }
}
