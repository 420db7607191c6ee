using YamlDotNet.Core;
using YamlDotNet.Core.Events;

namespace LoftHpc.Configuration;

/// <summary>Where a value comes from, as errors show it. Problems are listed in the order of <paramref name="Order"/>.</summary>
internal readonly record struct ConfigSource(string Text, long Order);

/// <summary>One thing that is wrong with a config: where, and what is allowed.</summary>
internal sealed record ConfigProblem(ConfigSource Source, string Message)
{
    public override string ToString() => $"{Source.Text}: {Message}";
}

/// <summary>A YAML value that knows where it stands.</summary>
internal abstract record ConfigNode(ConfigSource Source);

/// <param name="Quoted">False for a plain scalar, which alone can be a number, true, false, or null.</param>
internal sealed record ConfigScalar(string Text, bool Quoted, ConfigSource Source) : ConfigNode(Source)
{
    public bool IsNull => !Quoted && Text is "" or "~" or "null";
}

internal sealed record ConfigList(IReadOnlyList<ConfigNode> Items, ConfigSource Source) : ConfigNode(Source);

internal sealed record ConfigMap(Dictionary<string, (ConfigNode Value, ConfigSource KeySource)> Entries, ConfigSource Source) : ConfigNode(Source);

/// <summary>
/// Builds the tree of a YAML text from the parser's events. YamlDotNet's own tree stops at the first duplicate key,
/// and a user wants to see all problems at once.
/// </summary>
internal sealed class ConfigNodeReader
{
    /// <summary>Lists and sections inside each other; a config has four.</summary>
    private const int MostNesting = 20;

    private readonly Parser _parser;
    private readonly Func<Mark, ConfigSource> _source;
    private readonly List<ConfigProblem> _problems;

    private ConfigNodeReader(TextReader text, Func<Mark, ConfigSource> source, List<ConfigProblem> problems)
    {
        _parser = new Parser(text);
        _source = source;
        _problems = problems;
    }

    /// <summary>The one document of a text; null for an empty one.</summary>
    /// <exception cref="UserError">It is not YAML.</exception>
    public static ConfigNode? Read(TextReader text, Func<Mark, ConfigSource> source, List<ConfigProblem> problems)
    {
        ConfigNodeReader reader = new(text, source, problems);
        try
        {
            reader._parser.Consume<StreamStart>();
            if (!reader._parser.TryConsume<DocumentStart>(out _)) return null;
            ConfigNode node = reader.ReadNode(MostNesting);
            reader._parser.Consume<DocumentEnd>();
            if (reader._parser.TryConsume<DocumentStart>(out var second))
                problems.Add(new ConfigProblem(source(second.Start), "a second YAML document starts here; allowed: one document"));
            return node;
        }
        // The parser has exceptions of its own, and on some texts runs into others.
        catch (Exception error)
        {
            Mark place = error is YamlException yaml ? yaml.Start : reader._parser.Current?.End ?? Mark.Empty;
            string reason = error is YamlException ? error.Message : "the parser cannot read on from here (is a bracket or a quote left open?)";
            throw new UserError($"{source(place).Text}: not valid YAML: {PlainText.Of(reason)}", error);
        }
    }

    /// <param name="nesting">How much deeper it may go.</param>
    private ConfigNode ReadNode(int nesting)
    {
        // An alias would make one node stand at two places, and an override of one of them change both.
        if (_parser.Accept<AnchorAlias>(out _))
            throw new YamlException(_parser.Current!.Start, _parser.Current.End, "aliases (*name) are not used here, write the value out");
        if (nesting == 0)
            throw new YamlException(_parser.Current!.Start, _parser.Current.End, $"more than {MostNesting} lists and sections inside each other");
        NodeEvent start = _parser.Consume<NodeEvent>();
        ConfigSource source = _source(start.Start);
        if (!start.Tag.IsEmpty && !start.Tag.IsNonSpecific)
            _problems.Add(new ConfigProblem(source, $"the tag {PlainText.Of(start.Tag.ToString())} is not used here; leave it out"));
        return start switch
        {
            Scalar scalar => new ConfigScalar(scalar.Value, scalar.Style != ScalarStyle.Plain, source),
            SequenceStart => ReadList(source, nesting - 1),
            _ => ReadMap(source, nesting - 1),
        };
    }

    private ConfigList ReadList(ConfigSource source, int nesting)
    {
        List<ConfigNode> items = [];
        while (!_parser.TryConsume<SequenceEnd>(out _)) items.Add(ReadNode(nesting));
        return new ConfigList(items, source);
    }

    private ConfigMap ReadMap(ConfigSource source, int nesting)
    {
        ConfigMap map = new([], source);
        while (!_parser.TryConsume<MappingEnd>(out _))
        {
            ConfigNode key = ReadNode(nesting);
            ConfigNode value = ReadNode(nesting);
            if (key is not ConfigScalar { Text: string name })
                _problems.Add(new ConfigProblem(key.Source, "a list or section stands where a key is expected"));
            else if (!map.Entries.TryAdd(name, (value, key.Source)))
                _problems.Add(new ConfigProblem(key.Source, $"duplicate key {PlainText.Of(name)}, first given at {map.Entries[name].KeySource.Text}; allowed: each key once"));
        }
        return map;
    }
}
