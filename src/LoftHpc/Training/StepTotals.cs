using TorchSharp;
using static TorchSharp.torch;

namespace LoftHpc.Training;

/// <summary>Loss and hits summed over images.</summary>
public readonly record struct StepTotals(double LossSum, long Correct, long Images)
{
    /// <summary>Mean loss of an image.</summary>
    public double Loss => LossSum / Images;

    /// <summary>Share of images whose class was right.</summary>
    public double Accuracy => (double)Correct / Images;

    /// <summary>The totals of a batch: logits [N, classes], labels [N] and the sum of their losses.</summary>
    public static StepTotals Of(Tensor logits, Tensor labels, Tensor lossSum)
    {
        using DisposeScope scope = NewDisposeScope();
        long images = labels.size(0);
        return images == 0 ? default : new StepTotals(lossSum.to(float64).item<double>(), logits.argmax(1).eq(labels).sum().item<long>(), images);
    }

    public static StepTotals operator +(StepTotals a, StepTotals b) => new(a.LossSum + b.LossSum, a.Correct + b.Correct, a.Images + b.Images);
}
