using LoftHpc.Communication;
using LoftHpc.Mpi;

namespace LoftHpc.Training;

/// <summary>
/// Makes all ranks stop after the same step when any of them was asked to, by the signal SIGUSR1. They agree only in steps
/// in which they meet in an exchange anyway (<see cref="ITrainingMethod.HaveMet"/>), so that ranks which run apart do not
/// wait for each other in every step.
/// </summary>
public sealed class StopAgreement(RankContext context)
{
    /// <summary>Whether any rank was asked to stop; the same on all. Collective, 4 bytes.</summary>
    public bool IsAsked()
    {
        if (context.Size == 1) return Signals.StopIsAsked;
        using IDisposable purpose = context.Ledger.For(CommunicationPurpose.Control);
        return context.Communicator.Allreduce(Signals.StopIsAsked ? 1 : 0, MpiOperation.Max) != 0;
    }
}
