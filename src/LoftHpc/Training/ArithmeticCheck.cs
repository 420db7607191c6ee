using LoftHpc.Arithmetic;
using LoftHpc.Configuration;
using LoftHpc.Networks;
using TorchSharp;
using static TorchSharp.torch;

namespace LoftHpc.Training;

/// <summary>
/// Proves the arithmetic of a rank before its first step: every different layer that it will compute, and the optimizer,
/// against float64 by other code. Convolutions that are wrong are repaired (<see cref="Convolution"/>).
/// </summary>
public static class ArithmeticCheck
{
    /// <summary>Returns where all is right, or was made right. Not collective.</summary>
    /// <exception cref="UserError">Something is computed wrongly and no repair helps.</exception>
    public static void Run(LayerShapes layers, ScalarType type, Device device)
    {
        // A repair for one convolution may change how all of them are computed: they are then looked at again.
        for (ArithmeticRepair before = default, after = default; ; before = after)
        {
            foreach ((string layer, ConvolutionShape shape) in layers.Convolutions) Convolution.Check(layer, shape, device);
            after = Convolution.Repairs.Repair;
            if (after == before || after is not ArithmeticRepair.OnednnOff) break;
        }
        foreach ((string layer, NormShape shape) in layers.Norms)
            Require(LayerChecks.Norm(shape, type, device), () => $"{layer}, a batch norm over {shape.Channels} channels of {shape.Side} x {shape.Side}");
        foreach (HeadShape shape in layers.Heads)
            Require(LayerChecks.HeadAndLoss(shape, type, device), () => $"the head and the loss, {shape.Features} features and {shape.Classes} classes");
        Require(Optimizer(type, device), () => "a step of the optimizer");
    }

    private static void Require(ArithmeticFault? fault, Func<string> what)
    {
        if (fault is null) return;
        throw new UserError(
            $"arithmetic: {what()}, is computed wrongly here: {fault} ({Processor.Model}, {TorchLibrary.Load()}); " +
            $"try another libtorch ({TorchLibrary.FolderVariable}) or another machine; lofthpc selftest shows whether that helps",
            ExitCodes.Environment);
    }

    /// <summary>One step of momentum SGD with weight decay on some weights, from a momentum and gradients that are not zero.</summary>
    internal static ArithmeticFault? Optimizer(ScalarType type, Device device)
    {
        const int count = 100;
        const double rate = 0.1;
        OptimizerSection optimizer = new() { Momentum = 0.9, WeightDecay = 5e-4 };
        TensorSlice slice = TensorSlice.Whole(new TensorSpec("weights", TensorRole.LinearBias, [count], null, null));
        using DisposeScope scope = NewDisposeScope();
        using Generator generator = new(4, CPU);
        using NanMemory nan = NanMemory.Begin(device);
        Tensor Draw() => rand([count], float32, generator: generator).mul_(2).sub_(1).to(type, device);
        using ModelState state = ModelState.Load([slice], _ => Draw(), type, device);
        state.Momentum(slice.Name).copy_(Draw());
        state[slice.Name].grad = Draw();
        double[] weights = LayerChecks.Exact(state[slice.Name]), momentum = LayerChecks.Exact(state.Momentum(slice.Name)), gradient = LayerChecks.Exact(state[slice.Name].grad!);
        MomentumSgd.Step(state, optimizer, rate);
        for (int i = 0; i < count; i++)
        {
            momentum[i] = (optimizer.Momentum * momentum[i]) + gradient[i] + (optimizer.WeightDecay * weights[i]);
            weights[i] -= rate * momentum[i];
        }
        // Values are at most 1: a handful of roundings of numbers up to 2.
        double allowed = Rounding.Of(type).Sum(6) * 2;
        return ArithmeticFault.FirstOf(("momentum", state.Momentum(slice.Name), tensor(momentum), allowed), ("weights", state[slice.Name], tensor(weights), allowed));
    }
}
