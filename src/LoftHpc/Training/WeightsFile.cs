using System.Globalization;
using System.Numerics;
using System.Runtime.InteropServices;
using System.Text.Json;
using System.Text.Json.Serialization;
using LoftHpc.Configuration;
using LoftHpc.Data;
using LoftHpc.Mpi;
using LoftHpc.Networks;
using LoftHpc.Results;
using TorchSharp;
using static TorchSharp.torch;

namespace LoftHpc.Training;

/// <summary>Which network a weights file is of; stored in the file, so that it can be loaded without its config.</summary>
/// <param name="InnerCounts">Channels left inside each pruned block, by the name of its first convolution; null: none is pruned.</param>
public sealed record WeightsIdentity(
    NetworkSection Network, int ImageChannels, int ImageSide, int Classes, SortedDictionary<string, int>? InnerCounts = null)
{
    private const string Key = "lofthpc.network", StepKey = "lofthpc.step";

    /// <summary>More than any training takes, and sums of a few such numbers are whole numbers still.</summary>
    internal const long MostSteps = 1_000_000_000_000_000;

    private static readonly JsonSerializerOptions Json = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        Converters = { new JsonStringEnumConverter(JsonNamingPolicy.KebabCaseLower, allowIntegerValues: false) },
        AllowDuplicateProperties = false,
    };

    /// <summary>The network that this one was pruned from; itself where it was not.</summary>
    public WeightsIdentity Unpruned() => this with { InnerCounts = null };

    /// <summary>The description of the network.</summary>
    public NetworkSpec Describe()
    {
        NetworkSpec whole = NetworkCatalog.Create(Network, ImageChannels, Classes);
        return InnerCounts is null ? whole : whole.WithInnerCounts(InnerCounts);
    }

    public Dictionary<string, string> ToMetadata(long step) => new()
    {
        ["format"] = "pt",
        [Key] = ToJson(),
        [StepKey] = step.ToString(CultureInfo.InvariantCulture),
    };

    /// <summary>The network of a file, which holds all its tensors and no others. What the metadata say is checked before a network is made of it.</summary>
    /// <exception cref="UserError">The file was not written by this program.</exception>
    public static WeightsIdentity Of(SafetensorsFile file, string path)
    {
        if (!file.Metadata.TryGetValue(Key, out string? json))
            throw new UserError($"{path}: the metadata hold no '{Key}'; only weights that lofthpc wrote can be read");
        WeightsIdentity identity;
        try
        {
            identity = Parse(json);
        }
        catch (JsonException error)
        {
            throw new UserError($"{path}: the metadata's '{Key}' describes no network: {PlainText.Of(error.Message)}", error);
        }
        if (identity.Problem() is string problem) throw new UserError($"{path}: the metadata's '{Key}' describes no network: {PlainText.Of(problem)}");
        NetworkSpec network = identity.Describe();
        foreach (TensorSpec tensor in network.Tensors) file.MustHold(tensor.Name, tensor.Shape);
        // Nothing bounds the size of others.
        HashSet<string> names = [.. network.Tensors.Select(tensor => tensor.Name), .. WeightsFile.CountsOf(network)];
        if (file.Entries.FirstOrDefault(entry => !names.Contains(entry.Name)) is TensorEntry other)
            throw new UserError($"{path}: there is a tensor {PlainText.Of(other.Name)}, which its network does not have");
        return identity;
    }

    /// <summary>
    /// Refuses weights with which nothing can be computed, though they have the form of their network: numbers that are not
    /// finite, and variances and counts of steps below zero. Reads the whole file, in pieces.
    /// </summary>
    /// <exception cref="UserError">Names the file and the tensor.</exception>
    public static void MustBeFinite(SafetensorsFile file, string path)
    {
        foreach (TensorEntry entry in file.Entries)
        {
            bool isCount = entry.Name.EndsWith(WeightsFile.TrackedSuffix, StringComparison.Ordinal);
            if (isCount && (entry.Type is not ScalarType.Int64 || entry.Shape.Count > 0))
                throw new UserError($"{path}: {PlainText.Of(entry.Name)} is not one whole number");
            bool isVariance = entry.Name.EndsWith(WeightsFile.VarianceSuffix, StringComparison.Ordinal);
            file.ReadPieces(entry.Name, bytes =>
            {
                double least = entry.Type switch
                {
                    ScalarType.Float32 => Least(MemoryMarshal.Cast<byte, float>(bytes)),
                    ScalarType.Float64 => Least(MemoryMarshal.Cast<byte, double>(bytes)),
                    _ => isCount ? MemoryMarshal.Cast<byte, long>(bytes)[0] : 0,
                };
                if (!double.IsFinite(least)) throw new UserError($"{path}: {PlainText.Of(entry.Name)} holds numbers that are not finite");
                if (least < 0 && (isVariance || isCount)) throw new UserError($"{path}: {PlainText.Of(entry.Name)} is below zero");
            });
        }
    }

    /// <summary>The least number; not-a-number where one of them is not finite in float32, in which networks are loaded.</summary>
    private static double Least<T>(ReadOnlySpan<T> values) where T : unmanaged, IFloatingPointIeee754<T>
    {
        T least = values[0];
        foreach (T value in values)
        {
            if (!float.IsFinite(float.CreateTruncating(value))) return double.NaN;
            if (value < least) least = value;
        }
        return double.CreateChecked(least);
    }

    /// <summary>What stands in the way of making this network; null: nothing.</summary>
    private string? Problem()
    {
        if (RunConfigRules.ProblemOf(Network) is string problem) return problem;
        if (ImageChannels is < 1 or > DataSection.MostChannels) return $"{ImageChannels} channels of an image; allowed are 1 to {DataSection.MostChannels}";
        if (ImageSide is < 1 or > DataSection.MostSide) return $"images of {ImageSide} x {ImageSide}; allowed are sides from 1 to {DataSection.MostSide}";
        if (Classes is < 2 or > DataSection.MostClasses) return $"{Classes} classes; allowed are 2 to {DataSection.MostClasses}";
        if (InnerCounts is null) return null;
        Dictionary<string, int> whole = NetworkCatalog.Create(Network, ImageChannels, Classes).Blocks.ToDictionary(block => block.Inner.Name, block => block.Inner.Count);
        foreach ((string name, int count) in InnerCounts)
        {
            if (!whole.TryGetValue(name, out int most)) return $"there is no {name} to be pruned";
            if (count < 1 || count > most) return $"{count} channels left of {name}; allowed are 1 to {most}";
        }
        return null;
    }

    /// <summary>The identity as text, and back.</summary>
    public string ToJson() => JsonSerializer.Serialize(this, Json);

    /// <exception cref="JsonException">The text is no identity.</exception>
    public static WeightsIdentity Parse(string json) => JsonSerializer.Deserialize<WeightsIdentity>(json, Json) is { Network: not null } identity
        ? identity
        : throw new JsonException("the network is missing");

    /// <summary>Refuses weights of another network or of other images than the config's.</summary>
    /// <exception cref="UserError">They do not fit.</exception>
    public void MustFit(RunConfig config, ImageData data, string path)
    {
        var (images, found) = ((data.Train.Channels, data.Train.Height, data.Train.Classes), (ImageChannels, ImageSide, Classes));
        if (images != found)
            throw new UserError($"{path}: weights for {found.ImageChannels} x {found.ImageSide} x {found.ImageSide} images of {found.Classes} classes, " +
                $"but data.set has {images.Channels} x {images.Height} x {images.Height} of {images.Classes}");
        string[] keys = [.. RunConfigRules.Differences("network", Network, config.Network)];
        if (keys.Length > 0) throw new UserError($"{path}: weights of another network than the config's: {string.Join("; ", keys)}");
    }

    /// <summary>The line of summary.csv for this network.</summary>
    public SummaryRow Summarize(NetworkState stands, StepTotals tested)
    {
        NetworkSpec network = Describe();
        return new SummaryRow(stands, tested.Accuracy, tested.Loss, network.ParameterCount, network.Flops(ImageSide));
    }

    /// <summary>The optimizer steps that the weights in a file have behind them.</summary>
    /// <exception cref="UserError">The file does not say.</exception>
    public static long StepOf(SafetensorsFile file, string path) =>
        long.TryParse(file.Metadata.GetValueOrDefault(StepKey), NumberStyles.None, CultureInfo.InvariantCulture, out long step) && step <= MostSteps
            ? step
            : throw new UserError($"{path}: the metadata's '{StepKey}' is no number of steps");
}

/// <summary>Weights in safetensors form, under the names of PyTorch's state_dict.</summary>
public static class WeightsFile
{
    internal const string TrackedSuffix = "num_batches_tracked", VarianceSuffix = ".running_var";

    /// <summary>
    /// Writes a network that is spread over the ranks. Tensor by tensor, rank 0 receives the other ranks' parts; no more
    /// than one tensor is whole at a time. Collective.
    /// </summary>
    /// <param name="step">Optimizer steps done; also stands as PyTorch's num_batches_tracked.</param>
    /// <param name="heldBy">The part of a tensor that a rank brings; null: none.</param>
    /// <exception cref="UserError">The file cannot be written: on rank 0, when all ranks have done their part.</exception>
    public static void Save(
        string path, WeightsIdentity identity, long step, NetworkSpec network, ModelState state, ICommunicator communicator,
        Func<TensorSpec, int, TensorSlice?> heldBy)
    {
        SafetensorsWriter? writer = null;
        UserError? failed = null;
        void Try(Action write)
        {
            try
            {
                if (failed is null) write();
            }
            catch (UserError error)
            {
                // The other ranks send all the same: they must not be left waiting.
                failed = error;
            }
        }
        if (communicator.Rank == 0) Try(() => writer = Create(path, identity, step, network, state.Type));
        using (writer)
        {
            NetworkGather.EachToRoot(
                network, state.Type, name => state[name], communicator, heldBy, (tensor, whole) => Try(() => writer!.Write(tensor.Name, whole)));
            Try(() => writer?.Complete());
        }
        if (failed is not null) throw failed;
    }

    /// <summary>Writes a network that one rank holds.</summary>
    public static void Save(string path, WeightsIdentity identity, long step, NetworkSpec network, ModelState state)
    {
        using var self = new SelfCommunicator();
        Save(path, identity, step, network, state, self, (tensor, _) => TensorSlice.Whole(tensor));
    }

    /// <summary>Names of the counts of steps, PyTorch's num_batches_tracked, one for each normalization.</summary>
    internal static IEnumerable<string> CountsOf(NetworkSpec network) =>
        network.Tensors.Where(tensor => tensor.Role is TensorRole.RunningMean).Select(tensor => tensor.Name.Replace("running_mean", TrackedSuffix));

    private static SafetensorsWriter Create(string path, WeightsIdentity identity, long step, NetworkSpec network, ScalarType type)
    {
        string[] norms = [.. CountsOf(network)];
        var writer = new SafetensorsWriter(
            path,
            [.. network.Tensors.Select(tensor => new TensorEntry(tensor.Name, type, tensor.Shape)), .. norms.Select(name => new TensorEntry(name, int64, []))],
            identity.ToMetadata(step));
        using Tensor steps = tensor(step, int64);
        foreach (string name in norms) writer.Write(name, steps);
        return writer;
    }
}
