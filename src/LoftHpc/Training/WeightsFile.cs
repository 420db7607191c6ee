using System.Globalization;
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

    private static readonly JsonSerializerOptions Json = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        Converters = { new JsonStringEnumConverter(JsonNamingPolicy.KebabCaseLower) },
    };

    /// <summary>The network that this one was pruned from; itself where it was not.</summary>
    public WeightsIdentity Dense => this with { InnerCounts = null };

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

    /// <exception cref="UserError">The file was not written by this program.</exception>
    public static WeightsIdentity Of(SafetensorsFile file, string path)
    {
        if (!file.Metadata.TryGetValue(Key, out string? json))
            throw new UserError($"{path}: the metadata hold no '{Key}'; only weights that lofthpc wrote can be read");
        try
        {
            WeightsIdentity identity = Parse(json);
            foreach (TensorSpec tensor in identity.Describe().Tensors) file.MustHold(tensor.Name, tensor.Shape);
            return identity;
        }
        catch (JsonException error)
        {
            throw new UserError($"{path}: the metadata's '{Key}' describes no network: {error.Message}", error);
        }
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
        long.TryParse(file.Metadata.GetValueOrDefault(StepKey), NumberStyles.None, CultureInfo.InvariantCulture, out long step)
            ? step
            : throw new UserError($"{path}: the metadata's '{StepKey}' is no number of steps");
}

/// <summary>Weights in safetensors form, under the names of PyTorch's state_dict.</summary>
public static class WeightsFile
{
    private const string TrackedSuffix = "num_batches_tracked";

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

    private static SafetensorsWriter Create(string path, WeightsIdentity identity, long step, NetworkSpec network, ScalarType type)
    {
        string[] norms = [.. network.Tensors.Where(t => t.Role is TensorRole.RunningMean).Select(t => t.Name.Replace("running_mean", TrackedSuffix))];
        var writer = new SafetensorsWriter(
            path,
            [.. network.Tensors.Select(tensor => new TensorEntry(tensor.Name, type, tensor.Shape)), .. norms.Select(name => new TensorEntry(name, int64, []))],
            identity.ToMetadata(step));
        using Tensor steps = tensor(step, int64);
        foreach (string name in norms) writer.Write(name, steps);
        return writer;
    }
}
