using LoftHpc.Communication;
using LoftHpc.Networks;
using TorchSharp;
using static TorchSharp.torch;

namespace LoftHpc.Training;

/// <summary>
/// Running statistics of a network of which every rank holds a copy and sees images of its own: before it is evaluated or
/// saved they are replaced by their mean over the ranks, each weighted by the images that it has seen since the last time.
/// </summary>
public sealed class RunningStatistics(RankContext context, ModelState state)
{
    private long _steps, _images;

    /// <summary>A step was done, on so many images of this rank's.</summary>
    public void Count(long images)
    {
        _steps++;
        _images += images;
    }

    /// <summary>Takes the mean, unless no step was done since the last time. Collective.</summary>
    public void Average()
    {
        if (_steps == 0) return;
        if (context.Size > 1)
        {
            using IDisposable purpose = context.Ledger.For(CommunicationPurpose.RunningStatistics);
            Replace(context, state, _images);
        }
        _steps = _images = 0;
    }

    public void Archive(StateArchive archive)
    {
        archive.Number("statistics/steps", ref _steps);
        archive.Number("statistics/images", ref _images);
        // Other ranks have begun with one mean for all.
        if (archive.Writers is not null) _steps = _images = 0;
    }

    /// <summary>Replaces running statistics by their mean over the ranks, weighted by the images that each has seen. Collective.</summary>
    public static void Replace(RankContext context, ModelState state, long images)
    {
        using DisposeScope scope = NewDisposeScope();
        using IDisposable frozen = no_grad();
        Tensor[] statistics = [.. state.Slices.Where(slice => !slice.Spec.IsParameter).Select(slice => state[slice.Name])];
        Tensor flat = cat([.. statistics.Select(statistic => statistic.to(float64) * images), full([1], images, float64, statistics[0].device)]);
        context.Channels.AllreduceSum(flat);
        flat.div_(flat[-1].clone());
        long at = 0;
        foreach (Tensor statistic in statistics)
        {
            statistic.copy_(flat.narrow(0, at, statistic.numel()));
            at += statistic.numel();
        }
    }
}
