using System.Globalization;
using LoftHpc.Results;
using TorchSharp;
using static TorchSharp.torch;

namespace LoftHpc.Checkpoints;

/// <summary>
/// The state of one rank as a safetensors file: tensors and lists of whole numbers are its tensors, single numbers and texts its
/// metadata, each under the name that the archive gives it.
/// </summary>
public static class StateFile
{
    /// <summary>Writes what <paramref name="visit"/> names; the file is on the disk when this returns.</summary>
    /// <exception cref="UserError">The file cannot be written; nothing of it is left.</exception>
    public static void Write(string path, Action<StateArchive> visit)
    {
        Writer archive = new();
        visit(archive);
        using SafetensorsWriter file = new(path, archive.Tensors.Select(item => TensorEntry.Of(item.Name, item.Tensor)), archive.Metadata);
        foreach ((string name, Tensor tensor, bool isOwn) in archive.Tensors)
        {
            file.Write(name, tensor);
            if (isOwn) tensor.Dispose();
        }
        file.Complete();
    }

    /// <summary>Reads a file into what <paramref name="visit"/> names.</summary>
    /// <exception cref="UserError">The file cannot be read, or does not hold just what is named, in its types and shapes.</exception>
    public static void Read(string path, Action<StateArchive> visit)
    {
        using SafetensorsFile file = SafetensorsFile.Open(path);
        Reader archive = new(file);
        try
        {
            visit(archive);
            archive.MustHaveReadAll();
        }
        catch (UserError error)
        {
            throw new UserError($"{PlainText.Of(path)}: {error.Message}", error);
        }
    }

    private sealed class Writer : StateArchive
    {
        public List<(string Name, Tensor Tensor, bool IsOwn)> Tensors { get; } = [];

        public Dictionary<string, string> Metadata { get; } = [];

        public override bool IsReading => false;

        public override void Number(string name, ref long value) => Metadata.Add(name, value.ToString(CultureInfo.InvariantCulture));

        public override void Number(string name, ref double value) => Metadata.Add(name, value.ToString("R", CultureInfo.InvariantCulture));

        public override void Text(string name, ref string value) => Metadata.Add(name, value);

        public override void Numbers(string name, ref int[] values) => Tensors.Add((name, tensor([.. values.Select(value => (long)value)], int64), true));

        public override void Values(string name, Tensor tensor) => Tensors.Add((name, tensor, false));
    }

    private sealed class Reader(SafetensorsFile file) : StateArchive
    {
        private readonly HashSet<string> _read = [];

        public override bool IsReading => true;

        public override void Number(string name, ref long value) =>
            value = long.TryParse(Find(name), NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out long found) ? found : throw Wrong(name, "a whole number");

        public override void Number(string name, ref double value) =>
            value = double.TryParse(Find(name), NumberStyles.Float, CultureInfo.InvariantCulture, out double found) ? found : throw Wrong(name, "a number");

        public override void Text(string name, ref string value) => value = Find(name);

        public override void Numbers(string name, ref int[] values)
        {
            using Tensor found = Open(name, int64, shape: null);
            long[] numbers = found.data<long>().ToArray();
            values = Array.TrueForAll(numbers, number => number is >= int.MinValue and <= int.MaxValue)
                ? Array.ConvertAll(numbers, number => (int)number)
                : throw Wrong(name, "a list of numbers of 32 bits");
        }

        public override void Values(string name, Tensor tensor)
        {
            using IDisposable frozen = no_grad();
            using Tensor found = Open(name, tensor.dtype, tensor.shape);
            tensor.copy_(found);
        }

        public void MustHaveReadAll()
        {
            string? other = file.Metadata.Keys.Concat(file.Entries.Select(entry => entry.Name)).FirstOrDefault(name => !_read.Contains(name));
            if (other is not null) throw new UserError($"it holds {PlainText.Of(other)}, which this training does not have");
        }

        private string Find(string name)
        {
            _read.Add(name);
            return file.Metadata.GetValueOrDefault(name) ?? throw new UserError($"{PlainText.Of(name)} is missing");
        }

        private Tensor Open(string name, ScalarType type, long[]? shape)
        {
            _read.Add(name);
            TensorEntry? entry = file.Entries.FirstOrDefault(entry => entry.Name == name);
            if (entry is null) throw new UserError($"{PlainText.Of(name)} is missing");
            if (entry.Type != type || (shape is null ? entry.Shape.Count != 1 : !entry.Shape.SequenceEqual(shape)))
                throw Wrong(name, $"a tensor of {type}{(shape is null ? "" : $" of shape [{string.Join(", ", shape)}]")}");
            return file.Read(name);
        }

        private static UserError Wrong(string name, string expected) => new($"{PlainText.Of(name)} is not {expected}");
    }
}
