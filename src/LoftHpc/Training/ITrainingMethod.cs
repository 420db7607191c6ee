using LoftHpc.Data;
using LoftHpc.Distances;
using LoftHpc.Networks;

namespace LoftHpc.Training;

/// <summary>
/// A way in which ranks together train one network. All ranks call the same members in the same order.
/// </summary>
public interface ITrainingMethod : IDisposable
{
    /// <summary>The whole network, of which each rank may hold a part.</summary>
    NetworkSpec Network { get; }

    int StepsPerEpoch { get; }

    /// <summary>One optimizer step on the batch that belongs to this place in training.</summary>
    /// <param name="epoch">Counts from 0.</param>
    /// <param name="step">In the epoch, from 0.</param>
    void Step(int epoch, int step, double learningRate);

    /// <summary>Totals of the steps since the last call, over what this rank can see of them without asking others.</summary>
    StepTotals RunningTotals { get; }

    /// <summary>Totals of the steps since the last call, over all ranks; starts them anew.</summary>
    StepTotals TakeTotals();

    /// <summary>Loss and hits of the network on a data set, in evaluation mode.</summary>
    StepTotals Evaluate(BatchLoader data, int batch);

    /// <summary>Norms of this rank's filters, every layer in the same order on every rank.</summary>
    IReadOnlyList<FilterNorms> MeasureNorms();

    /// <summary>Writes the whole network to one file on rank 0, which never holds more than one layer of it.</summary>
    /// <param name="step">Optimizer steps done.</param>
    void Save(string path, WeightsIdentity identity, long step);
}
