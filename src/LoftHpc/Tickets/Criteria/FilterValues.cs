using LoftHpc.Mpi;
using TorchSharp;
using static TorchSharp.torch;

namespace LoftHpc.Tickets;

/// <summary>Weights as numbers of .NET, for sums whose order, and so whose bits, no library chooses.</summary>
internal static class FilterValues
{
    /// <summary>The values of each row of a weight [filters, ...].</summary>
    public static double[][] Of(Tensor weight)
    {
        using DisposeScope scope = NewDisposeScope();
        Tensor host = weight.detach().to(float64).cpu().contiguous();
        int rows = (int)host.size(0), size = rows == 0 ? 0 : (int)(host.numel() / rows);
        ReadOnlySpan<double> values = TensorMemory.Span<double>(host);
        double[][] filters = new double[rows][];
        for (int row = 0; row < rows; row++) filters[row] = values.Slice(row * size, size).ToArray();
        return filters;
    }
}
