using LoftHpc.Configuration;
using Xunit;

namespace LoftHpc.Tests.Configuration;

public class CheckpointIntervalTests
{
    [Theory]
    [InlineData("10 minutes", 10, IntervalUnit.Minutes, "10 minutes")]
    [InlineData("1 minutes", 1, IntervalUnit.Minutes, "1 minute")]
    [InlineData("500 steps", 500, IntervalUnit.Steps, "500 steps")]
    [InlineData("1 epoch", 1, IntervalUnit.Epochs, "1 epoch")]
    public void It_is_read_and_written(string text, int count, IntervalUnit unit, string written)
    {
        Assert.True(CheckpointInterval.TryParse(text, out CheckpointInterval interval));
        Assert.Equal(new CheckpointInterval(count, unit), interval);
        Assert.Equal(written, interval.ToString());
    }

    [Theory]
    [InlineData("10")]
    [InlineData("10 hours")]
    [InlineData("-1 steps")]
    [InlineData("1  step")]
    [InlineData("")]
    public void Other_text_is_none(string text) => Assert.False(CheckpointInterval.TryParse(text, out _));

    [Fact]
    public void It_is_in_steps_or_in_time()
    {
        Assert.Equal((500L, null), (new CheckpointInterval(500, IntervalUnit.Steps).ToSteps(7), new CheckpointInterval(500, IntervalUnit.Steps).ToTime()));
        Assert.Equal((21L, null), (new CheckpointInterval(3, IntervalUnit.Epochs).ToSteps(7), new CheckpointInterval(3, IntervalUnit.Epochs).ToTime()));
        Assert.Equal((null, TimeSpan.FromMinutes(10)), (new CheckpointInterval(10, IntervalUnit.Minutes).ToSteps(7), new CheckpointInterval(10, IntervalUnit.Minutes).ToTime()));
    }

    [Fact]
    public void A_config_takes_it()
    {
        Assert.Equal(new CheckpointInterval(10, IntervalUnit.Minutes), RunConfigLoader.Parse("", "test").Checkpoint.Every);
        Assert.Null(RunConfigLoader.Parse("checkpoint: {every: never}", "test").Checkpoint.Every);
        RunConfig config = RunConfigLoader.Parse("checkpoint: {every: 2 epochs, keep: 3}", "test");
        Assert.Equal(config.Checkpoint, RunConfigLoader.Parse(RunConfigLoader.ToYaml(config), "test").Checkpoint);
        UserError error = Assert.Throws<UserError>(() => RunConfigLoader.Parse("checkpoint: {every: 0 steps}", "test"));
        Assert.Contains("checkpoint.every: found 0 steps; allowed: a span such as 10 minutes, 1 epoch or 500 steps, from 1 to 1000000000, or never", error.Message, StringComparison.Ordinal);
        error = Assert.Throws<UserError>(() => RunConfigLoader.Parse("run: {overwrite: true, resume: auto}", "test"));
        Assert.Contains("run.resume: auto goes on with a run folder that run.overwrite would replace", error.Message, StringComparison.Ordinal);
    }
}
