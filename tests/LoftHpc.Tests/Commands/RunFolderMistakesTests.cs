using LoftHpc.Output;
using LoftHpc.Results;
using LoftHpc.Tests.Mpi;
using TorchSharp;
using Xunit;

namespace LoftHpc.Tests.Commands;

/// <summary>Run folders that do not fit are refused before any work: nothing of them changes, and nothing new is made.</summary>
public sealed class RunFolderMistakesTests : ProgramTests
{
    [Fact]
    public void What_a_stage_reads_and_writes_is_looked_at_before_it_begins()
    {
        Command("pretrain", "run.name=a", "pretrain.epochs=1").MustSucceed();
        RunFolder folder = Folder("a");

        // Extract: the dense weights, and what is appended to.
        Refused("extract", folder, folder.DenseWeights, () => Change(folder.DenseWeights, "layer2.0.conv1.weight", float.NaN), ExitCodes.Configuration,
            $"{folder.DenseWeights}: layer2.0.conv1.weight holds numbers that are not finite");
        Refused("extract", folder, folder.Summary.Path, () => Replace(folder.Summary.Path, "\n", "\r\n"), ExitCodes.Configuration, "summary.csv: rows cannot be added, since the first line is not ");
        Refused("extract", folder, folder.Summary.Path, () => File.Delete(folder.Summary.Path), ExitCodes.Configuration, "there is no row of network dense; the command pretrain, which writes it last, has not finished");
        Refused("extract", folder, folder.Config, () => Replace(folder.Config, "width: 3", "width: 4"), ExitCodes.Configuration, $"{folder.DenseWeights} holds another network than this file says; network.width is 4 and 3");

        // Into a folder of its own: none is made.
        string summary = File.ReadAllText(folder.Summary.Path);
        File.Delete(folder.Summary.Path);
        MustBeOneLine(Command("extract", "run.name=other", $"extract.from={folder.Path}"), ExitCodes.Configuration, "there is no row of network dense");
        Assert.False(Directory.Exists(Folder("other").Path));
        File.WriteAllText(folder.Summary.Path, summary);

        Command("extract", "run.name=a").MustSucceed();
        Refused("retrain", folder, folder.PrunedWeights, () => File.Copy(folder.DenseWeights, folder.PrunedWeights, overwrite: true), ExitCodes.Configuration,
            $"{folder.PrunedWeights}: weights of a dense network, where those of a ticket");
        Refused("retrain", folder, folder.Summary.Path, () => Replace(folder.Summary.Path, "network,", "net,"), ExitCodes.Configuration, "summary.csv: ");
        Refused("retrain", folder, folder.Summary.Path, () => Replace(folder.Summary.Path, "\n", "\r\n"), ExitCodes.Configuration, "summary.csv: rows cannot be added");
        Refused("retrain", folder, folder.Metrics.Path, () => Replace(folder.Metrics.Path, "pretrain,1,test", "pretrain,one,test"), ExitCodes.Configuration, "metrics.csv: line 3, column epoch");
        Refused("retrain", folder, folder.Ticket.Path, () => File.Delete(folder.Ticket.Path), ExitCodes.Configuration, "ticket.csv is missing; the command extract writes it");
        TicketRow[] rows = [.. folder.Ticket.Read()];
        int kept = Array.FindIndex(rows, row => row.Kept);
        Refused("retrain", folder, folder.Ticket.Path, () => folder.Ticket.Write(rows.Select((row, i) => i == kept ? row with { Norm = row.Norm * 1.000001 } : row)), ExitCodes.Configuration,
            $"filter {rows[kept].Filter} of layer {rows[kept].Layer} has norm ", "the two are not of one ticket");
        Refused("retrain", folder, folder.Ticket.Path, () => folder.Ticket.Write(rows.Select((row, i) => i == kept ? row with { Kept = false } : row)), ExitCodes.Configuration, $"layer {rows[kept].Layer} keeps ");
        Refused("retrain", folder, folder.Ticket.Path, () => folder.Ticket.Write(rows.Where((_, i) => i != kept)), ExitCodes.Configuration, $"layer {rows[kept].Layer} has not one row for each of its ");
        Refused("retrain", folder, folder.Ticket.Path, () => folder.Ticket.Write(rows.Append(new TicketRow("layer9.conv1", 0, 1, 1, true))), ExitCodes.Configuration, "layer layer9.conv1 is none that ");

        Command("retrain", "run.name=a").MustSucceed();
        Refused("evaluate", folder, folder.TicketWeights, () => Change(folder.TicketWeights, "layer2.0.bn1.running_var", -1), ExitCodes.Configuration, "ticket.safetensors: layer2.0.bn1.running_var is below zero");
    }

    [Fact]
    public void Every_table_stands_with_its_header_where_there_was_nothing_to_train()
    {
        Command("run", "run.name=a", "pretrain.epochs=0", "retrain.epochs=0", "pretrain.snapshots=[]").MustSucceed();
        RunFolder folder = Folder("a");
        Assert.Empty(folder.Metrics.Read());
        Assert.Empty(folder.FilterDistance.Read());
        Assert.NotEmpty(folder.FilterNorms.Read());
        Assert.Equal(2, folder.Resources.Read().Count);
        Assert.Equal(3, folder.Summary.Read().Count);
        Assert.NotEmpty(folder.Ticket.Read());
        Assert.True(folder.Communication.Exists);
    }

    /// <summary>A program that was copied without the library that draws says so before it trains for days.</summary>
    [Fact]
    public void Figures_that_cannot_be_drawn_are_told_before_any_work()
    {
        string copy = $"{TemporaryPath}/program";
        Directory.CreateDirectory(copy);
        foreach (string file in Directory.EnumerateFileSystemEntries(AppContext.BaseDirectory).Where(path => !Path.GetFileName(path).StartsWith("libSkiaSharp", StringComparison.Ordinal)))
            File.CreateSymbolicLink(Path.Combine(copy, Path.GetFileName(file)), file);
        // The program's own files are looked for beside the real one.
        foreach (string file in new[] { "lofthpc", "lofthpc.dll" })
        {
            File.Delete($"{copy}/{file}");
            File.Copy(Path.Combine(AppContext.BaseDirectory, file), $"{copy}/{file}");
        }
        MustBeOneLine(
            MpiLauncher.RunAlone([$"{copy}/lofthpc", "run", "--config", ConfigFile, $"run.folder={TemporaryPath}/results", "run.name=a"]),
            ExitCodes.Environment, "figures cannot be drawn: ", "libSkiaSharp");
        Assert.False(Directory.Exists(Folder("a").Path));
    }

    [Fact]
    public void A_loss_of_many_digits_is_shown_by_its_power()
    {
        Assert.Equal("0.1235", EpochClock.Loss(0.12345678));
        Assert.Equal("5.9E+34", EpochClock.Loss(5.9e34));
        Assert.Equal("NaN", EpochClock.Loss(double.NaN));
    }

    private LaunchResult Command(string command, params string[] overrides) =>
        MpiLauncher.RunAlone([MpiLauncher.LoftHpc, command, "--config", ConfigFile, $"run.folder={TemporaryPath}/results", .. overrides]);

    /// <summary>Spoils one file, expects one line and no change in the folder, and puts the file back.</summary>
    private void Refused(string command, RunFolder folder, string file, Action spoil, int exitCode, params string[] parts)
    {
        byte[] good = File.ReadAllBytes(file);
        spoil();
        Dictionary<string, DateTime> Times() => Directory.EnumerateFiles(folder.Path).ToDictionary(path => path, File.GetLastWriteTimeUtc);
        Dictionary<string, DateTime> before = Times();
        MustBeOneLine(Command(command, "run.name=a"), exitCode, parts);
        Assert.Equal(before.OrderBy(pair => pair.Key), Times().OrderBy(pair => pair.Key));
        File.WriteAllBytes(file, good);
    }

    private static void Replace(string file, string text, string by)
    {
        string before = File.ReadAllText(file);
        Assert.Contains(text, before, StringComparison.Ordinal);
        File.WriteAllText(file, before.Replace(text, by, StringComparison.Ordinal));
    }

    /// <summary>Sets the first number of a tensor.</summary>
    private static void Change(string file, string name, float value)
    {
        Dictionary<string, torch.Tensor> tensors = [];
        Dictionary<string, string> metadata;
        TensorEntry[] entries;
        using (SafetensorsFile weights = SafetensorsFile.Open(file))
        {
            (entries, metadata) = ([.. weights.Entries], new Dictionary<string, string>(weights.Metadata));
            foreach (TensorEntry entry in entries) tensors[entry.Name] = weights.Read(entry.Name);
        }
        tensors[name].flatten()[0] = value;
        using SafetensorsWriter writer = new(file, entries, metadata);
        foreach ((string key, torch.Tensor tensor) in tensors) writer.Write(key, tensor);
        writer.Complete();
    }
}
