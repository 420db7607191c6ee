using LoftHpc.Communication;
using LoftHpc.Networks;
using TorchSharp;
using static TorchSharp.torch;

namespace LoftHpc.Training;

/// <summary>
/// A whole network on every rank, each with a shard of the batch, whose batch norms use the statistics of the whole
/// batch, forward and backward, so that ranks together compute what one rank would. Gradients of the norms' weights and
/// biases are those of the shard; they are summed with all others.
/// </summary>
public sealed class SynchronisedBatchNormExchange(ChannelExchange exchange) : TapedExchange
{
    public override Tensor BatchNorm(Tensor x, NormTensors norm, bool training)
    {
        if (!training) return norm.Apply(x, training);
        var forward = new Forward();
        return Apply(x, part => Normalize(part, norm, forward), gradient => Differentiate(gradient, norm, forward));
    }

    /// <summary>What the backward needs of the forward.</summary>
    private sealed class Forward
    {
        public Tensor Normalized { get; set; } = null!;

        public Tensor InverseDeviation { get; set; } = null!;

        /// <summary>Values a channel over all ranks: a scalar on the device, so that nothing waits for it.</summary>
        public Tensor Count { get; set; } = null!;
    }

    private Tensor Normalize(Tensor x, NormTensors norm, Forward forward)
    {
        // Dozens of small tensors, in every norm, that the backward does not need.
        using DisposeScope scope = NewDisposeScope();
        long channels = x.size(1), own = x.size(0) * x.size(2) * x.size(3);
        // In the type of the statistics, whatever that of the activations is.
        ScalarType type = norm.Weight.dtype;
        Tensor values = In(type, x);
        // Sums in float64 of each shard's mean and variance: the difference of squares then loses nothing of float32.
        Tensor sums = zeros([(2 * channels) + 1], float64, x.device);
        if (own > 0)
        {
            (Tensor variance, Tensor mean) = var_mean(values, [0, 2, 3], unbiased: false);
            Tensor mean64 = mean.to(float64);
            sums.narrow(0, 0, channels).copy_(mean64 * own);
            sums.narrow(0, channels, channels).copy_((variance.to(float64) + mean64.square()) * own);
            sums.narrow(0, 2 * channels, 1).fill_(own);
        }
        exchange.AllreduceSum(sums);

        Tensor count = sums.select(0, 2 * channels);
        Tensor totalMean = sums.narrow(0, 0, channels) / count;
        Tensor totalVariance = (sums.narrow(0, channels, channels) / count - totalMean.square()).clamp_min(0);
        norm.RunningMean.mul_(1 - NormTensors.Momentum).add_(totalMean.to(type), alpha: NormTensors.Momentum);
        // One value has no unbiased variance: what comes of it then, which is no number, is not taken.
        Tensor variances = norm.RunningVariance.mul(1 - NormTensors.Momentum)
            .add_((totalVariance * (count / (count - 1))).to(type), alpha: NormTensors.Momentum);
        norm.RunningVariance.copy_(where(count.gt(1), variances, norm.RunningVariance));

        forward.Count = count.to(type, copy: true).MoveToOuterDisposeScope();
        forward.InverseDeviation = PerChannel((totalVariance + NormTensors.Epsilon).rsqrt().to(type)).MoveToOuterDisposeScope();
        forward.Normalized = (values - PerChannel(totalMean.to(type))).mul_(forward.InverseDeviation).MoveToOuterDisposeScope();
        return In(x.dtype, (forward.Normalized * PerChannel(norm.Weight)).add_(PerChannel(norm.Bias))).MoveToOuterDisposeScope();
    }

    /// <summary>dx = weight / deviation * (dy - mean(dy) - normalized * mean(dy * normalized)), means over the whole batch.</summary>
    private Tensor Differentiate(Tensor coming, NormTensors norm, Forward forward)
    {
        using DisposeScope scope = NewDisposeScope();
        using IDisposable frozen = no_grad();
        Tensor gradient = In(norm.Weight.dtype, coming);
        long channels = gradient.size(1);
        Tensor biasGradient = gradient.sum([0, 2, 3]), weightGradient = (gradient * forward.Normalized).sum([0, 2, 3]);
        Accumulate(norm.Bias, biasGradient);
        Accumulate(norm.Weight, weightGradient);

        Tensor sums = cat([biasGradient, weightGradient]);
        exchange.AllreduceSum(sums);
        sums.div_(forward.Count);
        Tensor centred = gradient - PerChannel(sums.narrow(0, 0, channels));
        centred.sub_(forward.Normalized.mul_(PerChannel(sums.narrow(0, channels, channels))));
        forward.Normalized.Dispose();
        return In(coming.dtype, centred.mul_(PerChannel(norm.Weight)).mul_(forward.InverseDeviation)).MoveToOuterDisposeScope();
    }

    /// <summary>As autograd does: in place, where there is a gradient already.</summary>
    private static void Accumulate(Tensor parameter, Tensor gradient)
    {
        if (parameter.grad is Tensor sum) sum.add_(gradient);
        else parameter.grad = gradient.clone();
    }

    private static Tensor In(ScalarType type, Tensor values) => values.dtype == type ? values : values.to(type);

    private static Tensor PerChannel(Tensor values) => values.view(1, -1, 1, 1);
}
