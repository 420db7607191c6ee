using TorchSharp;
using static TorchSharp.torch;

namespace LoftHpc.Training;

/// <summary>Loss and hits of training steps, added up on the device that computes them: only a look at them waits for it.</summary>
public sealed class TotalsOnDevice(Device device) : IDisposable
{
    private readonly Tensor _lossSum = zeros([], float64, device).DetachFromDisposeScope(), _correct = zeros([], int64, device).DetachFromDisposeScope();
    private long _images;

    /// <summary>Adds a batch: logits [N, classes], labels [N] and the sum of their losses.</summary>
    public void Add(Tensor logits, Tensor labels, Tensor lossSum)
    {
        using DisposeScope scope = NewDisposeScope();
        using IDisposable frozen = no_grad();
        long images = labels.size(0);
        if (images == 0) return;
        _lossSum.add_(lossSum);
        _correct.add_(logits.argmax(1).eq(labels).sum());
        _images += images;
    }

    /// <summary>The totals so far.</summary>
    public StepTotals Read()
    {
        using DisposeScope scope = NewDisposeScope();
        return _images == 0 ? default : new StepTotals(_lossSum.item<double>(), _correct.item<long>(), _images);
    }

    /// <summary>The totals so far; starts them anew.</summary>
    public StepTotals Take()
    {
        // An operation in place returns a tensor too.
        using DisposeScope scope = NewDisposeScope();
        StepTotals totals = Read();
        _lossSum.zero_();
        _correct.zero_();
        _images = 0;
        return totals;
    }

    /// <param name="sameOnAll">Whether every rank adds up the same, and not what it alone has seen.</param>
    public void Archive(StateArchive archive, bool sameOnAll = false)
    {
        if (sameOnAll || archive.Writers is null)
        {
            archive.Values("totals/loss_sum", _lossSum);
            archive.Values("totals/correct", _correct);
            archive.Number("totals/images", ref _images);
            return;
        }
        using DisposeScope scope = NewDisposeScope();
        _lossSum.zero_();
        _correct.zero_();
        archive.Count("totals/images", ref _images);
        foreach (StateArchive writer in archive.TakenOver)
        {
            (Tensor lossSum, Tensor correct) = (zeros_like(_lossSum), zeros_like(_correct));
            writer.Values("totals/loss_sum", lossSum);
            writer.Values("totals/correct", correct);
            _lossSum.add_(lossSum);
            _correct.add_(correct);
        }
    }

    public void Dispose()
    {
        _lossSum.Dispose();
        _correct.Dispose();
    }
}
