using LoftHpc.Configuration;
using LoftHpc.Networks;
using TorchSharp;
using static TorchSharp.torch;

namespace LoftHpc.Training;

/// <summary>
/// SGD with momentum and weight decay as PyTorch defines it: g = gradient + decay * w; v = momentum * v + g; w -= rate * v, or by
/// Nesterov's w -= rate * (g + momentum * v).
/// The velocity lives in the <see cref="ModelState"/>, as the weights do.
/// </summary>
public static class MomentumSgd
{
    /// <summary>Values that are updated together on the CPU: with their gradients and momentum they stay in the cache meanwhile.</summary>
    private const long CacheValues = 1 << 18;

    /// <summary>One update of every parameter from its gradient, which is zero afterwards.</summary>
    /// <param name="go">A truth value on the device, []: where it is false, weights, momentum and gradients stay (but for decay in the momentum). Null: it is true.</param>
    public static void Step(ModelState state, OptimizerSection optimizer, double learningRate, Tensor? go = null)
    {
        using IDisposable frozen = no_grad();
        if (go is not null)
        {
            StepIf(go, state, optimizer, learningRate);
            return;
        }
        long all = state.Weights.numel(), together = state.Weights.device_type is DeviceType.CPU ? CacheValues : all;
        for (long start = 0; start < all; start += together)
        {
            using DisposeScope scope = NewDisposeScope();
            long count = Math.Min(together, all - start);
            Tensor weights = state.Weights.narrow(0, start, count), velocity = state.Momenta.narrow(0, start, count), gradients = state.Gradients.narrow(0, start, count);
            if (optimizer.Nesterov)
            {
                if (optimizer.WeightDecay != 0) gradients.add_(weights, alpha: optimizer.WeightDecay);
                velocity.mul_(optimizer.Momentum).add_(gradients);
                weights.add_(gradients, alpha: -learningRate).add_(velocity, alpha: -learningRate * optimizer.Momentum);
            }
            else
            {
                velocity.mul_(optimizer.Momentum).add_(gradients);
                if (optimizer.WeightDecay != 0) velocity.add_(weights, alpha: optimizer.WeightDecay);
                weights.add_(velocity, alpha: -learningRate);
            }
            gradients.zero_();
        }
    }

    /// <summary>Nothing is multiplied by zero that may not be finite.</summary>
    private static void StepIf(Tensor go, ModelState state, OptimizerSection optimizer, double learningRate)
    {
        using DisposeScope scope = NewDisposeScope();
        (Tensor weights, Tensor velocity, Tensor gradients) = (state.Weights, state.Momenta, state.Gradients);
        Tensor Number(double value) => full([], value, state.Type, weights.device);
        Tensor Rate(double rate) => where(go, Number(-rate), Number(0));
        Tensor own = where(go, gradients, Number(0));
        if (optimizer.Nesterov && optimizer.WeightDecay != 0) own.add_(weights, alpha: optimizer.WeightDecay);
        velocity.mul_(where(go, Number(optimizer.Momentum), Number(1))).add_(own);
        if (optimizer.Nesterov)
        {
            weights.addcmul_(own, Rate(learningRate), 1).addcmul_(velocity, Rate(learningRate * optimizer.Momentum), 1);
        }
        else
        {
            if (optimizer.WeightDecay != 0) velocity.add_(weights, alpha: optimizer.WeightDecay);
            weights.addcmul_(velocity, Rate(learningRate), 1);
        }
        gradients.masked_fill_(go, 0);
    }
}
