using LoftHpc.Mpi;

namespace LoftHpc.Communication;

/// <summary>Makes the ranks agree on whether a thing that may fail on some of them has failed.</summary>
public static class Agree
{
    /// <summary>
    /// Runs the action on every rank of the group (collective). Where it throws a <see cref="UserError"/> on any rank, all
    /// ranks throw one with the message and exit code of the lowest rank that failed, so that it is printed once and
    /// nobody waits. Where not all ranks failed, the message names host and rank.
    /// </summary>
    public static void OnAllRanks(ICommunicator communicator, Action action) =>
        OnAllRanks(communicator, () =>
        {
            action();
            return true;
        });

    /// <inheritdoc cref="OnAllRanks(ICommunicator, Action)"/>
    public static T OnAllRanks<T>(ICommunicator communicator, Func<T> action) => Run(communicator, action, nameRank: true);

    /// <summary>
    /// Runs the action on rank 0 while the others wait (collective, so the action itself must not be). Its
    /// <see cref="UserError"/> is thrown on all ranks.
    /// </summary>
    public static void OnRoot(ICommunicator communicator, Action action) => Run(
        communicator,
        () =>
        {
            if (communicator.Rank == 0) action();
            return true;
        },
        nameRank: false);

    private static T Run<T>(ICommunicator communicator, Func<T> action, bool nameRank)
    {
        T? result = default;
        UserError? own = null;
        try
        {
            result = action();
        }
        catch (UserError error)
        {
            own = error;
        }
        int failures = communicator.Allreduce(own is null ? 0 : 1, MpiOperation.Sum);
        if (failures == 0) return result!;

        int first = communicator.Allreduce(own is null ? communicator.Size : communicator.Rank, MpiOperation.Min);
        int exitCode = own?.ExitCode ?? 0;
        communicator.Broadcast(new Span<int>(ref exitCode), first);
        string message = own?.Message ?? "";
        if (nameRank && failures < communicator.Size) message += $" (rank {communicator.Rank} on {Environment.MachineName})";
        message = communicator.Broadcast(message, first);
        throw own is null ? new UserError(message, exitCode) : new UserError(message, own, exitCode);
    }
}
