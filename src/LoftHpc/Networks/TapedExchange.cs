using static TorchSharp.torch;

namespace LoftHpc.Networks;

/// <summary>
/// Base of the exchanges that talk to other ranks within the network: backpropagation goes over a tape, and pieces
/// start at the inputs of blocks and of convolutions, where paths part.
/// </summary>
public abstract class TapedExchange : INetworkExchange
{
    private readonly GradientTape _tape = new();

    public Tensor BlockInput(Tensor x) => Apply(x, part => part.alias(), gradient => gradient.alias());

    public virtual Tensor GatherInput(Tensor x, ChannelSpace space) => BlockInput(x);

    public virtual Tensor SumLogits(Tensor partial) => partial;

    public virtual Tensor BatchNorm(Tensor x, NormTensors norm, bool training) => norm.Apply(x, training);

    public void Backward(Tensor loss) => _tape.Backward(loss);

    /// <summary>An operation with a backward of its own; without gradients just its forward.</summary>
    protected Tensor Apply(Tensor x, Func<Tensor, Tensor> forward, Func<Tensor, Tensor> backward) =>
        is_grad_enabled() ? _tape.Apply(x, forward, backward) : forward(x);
}
