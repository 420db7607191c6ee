using System.Diagnostics;
using System.Runtime.InteropServices;
using LoftHpc.Communication;
using LoftHpc.Mpi;

namespace LoftHpc.Training;

/// <summary>
/// How ranks that work apart for long, in a round or in an evaluation, come to stop together. One that was asked to stop, and has not met
/// the others for <see cref="Patience"/> since, sends each of them a message and leaves its work; so does whoever finds such a message.
/// Then they meet: in <see cref="StopAgreement"/>, which comes before everything else in which the ranks of a round meet, or in the sum of
/// an evaluation. These messages are counted in a phase of their own: a table tells of a training, however often it was stopped.
/// </summary>
public sealed class EarlyStop(ICommunicator communicator, CommunicationLedger ledger)
{
    /// <summary>The phase in which these messages are counted.</summary>
    public const string Phase = "stop";

    /// <summary>No other message has it: those of a save are numbered from 0.</summary>
    private const int Tag = 31_000;

    private readonly List<IMpiRequest> _sends = [];
    /// <summary>All that counts is that it comes.</summary>
    private readonly int[] _message = GC.AllocateArray<int>(1, pinned: true);
    private Stopwatch? _sinceAsked;
    private bool _isCalled;

    /// <summary>For how long after it was asked to stop a rank goes on with what it does apart: the end of a round is the better place.</summary>
    public TimeSpan Patience { get; set; } = TimeSpan.FromSeconds(10);

    /// <summary>The stop that this rank was asked for, by a signal or a limit.</summary>
    public Func<Pause> Wanted { get; set; } = () => Pause.None;

    /// <summary>Whether an evaluation may be left: all that it would lose can be had again.</summary>
    public bool MayLeaveEvaluation { get; set; }

    /// <summary>The stop for which this rank has called the others; none: it has not.</summary>
    public Pause Called { get; private set; }

    /// <summary>Whether this rank is to leave the steps of its round.</summary>
    public bool LeavesRound()
    {
        if (_isCalled) return true;
        // The first look may do no more than take in what has arrived.
        if (communicator.Size > 1 && (communicator.HasMessage(Tag) || communicator.HasMessage(Tag))) return _isCalled = true;
        if (Due() is not Pause stop) return false;
        Call(stop);
        return true;
    }

    /// <summary>Whether this rank is to leave an evaluation of images of its own, of which the ranks sum what they have found.</summary>
    public bool LeavesEvaluation() => MayLeaveEvaluation && LeavesRound();

    /// <summary>Whether all ranks leave an evaluation in which they meet in each batch. Collective, 4 bytes.</summary>
    public bool AllLeaveEvaluation()
    {
        int own = WantsToLeave;
        return (communicator.Size == 1 ? own : communicator.Allreduce(own, MpiOperation.Max)) != 0;
    }

    /// <summary>1: this rank wants to leave an evaluation in which it need not call the others.</summary>
    public int WantsToLeave => MayLeaveEvaluation && Due() is not null ? 1 : 0;

    /// <summary>Receives what was sent. Collective, when the ranks have agreed to stop.</summary>
    /// <returns>The stop for which ranks were called; none: they were not.</returns>
    public Pause Settle()
    {
        if (communicator.Size == 1) return Called;
        using IDisposable phase = ledger.In(Phase);
        int[] called = new int[communicator.Size];
        communicator.Allgather<int>([(int)Called], called);
        int message = 0;
        for (int rank = 0; rank < called.Length; rank++)
        {
            if (called[rank] != 0 && rank != communicator.Rank) communicator.Receive(new Span<int>(ref message), rank, Tag);
        }
        foreach (IMpiRequest send in _sends) send.Wait();
        _sends.Clear();
        return (Pause)called.Max();
    }

    /// <summary>The stop that this rank was asked for so long ago that it does not wait for a meeting any more.</summary>
    private Pause? Due()
    {
        // To look costs something near the end of a job.
        if (_sinceAsked?.Elapsed < Patience) return null;
        Pause wanted = Wanted();
        if (!StopAgreement.IsStop(wanted))
        {
            _sinceAsked = null;
            return null;
        }
        _sinceAsked ??= Stopwatch.StartNew();
        return _sinceAsked.Elapsed >= Patience ? wanted : null;
    }

    private void Call(Pause stop)
    {
        (_isCalled, Called) = (true, stop);
        if (communicator.Size == 1) return;
        using IDisposable phase = ledger.In(Phase);
        MpiBuffer message = new(Marshal.UnsafeAddrOfPinnedArrayElement(_message, 0), 1, MpiDataType.Int32);
        for (int rank = 0; rank < communicator.Size; rank++)
        {
            if (rank != communicator.Rank) _sends.Add(communicator.StartSend(message, rank, Tag));
        }
    }
}
