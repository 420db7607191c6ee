using LoftHpc.Communication;
using LoftHpc.Mpi;

namespace LoftHpc.Training;

/// <summary>What the ranks do between two steps, the more urgent the greater.</summary>
public enum Pause
{
    None,

    /// <summary>A checkpoint is due by rank 0's clock.</summary>
    Checkpoint,

    /// <summary>The job's time ends (<see cref="Configuration.LimitsSection.MinutesBeforeEnd"/>).</summary>
    StopBeforeEnd,

    /// <summary>The launch's own time is over (<see cref="Configuration.LimitsSection.Minutes"/>).</summary>
    StopByTime,

    /// <summary>There is a file that asks for it (<see cref="Configuration.LimitsSection.StopFile"/>).</summary>
    StopByFile,

    /// <summary>A rank was sent a signal.</summary>
    StopBySignal,
}

/// <summary>
/// Makes all ranks pause when any of them was sent a signal, a limit is reached, or a checkpoint is due. They agree where they meet
/// anyway, so that ranks which run apart do not wait for each other in every step; <see cref="EarlyStop"/> brings them here earlier.
/// </summary>
public sealed class StopAgreement
{
    /// <summary>Added to what a rank brings that comes from within its round.</summary>
    private const int Apart = 100;

    /// <summary>Looks without a pause in between: ranks mostly come at nearly the same time.</summary>
    private const int LooksAtOnce = 1000;

    private readonly RankContext _context;

    /// <param name="limits">Whether a limit is reached, by this rank's clock and files; asked on rank 0. Null: there are none.</param>
    public StopAgreement(RankContext context, Func<Pause>? limits = null)
    {
        _context = context;
        context.EarlyStop.Wanted = () => Signals.StopIsAsked ? Pause.StopBySignal
            : context.Rank == 0 && limits?.Invoke() is Pause limit && IsStop(limit) ? limit : Pause.None;
    }

    /// <summary>Whether to stop, and not only to pause.</summary>
    public static bool IsStop(Pause pause) => pause > Pause.Checkpoint;

    /// <summary>In words, what a stop came by.</summary>
    public static string Why(Pause stop) => stop switch
    {
        Pause.StopBeforeEnd => "before the end of the Slurm job",
        Pause.StopByTime => "by limits.minutes",
        Pause.StopByFile => "by limits.stop_file",
        _ => "on request",
    };

    /// <summary>What is to be done, and whether all ranks have come to where they meet; the same on all ranks. Collective, 4 bytes.</summary>
    /// <param name="isCheckpointDue">By this rank's clock.</param>
    /// <param name="isApart">This rank comes from within its round.</param>
    /// <param name="isCounted">False: the table of the training has counted this meeting, or is not to.</param>
    /// <param name="waits">Whether ranks may wait long for each other here, the same on all: meanwhile each looks whether it is asked to stop, and calls the others then.</param>
    /// <param name="mayStop">False: this rank does not ask for a stop, whatever it was asked for itself.</param>
    public (Pause Pause, bool AllMeet) Ask(bool isCheckpointDue = false, bool isApart = false, bool isCounted = true, bool mayStop = true, bool waits = false)
    {
        (Pause stop, Pause called) = (_context.EarlyStop.Wanted(), _context.EarlyStop.Called);
        // A limit may have been moved since.
        if (called > stop) stop = called;
        // Whoever has called may have come here before that, and brings nothing.
        if (isApart && !IsStop(stop)) stop = Pause.StopBySignal;
        int own = (int)(mayStop && IsStop(stop) ? stop : isCheckpointDue ? Pause.Checkpoint : Pause.None) + (isApart ? Apart : 0);
        if (_context.Size > 1)
        {
            using IDisposable? phase = isCounted ? null : _context.Ledger.In(EarlyStop.Phase);
            using IDisposable purpose = _context.Ledger.For(CommunicationPurpose.Control);
            own = waits ? Await(own, looks: mayStop && !IsStop(stop)) : _context.Communicator.Allreduce(own, MpiOperation.Max);
        }
        bool allMeet = own < Apart;
        Pause agreed = (Pause)(own % Apart);
        // All ranks are here: what was sent can be received.
        if (IsStop(agreed) && _context.EarlyStop.Settle() is Pause reason && IsStop(reason)) agreed = reason;
        return (agreed, allMeet);
    }

    /// <summary>The largest of all ranks' values. Collective.</summary>
    private int Await(int own, bool looks)
    {
        using NativeBuffer buffer = new();
        buffer.Span<int>(1)[0] = own;
        IMpiRequest request = _context.Communicator.StartAllreduce(MpiBuffer.InPlace, buffer.View(1, MpiDataType.Int32), MpiOperation.Max);
        // For who watches whether this rank gets on it is one call.
        using (MpiCalls.One("MPI_Iallreduce"))
        {
            for (int look = 0; !request.Test(); look++)
            {
                if (looks) _ = _context.EarlyStop.LeavesRound();
                if (look >= LooksAtOnce) Thread.Sleep(1);
            }
        }
        return buffer.Span<int>(1)[0];
    }
}
