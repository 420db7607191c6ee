using System.Diagnostics;
using System.Text.Json.Nodes;
using LoftHpc.Results;
using Xunit;

namespace LoftHpc.Tests.Results;

/// <summary>The lock of a run folder: what the kernel says, and where it says nothing, what the record of the holder does.</summary>
public sealed class FolderLockTests : IDisposable
{
    private static readonly LockTimes Quick = new(TimeSpan.FromMilliseconds(50), TimeSpan.FromMilliseconds(500));

    private readonly TemporaryFolder _folder = new();

    private string LockFile => _folder.File(".lock");

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void A_lock_that_is_given_back_leaves_nothing()
    {
        FolderLock.Take(_folder.Path).Dispose();
        Assert.Empty(Directory.EnumerateFileSystemEntries(_folder.Path));
        FolderLock.Take(_folder.Path).Dispose();
    }

    [Fact]
    public void Who_holds_the_lock_is_named()
    {
        using FolderLock held = FolderLock.Take(_folder.Path);
        string said = Refused();
        Assert.Contains($"another launch works in this folder: process {Environment.ProcessId} on {Environment.MachineName}, since 20", said, StringComparison.Ordinal);
    }

    [Fact]
    public void A_holder_that_ends_soon_is_waited_for()
    {
        FolderLock held = FolderLock.Take(_folder.Path);
        List<string> told = [];
        using FolderLock taken = FolderLock.Take(_folder.Path, TimeSpan.FromMinutes(1), line =>
        {
            told.Add(line);
            held.Dispose();
        });
        Assert.Contains("waiting up to 60 s for its end", Assert.Single(told), StringComparison.Ordinal);
    }

    /// <summary>Its record stays when a process is killed; the kernel's lock does not.</summary>
    [Fact]
    public void A_process_of_this_host_that_has_ended_holds_nothing()
    {
        using Process other = Process.Start("sleep", "1000");
        string start = File.ReadAllText($"/proc/{other.Id}/stat").Split(") ")[1].Split(' ')[19];
        WriteRecord(("process", other.Id), ("process_start", long.Parse(start)));
        Assert.Contains($"process {other.Id} on ", Refused(), StringComparison.Ordinal);
        // The number of a process that has begun since.
        WriteRecord(("process", other.Id), ("process_start", long.Parse(start) - 1));
        FolderLock.Take(_folder.Path).Dispose();
        WriteRecord(("process", other.Id), ("process_start", long.Parse(start)));
        other.Kill();
        other.WaitForExit();
        FolderLock.Take(_folder.Path).Dispose();
    }

    /// <summary>Of another host nothing is known but its signs of life.</summary>
    [Theory]
    [InlineData("host", "another")]
    [InlineData("boot", "another")]
    public void A_holder_on_another_host_is_dead_when_it_gives_no_sign_of_life(string field, string value)
    {
        using ManualResetEventSlim death = new();
        WriteRecord((field, value));
        // A thread of its own: other tests may keep those of the pool.
        Thread beating = new(() =>
        {
            for (int beat = 1; !death.Wait(50); beat++) WriteRecord((field, value), ("beats", beat));
        });
        beating.Start();
        // One sign is enough, however late it comes.
        Assert.Contains("another launch works in this folder: process ", Refused(Quick with { Watch = TimeSpan.FromMinutes(1) }), StringComparison.Ordinal);
        death.Set();
        beating.Join();
        List<string> told = [];
        FolderLock.Take(_folder.Path, tell: told.Add, times: Quick).Dispose();
        Assert.Contains("for a sign of life", Assert.Single(told), StringComparison.Ordinal);
    }

    [Fact]
    public void A_holder_gives_signs_of_life()
    {
        using FolderLock held = FolderLock.Take(_folder.Path, times: Quick);
        long Beats() => (long)JsonNode.Parse(Repository.Run("head", ["-n", "1", LockFile]).Output)!["beats"]!;
        Assert.True(SpinWait.SpinUntil(() => Beats() > 2, TimeSpan.FromMinutes(1)));
    }

    [Fact]
    public void A_holder_from_which_the_folder_was_taken_learns_of_it_and_takes_nothing_back()
    {
        using ManualResetEventSlim lost = new();
        string said = "";
        using (FolderLock held = FolderLock.Take(_folder.Path, times: Quick, lost: error =>
        {
            said = error.Message;
            lost.Set();
        }))
        {
            WriteRecord(("host", "n9"), ("slurm_job", "77"));
            Assert.True(lost.Wait(TimeSpan.FromMinutes(1)));
        }
        Assert.Matches("another launch has taken this folder from this one: process [0-9]+ on n9, Slurm job 77, since ", said);
        Assert.True(File.Exists(LockFile));
    }

    [Theory]
    [InlineData("")]
    [InlineData("{}\n")]
    [InlineData("null\n")]
    [InlineData("\0\0\0\0")]
    [InlineData("{\"key\":null,\"host\":null}\n")]
    public void A_file_without_a_record_is_nobodys(string text)
    {
        File.WriteAllText(LockFile, text);
        FolderLock.Take(_folder.Path).Dispose();
        Assert.False(File.Exists(LockFile));
    }

    private string Refused(LockTimes? times = null) => Assert.Throws<UserError>(() => FolderLock.Take(_folder.Path, times: times ?? Quick)).Message;

    /// <summary>As this process would have it, but for some fields; not through .NET's own way to open, which asks for the lock.</summary>
    private void WriteRecord(params (string Field, JsonNode Value)[] fields)
    {
        JsonObject record = new()
        {
            ["key"] = "k",
            ["host"] = Environment.MachineName,
            ["boot"] = File.ReadAllText("/proc/sys/kernel/random/boot_id").Trim(),
            ["process"] = 1,
            ["process_start"] = 0,
            ["slurm_job"] = null,
            ["since"] = "2026-01-02T03:04:05+00:00",
            ["beats"] = 0,
        };
        foreach ((string field, JsonNode value) in fields) record[field] = value.DeepClone();
        string aside = _folder.File("record");
        File.WriteAllText(aside, record.ToJsonString() + "\n");
        File.Move(aside, LockFile, overwrite: true);
    }
}
