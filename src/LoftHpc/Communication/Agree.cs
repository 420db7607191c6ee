using LoftHpc.Mpi;

namespace LoftHpc.Communication;

/// <summary>Makes the ranks agree on whether a thing that may fail on some of them has failed.</summary>
public static class Agree
{
    /// <summary>No other message has it.</summary>
    private const int Tag = 31_001;

    /// <summary>
    /// Runs the action on every rank of the group (collective). Where it throws a <see cref="UserError"/> on any rank, or a file
    /// fails there, all ranks throw one with the message and exit code of the lowest rank that failed, so that it is printed once and
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

    /// <summary>
    /// As <see cref="OnRoot"/>, for work that takes some time and is to be undisturbed: the other ranks sleep meanwhile (in MPI most
    /// libraries wait by asking all the time).
    /// </summary>
    public static void OnRootAlone(ICommunicator communicator, Action action) => OnAllRanks(communicator, () =>
    {
        int message = 0;
        if (communicator.Rank == 0)
        {
            try
            {
                action();
            }
            finally
            {
                for (int rank = 1; rank < communicator.Size; rank++) communicator.Send<int>(new ReadOnlySpan<int>(ref message), rank, Tag);
            }
            return;
        }
        // For who watches whether this rank gets on it is one call.
        using (MpiCalls.One("MPI_Iprobe"))
        {
            while (!communicator.HasMessage(Tag)) Thread.Sleep(20);
        }
        communicator.Receive(new Span<int>(ref message), 0, Tag);
    });

    /// <summary>
    /// Refuses ranks on which something is not what it is on rank 0 (collective). The error shows the first line in which the
    /// texts differ, with rank and host.
    /// </summary>
    /// <param name="what">Names it, as the subject of a sentence in the singular.</param>
    /// <param name="text">This rank's.</param>
    /// <param name="mend">What to do about it.</param>
    /// <exception cref="UserError">Not all ranks have the same; on all ranks.</exception>
    public static void OnSame(ICommunicator communicator, string what, string text, string mend)
    {
        string expected = communicator.Broadcast(text, 0);
        int differing = communicator.Allreduce(text == expected ? 0 : 1, MpiOperation.Sum);
        if (differing == 0) return;
        int other = communicator.Allreduce(text == expected ? communicator.Size : communicator.Rank, MpiOperation.Min);
        string found = communicator.Broadcast(text, other), host = communicator.Broadcast(Environment.MachineName, 0), otherHost = communicator.Broadcast(Environment.MachineName, other);
        (string[] first, string[] second) = (expected.Split('\n'), found.Split('\n'));
        int shared = Math.Min(first.Length, second.Length), line = Enumerable.Range(0, shared).FirstOrDefault(i => first[i] != second[i], shared);
        string Show(string[] lines) => line < lines.Length ? $"'{PlainText.Of(lines[line])}'" : "nothing more";
        throw new UserError(
            $"{what} is not the same on all ranks: {Show(first)} on rank 0 ({host}), {Show(second)} on rank {other} ({otherHost})"
            + $"{(differing > 1 ? FormattableString.Invariant($", and {differing - 1} more differ") : "")}; {mend}");
    }

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
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            // Files and disks fail on one rank while the others wait.
            own = new UserError(error.Message, error, ExitCodes.Environment);
        }
        int failures = communicator.Allreduce(own is null ? 0 : 1, MpiOperation.Sum);
        if (failures == 0) return result!;

        int first = communicator.Allreduce(own is null ? communicator.Size : communicator.Rank, MpiOperation.Min);
        int exitCode = own?.ExitCode ?? 0;
        communicator.Broadcast(new Span<int>(ref exitCode), first);
        string message = own?.Message ?? "";
        if (nameRank && failures < communicator.Size) message += $" (rank {communicator.Rank} on {Environment.MachineName})";
        message = communicator.Broadcast(message, first);
        throw UserError.OfLines(message.Split('\n'), exitCode, own);
    }
}
