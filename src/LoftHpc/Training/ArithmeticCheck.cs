using LoftHpc.Arithmetic;
using LoftHpc.Communication;
using LoftHpc.Configuration;
using LoftHpc.Mpi;
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
    /// <param name="layout">That of activations: with bfloat16 all else is float32.</param>
    /// <exception cref="UserError">Something is computed wrongly and no repair helps.</exception>
    public static void Run(LayerShapes layers, ActivationLayout layout, Device device)
    {
        // All of them before the first repair, which may change how all are computed; the last pass then sees to it that they are right.
        foreach ((_, ConvolutionShape shape) in layers.Convolutions) Convolution.Look(shape, device);
        for (int pass = 0; pass < 2; pass++)
        {
            foreach ((string layer, ConvolutionShape shape) in layers.Convolutions) Convolution.Check(layer, shape, device);
        }
        if (Others(layers, layout, device).FirstOrDefault(other => other.Fault is not null) is not (string what, ArithmeticFault fault)) return;
        throw new UserError(
            $"arithmetic: {what}, is computed wrongly here: {fault} ({Processor.Of(device)}, {TorchLibrary.Load()}); " +
            $"try another libtorch ({TorchLibrary.FolderVariable}) or another machine; lofthpc selftest shows whether that helps",
            ExitCodes.Environment);
    }

    /// <summary>What the check says of a network when it is done again in the middle of a run, in words. Nothing is repaired.</summary>
    /// <param name="network">The network, and what this rank holds of it.</param>
    /// <param name="imageSide">In pixels.</param>
    /// <param name="layer">The layer that is suspected: it comes first.</param>
    /// <returns>And whether it finds something wrong.</returns>
    public static (string Text, bool Wrong) Again(ResidualNetwork network, int imageSide, Device device, string layer)
    {
        ModelState state = network.State;
        LayerShapes layers = new();
        layers.Add(network.Spec, imageSide, state.Slices.OrderBy(slice => slice.Layer != layer), network.Layout, device.type);
        (string What, ArithmeticFault? Fault)[] found =
        [
            .. layers.Convolutions.Select(convolution => ($"{convolution.Layer}, a convolution {convolution.Shape}", Convolution.CheckAgain(convolution.Shape, device))),
            .. Others(layers, network.Layout, device),
        ];
        (string What, ArithmeticFault? Fault) wrong = found.Where(one => one.Fault is not null).OrderBy(one => !one.What.StartsWith($"{layer},", StringComparison.Ordinal)).FirstOrDefault();
        return wrong.Fault is null
            ? ("the check of all layers, done again, finds nothing wrong (a fault that comes and goes: look at the data, at memory and at the machine)", false)
            : ($"the check of all layers, done again, finds {wrong.What}, wrong: {wrong.Fault}", true);
    }

    /// <summary>All but the convolutions, one after the other.</summary>
    private static IEnumerable<(string What, ArithmeticFault? Fault)> Others(LayerShapes layers, ActivationLayout layout, Device device)
    {
        foreach ((string layer, NormShape shape) in layers.Norms)
        {
            string what = $"{layer}, a batch norm over {shape.Channels} channels of {shape.Side} x {shape.Side}";
            yield return (what, LayerChecks.Norm(shape, layout, device, new SerialExchange()));
            yield return ($"{what} and all ranks", SynchronisedNorm(shape, layout, device));
        }
        foreach (HeadShape shape in layers.Heads)
            yield return ($"the head and the loss, {shape.Features} features and {shape.Classes} classes", LayerChecks.HeadAndLoss(shape, layout, device));
        yield return ("a step of the optimizer", Optimizer(Precisions.TypeHeld(layout.Type), device));
    }

    /// <summary>Batch norm by the statistics of all ranks, here of this one.</summary>
    internal static ArithmeticFault? SynchronisedNorm(NormShape shape, ActivationLayout layout, Device device)
    {
        using SelfCommunicator self = new();
        using TensorTransport transport = TensorTransport.For(device, direct: false);
        return LayerChecks.Norm(shape, layout, device, new SynchronisedBatchNormExchange(new ChannelExchange(self, transport)));
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
        state.Gradient(slice.Name).copy_(Draw());
        double[] weights = LayerChecks.Exact(state[slice.Name]), momentum = LayerChecks.Exact(state.Momentum(slice.Name)), gradient = LayerChecks.Exact(state.Gradient(slice.Name));
        MomentumSgd.Step(state, optimizer, rate);
        for (int i = 0; i < count; i++)
        {
            momentum[i] = (optimizer.Momentum * momentum[i]) + gradient[i] + (optimizer.WeightDecay * weights[i]);
            weights[i] -= rate * momentum[i];
        }
        // Values are at most 1: a handful of roundings of numbers up to 2.
        Tensor allowed = tensor(Rounding.Of(type).Sum(6) * 2);
        return ArithmeticFault.FirstOf(("momentum", state.Momentum(slice.Name), tensor(momentum), allowed), ("weights", state[slice.Name], tensor(weights), allowed));
    }
}
