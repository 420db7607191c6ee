using System.Diagnostics;
using System.Text;
using LoftHpc.Configuration;
using LoftHpc.Tests.Results;
using Xunit;

namespace LoftHpc.Tests.Configuration;

/// <summary>How the text of a config comes into the program.</summary>
public sealed class ConfigTextTests : IDisposable
{
    private const string Expected = "; expected a config file in YAML, UTF-8 text of at most 1 MiB";

    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    private string Written(byte[] bytes)
    {
        string path = Path.Combine(_folder.Path, "a.yaml");
        File.WriteAllBytes(path, bytes);
        return path;
    }

    private static string ProblemOf(string path) => Assert.Throws<UserError>(() => RunConfigLoader.ReadText(path)).Message;

    [Fact]
    public void A_file_is_read_as_it_is_and_without_a_byte_order_mark()
    {
        const string text = "run: { name: \u00e9\u6f22 }\r\n\t# a tab\n";
        Assert.Equal(text, RunConfigLoader.ReadText(Written(Encoding.UTF8.GetBytes(text))));
        Assert.Equal(text, RunConfigLoader.ReadText(Written([.. Encoding.UTF8.Preamble, .. Encoding.UTF8.GetBytes(text)])));
        Assert.Equal("", RunConfigLoader.ReadText(Written([])));
        Assert.Equal("", RunConfigLoader.ReadText("/dev/null"));
    }

    [Fact]
    public void A_file_may_have_1_MiB_and_no_byte_more()
    {
        Assert.Equal(1 << 20, RunConfigLoader.ReadText(Written([.. Enumerable.Repeat((byte)'#', 1 << 20)])).Length);
        string path = Written([.. Enumerable.Repeat((byte)'#', (1 << 20) + 1)]);
        Assert.Equal($"{path}: it is longer than 1048576 bytes{Expected}", ProblemOf(path));
    }

    [Fact]
    public void A_pipe_is_read_to_its_end()
    {
        string path = Path.Combine(_folder.Path, "pipe");
        using (Process mkfifo = Process.Start("mkfifo", path)) mkfifo.WaitForExit();
        using Process writer = Process.Start("bash", ["-c", $"(echo 'run:'; sleep 0.1; echo '  name: piped') > '{path}'"]);
        Assert.Equal("piped", RunConfigLoader.Load(path).Run.Name);
        writer.WaitForExit();
    }

    /// <summary>With what this ate before it was bounded, the test would not end.</summary>
    [Fact]
    public void A_file_without_an_end_is_read_no_further_than_the_bound()
    {
        long before = GC.GetAllocatedBytesForCurrentThread();
        Assert.Equal($"/dev/zero: it is longer than 1048576 bytes{Expected}", ProblemOf("/dev/zero"));
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 1 << 22);
    }

    public static TheoryData<byte[], string> NotText => new()
    {
        { [(byte)'a', 0xff], "it is not text in UTF-8" },
        { [0xc3], "it is not text in UTF-8" },
        { [0xed, 0xa0, 0x80], "it is not text in UTF-8" },
        { [.. Encoding.Unicode.Preamble, .. Encoding.Unicode.GetBytes("run: {}")], "it is not text in UTF-8" },
        { [.. Encoding.BigEndianUnicode.Preamble, .. Encoding.BigEndianUnicode.GetBytes("run: {}")], "it is not text in UTF-8" },
        { [.. Encoding.UTF32.Preamble, .. Encoding.UTF32.GetBytes("run: {}")], "it is not text in UTF-8" },
    };

    [Theory]
    [MemberData(nameof(NotText))]
    public void Bytes_that_are_no_text_are_refused(byte[] bytes, string problem)
    {
        string path = Written(bytes);
        Assert.Equal($"{path}: {problem}{Expected}", ProblemOf(path));
    }

    [Theory]
    [InlineData("run: {}\n\n\0", 3, @"\x00")]
    [InlineData("# \u001b[31m", 1, @"\x1b")]
    [InlineData("#\r\n# \u0085", 2, @"\x85")]
    [InlineData("r\0u\0n\0", 1, @"\x00")]
    public void Control_characters_are_refused_with_their_line(string text, int line, string shown)
    {
        string path = Written(Encoding.UTF8.GetBytes(text));
        Assert.Equal($"{path}:{line}: there is a control character ({shown}){Expected}", ProblemOf(path));
    }

    [Fact]
    public void What_is_no_file_is_one_line()
    {
        Assert.Equal($"{_folder.Path}: it is a folder{Expected}", ProblemOf(_folder.Path));
        Assert.Equal($"{_folder.Path}/x: there is no such file{Expected}", ProblemOf($"{_folder.Path}/x"));
        Assert.Equal($"{_folder.Path}/x/y: there is no such file{Expected}", ProblemOf($"{_folder.Path}/x/y"));
        foreach (string path in new[] { "", "a\0b", new string('n', 10_000), string.Concat(Enumerable.Repeat("n/", 5_000)), "/dev/null/x", "a\u001b[31m", "\ud800" })
        {
            string problem = ProblemOf(path);
            Assert.True(PlainText.IsPlain(problem), problem);
            Assert.InRange(problem.Length, 1, 1000);
            Assert.EndsWith(Expected, problem, StringComparison.Ordinal);
        }
    }

    [SkippableFact]
    public void A_file_that_may_not_be_read_is_one_line()
    {
        string path = Written("run: {}"u8.ToArray());
        File.SetUnixFileMode(path, UnixFileMode.None);
        Skip.If(Environment.IsPrivilegedProcess, "root may read every file");
        Assert.Contains("denied", ProblemOf(path), StringComparison.Ordinal);
    }
}
