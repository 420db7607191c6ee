using LoftHpc.Networks;

namespace LoftHpc.Planning;

/// <summary>Counts of a network that plans need.</summary>
internal static class NetworkCounts
{
    /// <summary>Values of all running statistics.</summary>
    public static long StatisticsCount(this NetworkSpec network) => network.Tensors.Where(tensor => !tensor.IsParameter).Sum(tensor => tensor.Count);

    /// <summary>Channels of each batch norm.</summary>
    public static IEnumerable<long> NormChannels(this NetworkSpec network) =>
        network.Tensors.Where(tensor => tensor.Role is TensorRole.NormWeight).Select(tensor => tensor.Count);
}
