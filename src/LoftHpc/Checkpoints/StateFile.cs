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

    /// <summary>Reads the files of other ranks, of another number of them, into what <paramref name="visit"/> names on one rank.</summary>
    /// <param name="paths">In the order of the ranks that wrote them.</param>
    /// <param name="rank">Of those that go on.</param>
    /// <returns>What cannot be carried over, in words; null: all is.</returns>
    /// <exception cref="UserError">A file cannot be read, or they do not hold what is named.</exception>
    public static string? Move(IReadOnlyList<string> paths, int rank, int ranks, Action<StateArchive> visit)
    {
        List<SafetensorsFile> files = [];
        try
        {
            foreach (string path in paths) files.Add(SafetensorsFile.Open(path));
            Mover archive = new([.. files.Select(file => new Reader(file))], rank, ranks);
            visit(archive);
            return archive.NotCarried;
        }
        catch (UserError error)
        {
            throw new UserError($"{PlainText.Of(Path.GetDirectoryName(paths[0])!)}: {error.Message}", error);
        }
        finally
        {
            foreach (SafetensorsFile file in files) file.Dispose();
        }
    }

    private const string MomentumOf = "momentum/", RowsOf = "rows/", ColumnsOf = "columns/";

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

        public override void Part(string name, int[]? rows, int[]? columns, Tensor values, Tensor? momentum)
        {
            Values(name, values);
            if (momentum is not null) Values(MomentumOf + name, momentum);
            if (rows is not null) Numbers(RowsOf + name, ref rows);
            if (columns is not null) Numbers(ColumnsOf + name, ref columns);
        }
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

        public override void Part(string name, int[]? rows, int[]? columns, Tensor values, Tensor? momentum)
        {
            Values(name, values);
            if (momentum is not null) Values(MomentumOf + name, momentum);
            Held(RowsOf + name, rows);
            Held(ColumnsOf + name, columns);

            void Held(string indicesOf, int[]? indices)
            {
                if (indices is null) return;
                int[] found = indices;
                Numbers(indicesOf, ref found);
                if (!found.AsSpan().SequenceEqual(indices)) throw new UserError($"{PlainText.Of(indicesOf)}: it is not the part of the tensor that this rank holds");
            }
        }

        public bool Has(string name) => file.Entries.Any(entry => entry.Name == name);

        /// <summary>A tensor as it stands in the file.</summary>
        public Tensor Whole(string name, ScalarType type) => Open(name, type, file.Entries.FirstOrDefault(entry => entry.Name == name)?.Shape.ToArray() ?? []);

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

    /// <summary>Reads what other ranks wrote.</summary>
    private sealed class Mover(IReadOnlyList<Reader> writers, int rank, int ranks) : StateArchive
    {
        private int _momenta, _statistics;

        public override bool IsReading => true;

        public override IReadOnlyList<StateArchive> Writers => writers;

        public override IEnumerable<StateArchive> TakenOver => writers.Where((_, writer) => writer % ranks == rank);

        public string? NotCarried => (_momenta, _statistics) switch
        {
            (0, 0) => null,
            (_, 0) => $"the momentum of {_momenta} tensors, which each rank had its own of, begins at zero",
            (0, _) => $"{_statistics} running statistics, which each rank had its own of, begin at their mean",
            _ => $"the momentum of {_momenta} tensors, which each rank had its own of, begins at zero, and {_statistics} running statistics at their mean",
        };

        public override void Number(string name, ref long value) => writers[0].Number(name, ref value);

        public override void Number(string name, ref double value) => writers[0].Number(name, ref value);

        public override void Text(string name, ref string value) => writers[0].Text(name, ref value);

        public override void Numbers(string name, ref int[] values) => writers[0].Numbers(name, ref values);

        public override void Values(string name, Tensor tensor) => writers[0].Values(name, tensor);

        public override void Part(string name, int[]? rows, int[]? columns, Tensor values, Tensor? momentum)
        {
            using DisposeScope scope = NewDisposeScope();
            using IDisposable frozen = no_grad();
            bool isOne = PutTogether(name, name, rows, columns, values);
            if (momentum is null)
            {
                if (!isOne) _statistics++;
                return;
            }
            if (!isOne) throw new UserError($"{PlainText.Of(name)}: the ranks that wrote it had different values of it");
            if (PutTogether(MomentumOf + name, name, rows, columns, momentum)) return;
            momentum.zero_();
            _momenta++;
        }

        /// <summary>Fills a part of a tensor from the parts of others.</summary>
        /// <param name="indicesOf">The tensor of the network that it belongs to.</param>
        /// <returns>False: some had different values for the same place; then it has their mean.</returns>
        private bool PutTogether(string name, string indicesOf, int[]? rows, int[]? columns, Tensor part)
        {
            Reader[] holders = [.. writers.Where(writer => writer.Has(name))];
            if (holders.Length == 0) throw new UserError($"{PlainText.Of(name)} is missing");
            (Tensor Values, int[]? Rows, int[]? Columns)[] held = [.. holders.Select(writer => (
                writer.Whole(name, part.dtype), Indices(writer, RowsOf + indicesOf), Indices(writer, ColumnsOf + indicesOf)))];
            long[] shape = part.shape;
            if (shape.Length > 0) shape[0] = Extent(held.Select(h => (h.Rows, h.Values.dim() > 0 ? h.Values.size(0) : 0)));
            if (shape.Length > 1) shape[1] = Extent(held.Select(h => (h.Columns, h.Values.dim() > 1 ? h.Values.size(1) : 0)));

            // Sums and counts of the values for each place; where all are the same the first is taken, to the bit.
            (Tensor whole, Tensor sum, Tensor count, bool isOne) = (zeros(shape, part.dtype), zeros(shape, float64), zeros(shape, int64), true);
            foreach ((Tensor values, int[]? heldRows, int[]? heldColumns) in held)
            {
                (Tensor place, Tensor total, Tensor counted) = (At(whole, heldRows, heldColumns), At(sum, heldRows, heldColumns), At(count, heldRows, heldColumns));
                if (!values.shape.SequenceEqual(place.shape)) throw new UserError($"{PlainText.Of(name)}: the parts of the ranks do not fit together");
                isOne &= place.eq(values).logical_or(counted.eq(0)).all().item<bool>();
                Put(whole, heldRows, heldColumns, where(counted.eq(0), values, place));
                Put(sum, heldRows, heldColumns, total + values);
                Put(count, heldRows, heldColumns, counted + 1);
            }
            Tensor own = At(whole, rows, columns), ownCount = At(count, rows, columns);
            if (!own.shape.SequenceEqual(part.shape) || ownCount.eq(0).any().item<bool>()) throw new UserError($"{PlainText.Of(name)}: the ranks that wrote it did not hold all of it");
            part.copy_(isOne ? own : (At(sum, rows, columns) / ownCount).to(part.dtype));
            return isOne;
        }

        private static int[]? Indices(Reader writer, string name)
        {
            if (!writer.Has(name)) return null;
            int[] indices = [];
            writer.Numbers(name, ref indices);
            if (indices.Any(index => index < 0)) throw new UserError($"{PlainText.Of(name)}: {indices.Min()} is no index");
            return indices;
        }

        private static long Extent(IEnumerable<(int[]? Indices, long Size)> parts) =>
            parts.Max(part => part.Indices is null ? part.Size : part.Indices.Length == 0 ? 0 : part.Indices.Max() + 1L);

        private static Tensor At(Tensor whole, int[]? rows, int[]? columns)
        {
            Tensor part = whole;
            if (rows is not null) part = part.index_select(0, Of(rows));
            if (columns is not null) part = part.index_select(1, Of(columns));
            return part;
        }

        private static void Put(Tensor whole, int[]? rows, int[]? columns, Tensor values)
        {
            if (columns is not null)
            {
                Tensor some = (rows is null ? whole : whole.index_select(0, Of(rows))).clone();
                some.index_copy_(1, Of(columns), values);
                values = some;
            }
            if (rows is null) whole.copy_(values);
            else whole.index_copy_(0, Of(rows), values);
        }

        private static Tensor Of(int[] indices) => tensor([.. indices.Select(index => (long)index)], int64);
    }
}
