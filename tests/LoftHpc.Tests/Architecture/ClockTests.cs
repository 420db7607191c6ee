using System.Text.RegularExpressions;
using Xunit;

namespace LoftHpc.Tests.Architecture;

/// <summary>
/// A clock that is set, by hand or by NTP, changes no duration: those come from Stopwatch, which counts on. The time of the day is
/// read only to be shown, or for the record, and is compared with nothing but the end of a job that Slurm tells, once.
/// </summary>
public sealed partial class ClockTests
{
    private static readonly string[] Shown = ["Results/FolderLaunch.cs", "Results/FolderLock.cs", "Stages/LaunchLimits.cs", "Stages/Session.cs"];

    [Fact]
    public void The_time_of_the_day_is_read_for_records_only()
    {
        string source = Repository.File("src", "LoftHpc");
        List<string> found = [];
        foreach (string path in Directory.EnumerateFiles(source, "*.cs", SearchOption.AllDirectories).Where(path => !path.Contains("/obj/", StringComparison.Ordinal)))
        {
            string code = File.ReadAllText(path), file = Path.GetRelativePath(source, path);
            // A file's times, and those of processes, go by the same clock.
            Assert.DoesNotMatch(FileTimes(), code);
            if (TimeOfDay().IsMatch(code)) found.Add(file);
            Assert.True(TimeOfDay().Count(code) <= 1, file);
        }
        Assert.Equal(Shown, found.Order());
    }

    [GeneratedRegex(@"\b(DateTime|DateTimeOffset)\.(Now|UtcNow|Today)\b|GetUtcNow|GetLocalNow")]
    private static partial Regex TimeOfDay();

    [GeneratedRegex(@"LastWriteTime|LastAccessTime|CreationTime|\.StartTime\b")]
    private static partial Regex FileTimes();
}
