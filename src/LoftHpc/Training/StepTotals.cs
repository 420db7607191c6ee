using TorchSharp;
using static TorchSharp.torch;

namespace LoftHpc.Training;

/// <summary>Loss and hits summed over images.</summary>
public readonly record struct StepTotals(double LossSum, long Correct, long Images)
{
    /// <summary>The first thing that was not finite in an evaluation on this rank; null: nothing.</summary>
    public NonFinite? Trouble { get; init; }

    /// <summary>Whether this rank, or after their sum any rank, left the evaluation early (<see cref="EarlyStop"/>).</summary>
    public bool IsCut { get; init; }

    /// <summary>Mean loss of an image.</summary>
    public double Loss => LossSum / Images;

    /// <summary>Share of images whose class was right.</summary>
    public double Accuracy => (double)Correct / Images;

    /// <summary>The totals of a batch, for which it waits: logits [N, classes], labels [N] and the sum of their losses.</summary>
    public static StepTotals Of(Tensor logits, Tensor labels, Tensor lossSum)
    {
        using DisposeScope scope = NewDisposeScope();
        long images = labels.size(0);
        return images == 0 ? default : new StepTotals(lossSum.to(float64).item<double>(), logits.argmax(1).eq(labels).sum().item<long>(), images);
    }

    /// <summary>Returns where the loss is finite; the same on all ranks.</summary>
    /// <param name="when">On which images, in words.</param>
    /// <param name="explain">Adds to what was found in the evaluation, or finds more.</param>
    /// <exception cref="UserError">It is not; each rank says what it has found.</exception>
    public void MustBeFinite(string stage, string when, int rank, Func<NonFinite, NonFinite> explain)
    {
        if (double.IsFinite(LossSum)) return;
        throw explain(Trouble ?? NonFinite.Nothing).Error(stage, when, rank);
    }

    public static StepTotals operator +(StepTotals a, StepTotals b) => new(a.LossSum + b.LossSum, a.Correct + b.Correct, a.Images + b.Images) { Trouble = a.Trouble ?? b.Trouble, IsCut = a.IsCut || b.IsCut };
}
