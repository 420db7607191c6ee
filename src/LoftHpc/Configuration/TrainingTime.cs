using System.Globalization;

namespace LoftHpc.Configuration;

/// <summary>A point or span of training, written "3 epochs" or "500 steps" (1 may stand in the singular).</summary>
public readonly record struct TrainingTime(int Count, bool InEpochs)
{
    public static TrainingTime Epochs(int count) => new(count, true);

    public static TrainingTime Steps(int count) => new(count, false);

    /// <summary>This time in optimizer steps.</summary>
    public long ToSteps(int stepsPerEpoch) => InEpochs ? (long)Count * stepsPerEpoch : Count;

    /// <summary>Reads what <see cref="ToString"/> writes; the singular and the plural are both taken.</summary>
    public static bool TryParse(string text, out TrainingTime time)
    {
        string[] parts = text.Split(' ');
        time = default;
        if (parts.Length != 2 || !int.TryParse(parts[0], NumberStyles.None, CultureInfo.InvariantCulture, out int count)) return false;
        bool? inEpochs = parts[1] switch { "epoch" or "epochs" => true, "step" or "steps" => false, _ => null };
        if (inEpochs is null) return false;
        time = new TrainingTime(count, inEpochs.Value);
        return true;
    }

    public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"{Count} {(InEpochs ? "epoch" : "step")}{(Count == 1 ? "" : "s")}");
}
