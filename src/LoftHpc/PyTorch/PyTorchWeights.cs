using System.Runtime.InteropServices;
using LoftHpc.Configuration;
using LoftHpc.Networks;
using LoftHpc.Results;
using LoftHpc.Training;
using TorchSharp;

namespace LoftHpc.PyTorch;

/// <summary>
/// The state_dict of a whole network that was trained in PyTorch, under our names. Prefixes that wrappers put before every name
/// (DataParallel, torch.compile) are taken off, and torchvision's names of head and shortcut are known. The file is safetensors, or
/// what torch.save writes (<see cref="StateDictPickle"/>).
/// </summary>
public sealed class PyTorchWeights : IDisposable
{
    /// <summary>One line holds so many names of a kind.</summary>
    private const int MostNames = 4;

    private static readonly string[] Wrappers = ["module.", "_orig_mod."];

    private readonly SafetensorsFile _file;
    private readonly Dictionary<string, string> _names;

    private PyTorchWeights(SafetensorsFile file, Dictionary<string, string> names, long step) => (_file, _names, Step) = (file, names, step);

    /// <summary>Optimizer steps that the weights have behind them: the largest num_batches_tracked; 0 where there is none.</summary>
    public long Step { get; }

    /// <exception cref="UserError">The file cannot be read, or does not hold this network, with finite numbers.</exception>
    public static PyTorchWeights Open(string path, WeightsIdentity identity)
    {
        SafetensorsFile file = IsFromTorchSave(path) ? OpenConverted(path) : SafetensorsFile.Open(path);
        try
        {
            Dictionary<string, string> names = Names(file, path);
            MustFit(file, names, identity, path);
            WeightsIdentity.MustBeFinite(file, path);
            return new PyTorchWeights(file, names, StepOf(file));
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    /// <summary>A new tensor on the CPU, in the type of the file.</summary>
    public torch.Tensor Read(TensorSpec tensor) => _file.Read(_names[tensor.Name]);

    public void Dispose() => _file.Dispose();

    /// <summary>Whether a file is what torch.save writes: an archive.</summary>
    /// <exception cref="UserError">It cannot be read, or is the pickle that torch.save wrote before PyTorch 1.6.</exception>
    private static bool IsFromTorchSave(string path)
    {
        Span<byte> start = stackalloc byte[4];
        int read;
        try
        {
            using FileStream stream = RegularFile.OpenRead(path, bufferSize: 0);
            read = stream.ReadAtLeast(start, start.Length, throwOnEndOfStream: false);
        }
        catch (Exception error) when (DurableFile.IsFailure(error))
        {
            string reason = error is FileNotFoundException or DirectoryNotFoundException ? "there is no such file" : PlainText.Of(error.Message);
            throw new UserError($"{path}: weights cannot be read: {reason}", error);
        }
        if (read == start.Length && start[0] == 0x80 && start[1] is >= 2 and <= 5)
            throw new UserError($"{path}: a bare pickle, as torch.save wrote it before PyTorch 1.6, is not read; torch.save(torch.load('old.pt'), 'model.pt') makes another file of it");
        return start.SequenceEqual("PK\x03\x04"u8);
    }

    /// <summary>The same tensors in a safetensors file whose name is gone already.</summary>
    private static SafetensorsFile OpenConverted(string path)
    {
        string converted = Path.Combine(Path.GetTempPath(), $"lofthpc-{Guid.NewGuid():N}.safetensors");
        try
        {
            StateDictPickle.ToSafetensors(path, converted);
            return SafetensorsFile.Open(converted);
        }
        finally
        {
            DurableFile.Remove(converted);
        }
    }

    /// <summary>The names of the file by ours.</summary>
    private static Dictionary<string, string> Names(SafetensorsFile file, string path)
    {
        Dictionary<string, string> names = [];
        int cut = 0;
        string[] all = [.. file.Entries.Select(entry => entry.Name)];
        while (Wrappers.FirstOrDefault(wrapper => all.Length > 0 && all.All(name => name.AsSpan(cut).StartsWith(wrapper, StringComparison.Ordinal))) is string common) cut += common.Length;
        foreach (string name in all)
        {
            string own = name[cut..];
            if (own.StartsWith("fc.", StringComparison.Ordinal)) own = $"linear.{own["fc.".Length..]}";
            own = own.Replace(".downsample.", ".shortcut.", StringComparison.Ordinal);
            if (!names.TryAdd(own, name)) throw new UserError($"{path}: {PlainText.Of(names[own])} and {PlainText.Of(name)} name the same tensor");
        }
        return names;
    }

    private static void MustFit(SafetensorsFile file, Dictionary<string, string> names, WeightsIdentity identity, string path)
    {
        NetworkSpec network = identity.Describe();
        Dictionary<string, TensorEntry> found = file.Entries.ToDictionary(entry => entry.Name);
        string[] missing = [.. network.Tensors.Select(tensor => tensor.Name).Where(name => !names.ContainsKey(name))];
        HashSet<string> known = [.. network.Tensors.Select(tensor => tensor.Name), .. WeightsFile.CountsOf(network)];
        string[] additional = [.. names.Where(name => !known.Contains(name.Key)).Select(name => PlainText.Of(name.Value))];
        string[] misshapen =
        [
            .. from tensor in network.Tensors
               where names.ContainsKey(tensor.Name) && !found[names[tensor.Name]].Shape.SequenceEqual(tensor.Shape)
               select $"{tensor.Name} [{string.Join(", ", found[names[tensor.Name]].Shape)}] for [{string.Join(", ", tensor.Shape)}]",
        ];
        string[] whole = [.. network.Tensors.Where(tensor => names.ContainsKey(tensor.Name) && found[names[tensor.Name]].Type is torch.ScalarType.Int64).Select(tensor => tensor.Name)];
        string[] problems = [.. new[] { Some("missing", missing), Some("not in this network", additional), Some("of another shape", misshapen), Some("whole numbers", whole) }.OfType<string>()];
        if (problems.Length == 0) return;
        NetworkSection section = identity.Network;
        throw new UserError(string.Create(System.Globalization.CultureInfo.InvariantCulture,
            $"{path}: not the weights of the config's network ({ConfigName.Of(section.Family)} {section.Depth}, form {ConfigName.Of(section.Form)}, width {section.Width}, {identity.ImageChannels} x {identity.ImageSide} x {identity.ImageSide} images, {identity.Classes} classes): {string.Join("; ", problems)}"));

        static string? Some(string what, string[] names) => names.Length == 0 ? null
            : $"{what}: {string.Join(", ", names.Take(MostNames))}{(names.Length > MostNames ? $", ... ({names.Length} in all)" : "")}";
    }

    private static long StepOf(SafetensorsFile file)
    {
        long step = 0;
        foreach (TensorEntry entry in file.Entries.Where(entry => entry.Name.EndsWith(WeightsFile.TrackedSuffix, StringComparison.Ordinal)))
            file.ReadPieces(entry.Name, bytes => step = Math.Max(step, MemoryMarshal.Read<long>(bytes)));
        return Math.Min(step, WeightsIdentity.MostSteps);
    }
}
