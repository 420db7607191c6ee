using TorchSharp;

namespace LoftHpc;

/// <summary>
/// All that a training on one rank has to know to go on, name by name. Whatever has such a state names it once, for writing and
/// for reading, so that neither can forget what the other knows.
/// </summary>
public abstract class StateArchive
{
    /// <summary>Whether each call replaces what it is given; otherwise each takes it as it is.</summary>
    public abstract bool IsReading { get; }

    public abstract void Number(string name, ref long value);

    public abstract void Number(string name, ref double value);

    public abstract void Text(string name, ref string value);

    /// <summary>Any number of whole numbers.</summary>
    public abstract void Numbers(string name, ref int[] values);

    /// <summary>A tensor of any shape, float32, float64 or int64, which keeps its place in memory.</summary>
    public abstract void Values(string name, torch.Tensor tensor);
}
