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

    /// <summary>What this rank holds of a tensor of the network.</summary>
    /// <param name="rows">Indices along its first axis; null: all.</param>
    /// <param name="columns">Indices along its second axis; null: all.</param>
    /// <param name="momentum">Of the same shape; null: the tensor is no parameter.</param>
    public abstract void Part(string name, int[]? rows, int[]? columns, torch.Tensor values, torch.Tensor? momentum);

    /// <summary>
    /// Where another number of ranks goes on than wrote: what each of those wrote. Then <see cref="Part"/> puts tensors together from
    /// all of them, and all other names are those of the first. Null: each rank reads what it wrote.
    /// </summary>
    public virtual IReadOnlyList<StateArchive>? Writers => null;

    /// <summary>Those of <see cref="Writers"/> whose counts this rank takes over, so that sums over ranks stay what they were.</summary>
    public virtual IEnumerable<StateArchive> TakenOver => [];

    /// <summary>A count of this rank's, of which the sum over ranks says something.</summary>
    public void Count(string name, ref long value)
    {
        if (Writers is null)
        {
            Number(name, ref value);
            return;
        }
        value = 0;
        foreach (StateArchive writer in TakenOver)
        {
            long counted = 0;
            writer.Number(name, ref counted);
            value += counted;
        }
    }
}
