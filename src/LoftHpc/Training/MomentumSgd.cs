using LoftHpc.Configuration;
using LoftHpc.Networks;
using TorchSharp;
using static TorchSharp.torch;

namespace LoftHpc.Training;

/// <summary>
/// SGD with momentum and weight decay as PyTorch defines it: v = momentum * v + (gradient + decay * w); w -= rate * v.
/// The velocity lives in the <see cref="ModelState"/>, as the weights do.
/// </summary>
public static class MomentumSgd
{
    /// <summary>Values that are updated together on the CPU: with their gradients and momentum they stay in the cache meanwhile.</summary>
    private const long CacheValues = 1 << 16;

    /// <summary>One update of every parameter from its gradient, which is zero afterwards.</summary>
    public static void Step(ModelState state, OptimizerSection optimizer, double learningRate)
    {
        using IDisposable frozen = no_grad();
        long all = state.Weights.numel(), together = state.Weights.device_type is DeviceType.CPU ? CacheValues : all;
        for (long start = 0; start < all; start += together)
        {
            using DisposeScope scope = NewDisposeScope();
            long count = Math.Min(together, all - start);
            Tensor weights = state.Weights.narrow(0, start, count), velocity = state.Momenta.narrow(0, start, count), gradients = state.Gradients.narrow(0, start, count);
            velocity.mul_(optimizer.Momentum).add_(gradients);
            if (optimizer.WeightDecay != 0) velocity.add_(weights, alpha: optimizer.WeightDecay);
            weights.add_(velocity, alpha: -learningRate);
            gradients.zero_();
        }
    }
}
