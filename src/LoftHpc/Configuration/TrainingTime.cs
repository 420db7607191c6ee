namespace LoftHpc.Configuration;

/// <summary>A point or span of training, written "3 epochs" or "500 steps" (1 may stand in the singular).</summary>
public readonly record struct TrainingTime(int Count, bool InEpochs)
{
    public static TrainingTime Epochs(int count) => new(count, true);

    public static TrainingTime Steps(int count) => new(count, false);

    /// <summary>This time in optimizer steps.</summary>
    public long ToSteps(int stepsPerEpoch) => InEpochs ? (long)Count * stepsPerEpoch : Count;

    public override string ToString() => $"{Count} {(InEpochs ? "epoch" : "step")}{(Count == 1 ? "" : "s")}";
}
