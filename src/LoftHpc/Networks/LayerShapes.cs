using LoftHpc.Arithmetic;
using TorchSharp;
using static TorchSharp.torch;

namespace LoftHpc.Networks;

/// <summary>A batch norm over channels of images, as held by one rank.</summary>
public readonly record struct NormShape(int Channels, int Side);

/// <summary>The head: the features of this rank, averaged over images of a side, and the classes.</summary>
public readonly record struct HeadShape(int Features, int Side, int Classes);

/// <summary>Which different layers a rank computes, each with the name of the first layer that is so.</summary>
public sealed class LayerShapes
{
    private readonly Dictionary<ConvolutionShape, string> _convolutions = [];
    private readonly Dictionary<NormShape, string> _norms = [];
    private readonly HashSet<HeadShape> _heads = [];

    public IEnumerable<(string Layer, ConvolutionShape Shape)> Convolutions => _convolutions.Select(pair => (pair.Value, pair.Key));

    public IEnumerable<(string Layer, NormShape Shape)> Norms => _norms.Select(pair => (pair.Value, pair.Key));

    public IEnumerable<HeadShape> Heads => _heads;

    /// <summary>Adds the layers of what a rank holds of a network; layers without a channel are not computed.</summary>
    /// <param name="network">The network whose tensors are held, or of which parts are.</param>
    /// <param name="imageSide">In pixels.</param>
    /// <param name="layout">Of its activations.</param>
    public void Add(NetworkSpec network, int imageSide, IEnumerable<TensorSlice> held, ActivationLayout layout, DeviceType device)
    {
        Dictionary<string, ConvGeometry> convolutions = network.Geometry(imageSide).ToDictionary(conv => $"{conv.Conv.Name}.weight");
        Dictionary<string, (NormSpec Norm, int Side)> norms = network.NormGeometry(imageSide).ToDictionary(norm => $"{norm.Norm.Name}.weight");
        int lastSide = (int)network.UnitOutput(network.UnitCount - 2, imageSide)[^1];
        foreach (TensorSlice slice in held.Where(slice => slice.Count > 0))
        {
            long[] shape = slice.Shape;
            switch (slice.Spec.Role)
            {
                case TensorRole.ConvWeight:
                    ConvGeometry at = convolutions[slice.Name];
                    ConvSpec conv = at.Conv;
                    _convolutions.TryAdd(
                        new ConvolutionShape((int)shape[1], (int)shape[0], conv.Kernel, conv.Stride, conv.Padding, at.InputSide, layout, device), conv.Name);
                    break;
                case TensorRole.NormWeight:
                    (NormSpec norm, int side) = norms[slice.Name];
                    _norms.TryAdd(new NormShape((int)shape[0], side), norm.Name);
                    break;
                case TensorRole.LinearWeight:
                    _heads.Add(new HeadShape((int)shape[1], lastSide, (int)shape[0]));
                    break;
            }
        }
    }
}
