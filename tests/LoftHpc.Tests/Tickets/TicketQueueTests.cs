using LoftHpc.Tests.Results;
using LoftHpc.Tickets;
using Xunit;

namespace LoftHpc.Tests.Tickets;

public sealed class TicketQueueTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void Each_ticket_is_taken_by_one()
    {
        new TicketQueue(_folder.File("queue")).Begin();
        string[] names = [.. Enumerable.Range(0, 50).Select(number => $"ticket-{number}")];
        List<string> taken = [];
        Parallel.For(0, 8, _ =>
        {
            TicketQueue own = new(_folder.File("queue"));
            own.Await();
            foreach (string name in names.Where(own.TryTake))
            {
                lock (taken) taken.Add(name);
            }
        });
        Assert.Equal(names.Order(StringComparer.Ordinal), taken.Order(StringComparer.Ordinal));
    }

    [Fact]
    public void What_a_killed_launch_has_taken_can_be_taken_again()
    {
        TicketQueue queue = new(_folder.File("queue"));
        queue.Begin();
        Assert.True(queue.TryTake("a"));
        queue.Fail("b");
        File.WriteAllText(queue.StopFile, "");
        Assert.Equal((true, false, true), (queue.IsTaken("a"), queue.IsTaken("b"), queue.HasFailed("b")));
        queue.Begin();
        Assert.Equal((false, false, false), (queue.IsTaken("a"), queue.HasFailed("b"), File.Exists(queue.StopFile)));
        queue.End();
        Assert.False(Directory.Exists(_folder.File("queue")));
    }
}
