using LoftHpc.Communication;
using LoftHpc.Networks;
using TorchSharp;
using static TorchSharp.torch;

namespace LoftHpc.Training;

/// <summary>
/// One contiguous buffer that is kept, for what every rank holds whole and the ranks sum: one allreduce for all tensors
/// together.
/// </summary>
public sealed class FlatBuffer(ScalarType type, Device device) : IDisposable
{
    private Tensor? _flat;
    private List<(long Start, long[] Shape)> _places = [];

    /// <summary>Bytes kept.</summary>
    public long Bytes => _flat is null ? 0 : _flat.numel() * _flat.element_size();

    /// <summary>All that was packed, [values].</summary>
    public Tensor Whole => _flat!;

    /// <summary>Copies tensors into the buffer, one behind the other; null stands for zeros of this shape.</summary>
    public void Pack(IReadOnlyList<(Tensor? Values, long[] Shape)> tensors)
    {
        using DisposeScope scope = NewDisposeScope();
        using IDisposable frozen = no_grad();
        long total = 0;
        _places = new(tensors.Count);
        foreach ((_, long[] shape) in tensors)
        {
            _places.Add((total, shape));
            total += Count(shape);
        }
        if (_flat is null || _flat.numel() != total)
        {
            _flat?.Dispose();
            _flat = empty([total], type, device).DetachFromDisposeScope();
        }
        for (int i = 0; i < tensors.Count; i++)
        {
            if (tensors[i].Values is Tensor values) Part(i).copy_(values);
            else Part(i).zero_();
        }
    }

    /// <summary>Replaces the buffer's values by their sum over the ranks. Collective.</summary>
    public void Sum(ChannelExchange exchange) => exchange.AllreduceSum(_flat!);

    /// <summary>The tensor that was packed as number <paramref name="index"/>, as a view of the buffer.</summary>
    public Tensor Part(int index)
    {
        (long start, long[] shape) = _places[index];
        return _flat!.narrow(0, start, Count(shape)).view(shape);
    }

    public void Dispose() => _flat?.Dispose();

    private static long Count(long[] shape) => shape.Aggregate(1L, (product, side) => product * side);
}
