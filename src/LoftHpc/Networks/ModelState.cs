using System.Runtime.InteropServices;
using TorchSharp;
using static TorchSharp.torch;

namespace LoftHpc.Networks;

/// <summary>
/// All that training changes in (a part of) a network: parameters, running statistics, and, of what is trained, gradients and
/// the optimizer's momentum, by the names of the whole network. Weights and statistics lie in one flat tensor, gradients in
/// another and momentum in a third; the tensors of the layers are views of them.
/// </summary>
public sealed class ModelState : IDisposable
{
    private TensorSlice[] _slices;
    private Memory _memory;

    private delegate void Fill(TensorSlice slice, Span<double> values);

    private ModelState(IReadOnlyList<TensorSlice> slices, ScalarType type, Device device, Func<TensorSpec, bool>? copied, bool trained) =>
        (_slices, Type, _memory) = ([.. slices], type, new Memory(slices, type, device, copied, trained));

    private ModelState(TensorSlice[] slices, ScalarType type, Memory memory) => (_slices, Type, _memory) = (slices, type, memory);

    /// <summary>Type of every tensor.</summary>
    public ScalarType Type { get; }

    /// <summary>What is held, in the order in which PyTorch lists it.</summary>
    public IReadOnlyList<TensorSlice> Slices => _slices;

    /// <summary>The tensor of this name. It belongs to the state: never dispose it.</summary>
    public Tensor this[string name] => _memory.Tensors[name];

    /// <summary>The slices that are trained.</summary>
    public IEnumerable<TensorSlice> Parameters => Slices.Where(slice => slice.Spec.IsParameter);

    /// <summary>All parameters, [values]; see <see cref="Gradients"/>. It belongs to the state, as do all tensors here.</summary>
    public Tensor Weights => _memory.Weights;

    /// <summary>The gradients of <see cref="Weights"/>, in the same order. Backward passes add to them where they are, until <see cref="ZeroGradients"/>.</summary>
    public Tensor Gradients => _memory.Gradients ?? throw NotTrained;

    /// <summary>The momentum of <see cref="Weights"/>, in the same order.</summary>
    public Tensor Momenta => _memory.Momenta ?? throw NotTrained;

    /// <summary>The tensors of which other ranks hold copies to be averaged, one behind the other, [values]; see <see cref="Initialize"/>.</summary>
    public Tensor Copied => _memory.Copied;

    /// <summary>Where a tensor starts in <see cref="Copied"/>; null: it is not there.</summary>
    public long? StartInCopied(string name) => _memory.StartsInCopied.TryGetValue(name, out long start) ? start : null;

    /// <summary>Bytes of parameters and running statistics.</summary>
    public long WeightBytes => Slices.Sum(slice => slice.Count) * Weights.element_size();

    /// <summary>Bytes of the gradients.</summary>
    public long GradientBytes => _memory.Gradients is null ? 0 : Parameters.Sum(slice => slice.Count) * Weights.element_size();

    /// <summary>Bytes of the momentum.</summary>
    public long MomentumBytes => GradientBytes;

    /// <summary>The gradient of a parameter: the one that autograd adds to.</summary>
    public Tensor Gradient(string name) => _memory.GradientOf[name];

    /// <summary>The momentum of a parameter.</summary>
    public Tensor Momentum(string name) => _memory.MomentumOf[name];

    private static InvalidOperationException NotTrained => new("a network that is not trained has no gradients and no momentum");

    /// <summary>
    /// Initial values: He normal by fan-in for convolutions (He et al. 2015), 1 and 0 for norms, uniform within
    /// 1/sqrt(fan-in) for the weights of the head (PyTorch's), 0 for its bias. Each filter, and each column of the head, is drawn from (seed, tensor,
    /// number), so a rank draws its own without the others', and every rank count starts from the same network.
    /// </summary>
    /// <param name="copied">Which tensors are to lie in <see cref="Copied"/>; null: none.</param>
    public static ModelState Initialize(
        IReadOnlyList<TensorSlice> slices, long seed, ScalarType type, Device device, Func<TensorSpec, bool>? copied = null) =>
        Create(slices, type, device, copied, (slice, values) => FillInitial(slice, seed, values));

    /// <summary>The initial values of a whole network.</summary>
    public static ModelState InitializeWhole(NetworkSpec network, long seed, ScalarType type, Device device, Func<TensorSpec, bool>? copied = null) =>
        Initialize([.. network.Tensors.Select(TensorSlice.Whole)], seed, type, device, copied);

    /// <summary>A whole network of zeros (variances 1) that is not trained: to be filled, evaluated or saved.</summary>
    public static ModelState Frozen(NetworkSpec network, ScalarType type, Device device)
    {
        ModelState state = new([.. network.Tensors.Select(TensorSlice.Whole)], type, device, copied: null, trained: false);
        using IDisposable frozen = no_grad();
        foreach (TensorSlice slice in state.Slices.Where(slice => slice.Spec.Role is TensorRole.RunningVariance)) state[slice.Name].fill_(1);
        return state;
    }

    /// <summary>Takes each slice from the whole tensor, of the spec's shape, that <paramref name="read"/> returns (and which is disposed here).</summary>
    /// <param name="copied">Which tensors are to lie in <see cref="Copied"/>; null: none.</param>
    /// <param name="trained">False: without gradients and momentum.</param>
    public static ModelState Load(
        IReadOnlyList<TensorSlice> slices, Func<TensorSpec, Tensor> read, ScalarType type, Device device, Func<TensorSpec, bool>? copied = null, bool trained = true)
    {
        ModelState state = new(slices, type, device, copied, trained);
        using IDisposable frozen = no_grad();
        foreach (TensorSlice slice in slices)
        {
            using DisposeScope scope = NewDisposeScope();
            state[slice.Name].copy_(slice.Take(read(slice.Spec)));
        }
        return state;
    }

    /// <summary>
    /// Holds other parts of its tensors from now on. Where every part is as large as before, all stays where it is, with its
    /// values, to be rearranged there. Otherwise everything moves: what is whole before and after takes its values and its
    /// momentum along, the rest is zero.
    /// </summary>
    /// <param name="copied">Which tensors lie in <see cref="Copied"/> from now on.</param>
    /// <returns>What was held, to take parts of it; the caller disposes it. Null: all has stayed.</returns>
    public ModelState? Hold(IReadOnlyList<TensorSlice> slices, Func<TensorSpec, bool> copied)
    {
        (TensorSlice[] before, TensorSlice[] after) = (_slices, [.. slices]);
        _slices = after;
        if (before.Zip(after).All(pair => pair.First.Count == pair.Second.Count)) return null;
        ModelState old = new(before, Type, _memory);
        _memory = new Memory(after, Type, old.Weights.device, copied, trained: true);
        using IDisposable frozen = no_grad();
        foreach ((TensorSlice was, TensorSlice now) in before.Zip(after))
        {
            if (was is not { Rows: null, Columns: null } || now is not { Rows: null, Columns: null }) continue;
            this[now.Name].copy_(old[now.Name]);
            if (now.Spec.IsParameter) Momentum(now.Name).copy_(old.Momentum(now.Name));
        }
        return old;
    }

    /// <summary>Values and momentum of what is held, under the names of the whole network, and which rows and columns of it are held.</summary>
    public void Archive(StateArchive archive)
    {
        foreach (TensorSlice slice in Slices)
            archive.Part(slice.Name, slice.Rows, slice.Columns, this[slice.Name], slice.Spec.IsParameter ? Momentum(slice.Name) : null);
    }

    /// <summary>Sets all momentum to zero.</summary>
    public void ZeroMomentum() => Momenta.zero_();

    /// <summary>Sets all gradients to zero.</summary>
    public void ZeroGradients() => Gradients.zero_();

    public void Dispose() => _memory.Dispose();

    private static ModelState Create(IReadOnlyList<TensorSlice> slices, ScalarType type, Device device, Func<TensorSpec, bool>? copied, Fill fill)
    {
        ModelState state = new(slices, type, device, copied, trained: true);
        using IDisposable frozen = no_grad();
        foreach (TensorSlice slice in slices)
        {
            using DisposeScope scope = NewDisposeScope();
            // In native memory, which is free again at once: arrays of .NET's would stay until some late collection.
            Tensor values = zeros(slice.Shape, ScalarType.Float64);
            fill(slice, MemoryMarshal.Cast<byte, double>(values.bytes));
            state[slice.Name].copy_(values);
        }
        return state;
    }

    /// <summary>The flat tensors, and the views of them.</summary>
    private sealed class Memory : IDisposable
    {
        /// <summary>Values to a multiple of which a start is rounded up: 256 bytes of float32.</summary>
        private const long Alignment = 64;

        private readonly Tensor _values;

        /// <summary>
        /// Parameters come first, of them those that are copied last; then the copied statistics, then the others. So all
        /// parameters follow each other, and all that is copied does.
        /// </summary>
        public Memory(IReadOnlyList<TensorSlice> slices, ScalarType type, Device device, Func<TensorSpec, bool>? copied, bool trained)
        {
            bool IsCopied(TensorSlice slice) => copied?.Invoke(slice.Spec) ?? false;
            ILookup<(bool Parameter, bool Copied), TensorSlice> groups = slices.ToLookup(slice => (slice.Spec.IsParameter, IsCopied(slice)));
            Dictionary<string, long> starts = [];
            long at = 0;
            Place(groups[(true, false)]);
            // No gap, of which others would be told, where there are none.
            if (groups[(true, true)].Any()) at = (at + Alignment - 1) / Alignment * Alignment;
            long start = at;
            Place(groups[(true, true)]);
            long parameters = at;
            Place(groups[(false, true)]);
            long end = at;
            Place(groups[(false, false)]);

            using DisposeScope scope = NewDisposeScope();
            using IDisposable frozen = no_grad();
            _values = zeros([at], type, device).DetachFromDisposeScope();
            Weights = _values.narrow(0, 0, parameters).DetachFromDisposeScope();
            Copied = _values.narrow(0, start, end - start).DetachFromDisposeScope();
            if (trained)
            {
                Gradients = zeros([parameters], type, device).DetachFromDisposeScope();
                Momenta = zeros([parameters], type, device).DetachFromDisposeScope();
            }
            foreach (TensorSlice slice in slices)
            {
                Tensor View(Tensor flat) => flat.narrow(0, starts[slice.Name], slice.Count).view(slice.Shape);
                // A tensor of its own on the same memory, which autograd does not take for changed when another part changes.
                Tensor value = empty([0], type, device).set_(View(_values)).DetachFromDisposeScope();
                Tensors.Add(slice.Name, value);
                if (IsCopied(slice)) StartsInCopied.Add(slice.Name, starts[slice.Name] - start);
                if (!trained || !slice.Spec.IsParameter) continue;
                GradientOf.Add(slice.Name, View(Gradients!).DetachFromDisposeScope());
                MomentumOf.Add(slice.Name, View(Momenta!).DetachFromDisposeScope());
                value.requires_grad_(true);
                // Backward passes add to a gradient that is there.
                value.grad = GradientOf[slice.Name];
            }

            // Those whose sizes have most factors of 2 first: each then starts at a multiple of such a factor of its own size.
            void Place(IEnumerable<TensorSlice> group)
            {
                foreach (TensorSlice slice in group.OrderByDescending(slice => Math.Min(Alignment, slice.Count & -slice.Count)))
                {
                    starts.Add(slice.Name, at);
                    at += slice.Count;
                }
            }
        }

        public Tensor Weights { get; }

        public Tensor Copied { get; }

        public Tensor? Gradients { get; }

        public Tensor? Momenta { get; }

        public Dictionary<string, Tensor> Tensors { get; } = [];

        public Dictionary<string, Tensor> GradientOf { get; } = [];

        public Dictionary<string, Tensor> MomentumOf { get; } = [];

        public Dictionary<string, long> StartsInCopied { get; } = [];

        public void Dispose()
        {
            foreach (Tensor tensor in Tensors.Values.Concat(GradientOf.Values).Concat(MomentumOf.Values)) tensor.Dispose();
            foreach (Tensor? flat in new[] { Weights, Copied, Gradients, Momenta, _values }) flat?.Dispose();
        }
    }

    private static void FillInitial(TensorSlice slice, long seed, Span<double> values)
    {
        TensorSpec tensor = slice.Spec;
        switch (tensor.Role)
        {
            case TensorRole.NormWeight or TensorRole.RunningVariance:
                values.Fill(1);
                break;
            case TensorRole.ConvWeight:
                FillConvolution(slice, seed, values);
                break;
            case TensorRole.LinearWeight:
                FillHead(slice, seed, values);
                break;
        }
    }

    private static void FillConvolution(TensorSlice slice, long seed, Span<double> values)
    {
        int inputs = (int)slice.Spec.Shape[1], window = (int)(slice.Spec.Shape[2] * slice.Spec.Shape[3]);
        int columns = (int)slice.Shape[1];
        double deviation = Math.Sqrt(2.0 / (inputs * window));
        int[] place = new int[inputs];
        Array.Fill(place, -1);
        for (int column = 0; column < columns; column++) place[slice.Columns?[column] ?? column] = column;
        for (int row = 0; row < slice.Shape[0]; row++)
        {
            RandomStream stream = RandomStream.For(seed, $"init/{slice.Name}", slice.Rows?[row] ?? row);
            for (int input = 0; input < inputs; input++)
            {
                // Input channels that are not held are drawn and dropped.
                int at = ((row * columns) + place[input]) * window;
                for (int k = 0; k < window; k++)
                {
                    double value = deviation * stream.NextNormal();
                    if (place[input] >= 0) values[at + k] = value;
                }
            }
        }
    }

    private static void FillHead(TensorSlice slice, long seed, Span<double> values)
    {
        double bound = 1 / Math.Sqrt(slice.Spec.Shape[1]);
        int classes = (int)slice.Shape[0], columns = (int)slice.Shape[1];
        for (int column = 0; column < columns; column++)
        {
            RandomStream stream = RandomStream.For(seed, $"init/{slice.Name}", slice.Columns?[column] ?? column);
            for (int row = 0; row < classes; row++) values[(row * columns) + column] = bound * ((2 * stream.NextDouble()) - 1);
        }
    }
}
