using LoftHpc.Mpi;
using TorchSharp;
using static TorchSharp.torch;

namespace LoftHpc.Training;

/// <summary>Copies channels from some tensors to another, in one pass over its memory.</summary>
internal static class ChannelCopy
{
    /// <summary>
    /// Channel From[i] of the source becomes channel To[i] of the target; null: all channels in their order. Where the
    /// source is the target itself, both lists are in an order of <see cref="InPlace"/>.
    /// </summary>
    public readonly record struct Part(Tensor Source, int[]? From, int[]? To)
    {
        /// <summary>Channels that are copied.</summary>
        public int Count(int axis) => From?.Length ?? To?.Length ?? (int)Source.size(axis);
    }

    /// <summary>Fills channels along an axis of a contiguous target from contiguous sources whose other axes are as long.</summary>
    public static void Run(Tensor target, int axis, params ReadOnlySpan<Part> parts)
    {
        if (target.device_type is DeviceType.CPU) ByMemory(target, axis, parts);
        else ByIndex(target, axis, parts);
    }

    /// <summary>
    /// Lists that both ascend, in an order for copying within one tensor: what moves towards the start goes first, in
    /// ascending order, and then what moves towards the end, in descending order, so that nothing is overwritten that is
    /// still to go.
    /// </summary>
    public static (int[] From, int[] To) InPlace(int[] from, int[] to)
    {
        List<int> order = new(from.Length);
        for (int i = 0; i < from.Length; i++)
        {
            if (to[i] <= from[i]) order.Add(i);
        }
        for (int i = from.Length - 1; i >= 0; i--)
        {
            if (to[i] > from[i]) order.Add(i);
        }
        return ([.. order.Select(i => from[i])], [.. order.Select(i => to[i])]);
    }

    /// <summary>On any device; a GPU's memory cannot be walked from here.</summary>
    internal static void ByIndex(Tensor target, int axis, ReadOnlySpan<Part> parts)
    {
        using DisposeScope scope = NewDisposeScope();
        foreach (Part part in parts)
        {
            if (part.Count(axis) == 0) continue;
            Tensor taken = part.From is null ? part.Source : part.Source.index_select(axis, Index(part.From, target.device));
            target.index_copy_(axis, Index(part.To ?? [.. Enumerable.Range(0, part.Count(axis))], target.device), taken);
        }
    }

    private static unsafe void ByMemory(Tensor target, int axis, ReadOnlySpan<Part> parts)
    {
        (long outer, long block) = Walk(target, axis);
        long targetRow = target.size(axis) * block;
        byte* write = (byte*)TensorMemory.Address(target);
        byte** reads = stackalloc byte*[parts.Length];
        long* rows = stackalloc long[parts.Length];
        int* counts = stackalloc int[parts.Length];
        for (int p = 0; p < parts.Length; p++)
        {
            reads[p] = (byte*)TensorMemory.Address(parts[p].Source);
            rows[p] = parts[p].Source.size(axis) * block;
            counts[p] = parts[p].Count(axis);
        }
        // All sources fill a row of the target while it is in the cache.
        for (long o = 0; o < outer; o++, write += targetRow)
        {
            for (int p = 0; p < parts.Length; p++)
            {
                CopyRow(reads[p], parts[p].From, write, parts[p].To, counts[p], block);
                reads[p] += rows[p];
            }
        }
    }

    private static unsafe void CopyRow(byte* read, int[]? from, byte* write, int[]? to, int channels, long block)
    {
        // A 3x3 window of float32 is moved some hundred thousand times a round: too short for a call each time.
        if (block == sizeof(Window))
        {
            for (int i = 0; i < channels; i++) ((Window*)write)[to is null ? i : to[i]] = ((Window*)read)[from is null ? i : from[i]];
            return;
        }
        for (int i = 0; i < channels; i++)
            Buffer.MemoryCopy(read + ((from is null ? i : from[i]) * block), write + ((to is null ? i : to[i]) * block), block, block);
    }

    /// <summary>How often a channel occurs, and the bytes of it that lie together.</summary>
    private static (long Outer, long Block) Walk(Tensor tensor, int axis)
    {
        long[] shape = tensor.shape;
        long outer = 1, block = tensor.element_size();
        for (int i = 0; i < axis; i++) outer *= shape[i];
        for (int i = axis + 1; i < shape.Length; i++) block *= shape[i];
        return (outer, block);
    }

    [System.Runtime.CompilerServices.InlineArray(9)]
    private struct Window
    {
        private float _first;
    }

    private static Tensor Index(int[] channels, Device device) => tensor([.. channels.Select(channel => (long)channel)], int64, device);
}
