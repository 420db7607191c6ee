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

    /// <summary>On any device; a GPU's memory cannot be walked from here.</summary>
    internal static void ByIndex(Tensor source, int[]? from, Tensor target, int[]? to, int axis, int channels)
    {
        using DisposeScope scope = NewDisposeScope();
        Tensor taken = from is null ? source : source.index_select(axis, Index(from, source.device));
        target.index_copy_(axis, Index(to ?? [.. Enumerable.Range(0, channels)], source.device), taken);
    }

    private static unsafe void ByMemory(Tensor source, int[]? from, Tensor target, int[]? to, int axis, int channels)
    {
        long[] shape = source.shape;
        long outer = 1, block = source.element_size(), sourceChannels = shape[axis], targetChannels = target.size(axis);
        for (int i = 0; i < axis; i++) outer *= shape[i];
        for (int i = axis + 1; i < shape.Length; i++) block *= shape[i];
        byte* read = (byte*)TensorMemory.Address(source), write = (byte*)TensorMemory.Address(target);
        for (long o = 0; o < outer; o++, read += sourceChannels * block, write += targetChannels * block)
        {
            for (int i = 0; i < channels; i++)
                Buffer.MemoryCopy(read + ((from is null ? i : from[i]) * block), write + ((to is null ? i : to[i]) * block), block, block);
        }
    }

    private static Tensor Index(int[] channels, Device device) => tensor([.. channels.Select(channel => (long)channel)], int64, device);
}
