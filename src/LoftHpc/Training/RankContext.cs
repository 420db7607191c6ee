using LoftHpc.Arithmetic;
using LoftHpc.Communication;
using LoftHpc.Configuration;
using LoftHpc.Mpi;
using TorchSharp;
using static TorchSharp.torch;

namespace LoftHpc.Training;

/// <summary>What a rank computes with: its place among the ranks, its device and the type of its tensors.</summary>
public sealed record RankContext(
    ICommunicator Communicator, CommunicationLedger Ledger, ChannelExchange Channels, Device Device, ScalarType Type = ScalarType.Float32)
{
    public int Rank => Communicator.Rank;

    public int Size => Communicator.Size;

    /// <summary>What convolutions are computed in; the same on all ranks. Bfloat16 only where <see cref="Type"/> is float32.</summary>
    public Precision Precision { get; init; }

    /// <summary>How activations lie in memory; the same on all ranks.</summary>
    public MemoryFormat MemoryFormat { get; init; }

    /// <summary>Of activations, and of what ranks exchange of them and of their gradients. All else is of <see cref="Type"/>, and contiguous.</summary>
    public ActivationLayout Layout => new(Precision is Precision.Bfloat16 ? ScalarType.BFloat16 : Type, MemoryFormat);

    /// <summary>Called in every step when its forward pass is done and all that the backward pass needs is held; for measurements of memory.</summary>
    public Action? AfterForward { get; init; }

    /// <summary>Whether <see cref="StepWatch"/> looks at some steps together, since a look would wait for the device.</summary>
    public bool LooksLate { get; init; } = Device.type is not DeviceType.CPU;

    /// <summary>How ranks that work apart come to stop together.</summary>
    public EarlyStop EarlyStop { get; init; } = new(Communicator, Ledger);

    /// <summary>Where this rank is in a training.</summary>
    public StepClock Clock { get; init; } = new();

    /// <summary>Waits until the device has done all that it was given.</summary>
    public void Wait()
    {
        if (Device.type is DeviceType.CUDA) cuda.synchronize();
    }

    /// <summary>This rank's share of something that is cut over all ranks.</summary>
    public Shard Shard => new(Rank, Size);
}
