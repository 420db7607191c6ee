using LoftHpc.Arithmetic;
using LoftHpc.Configuration;
using LoftHpc.Mpi;
using LoftHpc.Results;
using LoftHpc.Tests.Commands;
using LoftHpc.Tests.Mpi;
using TorchSharp;
using Xunit;

namespace LoftHpc.Tests.Arithmetic;

/// <summary>run.precision: what it comes to, what is refused, what is shown.</summary>
public sealed class PrecisionTests : ProgramTests
{
    [Theory]
    [InlineData(null, "cpu", Precision.Float32)]
    [InlineData(null, "cuda", Precision.Tf32)]
    [InlineData(Precision.Float32, "cuda", Precision.Float32)]
    [InlineData(Precision.Bfloat16, "cpu", Precision.Bfloat16)]
    [InlineData(Precision.Tf32, "cuda", Precision.Tf32)]
    public void It_is_resolved_by_the_device(Precision? asked, string device, Precision resolved) =>
        Assert.Equal(resolved, Precisions.Resolve(asked, new torch.Device(device)));

    /// <summary>Switches of libtorch, which has them on the CPU too.</summary>
    [Fact]
    public void Tf32_is_switched_in_cuDNN_and_in_cuBLAS()
    {
        bool before = torch.backends.cudnn.allow_tf32, products = torch.backends.cuda.matmul.allow_tf32;
        try
        {
            Precisions.AllowTf32(true);
            Assert.True(torch.backends.cudnn.allow_tf32 && torch.backends.cuda.matmul.allow_tf32 && Precisions.Tf32Allowed);
            Precisions.AllowTf32(false);
            Assert.False(torch.backends.cudnn.allow_tf32 || torch.backends.cuda.matmul.allow_tf32 || Precisions.Tf32Allowed);
            // What the bound of the check at the start follows.
            Assert.InRange(Rounding.OfProducts(torch.float32, DeviceType.CUDA).Sum(100), 1e-6, 1e-5);
            Precisions.AllowTf32(true);
            Assert.InRange(Rounding.OfProducts(torch.float32, DeviceType.CUDA).Sum(100), 2.0 / 1024, 2.1 / 1024);
        }
        finally
        {
            (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32) = (before, products);
        }
    }

    [SkippableFact]
    public void Tf32_is_refused_on_a_CPU_in_one_line()
    {
        MustBeOneLine(
            Start(MpiLauncher.AnyFamily(), 2, "run", "run.name=a", "run.precision=tf32"), ExitCodes.Configuration,
            "run.precision: tf32 is a format of GPUs, and this run is on the CPU (run.device); allowed here: float32, bfloat16, or auto");
        Assert.False(Directory.Exists(Folder("a").Path));
    }

    [SkippableTheory]
    [InlineData("auto", "float32")]
    [InlineData("bfloat16", "bfloat16")]
    public void What_is_used_is_shown_and_recorded(string asked, string used)
    {
        LaunchResult result = Start(MpiLauncher.AnyFamily(), 2, "pretrain", "run.name=a", $"run.precision={asked}").MustSucceed();
        Assert.Matches($@"(?m)^\| +1 \|.*\| {used} +\|", result.Output);
        Assert.Equal(used, Assert.Single(RunManifest.Read(Folder("a").Manifest).Launches).Precision);
        Assert.Equal(
            used == "bfloat16" && !Processor.HasBfloat16 ? 1 : 0,
            Occurrences(result.Error, "warning: run.precision: bfloat16 is slower than float32 here, 8 to 10 times where it was measured"));
    }
}
