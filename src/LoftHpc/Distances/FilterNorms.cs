using LoftHpc.Mpi;
using LoftHpc.Networks;
using TorchSharp;
using static TorchSharp.torch;

namespace LoftHpc.Distances;

/// <summary>The l2 norms of the filters of one convolution that this rank owns.</summary>
/// <param name="Layer">Name of the weight without ".weight".</param>
/// <param name="FilterCount">Filters of the whole layer.</param>
/// <param name="Filters">Numbers of the filters owned, as in the saved weights.</param>
public sealed record FilterNorms(string Layer, int FilterCount, int[] Filters, double[] Norms)
{
    /// <summary>The norms of every convolution's filters that are held here.</summary>
    public static IReadOnlyList<FilterNorms> Measure(ModelState state) => Measure(state, Shard.Whole);

    /// <summary>The same for one shard of the filters of each layer, where several ranks hold them all.</summary>
    public static IReadOnlyList<FilterNorms> Measure(ModelState state, Shard shard) =>
        [.. state.Slices.Where(slice => slice.Spec.Role is TensorRole.ConvWeight).Select(slice => Measure(slice, state[slice.Name], shard))];

    /// <summary>The same for one layer, whose filters are held in the rows of <paramref name="weight"/>.</summary>
    public static FilterNorms Measure(TensorSlice slice, Tensor weight, Shard shard)
    {
        (int start, int end) = shard.Of((int)slice.Shape[0]);
        int[] filters = slice.Rows?[start..end] ?? [.. Enumerable.Range(start, end - start)];
        using DisposeScope scope = NewDisposeScope();
        Tensor rows = weight.detach().narrow(0, start, end - start);
        return new FilterNorms(slice.Name[..^".weight".Length], (int)slice.Spec.Shape[0], filters, OfRows(rows, slice.Columns));
    }

    /// <summary>
    /// Norm of each row of a weight [filters, inputs, kernel, kernel], summed in float64 in the order of the saved
    /// weights, whatever the order of the columns here, so that every assignment gives the same bits.
    /// </summary>
    /// <param name="columns">The input channel of each column; null: as saved.</param>
    public static double[] OfRows(Tensor weight, int[]? columns) => [.. SquaresOfRows(weight, columns).Select(Math.Sqrt)];

    /// <summary>The squares of these norms; of some columns of the whole weight: their part of them.</summary>
    public static double[] SquaresOfRows(Tensor weight, int[]? columns)
    {
        // One layer at a time: its copy is gone before the next one's is made.
        using DisposeScope scope = NewDisposeScope();
        Tensor host = weight.detach().to(float64).cpu().contiguous();
        double[] squares = new double[weight.size(0)];
        if (host.numel() == 0) return squares;
        ReadOnlySpan<double> values = TensorMemory.Span<double>(host);
        int inputs = (int)weight.size(1), window = (int)(weight.size(2) * weight.size(3));
        int[] order = [.. Enumerable.Range(0, inputs)];
        if (columns is not null) Array.Sort([.. columns], order);
        for (int row = 0; row < squares.Length; row++)
        {
            double sum = 0;
            foreach (int column in order)
            {
                foreach (double value in values.Slice(((row * inputs) + column) * window, window)) sum += value * value;
            }
            squares[row] = sum;
        }
        return squares;
    }
}
