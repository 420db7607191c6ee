using LoftHpc.Configuration;
using Xunit;

namespace LoftHpc.Tests.Configuration;

public sealed class ConfigReferenceTests
{
    /// <summary>To mend it: put what `lofthpc config --reference` prints into docs/configuration.md.</summary>
    [Fact]
    public void The_table_in_the_docs_is_that_of_the_types()
    {
        string[] documented = [.. File.ReadLines(Repository.File("docs", "configuration.md")).Where(line => line.StartsWith('|'))];
        Assert.Equal(ConfigReference.Table().TrimEnd('\n').Split('\n'), documented);
    }

    [Fact]
    public void Every_key_has_a_meaning_and_the_default_that_a_config_without_it_has()
    {
        string[] rows = [.. ConfigReference.Table().TrimEnd('\n').Split('\n').Skip(2)];
        (string Key, string Value)[] defaults = [.. RunConfigLoader.Settings(new RunConfig())];
        Assert.Equal(defaults.Length, rows.Length);
        foreach (((string key, string value), string row) in defaults.Zip(rows))
        {
            Assert.StartsWith($"| `{key}` | `{value}` | ", row, StringComparison.Ordinal);
            Assert.DoesNotContain("|  |", row, StringComparison.Ordinal);
        }
        Assert.Contains("| `run.threads` | `auto` | a whole number from 1 to 1024, or auto | Threads of a rank.", string.Join('\n', rows), StringComparison.Ordinal);
    }

    [Fact]
    public void A_commented_config_loads_back()
    {
        RunConfig config = RunConfigLoader.Parse("""
            run: {name: "null", threads: 3}
            pretrain: {snapshots: [1, 2], optimizer: {milestones: [2 epochs, 5 epochs]}, gpipe: {cuts: [layer2.0]}}
            extract: {from: "a: b # c"}
            """, "test");
        string text = ConfigReference.Commented(config);
        Assert.Equal(RunConfigLoader.ToYaml(config), RunConfigLoader.ToYaml(RunConfigLoader.Parse(text, "commented")));
        Assert.Contains("""
              # Passes over the training images.
              # 20 (default); allowed: a whole number from 0 to 1000000
              epochs: 20
            """, text, StringComparison.Ordinal);
        // A comment for each key, above it.
        string[] lines = text.TrimEnd('\n').Split('\n');
        Assert.Equal(2 * RunConfigLoader.Settings(config).Count(), lines.Count(line => line.TrimStart().StartsWith('#')));
    }
}
