using System.Buffers.Binary;
using System.Numerics;
using Google.Protobuf;
using LoftHpc.Configuration;
using Tensorboard;

namespace LoftHpc.Results;

/// <summary>
/// The folder tensorboard: what TensorBoard shows of a run, made from its tables alone. Each file is made anew, in memory, whenever a
/// table has grown; what is new is added to the one that is there, so that a TensorBoard that reads it goes on, and one that is not the
/// start of the new one, as after a launch that was gone on with from an earlier checkpoint, is replaced. (TorchSharp's SummaryWriter makes
/// a file of another name in every launch, which would keep what such a launch has done again. Its messages are used here.)
/// </summary>
public static class EventFiles
{
    private const string Version = "brain.Event:2";

    /// <summary>Before the first step of a phase, or when it is gone on with: what is not in the tables any more goes.</summary>
    public static void Begin(RunFolder folder, TrainingPhase phase)
    {
        Replace(folder.EventFile(ConfigName.Of(phase)), []);
        WriteEpochs(folder);
    }

    /// <summary>A file for each phase and split, from metrics.csv; steps are epochs.</summary>
    public static void WriteEpochs(RunFolder folder)
    {
        IReadOnlyList<MetricsRow> rows = folder.Metrics.Exists ? folder.Metrics.Read() : [];
        double time = StartOf(folder);
        List<(MetricsRow Row, Event Event)> events = [];
        foreach (MetricsRow row in rows)
        {
            time += double.IsFinite(row.Seconds) ? row.Seconds : 0;
            events.Add((row, Scalars(time, row.Epoch,
            [
                ("loss", row.Loss), ("accuracy", row.Accuracy), ("learning_rate", row.LearningRate), ("seconds", row.Seconds), ("images_per_second", row.ImagesPerSecond),
            ])));
        }
        foreach (TrainingPhase phase in Enum.GetValues<TrainingPhase>())
        {
            foreach (DataSplit split in Enum.GetValues<DataSplit>())
                Replace(folder.EventFile(ConfigName.Of(phase), ConfigName.Of(split)), [.. from one in events where one.Row.Phase == phase && one.Row.Split == split select one.Event]);
        }
    }

    /// <summary>For each finished phase a file of what it has cost, and of pre-training filter_distance.png; their step is the last epoch.</summary>
    /// <param name="choice">Of layers, for the heat-maps.</param>
    /// <exception cref="UserError">A file of the folder is not what it should be, or a layer is not in it.</exception>
    public static void WriteTotals(RunFolder folder, PlotSection choice)
    {
        IReadOnlyList<MetricsRow> epochs = folder.Metrics.Exists ? folder.Metrics.Read() : [];
        IReadOnlyList<ResourcesRow> resources = folder.Resources.Exists ? folder.Resources.Read() : [];
        IReadOnlyList<CommunicationRow> communication = folder.Communication.Exists ? folder.Communication.Read() : [];
        double time = StartOf(folder);
        foreach (TrainingPhase phase in Enum.GetValues<TrainingPhase>())
        {
            time += epochs.Where(row => row.Phase == phase && double.IsFinite(row.Seconds)).Sum(row => row.Seconds);
            ResourcesRow[] ranks = [.. resources.Where(row => row.Phase == phase)];
            if (ranks.Length == 0) continue;
            int last = epochs.Where(row => row.Phase == phase).Select(row => row.Epoch).DefaultIfEmpty(0).Max();
            List<Event> events =
            [
                Scalars(time, last,
                [
                    ("seconds", ranks.Max(row => row.Seconds)), ("flops", ranks.Sum(row => (double)row.Flops)), ("peak_memory_bytes", ranks.Max(row => row.PeakMemoryBytes)),
                    .. from row in communication
                       where row.Phase == ConfigName.Of(phase)
                       group row.BytesSent by row.Purpose into bytes
                       orderby bytes.Key
                       select ($"bytes_sent/{ConfigName.Of(bytes.Key)}", (double)bytes.Sum()),
                ]),
            ];
            if (phase is TrainingPhase.Pretrain && Plots.FilterDistances(folder, choice) is byte[] png) events.Add(Picture(time, last, "filter_distance", png));
            Replace(folder.EventFile(ConfigName.Of(phase)), events);
        }
    }

    /// <summary>The bytes of a file of these events.</summary>
    internal static byte[] Bytes(IReadOnlyList<Event> events)
    {
        using MemoryStream stream = new();
        Write(stream, new Event { WallTime = events[0].WallTime, FileVersion = Version });
        foreach (Event one in events) Write(stream, one);
        return stream.ToArray();
    }

    /// <summary>When the first launch of the run began, in seconds since 1970: the time of an event is that and the seconds of the epochs up to it.</summary>
    private static double StartOf(RunFolder folder) =>
        RunManifest.Read(folder.Manifest).Launches is [LaunchRecord first, ..] ? first.Start.ToUnixTimeMilliseconds() / 1000.0 : 0;

    private static Event Scalars(double time, long step, IEnumerable<(string Tag, double Value)> values) => new()
    {
        WallTime = time,
        Step = step,
        Summary = new Summary { Value = { values.Select(value => new Summary.Types.Value { Tag = value.Tag, SimpleValue = (float)value.Value }) } },
    };

    private static Event Picture(double time, long step, string tag, byte[] png)
    {
        // The header of a PNG: 8 bytes of signature, length and name of the first chunk, and in it width and height.
        const int width = 16, height = 20, channels = 4;
        Summary.Types.Image image = new()
        {
            Width = BinaryPrimitives.ReadInt32BigEndian(png.AsSpan(width)),
            Height = BinaryPrimitives.ReadInt32BigEndian(png.AsSpan(height)),
            Colorspace = channels,
            EncodedImageString = ByteString.CopyFrom(png),
        };
        return new Event { WallTime = time, Step = step, Summary = new Summary { Value = { new Summary.Types.Value { Tag = tag, Image = image } } } };
    }

    /// <summary>A record of TensorFlow's format: the length (64 bits, little-endian) and its checksum, the message and its checksum.</summary>
    private static void Write(Stream stream, Event one)
    {
        byte[] message = one.ToByteArray();
        Span<byte> length = stackalloc byte[sizeof(long)], sum = stackalloc byte[sizeof(uint)];
        BinaryPrimitives.WriteInt64LittleEndian(length, message.Length);
        stream.Write(length);
        BinaryPrimitives.WriteUInt32LittleEndian(sum, Checksum(length));
        stream.Write(sum);
        stream.Write(message);
        BinaryPrimitives.WriteUInt32LittleEndian(sum, Checksum(message));
        stream.Write(sum);
    }

    /// <summary>CRC-32C, rotated and shifted as TensorFlow has it in its records.</summary>
    private static uint Checksum(ReadOnlySpan<byte> bytes)
    {
        uint crc = uint.MaxValue;
        foreach (byte one in bytes) crc = BitOperations.Crc32C(crc, one);
        return BitOperations.RotateRight(~crc, 15) + 0xA282EAD8;
    }

    /// <summary>Makes a file what it would be with these events; without any there is none.</summary>
    private static void Replace(string path, IReadOnlyList<Event> events)
    {
        if (events.Count == 0)
        {
            if (File.Exists(path)) DurableFile.Remove(path);
            return;
        }
        byte[] bytes = Bytes(events);
        DurableFile.MakeFolderOf(path);
        if (!DurableFile.TryExtend(path, bytes)) DurableFile.Write(path, stream => stream.Write(bytes));
    }
}
