using LoftHpc.Arithmetic;
using LoftHpc.Configuration;
using LoftHpc.Mpi;
using LoftHpc.Planning;
using LoftHpc.Results;
using LoftHpc.Tests.Commands;
using LoftHpc.Tests.Mpi;
using TorchSharp;
using Xunit;
using Xunit.Abstractions;
using static TorchSharp.torch;

namespace LoftHpc.Tests.Training;

/// <summary>
/// Training in bfloat16, on odd filter counts: values and gradients against float64 and against one rank in bfloat16, within
/// tolerances that follow from 8 bits and the number of roundings (the scenarios throw where a tensor is further off).
/// </summary>
public sealed class Bfloat16Tests(ITestOutputHelper output) : ProgramTests
{
    private static readonly ILookup<int, string> Methods = new (int, string)[]
    {
        (1, "PreactResnet 18 5 Cifar method=dense"),
        (2, "PreactResnet 18 5 Cifar method=filter-parallel"),
        (3, "Resnet 18 5 Cifar method=filter-parallel assignment=random"),
        (4, "WideResnet 10 3 Cifar method=filter-parallel"),
        (3, "PreactResnet 18 5 Cifar method=filter-parallel backward=local"),
        (2, "Resnet 18 5 Cifar method=data-parallel"),
        (4, "PreactResnet 18 5 Cifar method=data-parallel"),
        (2, "PreactResnet 18 5 Cifar method=data-parallel batch_norm=per-rank"),
        (1, "Resnet 18 3 Cifar method=gpipe gpipe.micro_batches=2"),
        (3, "PreactResnet 18 5 Cifar method=gpipe gpipe.micro_batches=2"),
        (4, "PreactResnet 18 3 Cifar method=gpipe gpipe.micro_batches=2"),
        (1, "PreactResnet 18 5 Cifar method=loft epochs=2 local_steps=2"),
        (2, "PreactResnet 18 5 Cifar method=loft epochs=2 local_steps=2"),
        (3, "Resnet 18 5 Cifar method=loft epochs=2 local_steps=2 loft.momentum=travel loft.running_statistics=average"),
        (4, "PreactResnet 18 5 Cifar method=local-sgd epochs=2 local_steps=2"),
        (3, $"PreactResnet 18 5 Cifar method=filter-parallel {MemoryFormat.ChannelsLast}"),
        (2, $"Resnet 18 5 Cifar method=data-parallel {MemoryFormat.ChannelsLast}"),
    }
    .ToLookup(method => method.Item1, method => method.Item2);

    /// <summary>Under Open MPI at 2 and 4 ranks, under MPICH at 1 and 3.</summary>
    [SkippableTheory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(4)]
    public void Every_method_is_as_exact_as_its_roundings_let_it_be(int ranks) => output.WriteLine(MpiLauncher.RunScenarios(
        ranks % 2 == 0 ? MpiFamily.OpenMpi : MpiFamily.Mpich, ranks, Methods[ranks].Select(method => (string[])["Bfloat16Scenarios.Method", .. method.Split(' ')])).MustSucceed().Output);

    /// <summary>The tolerance is not so wide that a wrong exchange would pass.</summary>
    [SkippableFact]
    public void A_wrong_exchange_is_seen() => MpiLauncher.RunScenarios(
        MpiLauncher.AnyFamily(), 2,
        from fault in (string[])["OwnGradientOnly", "GatheredElsewhere"]
        select (string[])["Bfloat16Scenarios.Faulty", fault, "PreactResnet", "18", "4", $"{NetworkForm.Cifar}", "method=filter-parallel"]).MustSucceed();

    /// <summary>Under MPICH at 2 and 4 ranks, under Open MPI at 1 and 3.</summary>
    [SkippableTheory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3, MemoryFormat.Contiguous, MemoryFormat.ChannelsLast)]
    [InlineData(4)]
    public void What_is_exchanged_has_half_the_bytes_and_is_added_up_in_float32(int ranks, params MemoryFormat[] formats) => MpiLauncher.RunScenarios(
        ranks % 2 == 0 ? MpiFamily.Mpich : MpiFamily.OpenMpi, ranks,
        (formats.Length > 0 ? formats : [MemoryFormat.Contiguous]).Select(format => (string[])["Bfloat16Scenarios.Exchange", $"{format}"])).MustSucceed();

    /// <summary>Activations are halved, and nothing else: weights, gradients, momentum and averages stay float32.</summary>
    [Theory]
    [InlineData(PretrainMethod.FilterParallel, true)]
    [InlineData(PretrainMethod.Gpipe, true)]
    [InlineData(PretrainMethod.DataParallel, false)]
    [InlineData(PretrainMethod.LocalSgd, false)]
    [InlineData(PretrainMethod.Loft, false)]
    public void The_plan_halves_the_bytes_of_activations(PretrainMethod method, bool halved)
    {
        RunConfig config = new() { Network = new NetworkSection { Width = 16 }, Pretrain = new PretrainSection { Method = method, Batch = 32, Epochs = 1 } };
        PretrainPlan Of(Precision? precision) => PretrainPlan.Of(PlanSetting.Of(config with { Run = config.Run with { Precision = precision } }, 2));
        (PretrainPlan full, PretrainPlan half) = (Of(null), Of(Precision.Bfloat16));
        long logits = method is PretrainMethod.FilterParallel ? full.Step.Of(LoftHpc.Communication.CommunicationPurpose.Step, "allreduce").BytesSent : 0;
        long control = full.Step.Of(LoftHpc.Communication.CommunicationPurpose.Control, "allreduce").BytesSent;
        long Rest(PretrainPlan plan) => plan.Step.BytesSent - logits - control;
        Assert.Equal(halved ? Rest(full) / 2 : Rest(full), Rest(half));
        Assert.True(!halved || Rest(full) > 0);
        Assert.Equal(full.Memory(1) with { ExchangeBuffers = 0 }, half.Memory(1) with { ExchangeBuffers = 0 });
        Assert.InRange((double)half.ActivationBytes(0) / full.ActivationBytes(0), 0.5, 0.75);
    }

    /// <summary>Norms, and what is saved, are those of float32 weights: numbers that bfloat16 does not have.</summary>
    [SkippableTheory]
    [InlineData("filter-parallel")]
    [InlineData("loft")]
    public void Saved_weights_and_norms_are_those_of_float32(string method)
    {
        using DisposeScope scope = NewDisposeScope();
        Start(MpiLauncher.AnyFamily(), 2, "run", "run.name=a", "run.precision=bfloat16", $"pretrain.method={method}").MustSucceed();
        using SafetensorsFile file = SafetensorsFile.Open(Folder("a").DenseWeights);
        IReadOnlyList<FilterNormRow> rows = Folder("a").FilterNorms.Read();
        long last = rows.Max(row => row.Step);
        int layers = 0;
        foreach (IGrouping<string, FilterNormRow> layer in rows.Where(row => row.Step == last).GroupBy(row => row.Layer))
        {
            Tensor weight = file.Read($"{layer.Key}.weight"), rounded = weight.to(bfloat16).to(float32);
            Assert.Equal(ScalarType.Float32, weight.dtype);
            Assert.False(weight.equal(rounded).all().item<bool>(), layer.Key);
            double[] expected = [.. weight.to(float64).square().sum([1, 2, 3]).sqrt().data<double>()];
            foreach (FilterNormRow row in layer) Assert.Equal(expected[row.Filter], row.Norm, 1e-12 * expected[row.Filter]);
            layers++;
        }
        Assert.InRange(layers, 10, 30);
        using SafetensorsFile ticket = SafetensorsFile.Open(Folder("a").TicketWeights);
        Assert.All(ticket.Entries, entry => Assert.True(entry.Type is ScalarType.Float32 or ScalarType.Int64, entry.Name));
    }

    /// <summary>u = 2^-8: the sum in float32, and one rounding of at most the exact value and its error.</summary>
    [Fact]
    public void Bounds_of_rounding()
    {
        using DisposeScope scope = NewDisposeScope();
        Rounding rounding = Rounding.Of(bfloat16);
        Assert.Equal(Rounding.Of(float32).Sum(100), rounding.Sum(100));
        Assert.Equal(0.1 + ((2 + 0.1) / 256), rounding.Stored(tensor(0.1), tensor(-2.0)).item<double>(), 1e-12);
        Assert.Equal(0.1, Rounding.Of(float32).Stored(tensor(0.1), tensor(-2.0)).item<double>(), 1e-15);
        // The largest error of rounding is half of a step: from 1 the next number is 1 + 2^-7.
        Assert.Equal(1 + (1.0 / 128), tensor(1 + (1.01 / 256)).to(bfloat16).to(float64).item<double>(), 1e-12);
    }

    /// <summary>Where oneDNN is wrong, and where it is switched off, a run is repaired, and its rounding is that of bfloat16.</summary>
    [SkippableTheory]
    [InlineData("caches")]
    [InlineData("caches,padding")]
    public void A_machine_whose_convolutions_are_wrong_is_repaired(string broken)
    {
        BrokenMachine.SkipUnlessCachesMatter();
        MpiFamily family = MpiLauncher.AnyFamily();
        Start(family, 2, BrokenMachine.With(broken), "pretrain", "run.name=a", "run.precision=bfloat16").MustSucceed();
        Assert.All(Folder("a").Resources.Read(), row => Assert.NotEqual(ArithmeticRepair.None, row.Repair));
    }
}
