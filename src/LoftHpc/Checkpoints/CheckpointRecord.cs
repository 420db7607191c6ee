using System.Security.Cryptography;
using System.Text.Json;
using LoftHpc.Results;

namespace LoftHpc.Checkpoints;

/// <summary>
/// The commit record of a checkpoint, commit.json, which rank 0 writes last: without it the files beside it are none. It says what
/// they must be, and how long each table of the run was.
/// </summary>
/// <param name="Format">Version of what checkpoints hold.</param>
/// <param name="Stage">pretrain or retrain.</param>
/// <param name="Step">Optimizer steps done in the stage.</param>
/// <param name="Config">The resolved config of the launch that wrote it, in YAML.</param>
/// <param name="Data">Of the images (<see cref="Data.ImageData.Fingerprint"/>).</param>
/// <param name="Parts">One file a rank, in the order of the ranks.</param>
/// <param name="Tables">The tables of the run folder as they were.</param>
public sealed record CheckpointRecord(
    int Format, string Stage, long Step, string Config, string Data, IReadOnlyList<FileStamp> Parts, IReadOnlyList<FileStamp> Tables)
{
    /// <summary>The version that this program writes and reads.</summary>
    public const int CurrentFormat = 3;

    /// <summary>A record of a thousand ranks takes some hundred thousand bytes.</summary>
    private const long MaxBytes = 50_000_000;

    /// <exception cref="UserError">The file is missing, or no such record.</exception>
    public static CheckpointRecord Read(string path)
    {
        try
        {
            using FileStream file = RegularFile.OpenRead(path);
            if (file.Length > MaxBytes) throw new IOException($"it has {file.Length} bytes; {MaxBytes} are read at most");
            CheckpointRecord? record = JsonSerializer.Deserialize<CheckpointRecord>(file, RecordJson.Format);
            if (record is null || record.Parts.Concat(record.Tables).Any(stamp => stamp is null)) throw new JsonException("null stands where a value is expected");
            if (record.Format != CurrentFormat) throw new JsonException($"its format is {record.Format}; this program reads {CurrentFormat}");
            return record;
        }
        catch (Exception e) when (e is JsonException or IOException or UnauthorizedAccessException)
        {
            throw new UserError($"{PlainText.Of(path)}: not the record of a checkpoint: {PlainText.Of(e.Message)}", e);
        }
    }

    public void Write(string path) => DurableFile.WriteText(path, JsonSerializer.Serialize(this, RecordJson.Format) + "\n");
}

/// <summary>What a file is, or began with, when a checkpoint was written.</summary>
/// <param name="File">Its name, without a folder.</param>
/// <param name="Sha256">Of these bytes, in hexadecimal digits.</param>
public sealed record FileStamp(string File, long Bytes, string Sha256)
{
    public static FileStamp Of(string path)
    {
        using FileStream file = RegularFile.OpenRead(path);
        return Of(Path.GetFileName(path), file, file.Length);
    }

    /// <summary>What differs at the start of a file; null: its first bytes are these.</summary>
    /// <param name="exactly">Whether it may not be longer.</param>
    public string? Differs(string path, bool exactly) => Look(path, file =>
    {
        if (exactly ? file.Length != Bytes : file.Length < Bytes) return $"it has {file.Length} bytes, and had {Bytes}";
        return Of(File, file, Bytes) == this ? null : "its bytes have changed";
    });

    /// <summary>What differs of a file's length, which is quickly known; null: nothing.</summary>
    public string? DiffersInLength(string path) => Look(path, file => file.Length == Bytes ? null : $"it has {file.Length} bytes, and had {Bytes}");

    private static string? Look(string path, Func<FileStream, string?> look)
    {
        try
        {
            using FileStream file = RegularFile.OpenRead(path);
            return look(file);
        }
        catch (Exception error) when (error is FileNotFoundException or DirectoryNotFoundException)
        {
            return "it is missing";
        }
        catch (Exception error) when (DurableFile.IsFailure(error))
        {
            return PlainText.Of(error.Message);
        }
    }

    private static FileStamp Of(string name, FileStream file, long bytes)
    {
        using IncrementalHash hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        byte[] buffer = new byte[1 << 20];
        for (long left = bytes; left > 0;)
        {
            int read = file.Read(buffer, 0, (int)Math.Min(left, buffer.Length));
            if (read == 0) throw new IOException($"{file.Name}: it became shorter while it was read");
            hash.AppendData(buffer, 0, read);
            left -= read;
        }
        return new FileStamp(name, bytes, Convert.ToHexStringLower(hash.GetHashAndReset()));
    }
}
