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
        ChannelCopy.Run(target, axis, new ChannelCopy.Part(source, from, to));
        ChannelCopy.ByIndex(byIndex, axis, [new(source, from, to)]);
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
            Tensor tensor = arange(108, float32).view(shape), before = tensor.clone(), byIndex = tensor.clone();
            (int[] inFrom, int[] inTo) = ChannelCopy.InPlace(from, to);
            ChannelCopy.Run(tensor, axis, new ChannelCopy.Part(tensor, inFrom, inTo));
            ChannelCopy.ByIndex(byIndex, axis, [new(byIndex, inFrom, inTo)]);
            foreach (int i in Enumerable.Range(0, 6).Except(to)) Assert.True(tensor.select(axis, i).equal(before.select(axis, i)).all().item<bool>());
            Assert.True(byIndex.equal(tensor).all().item<bool>());
            for (int i = 0; i < from.Length; i++)
                Assert.True(tensor.select(axis, to[i]).equal(before.select(axis, from[i])).all().item<bool>(), $"[{string.Join(' ', from)}] to [{string.Join(' ', to)}]");
        }
    }

    /// <summary>What stays moves up while it arrives from two others, in rows of the second axis: a place each, by hand.</summary>
    [Fact]
    public void Channels_from_several_tensors_meet_in_one()
    {
        using DisposeScope scope = NewDisposeScope();
        // Two rows of four channels of one value; the first two channels of each move to places 1 and 3.
        Tensor own = tensor(new float[] { 1, 2, 3, 4, 11, 12, 13, 14 }).view(2, 4, 1), byIndex = own.clone();
        Tensor first = tensor(new float[] { 5, 15 }).view(2, 1, 1), second = tensor(new float[] { 6, 7, 16, 17 }).view(2, 2, 1);
        (int[] from, int[] to) = ChannelCopy.InPlace([0, 1], [1, 3]);
        ChannelCopy.Run(own, 1, new(own, from, to), new(first, null, [2]), new(second, [1], [0]));
        Assert.Equal([7, 1, 5, 2, 17, 11, 15, 12], own.data<float>().ToArray());
        ChannelCopy.ByIndex(byIndex, 1, [new(byIndex, from, to), new(first, null, [2]), new(second, [1], [0])]);
        Assert.True(byIndex.equal(own).all().item<bool>());
    }

    [Fact]
    public void A_flat_part_in_order_is_packed_and_unpacked()
    {
        using DisposeScope scope = NewDisposeScope();
        Tensor source = arange(2 * 4 * 3, float64).view(2, 4, 3), flat = zeros([2, 2, 3], float64), back = zeros([2, 4, 3], float64);
        ChannelCopy.Run(flat, 1, new ChannelCopy.Part(source, [3, 0], null));
        Assert.Equal([9, 10, 11, 0, 1, 2, 21, 22, 23, 12, 13, 14], flat.data<double>().ToArray());
        ChannelCopy.Run(back, 1, new ChannelCopy.Part(flat, null, [3, 0]));
        Tensor again = zeros([2, 4, 3], float64);
        ChannelCopy.ByIndex(again, 1, [new(flat, null, [3, 0])]);
        Assert.True(back.equal(again).all().item<bool>());
        Assert.True(back.select(1, 3).equal(source.select(1, 3)).all().item<bool>() && back.select(1, 1).eq(0).all().item<bool>());
    }
}
