using LoftHpc.Communication;
using LoftHpc.Mpi;

namespace LoftHpc.Training;

/// <summary>What the ranks do between two steps, the more urgent the greater.</summary>
public enum Pause
{
    None,

    /// <summary>A checkpoint is due by rank 0's clock.</summary>
    Checkpoint,

    /// <summary>A rank was asked to stop.</summary>
    Stop,
}

/// <summary>
/// Makes all ranks pause after the same step when any of them was asked to stop, by a signal, or a checkpoint is due.
/// They agree only in steps in which they meet in an exchange anyway (<see cref="ITrainingMethod.HaveMet"/>), so that ranks which
/// run apart do not wait for each other in every step.
/// </summary>
public sealed class StopAgreement(RankContext context)
{
    /// <summary>What is to be done; the same on all ranks. Collective, 4 bytes.</summary>
    /// <param name="isCheckpointDue">By this rank's clock.</param>
    public Pause Ask(bool isCheckpointDue = false)
    {
        int own = (int)(Signals.StopIsAsked ? Pause.Stop : isCheckpointDue ? Pause.Checkpoint : Pause.None);
        if (context.Size == 1) return (Pause)own;
        using IDisposable purpose = context.Ledger.For(CommunicationPurpose.Control);
        return (Pause)context.Communicator.Allreduce(own, MpiOperation.Max);
    }
}
