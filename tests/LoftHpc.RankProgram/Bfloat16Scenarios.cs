using System.Globalization;
using LoftHpc.Communication;
using LoftHpc.Configuration;
using LoftHpc.Data;
using LoftHpc.Mpi;
using LoftHpc.Networks;
using LoftHpc.SelfTest;
using LoftHpc.Training;
using TorchSharp;
using static TorchSharp.torch;

namespace LoftHpc.RankProgram;

/// <summary>Training in bfloat16.</summary>
internal static class Bfloat16Scenarios
{
    /// <summary>
    /// Arguments: family, depth, width, form, keys of the pretrain section as name=value. One step, or a round, against float64 by
    /// definition and against one rank in bfloat16, within <see cref="Bfloat16Error"/>; and not within what float32 allows, so that
    /// it was bfloat16.
    /// </summary>
    public static void Method(ICommunicator world, string[] arguments)
    {
        Findings findings = Found(world, arguments);
        Check.Passed(findings);
        Check.True(findings.Worst is > 0.01 and <= 1, $"the largest error is {findings.Worst} of what is allowed");
        string[] all = world.Allgather(string.Create(CultureInfo.InvariantCulture, $"{findings.Checks} checks, largest error / allowed {findings.Worst:f3}"));
        if (world.Rank == 0) Console.WriteLine(string.Join('\n', all));
    }

    /// <summary>Arguments: an <see cref="ExchangeFault"/>, and then as of <see cref="Method"/>. What is allowed is so little that a fault shows.</summary>
    public static void Faulty(ICommunicator world, string[] arguments)
    {
        Findings findings = Found(new FaultyCommunicator(world, Enum.Parse<ExchangeFault>(arguments[0])), arguments[1..]);
        Check.True(findings.Worst > 1 && findings.Failures.Any(failure => failure.Contains(" is off by ", StringComparison.Ordinal)), $"the largest error is {findings.Worst} of what is allowed");
        if (world.Rank == 0) Console.WriteLine(string.Join('\n', findings.Failures));
    }

    private static Findings Found(ICommunicator world, string[] arguments)
    {
        // Behind the keys of the section may stand a memory format.
        bool named = Enum.TryParse(arguments[^1], out MemoryFormat format);
        if (named) arguments = arguments[..^1];
        (NetworkSpec network, BatchLoader data) = TrainingScenarios.Setting(arguments);
        PretrainSection config = MethodChecks.Pretrain(arguments[4..]);
        Findings findings = new();
        MethodChecks checks = new(world, CPU, direct: false, findings) { In = [CheckedIn.Bfloat16], Format = format };
        string name = string.Join(' ', arguments[4..]);
        switch (config.Method)
        {
            case PretrainMethod.FilterParallel: checks.FilterParallel(name, network, data, config.Assignment, config.Backward); break;
            case PretrainMethod.Dense or PretrainMethod.DataParallel: checks.DataParallel(name, network, data, config.BatchNorm); break;
            case PretrainMethod.Gpipe: checks.Gpipe(name, network, data, config.Gpipe); break;
            default: checks.Rounds(name, network, data, config); break;
        }
        return findings;
    }

    /// <summary>
    /// Arguments: memory format. A gather gives the bits that were sent, and a reduce-scatter the sum in float32 in the order of the ranks, rounded once; in
    /// several pieces, one of them odd, some ranks without channels; with half the bytes of float32.
    /// </summary>
    public static void Exchange(ICommunicator world, string[] arguments)
    {
        using DisposeScope scope = NewDisposeScope();
        CommunicationLedger ledger = new() { Phase = "test" };
        // Not disposed: that would free the world.
        MeteredCommunicator metered = new(world, ledger);
        using TensorTransport transport = TensorTransport.For(CPU, direct: false);
        ChannelExchange exchange = new(metered, transport);
        int[] channels = [.. Enumerable.Range(0, world.Size).Select(rank => rank == 1 ? 0 : 11 + rank)];
        int start = channels.Take(world.Rank).Sum(), own = channels[world.Rank];
        Tensor Whole(int seed)
        {
            using Generator generator = new((ulong)seed);
            return rand([70, channels.Sum(), 40, 41], generator: generator).sub_(0.5).to(bfloat16);
        }
        Tensor expected = Whole(1);
        long imageBytes = expected.numel() * 2 / 70;
        Check.True(transport.Cut.ImagesPerPiece(imageBytes) is > 1 and < 35, "the tensor does not go in several pieces");
        MemoryFormat format = Enum.Parse<MemoryFormat>(arguments[0]);
        Check.True(exchange.Gather(expected.narrow(1, start, own).contiguous(), channels, format).equal(expected).all().item<bool>(), "gathered wrongly");

        Tensor[] all = [.. Enumerable.Range(0, world.Size).Select(rank => Whole(100 + rank))];
        Tensor sum = all[0].to(float32), inType = all[0].clone();
        foreach (Tensor other in all[1..])
        {
            sum.add_(other.to(float32));
            inType.add_(other);
        }
        Tensor part = exchange.ReduceScatter(all[world.Rank], channels, format), right = sum.to(bfloat16).narrow(1, start, own);
        Check.True(part.dtype is ScalarType.BFloat16 && part.shape.SequenceEqual([70, own, 40, 41]), "reduced to another shape or type");
        Check.True(part.equal(right).all().item<bool>(), "reduced wrongly");
        // Added up in bfloat16 it would be something else, from three ranks on.
        Check.True(own == 0 || world.Size < 3 || !inType.narrow(1, start, own).equal(right).all().item<bool>(), "the sum does not show in what it was added up");

        long ofOwn = 70L * own * 40 * 41 * 2, ofAll = 70 * imageBytes;
        long sent = ledger.Totals.Sum(total => total.BytesSent);
        Check.True(world.Size == 1 ? sent == 0 : sent == ((world.Size - 1) * ofOwn) + (ofAll - ofOwn), $"{sent} bytes were sent");
    }
}
