using System.Text;

namespace LoftHpc.Configuration;

/// <summary>Every key of a config with its meaning, its default and what is allowed, from the config's own types.</summary>
public static class ConfigReference
{
    /// <summary>A table in Markdown, with a row for each key.</summary>
    public static string Table()
    {
        StringBuilder table = new("| key | default | allowed | meaning |\n|---|---|---|---|\n");
        foreach ((ConfigKey key, string path, object section) in Keys(new RunConfig(), ""))
        {
            // A bar would end a cell.
            string Cell(string text) => text.Replace("|", "\\|", StringComparison.Ordinal);
            table.Append($"| `{path}` | `{key.Text(section)}` | {Cell(key.BrieflyAllowed)} | {Cell(key.Meaning)} |\n");
        }
        return table.ToString();
    }

    /// <summary>The config as YAML, with every key, and before each what it means, what is allowed and its default. It loads back to an equal config.</summary>
    public static string Commented(RunConfig config)
    {
        StringBuilder text = new();
        Dictionary<string, string> defaults = Keys(new RunConfig(), "").ToDictionary(key => key.Path, key => key.Key.Text(key.Section));
        // Each key has a line of its own there, in the order of the records.
        using StringReader lines = new(RunConfigLoader.ToYaml(config));
        Comment(config, "", "");
        return text.ToString();

        void Comment(object section, string prefix, string indent)
        {
            foreach (ConfigKey key in ConfigKey.Of(section.GetType()))
            {
                if (!key.IsSection)
                    text.Append($"{indent}# {key.Meaning}\n{indent}# {defaults[prefix + key.Name]} (default); allowed: {key.BrieflyAllowed}\n");
                text.Append($"{lines.ReadLine()}\n");
                if (key.IsSection) Comment(key.Get(section)!, $"{prefix}{key.Name}.", $"{indent}  ");
            }
        }
    }

    /// <summary>The keys that are no sections, with their paths, and the sections that have them.</summary>
    private static IEnumerable<(ConfigKey Key, string Path, object Section)> Keys(object section, string prefix) =>
        ConfigKey.Of(section.GetType()).SelectMany(key =>
            key.IsSection ? Keys(key.Get(section)!, $"{prefix}{key.Name}.") : [(key, prefix + key.Name, section)]);
}
