using LoftHpc.Configuration;
using LoftHpc.Results;

namespace LoftHpc.Tickets;

/// <summary>
/// Iterative magnitude pruning (Frankle and Carbin 2019), of filters: of n iterations, i leave (1 - ratio)^(i/n) of what there was, and
/// the one after draws from what the one before has become by retraining. So iteration i is itself a ticket of i iterations, with a
/// smaller ratio.
/// </summary>
public static class IterativePruning
{
    /// <summary>The configs of the tickets before the last one, the first one first; each is a run folder inside the last one's.</summary>
    /// <param name="source">The folder of the pre-training.</param>
    /// <param name="target">The folder of the last ticket.</param>
    public static IEnumerable<RunConfig> Before(RunConfig config, RunFolder source, RunFolder target)
    {
        ExtractSection extract = config.Extract;
        return Enumerable.Range(1, extract.Iterations - 1).Select(iteration =>
        {
            double share = (double)iteration / extract.Iterations;
            double Ratio(double ratio) => 1 - Math.Pow(1 - ratio, share);
            return config with
            {
                Run = config.Run with { Folder = target.Iterations, Name = RunFolder.NameOfIteration(iteration) },
                Extract = extract with
                {
                    From = source.Path,
                    Iterations = iteration,
                    Ratio = Ratio(extract.Ratio),
                    Budget = Math.Pow(extract.Budget, share),
                    LayerRatios = [.. extract.LayerRatios.Select(Ratio)],
                },
                Retrain = config.Retrain with { Epochs = extract.IterationEpochs, Start = extract.IterationStart },
                Tickets = new(),
            };
        });
    }
}
