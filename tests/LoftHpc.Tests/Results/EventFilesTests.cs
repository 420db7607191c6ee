using System.Buffers.Binary;
using System.Text;
using LoftHpc.Arithmetic;
using LoftHpc.Communication;
using LoftHpc.Configuration;
using LoftHpc.Results;
using Xunit;

namespace LoftHpc.Tests.Results;

/// <summary>Event files, read by a reader of their own: TensorFlow's records, and the fields of protobuf by their numbers.</summary>
public sealed class EventFilesTests : IDisposable
{
    private readonly TemporaryFolder _parent = new();
    private readonly RunFolder _run;

    public EventFilesTests() => _run = RunFolder.Create(_parent.Path, "run", overwrite: false);

    public void Dispose() => _parent.Dispose();

    private string TrainFile => _run.EventFile("pretrain", "train");

    /// <summary>The check value of CRC-32C in RFC 3720's and every other catalogue: of the digits 1 to 9.</summary>
    [Fact]
    public void The_readers_checksum_is_the_published_one() => Assert.Equal(0xE3069283, EventFileReader.Crc32C("123456789"u8));

    [Fact]
    public void Epochs_are_what_metrics_says_and_a_file_that_is_read_goes_on()
    {
        _run.Metrics.Append(Epoch(TrainingPhase.Pretrain, 1));
        EventFiles.WriteEpochs(_run);
        using FileStream reader = new(TrainFile, FileMode.Open, FileAccess.Read, FileShare.ReadWrite);
        long first = reader.Length;
        _run.Metrics.Append(Epoch(TrainingPhase.Pretrain, 2));
        _run.Metrics.Append(Epoch(TrainingPhase.Retrain, 1));
        EventFiles.WriteEpochs(_run);
        // It is the same file, with more at its end.
        Assert.True(reader.Length > first);
        Assert.Equal(File.ReadAllBytes(TrainFile).Length, reader.Length);
        MustBeMetrics();
        // As TensorBoard wants its first event, and one file for each of its runs.
        Assert.Equal("brain.Event:2", EventFileReader.Read(TrainFile)[0].Version);
        Assert.Equal(
            ["pretrain/test", "pretrain/train", "retrain/test", "retrain/train"],
            Directory.EnumerateFiles(_run.TensorBoard, "*tfevents*", SearchOption.AllDirectories).Select(file => Path.GetRelativePath(_run.TensorBoard, Path.GetDirectoryName(file)!)).Order());
        // Seconds add up over both splits: 10 and 2 of the first epoch, and 20 of the next.
        Assert.Equal([10, 32], EventFileReader.Read(TrainFile).Skip(1).Select(one => one.Time));
    }

    /// <summary>A launch was killed in the middle of a write, or goes on from before what it had written.</summary>
    [Fact]
    public void What_was_cut_off_is_completed_and_what_is_not_in_the_tables_goes()
    {
        for (int epoch = 1; epoch <= 3; epoch++) _run.Metrics.Append(Epoch(TrainingPhase.Pretrain, epoch));
        EventFiles.WriteEpochs(_run);
        byte[] whole = File.ReadAllBytes(TrainFile);
        File.WriteAllBytes(TrainFile, whole[..^5]);
        EventFiles.WriteEpochs(_run);
        Assert.Equal(whole, File.ReadAllBytes(TrainFile));

        _run.Metrics.Remove(row => row.Epoch > 1);
        EventFiles.Begin(_run, TrainingPhase.Pretrain);
        MustBeMetrics();
        Assert.Equal(2, EventFileReader.Read(TrainFile).Count);
        _run.Metrics.Append([.. Epoch(TrainingPhase.Pretrain, 2).Select(row => row with { Loss = double.NaN, Seconds = 7 })]);
        EventFiles.WriteEpochs(_run);
        MustBeMetrics();
        _run.Metrics.Write([]);
        EventFiles.Begin(_run, TrainingPhase.Pretrain);
        Assert.False(File.Exists(TrainFile));
    }

    [Fact]
    public void The_end_of_a_phase_has_its_costs_and_the_heat_maps()
    {
        _run.Metrics.Append([.. Epoch(TrainingPhase.Pretrain, 1), .. Epoch(TrainingPhase.Pretrain, 2)]);
        _run.Resources.Write(
        [
            new ResourcesRow(0, TrainingPhase.Pretrain, 5, 1000, 3.5, 1, 2, 3, 4, 5000, ArithmeticRepair.None, 0),
            new ResourcesRow(1, TrainingPhase.Pretrain, 5, 2000, 2.5, 1, 2, 3, 4, 7000, ArithmeticRepair.None, 0),
        ]);
        _run.Communication.Write(
        [
            new CommunicationRow(0, "pretrain", CommunicationPurpose.Step, "allgatherv", 1, 1, 30, 0, 0),
            new CommunicationRow(1, "pretrain", CommunicationPurpose.Step, "allreduce", 1, 1, 12, 0, 0),
            new CommunicationRow(0, "pretrain", CommunicationPurpose.RunningStatistics, "allreduce", 1, 1, 8, 0, 0),
            new CommunicationRow(0, "extract", CommunicationPurpose.Step, "allreduce", 1, 1, 500, 0, 0),
        ]);
        _run.FilterDistance.Write([new(1, 0, "conv1", 8, 1, 0.5), new(0, 1, "conv1", 8, 1, 0.25)]);
        EventFiles.WriteTotals(_run, new PlotSection());
        Plots.Draw(_run, new PlotSection());

        List<ReadEvent> events = EventFileReader.Read(_run.EventFile("pretrain"));
        Assert.Equal([0, 2, 2], events.Select(one => one.Step));
        Assert.Equal(
            new Dictionary<string, float> { ["seconds"] = 3.5f, ["flops"] = 3000, ["peak_memory_bytes"] = 7000, ["bytes_sent/step"] = 42, ["bytes_sent/running-statistics"] = 8 }, events[1].Scalars);
        (string tag, long height, long width, byte[] png) = Assert.Single(events[2].Pictures);
        Assert.Equal("filter_distance", tag);
        Assert.Equal(File.ReadAllBytes(_run.FilterDistancePlot), png);
        using SkiaSharp.SKBitmap bitmap = SkiaSharp.SKBitmap.Decode(png);
        Assert.Equal((bitmap.Height, bitmap.Width), (height, width));
        Assert.False(File.Exists(_run.EventFile("retrain")));
    }

    private static MetricsRow[] Epoch(TrainingPhase phase, int epoch) =>
    [
        new(phase, epoch, DataSplit.Train, 1.0 / epoch, 0.1 * epoch, 0.05, 123.5, 10 * epoch, 50), new(phase, epoch, DataSplit.Test, 1.5 / epoch, 0.2 * epoch, 0.05, 321, 2 * epoch, 20),
    ];

    private void MustBeMetrics() => EventFileReader.MustBeMetrics(_run);
}

/// <summary>What an event says.</summary>
internal sealed record ReadEvent(double Time, long Step, string? Version, Dictionary<string, float> Scalars, List<(string Tag, long Height, long Width, byte[] Png)> Pictures);

/// <summary>Reads event files; every checksum must be right.</summary>
internal static class EventFileReader
{
    public static List<ReadEvent> Read(string path)
    {
        byte[] file = File.ReadAllBytes(path);
        List<ReadEvent> events = [];
        for (int at = 0; at < file.Length;)
        {
            int length = checked((int)BinaryPrimitives.ReadInt64LittleEndian(file.AsSpan(at)));
            Assert.Equal(Masked(file.AsSpan(at, 8)), BinaryPrimitives.ReadUInt32LittleEndian(file.AsSpan(at + 8)));
            byte[] message = file[(at + 12)..(at + 12 + length)];
            Assert.Equal(Masked(message), BinaryPrimitives.ReadUInt32LittleEndian(file.AsSpan(at + 12 + length)));
            events.Add(Event(message));
            at += length + 16;
        }
        return events;
    }

    /// <summary>The files of both phases and splits have each row of metrics.csv once, in its order.</summary>
    public static void MustBeMetrics(RunFolder run)
    {
        foreach (IGrouping<(TrainingPhase, DataSplit), MetricsRow> rows in run.Metrics.Read().GroupBy(row => (row.Phase, row.Split)))
        {
            string file = run.EventFile(ConfigName.Of(rows.Key.Item1), ConfigName.Of(rows.Key.Item2));
            Assert.Equal(
                rows.Select(row => ((long)row.Epoch, (float)row.Loss, (float)row.Accuracy, (float)row.LearningRate, (float)row.Seconds, (float)row.ImagesPerSecond)),
                Read(file).Skip(1).Select(one => (one.Step, one.Scalars["loss"], one.Scalars["accuracy"], one.Scalars["learning_rate"], one.Scalars["seconds"], one.Scalars["images_per_second"])));
        }
    }

    /// <summary>Bit by bit, by the reflected polynomial of Castagnoli.</summary>
    public static uint Crc32C(ReadOnlySpan<byte> bytes)
    {
        uint crc = 0xFFFFFFFF;
        foreach (byte one in bytes)
        {
            crc ^= one;
            for (int bit = 0; bit < 8; bit++) crc = (crc >> 1) ^ ((crc & 1) * 0x82F63B78);
        }
        return ~crc;
    }

    private static uint Masked(ReadOnlySpan<byte> bytes)
    {
        uint crc = Crc32C(bytes);
        return unchecked(((crc >> 15) | (crc << 17)) + 0xA282EAD8);
    }

    /// <summary>event.proto: 1 wall_time, 2 step, 3 file_version, 5 summary.</summary>
    private static ReadEvent Event(byte[] message)
    {
        (double time, long step, string? version) = (0, 0, null);
        Dictionary<string, float> scalars = [];
        List<(string, long, long, byte[])> pictures = [];
        foreach ((int field, ulong number, byte[] bytes) in Fields(message))
        {
            if (field == 1) time = BitConverter.UInt64BitsToDouble(number);
            else if (field == 2) step = (long)number;
            else if (field == 3) version = Encoding.UTF8.GetString(bytes);
            else if (field == 5) foreach ((_, _, byte[] value) in Fields(bytes)) Value(value, scalars, pictures);
            else Assert.Fail($"field {field} of an event");
        }
        return new ReadEvent(time, step, version, scalars, pictures);
    }

    /// <summary>summary.proto, of a value: 1 tag, 2 simple_value, 4 image; of an image: 1 height, 2 width, 3 colorspace, 4 encoded_image_string.</summary>
    private static void Value(byte[] message, Dictionary<string, float> scalars, List<(string, long, long, byte[])> pictures)
    {
        Dictionary<int, (ulong Number, byte[] Bytes)> value = Fields(message).ToDictionary(field => field.Field, field => (field.Number, field.Bytes));
        string tag = Encoding.UTF8.GetString(value[1].Bytes);
        if (value.TryGetValue(4, out (ulong, byte[] Bytes) picture))
        {
            Dictionary<int, (ulong Number, byte[] Bytes)> image = Fields(picture.Bytes).ToDictionary(field => field.Field, field => (field.Number, field.Bytes));
            Assert.Equal(4u, image[3].Number);
            pictures.Add((tag, (long)image[1].Number, (long)image[2].Number, image[4].Bytes));
            return;
        }
        scalars.Add(tag, BitConverter.UInt32BitsToSingle((uint)value[2].Number));
    }

    private static IEnumerable<(int Field, ulong Number, byte[] Bytes)> Fields(byte[] message)
    {
        for (int at = 0; at < message.Length;)
        {
            ulong key = Varint(message, ref at);
            int field = (int)(key >> 3);
            switch (key & 7)
            {
                case 0:
                    yield return (field, Varint(message, ref at), []);
                    break;
                case 1:
                    yield return (field, BinaryPrimitives.ReadUInt64LittleEndian(message.AsSpan(at)), []);
                    at += 8;
                    break;
                case 2:
                    int length = (int)Varint(message, ref at);
                    yield return (field, 0, message[at..(at + length)]);
                    at += length;
                    break;
                case 5:
                    yield return (field, BinaryPrimitives.ReadUInt32LittleEndian(message.AsSpan(at)), []);
                    at += 4;
                    break;
                default:
                    Assert.Fail($"wire type {key & 7}");
                    break;
            }
        }
    }

    private static ulong Varint(byte[] message, ref int at)
    {
        ulong value = 0;
        for (int shift = 0; ; shift += 7)
        {
            byte one = message[at++];
            value |= (ulong)(one & 0x7F) << shift;
            if (one < 0x80) return value;
        }
    }
}
