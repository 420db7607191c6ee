using LoftHpc.Mpi;
using LoftHpc.Networks;
using TorchSharp;
using static TorchSharp.torch;

namespace LoftHpc.Training;

/// <summary>Brings a network that is spread over the ranks together.</summary>
public static class NetworkGather
{
    /// <summary>
    /// Tensor by tensor, rank 0 receives the other ranks' parts and takes the whole tensor (on the CPU); no more than one
    /// is whole at a time. Collective.
    /// </summary>
    /// <param name="own">This rank's part of a tensor, by name.</param>
    /// <param name="heldBy">The part of a tensor that a rank brings; null: none.</param>
    /// <param name="take">Called on rank 0; the tensor is disposed afterwards.</param>
    public static void EachToRoot(
        NetworkSpec network, ScalarType type, Func<string, Tensor> own, ICommunicator communicator,
        Func<TensorSpec, int, TensorSlice?> heldBy, Action<TensorSpec, Tensor> take)
    {
        IReadOnlyList<TensorSpec> tensors = network.Tensors;
        for (int tag = 0; tag < tensors.Count; tag++)
        {
            using DisposeScope scope = NewDisposeScope();
            TensorSpec tensor = tensors[tag];
            if (communicator.Rank == 0)
                take(tensor, Assemble(tensor, own, communicator, heldBy, type, tag));
            else if (heldBy(tensor, communicator.Rank) is { Count: > 0 })
                communicator.Send(MpiBuffer.Of(own(tensor.Name).detach().cpu().contiguous()), 0, tag);
        }
    }

    /// <summary>Tensor by tensor, every rank receives the others' parts and takes the whole tensor (on the CPU). Collective.</summary>
    /// <param name="tensors">Those that are cut over the ranks.</param>
    /// <param name="own">This rank's part of a tensor, by name.</param>
    /// <param name="heldBy">The part of a tensor that a rank brings.</param>
    /// <param name="take">Called on every rank; the tensor is disposed afterwards.</param>
    public static void EachToAll(
        IEnumerable<TensorSpec> tensors, ScalarType type, Func<string, Tensor> own, ICommunicator communicator,
        Func<TensorSpec, int, TensorSlice> heldBy, Action<TensorSpec, Tensor> take)
    {
        using IDisposable frozen = no_grad();
        foreach (TensorSpec tensor in tensors)
        {
            using DisposeScope scope = NewDisposeScope();
            TensorSlice[] slices = [.. Enumerable.Range(0, communicator.Size).Select(rank => heldBy(tensor, rank))];
            long[] counts = [.. slices.Select(slice => slice.Count)], starts = Displacements.Of(counts);
            Tensor parts = empty([counts.Sum()], type), part = own(tensor.Name).detach().cpu().contiguous();
            communicator.Allgatherv(MpiBuffer.Of(part), MpiBuffer.Of(parts), counts, starts);
            Tensor whole = empty([.. tensor.Shape], type);
            for (int rank = 0; rank < slices.Length; rank++)
            {
                if (counts[rank] > 0) slices[rank].Place(parts.narrow(0, starts[rank], counts[rank]).view(slices[rank].Shape), whole);
            }
            take(tensor, whole);
        }
    }

    private static Tensor Assemble(
        TensorSpec tensor, Func<string, Tensor> own, ICommunicator communicator, Func<TensorSpec, int, TensorSlice?> heldBy, ScalarType type, int tag)
    {
        Tensor whole = empty([.. tensor.Shape], type);
        using IDisposable frozen = no_grad();
        for (int rank = 0; rank < communicator.Size; rank++)
        {
            if (heldBy(tensor, rank) is not { Count: > 0 } slice) continue;
            Tensor part = rank == 0 ? own(tensor.Name).detach().cpu() : empty(slice.Shape, type);
            if (rank != 0) communicator.Receive(MpiBuffer.Of(part), rank, tag);
            slice.Place(part, whole);
        }
        return whole;
    }
}
