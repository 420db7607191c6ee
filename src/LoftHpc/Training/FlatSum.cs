using LoftHpc.Communication;
using LoftHpc.Networks;
using TorchSharp;
using static TorchSharp.torch;

namespace LoftHpc.Training;

/// <summary>Sums over the ranks what each of them holds whole, in one allreduce over one flat buffer.</summary>
public static class FlatSum
{
    /// <summary>Replaces every gradient by its sum over the ranks; no gradient counts as zero.</summary>
    public static void Gradients(ModelState state, ChannelExchange exchange)
    {
        if (exchange.Communicator.Size == 1) return;
        using DisposeScope scope = NewDisposeScope();
        Tensor[] weights = [.. state.Parameters.Select(parameter => state[parameter.Name])];
        Tensor flat = cat([.. weights.Select(weight => (weight.grad ?? zeros_like(weight)).detach().view(-1))]);
        exchange.AllreduceSum(flat);
        long at = 0;
        foreach (Tensor weight in weights)
        {
            weight.grad = flat.narrow(0, at, weight.numel()).view(weight.shape);
            at += weight.numel();
        }
    }

    /// <summary>Replaces running statistics by their mean over the ranks, each weighted by the images that it saw.</summary>
    public static void RunningStatistics(ModelState state, ChannelExchange exchange, long images)
    {
        if (exchange.Communicator.Size == 1) return;
        using DisposeScope scope = NewDisposeScope();
        using IDisposable frozen = no_grad();
        Tensor[] statistics = [.. state.Slices.Where(slice => !slice.Spec.IsParameter).Select(slice => state[slice.Name])];
        Tensor flat = cat([.. statistics.Select(statistic => statistic.to(float64) * images), full([1], images, float64, statistics[0].device)]);
        exchange.AllreduceSum(flat);
        flat.div_(flat[-1].clone());
        long at = 0;
        foreach (Tensor statistic in statistics)
        {
            statistic.copy_(flat.narrow(0, at, statistic.numel()));
            at += statistic.numel();
        }
    }
}
