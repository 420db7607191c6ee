using LoftHpc.Configuration;
using LoftHpc.Output;
using LoftHpc.PyTorch;
using LoftHpc.Results;

namespace LoftHpc.Commands;

/// <summary>Writes a network of a run for another program. Needs no libtorch.</summary>
public static class ExportCommand
{
    private const string PyTorchName = "pytorch";

    /// <param name="to">pytorch.</param>
    /// <param name="images">Name of the split that is written too; null: none.</param>
    /// <inheritdoc cref="PyTorchExport.Write"/>
    public static void Export(string folder, string to, string weights, string? output, string? images, IReadOnlyList<string> overrides, IReporter reporter)
    {
        if (to != PyTorchName) throw new UserError($"--to: '{PlainText.Of(to)}' is not known; allowed: {PyTorchName}");
        DataSplit[] splits = Enum.GetValues<DataSplit>();
        int split = images is null ? -1 : Array.FindIndex(splits, one => ConfigName.Of(one) == images);
        if (images is not null && split < 0) throw new UserError($"--images: '{PlainText.Of(images)}' is no split; allowed: {string.Join(", ", splits.Select(one => ConfigName.Of(one)))}");
        foreach (string file in PyTorchExport.Write(RunFolder.At(folder), weights, output, split < 0 ? null : splits[split], overrides)) reporter.Result(file);
    }
}
