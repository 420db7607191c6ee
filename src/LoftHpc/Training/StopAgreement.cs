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
/// Makes all ranks pause after the same step when any of them was sent a signal, a limit is reached, or a checkpoint is due.
/// They agree only in steps in which they meet in an exchange anyway (<see cref="ITrainingMethod.HaveMet"/>), so that ranks which
/// run apart do not wait for each other in every step.
/// </summary>
public sealed class StopAgreement(RankContext context)
{
    /// <summary>Whether a limit is reached, by this rank's clock and files; asked on rank 0.</summary>
    public Func<Pause> Limits { get; init; } = () => Pause.None;

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

    /// <summary>What is to be done; the same on all ranks. Collective, 4 bytes.</summary>
    /// <param name="isCheckpointDue">By this rank's clock.</param>
    public Pause Ask(bool isCheckpointDue = false)
    {
        Pause limit = context.Rank == 0 ? Limits() : Pause.None;
        int own = (int)(Signals.StopIsAsked ? Pause.StopBySignal : IsStop(limit) ? limit : isCheckpointDue ? Pause.Checkpoint : Pause.None);
        if (context.Size == 1) return (Pause)own;
        using IDisposable purpose = context.Ledger.For(CommunicationPurpose.Control);
        return (Pause)context.Communicator.Allreduce(own, MpiOperation.Max);
    }
}
