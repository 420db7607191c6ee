using LoftHpc.Mpi;
using TorchSharp;
using static TorchSharp.torch;

namespace LoftHpc.Training;

/// <summary>Copies channels from one tensor to another, in one pass over the memory.</summary>
internal static class ChannelCopy
{
    /// <summary>
    /// Channel <paramref name="from"/>[i] along an axis of a contiguous source becomes channel <paramref name="to"/>[i] of
    /// a contiguous target whose other axes are as long; null: the channels in their order.
    /// </summary>
    public static void Run(Tensor source, int[]? from, Tensor target, int[]? to, int axis)
    {
        int channels = from?.Length ?? to?.Length ?? (int)source.size(axis);
        if (channels == 0) return;
        if (source.device_type is DeviceType.CPU) ByMemory(source, from, target, to, axis, channels);
        else ByIndex(source, from, target, to, axis, channels);
    }

    /// <summary>
    /// The same within one tensor on the CPU; both lists ascend. What moves towards the start goes first, in ascending
    /// order, and then what moves towards the end, in descending order: so nothing is overwritten that is still to go.
    /// </summary>
    public static unsafe void Within(Tensor tensor, int[] from, int[] to, int axis)
    {
        (long outer, long block) = Walk(tensor, axis);
        long channels = tensor.size(axis);
        int[] order =
        [
            .. Enumerable.Range(0, from.Length).Where(i => to[i] < from[i]),
            .. Enumerable.Range(0, from.Length).Where(i => to[i] > from[i]).Reverse(),
        ];
        byte* row = (byte*)TensorMemory.Address(tensor);
        for (long o = 0; o < outer; o++, row += channels * block)
        {
            foreach (int i in order)
            {
                if (block == sizeof(Window)) ((Window*)row)[to[i]] = ((Window*)row)[from[i]];
                else Buffer.MemoryCopy(row + (from[i] * block), row + (to[i] * block), block, block);
            }
        }
    }

    /// <summary>On any device; a GPU's memory cannot be walked from here.</summary>
    internal static void ByIndex(Tensor source, int[]? from, Tensor target, int[]? to, int axis, int channels)
    {
        using DisposeScope scope = NewDisposeScope();
        Tensor taken = from is null ? source : source.index_select(axis, Index(from, source.device));
        target.index_copy_(axis, Index(to ?? [.. Enumerable.Range(0, channels)], source.device), taken);
    }

    private static unsafe void ByMemory(Tensor source, int[]? from, Tensor target, int[]? to, int axis, int channels)
    {
        (long outer, long block) = Walk(source, axis);
        long sourceChannels = source.size(axis), targetChannels = target.size(axis);
        byte* read = (byte*)TensorMemory.Address(source), write = (byte*)TensorMemory.Address(target);
        for (long o = 0; o < outer; o++, read += sourceChannels * block, write += targetChannels * block)
        {
            // A 3x3 window of float32 is moved some hundred thousand times a round: too short for a call each time.
            if (block == sizeof(Window))
            {
                for (int i = 0; i < channels; i++)
                    ((Window*)write)[to is null ? i : to[i]] = ((Window*)read)[from is null ? i : from[i]];
                continue;
            }
            for (int i = 0; i < channels; i++)
                Buffer.MemoryCopy(read + ((from is null ? i : from[i]) * block), write + ((to is null ? i : to[i]) * block), block, block);
        }
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
