using Xunit;

namespace LoftHpc.Tests;

public sealed class PlainTextTests
{
    [Theory]
    [InlineData("", "")]
    [InlineData("plain \u00e9 \u6f22 \ud83d\ude00 \\ \"x\"", "plain \u00e9 \u6f22 \ud83d\ude00 \\ \"x\"")]
    [InlineData("a\u001b[31mb\r\n\tc\0", @"a\x1b[31mb\x0d\x0a\x09c\x00")]
    [InlineData("\u007f\u0085\u009b", @"\x7f\x85\x9b")]
    [InlineData("\u2028\u2029\u202e\u2066\u200f\u061c\ufeff\u200b", @"\u2028\u2029\u202e\u2066\u200f\u061c\ufeff\u200b")]
    // A tag character of the last planes.
    [InlineData("\U000e0041", @"\U000e0041")]
    public void What_a_terminal_would_obey_or_hide_is_written_out(string text, string plain)
    {
        Assert.Equal(plain, PlainText.Of(text));
        Assert.Equal(text == plain, PlainText.IsPlain(text));
    }

    // No attribute can hold half of a pair of surrogates.
    [Fact]
    public void Half_a_pair_of_surrogates_is_written_out() => Assert.Equal(@"a\ud83db\ude00", PlainText.Of("a\ud83db\ude00"));

    [Fact]
    public void A_long_text_is_cut_in_the_middle_and_between_characters()
    {
        string full = new('a', 200);
        Assert.Equal(full, PlainText.Of(full));
        Assert.Equal(new string('a', 100) + "..." + new string('b', 100), PlainText.Of(new string('a', 5000) + new string('b', 5000)));
        string faces = string.Concat(Enumerable.Repeat("\ud83d\ude00", 500));
        string cut = PlainText.Of("x" + faces + "y");
        Assert.DoesNotContain("\\ud83d", cut, StringComparison.Ordinal);
        Assert.InRange(cut.Length, 190, 210);
    }
}
