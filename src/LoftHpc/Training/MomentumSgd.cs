using LoftHpc.Configuration;
using LoftHpc.Networks;
using TorchSharp;
using static TorchSharp.torch;

namespace LoftHpc.Training;

/// <summary>
/// SGD with momentum and weight decay as PyTorch defines it: v = momentum * v + (gradient + decay * w); w -= rate * v.
/// The velocity lives in the <see cref="ModelState"/>, sliced as the weights are.
/// </summary>
public static class MomentumSgd
{
    /// <summary>One update of every parameter from its gradient, which is then dropped; no gradient counts as zero.</summary>
    /// <returns>Bytes of the gradients.</returns>
    public static long Step(ModelState state, OptimizerSection optimizer, double learningRate)
    {
        using DisposeScope scope = NewDisposeScope();
        using IDisposable frozen = no_grad();
        long gradientBytes = 0;
        foreach (TensorSlice parameter in state.Parameters)
        {
            Tensor weight = state[parameter.Name], velocity = state.Momentum(parameter.Name);
            velocity.mul_(optimizer.Momentum);
            if (weight.grad is Tensor gradient)
            {
                velocity.add_(gradient);
                gradientBytes += gradient.numel() * gradient.element_size();
            }
            if (optimizer.WeightDecay != 0) velocity.add_(weight, alpha: optimizer.WeightDecay);
            weight.add_(velocity, alpha: -learningRate);
            weight.grad = null;
        }
        return gradientBytes;
    }
}
