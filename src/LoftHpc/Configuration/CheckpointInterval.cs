using System.Globalization;

namespace LoftHpc.Configuration;

public enum IntervalUnit { Minutes, Steps, Epochs }

/// <summary>A span between checkpoints, written "10 minutes", "500 steps" or "3 epochs" (1 may stand in the singular).</summary>
public readonly record struct CheckpointInterval(int Count, IntervalUnit Unit)
{
    /// <summary>In optimizer steps; null: in minutes.</summary>
    public long? ToSteps(int stepsPerEpoch) => Unit switch
    {
        IntervalUnit.Steps => Count,
        IntervalUnit.Epochs => (long)Count * stepsPerEpoch,
        _ => null,
    };

    /// <summary>In time; null: in steps or epochs.</summary>
    public TimeSpan? ToTime() => Unit is IntervalUnit.Minutes ? TimeSpan.FromMinutes(Count) : null;

    /// <summary>Reads what <see cref="ToString"/> writes; the singular and the plural are both taken.</summary>
    public static bool TryParse(string text, out CheckpointInterval interval)
    {
        interval = default;
        if (text.Split(' ') is not [string number, string word]) return false;
        if (!int.TryParse(number, NumberStyles.None, CultureInfo.InvariantCulture, out int count)) return false;
        IntervalUnit? unit = word switch
        {
            "minute" or "minutes" => IntervalUnit.Minutes,
            "step" or "steps" => IntervalUnit.Steps,
            "epoch" or "epochs" => IntervalUnit.Epochs,
            _ => null,
        };
        if (unit is null) return false;
        interval = new CheckpointInterval(count, unit.Value);
        return true;
    }

    public override string ToString()
    {
        string word = ConfigName.Of(Unit);
        return string.Create(CultureInfo.InvariantCulture, $"{Count} {(Count == 1 ? word[..^1] : word)}");
    }
}
