using System.Runtime.InteropServices;
using TorchSharp;
using static TorchSharp.torch;

namespace LoftHpc.Networks;

/// <summary>
/// All that training changes in (a part of) a network: parameters, running statistics and the optimizer's momentum,
/// by the names of the whole network.
/// </summary>
public sealed class ModelState : IDisposable
{
    private readonly Dictionary<string, Tensor> _tensors = [];
    private readonly Dictionary<string, Tensor> _momentum = [];

    private readonly TensorSlice[] _slices;

    private delegate void Fill(TensorSlice slice, Span<double> values);

    private ModelState(IReadOnlyList<TensorSlice> slices, ScalarType type) => (_slices, Type) = ([.. slices], type);

    /// <summary>Type of every tensor.</summary>
    public ScalarType Type { get; }

    /// <summary>What is held, in the order in which PyTorch lists it.</summary>
    public IReadOnlyList<TensorSlice> Slices => _slices;

    /// <summary>The tensor of this name. It belongs to the state: never dispose it.</summary>
    public Tensor this[string name] => _tensors[name];

    /// <summary>The slices that are trained.</summary>
    public IEnumerable<TensorSlice> Parameters => Slices.Where(slice => slice.Spec.IsParameter);

    /// <summary>Bytes of parameters and running statistics.</summary>
    public long WeightBytes => _tensors.Values.Sum(tensor => tensor.numel() * tensor.element_size());

    /// <summary>Bytes of the momentum.</summary>
    public long MomentumBytes => _momentum.Values.Sum(tensor => tensor.numel() * tensor.element_size());

    /// <summary>The momentum of a parameter. It belongs to the state.</summary>
    public Tensor Momentum(string name) => _momentum[name];

    /// <summary>
    /// Initial values: He normal by fan-in for convolutions (He et al. 2015), 1 and 0 for norms, uniform within
    /// 1/sqrt(fan-in) for the weights of the head (PyTorch's), 0 for its bias. Each filter, and each column of the head, is drawn from (seed, tensor,
    /// number), so a rank draws its own without the others', and every rank count starts from the same network.
    /// </summary>
    public static ModelState Initialize(IReadOnlyList<TensorSlice> slices, long seed, ScalarType type, Device device) =>
        Create(slices, type, device, (slice, values) => FillInitial(slice, seed, values));

    /// <summary>The initial values of a whole network.</summary>
    public static ModelState InitializeWhole(NetworkSpec network, long seed, ScalarType type, Device device) =>
        Initialize([.. network.Tensors.Select(TensorSlice.Whole)], seed, type, device);

    /// <summary>A whole network of zeros (variances 1) that is not trained: to be filled, evaluated or saved.</summary>
    public static ModelState Frozen(NetworkSpec network, ScalarType type, Device device)
    {
        var state = new ModelState([.. network.Tensors.Select(TensorSlice.Whole)], type);
        using DisposeScope scope = NewDisposeScope();
        foreach (TensorSlice slice in state.Slices)
        {
            Tensor values = slice.Spec.Role is TensorRole.RunningVariance ? ones(slice.Shape, type, device) : zeros(slice.Shape, type, device);
            state._tensors.Add(slice.Name, values.DetachFromDisposeScope());
        }
        return state;
    }

    /// <summary>Takes each slice from the whole tensor, of the spec's shape, that <paramref name="read"/> returns (and which is disposed here).</summary>
    public static ModelState Load(IReadOnlyList<TensorSlice> slices, Func<TensorSpec, Tensor> read, ScalarType type, Device device)
    {
        var state = new ModelState(slices, type);
        using DisposeScope scope = NewDisposeScope();
        foreach (TensorSlice slice in slices)
        {
            Tensor whole = read(slice.Spec);
            state.Add(slice, slice.Take(whole).to(type, device));
        }
        return state;
    }

    /// <summary>
    /// Holds another part of a tensor from now on, with these values and this momentum (null for running statistics),
    /// which belong to the state; they may be the tensors that it has already.
    /// </summary>
    public void Replace(TensorSlice slice, Tensor value, Tensor? momentum)
    {
        _slices[Array.FindIndex(_slices, held => held.Name == slice.Name)] = slice;
        Put(_tensors, value);
        if (momentum is null) return;
        value.requires_grad_(true);
        Put(_momentum, momentum);

        void Put(Dictionary<string, Tensor> held, Tensor after)
        {
            Tensor before = held[slice.Name];
            if (ReferenceEquals(before, after)) return;
            before.Dispose();
            held[slice.Name] = after.DetachFromDisposeScope();
        }
    }

    /// <summary>Moves tensors into a flat one, one behind the other, of which they are views from now on. It stays the caller's.</summary>
    public void MoveInto(Tensor flat, IEnumerable<string> names)
    {
        using DisposeScope scope = NewDisposeScope();
        using IDisposable frozen = no_grad();
        long start = 0;
        foreach (string name in names)
        {
            using Tensor before = _tensors[name];
            Tensor view = flat.narrow(0, start, before.numel()).view(before.shape).copy_(before).requires_grad_(before.requires_grad);
            _tensors[name] = view.DetachFromDisposeScope();
            start += before.numel();
        }
    }

    /// <summary>Sets all momentum to zero.</summary>
    public void ZeroMomentum()
    {
        using DisposeScope scope = NewDisposeScope();
        foreach (Tensor momentum in _momentum.Values) momentum.zero_();
    }

    public void Dispose()
    {
        foreach (Tensor tensor in _tensors.Values.Concat(_momentum.Values)) tensor.Dispose();
    }

    private static ModelState Create(
        IReadOnlyList<TensorSlice> slices, ScalarType type, Device device, Fill fill)
    {
        var state = new ModelState(slices, type);
        using DisposeScope scope = NewDisposeScope();
        foreach (TensorSlice slice in slices)
        {
            // In native memory, which is free again at once: arrays of .NET's would stay until some late collection.
            using Tensor values = zeros(slice.Shape, ScalarType.Float64);
            fill(slice, MemoryMarshal.Cast<byte, double>(values.bytes));
            state.Add(slice, values.to(type, device, copy: true));
        }
        return state;
    }

    private void Add(TensorSlice slice, Tensor value)
    {
        _tensors.Add(slice.Name, value.DetachFromDisposeScope());
        if (!slice.Spec.IsParameter) return;
        value.requires_grad_(true);
        _momentum.Add(slice.Name, zeros_like(value, requires_grad: false).DetachFromDisposeScope());
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
