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

    /// <summary>One optimizer step on the batch that belongs to this place in training, without the exchange at the end of a round.</summary>
    /// <param name="epoch">Counts from 0.</param>
    /// <param name="step">In the epoch, from 0.</param>
    void Step(int epoch, int step, double learningRate);

    /// <summary>Whether the ranks meet in an exchange that belongs to this step, so that they can agree on something without a wait of its own.</summary>
    /// <param name="step">From 0, over all epochs.</param>
    bool MeetsAfter(long step) => true;

    /// <summary>The exchange at the end of a round. Collective, after the steps after which the ranks meet.</summary>
    /// <param name="step">The step that came last, from 0, over all epochs.</param>
    void Meet(long step)
    {
    }

    /// <summary>What this rank has computed in all steps so far.</summary>
    TrainingWork Work { get; }

    /// <summary>Wall-clock time in which this rank's steps waited for their images.</summary>
    double DataSeconds { get; }

    /// <summary>What this rank holds for training.</summary>
    TrainingMemory Memory { get; }

    /// <summary>Looks at the steps that were not looked at yet, where <see cref="StepWatch"/> looks late; before an epoch ends, and waits for the device.</summary>
    /// <exception cref="NonFiniteException">In one of them a value was not finite.</exception>
    void Look();

    /// <summary>Totals of the steps since they were last taken, over what this rank can see of them without asking others; NaN for a loss that it cannot see. To be asked for seldom: it waits for the device.</summary>
    StepTotals RunningTotals { get; }

    /// <summary>What an evaluation found on this rank, in the light of how its weights and gradients have grown.</summary>
    NonFinite Explain(NonFinite found);

    /// <summary>Totals of the steps since the last call, over all ranks; starts them anew.</summary>
    StepTotals TakeTotals();

    /// <summary>Loss and hits of the network on a data set, in evaluation mode.</summary>
    StepTotals Evaluate(BatchLoader data, int batch);

    /// <summary>Norms of this rank's filters, every layer in the same order on every rank.</summary>
    IReadOnlyList<FilterNorms> MeasureNorms();

    /// <summary>Writes the whole network to one file on rank 0, which gathers it layer by layer.</summary>
    /// <param name="step">Optimizer steps done.</param>
    void Save(string path, WeightsIdentity identity, long step);

    /// <summary>
    /// All that this rank has to know to go on after the steps done, not looked at by others: not collective. Read into a method that
    /// was made anew for the same setting, it goes on with the same bits.
    /// </summary>
    void Archive(StateArchive archive);
}

/// <summary>What one rank has computed.</summary>
/// <param name="Images">Trained on.</param>
/// <param name="Flops">
/// Floating-point operations of forward and backward of the layers held here, by the usual count: three times the forward
/// pass (<see cref="NetworkSpec.Flops(int)"/>). Evaluation is not counted.
/// </param>
public readonly record struct TrainingWork(long Images, long Flops)
{
    /// <summary>One batch of images.</summary>
    /// <param name="forwardFlops">Of one image.</param>
    public static TrainingWork Of(long images, long forwardFlops) => new(images, 3 * forwardFlops * images);

    /// <summary>This work, or the work that is read.</summary>
    public TrainingWork Archived(StateArchive archive)
    {
        (long images, long flops) = (Images, Flops);
        archive.Count("work/images", ref images);
        archive.Count("work/flops", ref flops);
        return new TrainingWork(images, flops);
    }

    public static TrainingWork operator +(TrainingWork a, TrainingWork b) => new(a.Images + b.Images, a.Flops + b.Flops);
}

/// <summary>Bytes that one rank holds for training, besides activations.</summary>
/// <param name="Weights">Parameters and running statistics.</param>
/// <param name="Gradients">Of the parameters; they are kept between steps.</param>
/// <param name="Optimizer">Momentum.</param>
/// <param name="ExchangeBuffers">Memory that exists only to exchange with other ranks.</param>
public readonly record struct TrainingMemory(long Weights, long Gradients, long Optimizer, long ExchangeBuffers)
{
    public static TrainingMemory Of(ModelState state, long exchangeBytes) =>
        new(state.WeightBytes, state.GradientBytes, state.MomentumBytes, exchangeBytes);
}
