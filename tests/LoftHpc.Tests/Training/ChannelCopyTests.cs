using LoftHpc.Training;
using TorchSharp;
using Xunit;
using static TorchSharp.torch;

namespace LoftHpc.Tests.Training;

public class ChannelCopyTests
{
    /// <summary>By hand, along each axis; the way over memory and the way by index, which GPUs take, alike.</summary>
    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    public void Channels_go_to_their_places_and_nothing_else_changes(int axis)
    {
        using DisposeScope scope = NewDisposeScope();
        long[] sourceShape = [3, 3, 2, 2], targetShape = [3, 3, 2, 2];
        (sourceShape[axis], targetShape[axis]) = (5, 4);
        Tensor source = arange(180).slice(0, 0, 5 * 3 * 4, 1).view(sourceShape).to(float32), target = full(targetShape, -1f), byIndex = full(targetShape, -1f);
        (int[] from, int[] to) = ([4, 1], [0, 3]);
        ChannelCopy.Run(source, from, target, to, axis);
        ChannelCopy.ByIndex(source, from, byIndex, to, axis, channels: 2);
        for (int i = 0; i < 2; i++) Assert.True(target.select(axis, to[i]).equal(source.select(axis, from[i])).all().item<bool>());
        foreach (int untouched in new[] { 1, 2 }) Assert.True(target.select(axis, untouched).eq(-1).all().item<bool>());
        Assert.True(byIndex.equal(target).all().item<bool>());
    }

    /// <summary>Every way to keep some of six channels and put them, in their order, at some of six places.</summary>
    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    public void Channels_move_within_a_tensor_as_between_two(int axis)
    {
        int[][] subsets = [.. Enumerable.Range(0, 64).Select(bits => Enumerable.Range(0, 6).Where(i => (bits >> i & 1) == 1).ToArray())];
        foreach ((int[] from, int[] to) in from a in subsets from b in subsets where a.Length == b.Length && a.Length > 0 select (a, b))
        {
            using DisposeScope scope = NewDisposeScope();
            long[] shape = [2, 2, 3, 3];
            shape[axis] = 6;
            Tensor tensor = arange(108, float32).view(shape), before = tensor.clone();
            ChannelCopy.Within(tensor, from, to, axis);
            for (int i = 0; i < from.Length; i++)
                Assert.True(tensor.select(axis, to[i]).equal(before.select(axis, from[i])).all().item<bool>(), $"[{string.Join(' ', from)}] to [{string.Join(' ', to)}]");
        }
    }

    [Fact]
    public void A_flat_part_in_order_is_packed_and_unpacked()
    {
        using DisposeScope scope = NewDisposeScope();
        Tensor source = arange(2 * 4 * 3, float64).view(2, 4, 3), flat = zeros([2, 2, 3], float64), back = zeros([2, 4, 3], float64);
        ChannelCopy.Run(source, [3, 0], flat, null, 1);
        Assert.Equal([9, 10, 11, 0, 1, 2, 21, 22, 23, 12, 13, 14], flat.data<double>().ToArray());
        ChannelCopy.Run(flat, null, back, [3, 0], 1);
        Tensor again = zeros([2, 4, 3], float64);
        ChannelCopy.ByIndex(flat, null, again, [3, 0], 1, channels: 2);
        Assert.True(back.equal(again).all().item<bool>());
        Assert.True(back.select(1, 3).equal(source.select(1, 3)).all().item<bool>() && back.select(1, 1).eq(0).all().item<bool>());
    }
}
