using System.Runtime.InteropServices;
using LoftHpc.Communication;
using LoftHpc.Mpi;

namespace LoftHpc.Training;

/// <summary>
/// Makes all ranks stop after the same step when any of them was asked to, by the signal SIGUSR1. They agree only in steps
/// in which they meet in an exchange anyway (<see cref="ITrainingMethod.HaveMet"/>), so that ranks which run apart do not
/// wait for each other in every step.
/// </summary>
public sealed class StopAgreement : IDisposable
{
    private const PosixSignal User1 = (PosixSignal)10;
    private readonly RankContext _context;
    private readonly PosixSignalRegistration _registration;
    private volatile bool _requested;

    public StopAgreement(RankContext context)
    {
        _context = context;
        _registration = PosixSignalRegistration.Create(User1, signal =>
        {
            signal.Cancel = true;
            _requested = true;
        });
    }

    /// <summary>Whether any rank was asked to stop; the same on all. Collective, 4 bytes.</summary>
    public bool IsAsked()
    {
        if (_context.Size == 1) return _requested;
        using IDisposable purpose = _context.Ledger.For(CommunicationPurpose.Control);
        return _context.Communicator.Allreduce(_requested ? 1 : 0, MpiOperation.Max) != 0;
    }

    public void Dispose() => _registration.Dispose();
}
