using System.ComponentModel.DataAnnotations;
using LoftHpc.Configuration;

namespace LoftHpc.Sweeping;

/// <summary>The keys at the top of a sweep's file, but for methods and axes.</summary>
public sealed record SweepSection
{
    /// <summary>The config of all runs; in the file, relative to it.</summary>
    public string Config { get; init; } = "";

    /// <summary>Where the tables go, and into runs/ the run folders; relative to the working folder. Null: results/ and the file's name.</summary>
    public string? Folder { get; init; }

    /// <summary>The group that the others are compared with. Null: that of the first run.</summary>
    [WrittenAs("first")]
    public string? Baseline { get; init; }

    public IReadOnlyList<long> Seeds { get; init; } = [1];

    /// <summary>Of the methods that name none.</summary>
    [Range(1, 1_000_000)]
    public IReadOnlyList<int> Ranks { get; init; } = [1];

    /// <summary>section.key=value, of all runs.</summary>
    public IReadOnlyList<string> Overrides { get; init; } = [];
}

/// <summary>One of the methods of a sweep.</summary>
public sealed record SweepMethod
{
    /// <summary>With it the names of its runs begin.</summary>
    public string Name { get; init; } = "";

    /// <summary>A run for each. Empty: those at the top of the file.</summary>
    [Range(1, 1_000_000)]
    public IReadOnlyList<int> Ranks { get; init; } = [];

    /// <summary>section.key=value, in which it differs from the other methods.</summary>
    public IReadOnlyList<string> Set { get; init; } = [];
}

/// <summary>A key of which several values are tried.</summary>
/// <param name="Key">section.key.</param>
/// <param name="Values">As an override has them.</param>
public sealed record SweepAxis(string Key, IReadOnlyList<string> Values);

/// <summary>What a sweep's file says. A run is made for each method, number of ranks, combination of the axes' values, and seed.</summary>
/// <param name="Path">Of the file.</param>
/// <param name="Methods">One at least; each with the place where it stands, for errors.</param>
public sealed record SweepFile(string Path, SweepSection Section, IReadOnlyList<(SweepMethod Method, string Place)> Methods, IReadOnlyList<SweepAxis> Axes)
{
    /// <summary>Of the key baseline: nothing is compared with anything.</summary>
    public const string NoBaseline = "none";

    /// <exception cref="UserError">The file cannot be read, or something in it is not allowed; a line for each problem.</exception>
    public static SweepFile Load(string path) => Parse(RunConfigLoader.ReadText(path), path);

    /// <summary>As <see cref="Load"/>, from text; <paramref name="path"/> stands for the file.</summary>
    public static SweepFile Parse(string text, string path)
    {
        List<ConfigProblem> problems = [];
        ConfigMap root = RunConfigLoader.ReadRoot(text, path, problems);
        SweepSection section = new();
        new RunConfigLoader.Binder(problems, typeof(SweepSection), "methods", "axes").Bind(section, "", root);
        if (!root.Entries.ContainsKey("config")) problems.Add(new ConfigProblem(root.Source, "config is missing: the config file of all runs, relative to this file"));
        foreach (string key in (string[])["seeds", "ranks"])
        {
            if (root.Entries.TryGetValue(key, out (ConfigNode Value, ConfigSource) entry) && entry.Value is ConfigList { Items.Count: 0 })
                problems.Add(new ConfigProblem(entry.Value.Source, $"{key}: found an empty list; allowed: one item at least"));
        }
        List<(SweepMethod, string)> methods = ReadMethods(root, problems);
        List<SweepAxis> axes = ReadAxes(root, problems);
        RunConfigLoader.ThrowAny(problems);
        string config = System.IO.Path.Combine(System.IO.Path.GetDirectoryName(path) ?? "", section.Config);
        string folder = section.Folder ?? System.IO.Path.Combine("results", System.IO.Path.GetFileNameWithoutExtension(path));
        string ofConfig = System.IO.Path.GetFileNameWithoutExtension(config);
        if (methods.Count == 0) methods.Add((new SweepMethod { Name = IsName(ofConfig) ? ofConfig : "run" }, PlainText.Of(path)));
        return new SweepFile(path, section with { Config = config, Folder = folder }, methods, axes);
    }

    private static List<(SweepMethod, string)> ReadMethods(ConfigMap root, List<ConfigProblem> problems)
    {
        const string allowed = "allowed: a list of methods with the keys name, ranks and set";
        List<(SweepMethod, string)> methods = [];
        if (!root.Entries.TryGetValue("methods", out (ConfigNode Value, ConfigSource) entry)) return methods;
        if (entry.Value is not ConfigList { Items.Count: > 0 } list)
        {
            problems.Add(new ConfigProblem(entry.Value.Source, $"methods: found {(entry.Value is ConfigList ? "an empty list" : ConfigKey.Describe(entry.Value))}; {allowed}"));
            return methods;
        }
        foreach (ConfigNode item in list.Items)
        {
            if (item is not ConfigMap map)
            {
                problems.Add(new ConfigProblem(item.Source, $"methods: found {ConfigKey.Describe(item)}; {allowed}"));
                continue;
            }
            SweepMethod method = new();
            new RunConfigLoader.Binder(problems, typeof(SweepMethod)).Bind(method, "", map);
            if (!map.Entries.ContainsKey("name")) problems.Add(new ConfigProblem(map.Source, "name is missing: with it the names of the method's runs begin"));
            else if (method.Name is { Length: > 0 } name && !IsName(name))
                problems.Add(new ConfigProblem(map.Entries["name"].Value.Source, $"name: found {PlainText.Of(name)}; allowed: letters, digits, and . _ + - after the first"));
            methods.Add((method, map.Source.Text));
        }
        return methods;
    }

    private static List<SweepAxis> ReadAxes(ConfigMap root, List<ConfigProblem> problems)
    {
        List<SweepAxis> axes = [];
        if (!root.Entries.TryGetValue("axes", out (ConfigNode Value, ConfigSource) entry) || entry.Value is ConfigScalar { IsNull: true }) return axes;
        if (entry.Value is not ConfigMap map)
        {
            problems.Add(new ConfigProblem(entry.Value.Source, $"axes: found {ConfigKey.Describe(entry.Value)}; allowed: section.key: [value, value]"));
            return axes;
        }
        foreach ((string key, (ConfigNode node, _)) in map.Entries)
        {
            if (node is ConfigList { Items.Count: > 0 } list && list.Items.All(item => item is ConfigScalar { IsNull: false }))
                axes.Add(new SweepAxis(key, [.. list.Items.Select(item => ((ConfigScalar)item).Text)]));
            else
                problems.Add(new ConfigProblem(node.Source, $"axes: {PlainText.Of(key)}: found {(node is ConfigList ? "a list that is empty or has other items" : ConfigKey.Describe(node))}; allowed: a list of values, such as [0.1, 0.05]"));
        }
        return axes;
    }

    /// <summary>Whether a text may stand in the name of a run, of its folder and of its log.</summary>
    private static bool IsName(string text) => char.IsAsciiLetterOrDigit(text[0]) && text.All(IsOfName);

    internal static bool IsOfName(char c) => char.IsAsciiLetterOrDigit(c) || c is '.' or '_' or '+' or '-';
}
