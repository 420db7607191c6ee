using LoftHpc.Arithmetic;
using LoftHpc.Configuration;
using LoftHpc.Mpi;
using LoftHpc.Results;
using LoftHpc.Tests.Commands;
using LoftHpc.Tests.Mpi;
using TorchSharp;
using Xunit;
using static TorchSharp.torch;

namespace LoftHpc.Tests.Arithmetic;

/// <summary>run.memory_format: what it comes to, what is shown, and that every method computes the same in it.</summary>
public sealed class MemoryFormatTests : ProgramTests
{
    [Theory]
    [InlineData(null, Precision.Float32, DeviceType.CPU, MemoryFormat.Contiguous)]
    [InlineData(null, Precision.Bfloat16, DeviceType.CPU, MemoryFormat.Contiguous)]
    [InlineData(null, Precision.Float32, DeviceType.CUDA, MemoryFormat.Contiguous)]
    [InlineData(null, Precision.Tf32, DeviceType.CUDA, MemoryFormat.ChannelsLast)]
    [InlineData(null, Precision.Bfloat16, DeviceType.CUDA, MemoryFormat.ChannelsLast)]
    [InlineData(MemoryFormat.ChannelsLast, Precision.Float32, DeviceType.CPU, MemoryFormat.ChannelsLast)]
    [InlineData(MemoryFormat.Contiguous, Precision.Tf32, DeviceType.CUDA, MemoryFormat.Contiguous)]
    public void It_is_resolved_by_device_and_precision(MemoryFormat? asked, Precision precision, DeviceType device, MemoryFormat resolved) =>
        Assert.Equal(resolved, MemoryFormats.Resolve(asked, precision, device));

    /// <summary>One channel, one pixel and one image are the same memory in either format.</summary>
    [Theory]
    [InlineData(2, 3, 4, 5, true)]
    [InlineData(1, 3, 4, 5, true)]
    [InlineData(2, 1, 4, 5, false)]
    [InlineData(2, 3, 1, 1, false)]
    [InlineData(2, 3, 1, 4, true)]
    [InlineData(0, 3, 4, 5, false)]
    [InlineData(2, 0, 4, 5, false)]
    public void Values_are_laid_out_anew_where_they_must_be(int images, int channels, int height, int width, bool copied)
    {
        using DisposeScope scope = NewDisposeScope();
        Tensor all = arange(((long)images * channels * height * width) + 7, dtype: float32);
        // Not at the start of its memory.
        Tensor x = all.narrow(0, 7, all.numel() - 7).view(images, channels, height, width), laidOut = MemoryFormats.To(x, MemoryFormat.ChannelsLast);
        Assert.Equal(x.shape, laidOut.shape);
        Assert.True(x.numel() == 0 || laidOut.equal(x).all().item<bool>());
        Assert.Same(x, MemoryFormats.To(x, MemoryFormat.Contiguous));
        Assert.Same(laidOut, MemoryFormats.To(laidOut, MemoryFormat.ChannelsLast));
        Assert.Equal(copied, TensorMemory.Address(x) != TensorMemory.Address(laidOut));
        if (x.numel() > 0) Assert.Equal([(long)channels * height * width, 1, (long)channels * width, channels], laidOut.stride());
        // What has gaps.
        Tensor gaps = cat([x, x], 1).narrow(1, channels / 2, channels), closed = MemoryFormats.To(gaps, MemoryFormat.ChannelsLast);
        Assert.True(x.numel() == 0 || (closed.equal(gaps).all().item<bool>() && closed.stride().SequenceEqual(laidOut.stride())));
        foreach (MemoryFormat format in Enum.GetValues<MemoryFormat>())
        {
            Tensor made = MemoryFormats.Empty(x.shape, new ActivationLayout(float64, format), CPU);
            Assert.True(made.shape.SequenceEqual(x.shape) && made.dtype == float64);
            if (made.numel() > 0) Assert.Same(made, MemoryFormats.To(made, format));
            made.copy_(x);
            // What is exchanged of it is its own memory, in the order of its memory.
            Tensor rows = MemoryFormats.Rows(made, format);
            Assert.True(rows.is_contiguous());
            Assert.Equal(TensorMemory.Address(made), TensorMemory.Address(rows));
            Tensor expected = format is MemoryFormat.Contiguous ? x : x.permute(0, 2, 3, 1).reshape((long)images * height * width, channels, 1, 1);
            Assert.True(rows.shape.SequenceEqual(expected.shape) && (x.numel() == 0 || rows.equal(expected).all().item<bool>()));
            // Of a tensor that lies otherwise it is a copy.
            Assert.True(x.numel() == 0 || MemoryFormats.Rows(x, format).equal(expected).all().item<bool>());
        }
    }

    [SkippableTheory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(4)]
    public void Every_method_trains_the_network_of_one_rank(int ranks) => Run(ranks, "Methods");

    [SkippableTheory]
    [InlineData(1)]
    [InlineData(2)]
    public void Nothing_but_the_images_is_copied_for_a_convolution(int ranks) => Run(ranks, "NothingIsCopied");

    [SkippableFact]
    public void A_hundred_steps_leave_as_many_live_tensors_as_one() => Run(2, "LiveTensors");

    /// <summary>In the table at the start and in the manifest; of the convolutions, those are checked that are computed.</summary>
    [SkippableTheory]
    [InlineData("auto", "contiguous")]
    [InlineData("channels-last", "channels-last")]
    public void What_is_used_is_shown_and_recorded(string asked, string used)
    {
        LaunchResult result = Start(MpiLauncher.AnyFamily(), 2, "pretrain", "run.name=a", $"run.memory_format={asked}").MustSucceed();
        Assert.Matches($@"(?m)^\| +1 \|.*\| {used} +\|", result.Output);
        Assert.Equal(used, Assert.Single(RunManifest.Read(Folder("a").Manifest).Launches).MemoryFormat);
    }

    [SkippableFact]
    public void Channels_last_in_bfloat16_with_several_threads_of_a_CPU_is_refused()
    {
        string[] both = ["run.name=a", "run.memory_format=channels-last", "run.precision=bfloat16"];
        MustBeOneLine(
            Start(MpiLauncher.AnyFamily(), 2, "pretrain", [.. both, "run.threads=2"]), ExitCodes.Configuration,
            "run.memory_format: channels-last in bfloat16 on a CPU corrupts memory with several threads, and a rank has 2 here; allowed: run.threads=1");
        Assert.False(Directory.Exists(Folder("a").Path));
        Start(MpiLauncher.AnyFamily(), 2, "pretrain", both).MustSucceed();
    }

    private static void Run(int ranks, string scenario) =>
        MpiLauncher.RunScenario(ranks % 2 == 0 ? MpiFamily.OpenMpi : MpiFamily.Mpich, ranks, $"MemoryFormatScenarios.{scenario}").MustSucceed();
}
