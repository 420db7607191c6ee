using TorchSharp;
using static TorchSharp.torch;

namespace LoftHpc.Networks;

/// <summary>
/// What a network asks of the ranks that it is spread over. A network that is whole on one rank is spread over nothing:
/// <see cref="SerialExchange"/>.
/// </summary>
public interface INetworkExchange
{
    /// <summary>Marks the input of a block, from which both its branch and its shortcut start.</summary>
    Tensor BlockInput(Tensor x);

    /// <summary>
    /// The whole input [N, C, H, W] of the convolutions that read it, from this rank's channels [N, own C, H, W].
    /// </summary>
    Tensor GatherInput(Tensor x, ChannelSpace space);

    /// <summary>The logits [N, classes] from each rank's part of their sum.</summary>
    Tensor SumLogits(Tensor partial);

    /// <summary>Batch norm of x [N, C, H, W] over N, H and W; running statistics are updated in training.</summary>
    Tensor BatchNorm(Tensor x, NormTensors norm, bool training);

    /// <summary>Differentiates the loss of the last forward pass.</summary>
    void Backward(Tensor loss);
}

/// <summary>The tensors of one batch norm, each [C]; in float32 also where what is normalised is bfloat16.</summary>
public readonly record struct NormTensors(Tensor Weight, Tensor Bias, Tensor RunningMean, Tensor RunningVariance)
{
    /// <summary>Share of the newest batch in running statistics (PyTorch's default).</summary>
    public const double Momentum = 0.1;

    /// <summary>Added to the variance (PyTorch's default).</summary>
    public const double Epsilon = 1e-5;

    /// <summary>
    /// Batch norm of the channels and images at hand. One value a channel has no unbiased variance: the running variance
    /// then stays as it is.
    /// </summary>
    /// <param name="momentum">Share of this batch in running statistics.</param>
    public Tensor Apply(Tensor x, bool training, double momentum = Momentum)
    {
        if (x.numel() == 0) return x.alias();
        bool single = training && x.numel() == x.size(1);
        return nn.functional.batch_norm(
            x, RunningMean, single ? RunningVariance.clone() : RunningVariance, Weight, Bias, training, momentum, Epsilon);
    }
}

/// <summary>No exchange: the whole network on one rank, differentiated by autograd alone.</summary>
public sealed class SerialExchange : INetworkExchange
{
    /// <summary>Share of the newest batch in running statistics.</summary>
    public double StatisticsMomentum { get; set; } = NormTensors.Momentum;

    public Tensor BlockInput(Tensor x) => x;

    public Tensor GatherInput(Tensor x, ChannelSpace space) => x;

    public Tensor SumLogits(Tensor partial) => partial;

    public Tensor BatchNorm(Tensor x, NormTensors norm, bool training) => norm.Apply(x, training, StatisticsMomentum);

    public void Backward(Tensor loss) => loss.backward();
}
