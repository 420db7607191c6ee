using LoftHpc.Configuration;
using LoftHpc.Data;
using LoftHpc.Networks;

namespace LoftHpc.Training;

/// <summary>The methods that a config can name.</summary>
public static class TrainingMethods
{
    /// <summary>Sets up the pre-training of a network from its initial weights, on all ranks.</summary>
    /// <exception cref="UserError">The method does not work on so many ranks.</exception>
    public static ITrainingMethod Create(RankContext context, NetworkSpec network, PretrainSection config, BatchLoader data, long seed)
    {
        return config.Method switch
        {
            PretrainMethod.FilterParallel => new FilterParallelTraining(context, network, config, data, seed),
            PretrainMethod.Loft => new LoftTraining(context, network, config, data, seed),
            PretrainMethod.LocalSgd => new LocalSgdTraining(context, network, config, data, seed),
            PretrainMethod.DataParallel => DataParallel(config.BatchNorm),
            PretrainMethod.Dense when context.Size == 1 => DataParallel(BatchNormScope.Synchronised),
            PretrainMethod.Dense => throw new UserError(
                $"pretrain.method: dense trains on one rank, and {context.Size} were started; on several, data-parallel trains the same network"),
            PretrainMethod.Gpipe => new GpipeTraining(context, network, config, data, seed),
            _ => throw new InvalidOperationException($"no method {config.Method}"),
        };

        DataParallelTraining DataParallel(BatchNormScope batchNorm) => new(
            context, network, ModelState.InitializeWhole(network, seed, context.Type, context.Device), config.Batch, batchNorm, config.Optimizer, data);
    }
}
