using System.Buffers;
using System.Globalization;
using System.Text;
using YamlDotNet.Core;
using YamlDotNet.Core.Events;

namespace LoftHpc.Configuration;

/// <summary>
/// Reads a config file strictly: every unknown key, wrong type, duplicate and impossible value is a problem, and all
/// problems come in one error, one line each, with file, line, key and what is allowed.
/// </summary>
public static class RunConfigLoader
{
    /// <summary>Bytes of a config file, sections in the path of an override, and problems that are listed.</summary>
    private const int MostBytes = 1 << 20, MostSections = 10, MostProblems = 20;

    private const string Expected = "expected a config file in YAML, UTF-8 text of at most 1 MiB";

    private static readonly UTF8Encoding Utf8 = new(encoderShouldEmitUTF8Identifier: false, throwOnInvalidBytes: true);

    /// <summary>The config of a file, with <paramref name="overrides"/> (<c>section.key=value</c>) put over it.</summary>
    /// <param name="path">A YAML file; keys that it lacks have their defaults.</param>
    /// <param name="overrides">They win over the file, and the later over the earlier. Lists are YAML: <c>pretrain.snapshots=[1,2]</c>.</param>
    /// <exception cref="UserError">The file cannot be read, or something in it or in the overrides is not allowed.</exception>
    public static RunConfig Load(string path, IEnumerable<string>? overrides = null) => Parse(ReadText(path), path, overrides);

    /// <summary>The text of a config file, which may be a pipe.</summary>
    /// <exception cref="UserError">It cannot be read, is too long, or is not plain text in UTF-8.</exception>
    public static string ReadText(string path)
    {
        string name = PlainText.Of(path), text;
        try
        {
            if (RegularFile.WhatElse(path) is "a folder") throw new UserError($"{name}: it is a folder; {Expected}");
            byte[] bytes = new byte[MostBytes + 1];
            using FileStream file = new(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite, bufferSize: 0);
            int read = file.ReadAtLeast(bytes, bytes.Length, throwOnEndOfStream: false);
            if (read > MostBytes) throw new UserError($"{name}: it is longer than {MostBytes} bytes; {Expected}");
            text = Utf8.GetString(bytes, 0, read);
        }
        catch (DecoderFallbackException error)
        {
            throw new UserError($"{name}: it is not text in UTF-8; {Expected}", error);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException or ArgumentException or NotSupportedException)
        {
            string reason = error is FileNotFoundException or DirectoryNotFoundException ? "there is no such file" : PlainText.Of(error.Message);
            throw new UserError($"{name}: {reason}; {Expected}", error);
        }
        // The mark that some editors put first.
        if (text.StartsWith('\ufeff')) text = text[1..];
        int at = text.AsSpan().IndexOfAny(Unprintable);
        if (at < 0) return text;
        int line = 1 + text.AsSpan(0, at).Count('\n');
        throw new UserError(string.Create(CultureInfo.InvariantCulture, $"{name}:{line}: there is a control character ({PlainText.Of(text[at..(at + 1)])}); {Expected}"));
    }

    /// <summary>As <see cref="Load"/>, from text; <paramref name="name"/> stands for the file in errors.</summary>
    public static RunConfig Parse(string text, string name, IEnumerable<string>? overrides = null)
    {
        List<ConfigProblem> problems = [];
        ConfigMap root = ReadRoot(text, name, problems);
        long order = int.MaxValue;
        foreach (string item in overrides ?? []) Override(root, item, new ConfigSource($"override {PlainText.Of(item)}", order++), problems);

        RunConfig config = new();
        Binder binder = new(problems, typeof(RunConfig));
        binder.Bind(config, "", root);
        problems.AddRange(RunConfigRules.Broken(config)
            .Where(rule => !rule.Keys.Any(binder.Faulty.Contains))
            .Select(rule => new ConfigProblem(binder.SourceOf(rule.Keys), $"{rule.Keys[0]}: {rule.Message}")));
        ThrowAny(problems);
        return config;
    }

    /// <summary>The keys at the top of a YAML text; <paramref name="name"/> stands for the file in errors.</summary>
    internal static ConfigMap ReadRoot(string text, string name, List<ConfigProblem> problems)
    {
        name = PlainText.Of(name);
        ConfigSource LineOf(Mark mark) => new(string.Create(CultureInfo.InvariantCulture, $"{name}:{mark.Line}"), mark.Line);
        ConfigNode? document = ConfigNodeReader.Read(new StringReader(text), LineOf, problems);
        if (document is not (null or ConfigMap or ConfigScalar { IsNull: true }))
            problems.Add(new ConfigProblem(document.Source, $"{ConfigKey.Describe(document)} stands where sections are expected"));
        return document as ConfigMap ?? new ConfigMap([], new ConfigSource(name, 0));
    }

    /// <exception cref="UserError">There is a problem; all of them, a line each.</exception>
    internal static void ThrowAny(List<ConfigProblem> problems)
    {
        if (problems.Count > 0) throw UserError.OfLines(Lines(problems));
    }

    private static IEnumerable<string> Lines(List<ConfigProblem> problems)
    {
        int listed = 0;
        foreach (ConfigProblem problem in problems.OrderBy(problem => problem.Source.Order).Take(MostProblems))
            yield return ++listed == MostProblems && problems.Count > listed ? $"{problem}; and {problems.Count - listed} problems more" : problem.ToString();
    }

    /// <summary>What no line of a text file holds, and a parser of YAML would refuse or drop.</summary>
    private static readonly SearchValues<char> Unprintable = SearchValues.Create(
        [.. Enumerable.Range(0, 0xA0).Select(i => (char)i).Where(c => char.IsControl(c) && c is not ('\t' or '\n' or '\r'))]);

    /// <summary>Every key with its value, in the order of the records; it loads back to an equal config.</summary>
    public static string ToYaml(RunConfig config)
    {
        StringWriter text = new(new StringBuilder(), CultureInfo.InvariantCulture) { NewLine = "\n" };
        Emitter emitter = new(text);
        emitter.Emit(new StreamStart());
        emitter.Emit(new DocumentStart(null, null, isImplicit: true));
        EmitSection(emitter, config);
        emitter.Emit(new DocumentEnd(isImplicit: true));
        emitter.Emit(new StreamEnd());
        return text.ToString();
    }

    /// <summary>Every key as <c>section.key</c> with the text of its value, in the order of the records.</summary>
    public static IEnumerable<(string Key, string Value)> Settings(RunConfig config) => Settings(config, "");

    private static IEnumerable<(string Key, string Value)> Settings(object section, string prefix)
    {
        foreach (ConfigKey key in ConfigKey.Of(section.GetType()))
        {
            object? value = key.Get(section);
            if (key.IsSection)
            {
                foreach ((string, string) setting in Settings(value!, $"{prefix}{key.Name}.")) yield return setting;
            }
            else
            {
                yield return (prefix + key.Name, key.Text(section));
            }
        }
    }

    private static void EmitSection(Emitter emitter, object section)
    {
        emitter.Emit(new MappingStart());
        foreach (ConfigKey key in ConfigKey.Of(section.GetType()))
        {
            emitter.Emit(new Scalar(key.Name));
            object? value = key.Get(section);
            if (key.IsSection)
            {
                EmitSection(emitter, value!);
            }
            else if (key.IsList)
            {
                emitter.Emit(new SequenceStart(AnchorName.Empty, TagName.Empty, isImplicit: true, SequenceStyle.Flow));
                foreach (object? item in (System.Collections.IEnumerable)value!) EmitScalar(emitter, key.Write(item));
                emitter.Emit(new SequenceEnd());
            }
            else
            {
                EmitScalar(emitter, key.Write(value));
            }
        }
        emitter.Emit(new MappingEnd());
    }

    private static void EmitScalar(Emitter emitter, (string Text, bool Quoted) value) =>
        emitter.Emit(new Scalar(
            AnchorName.Empty, TagName.Empty, value.Text, value.Quoted ? ScalarStyle.DoubleQuoted : ScalarStyle.Any,
            isPlainImplicit: true, isQuotedImplicit: true));

    /// <summary>Puts one <c>section.key=value</c> into the tree, in place of what the file has there.</summary>
    private static void Override(ConfigMap root, string item, ConfigSource source, List<ConfigProblem> problems)
    {
        int equals = item.IndexOf('=', StringComparison.Ordinal);
        if (equals <= 0)
        {
            problems.Add(new ConfigProblem(source, "not of the form section.key=value"));
            return;
        }
        string[] path = item[..equals].Split('.', MostSections + 1);
        if (path.Length > MostSections || path.Contains(""))
        {
            problems.Add(new ConfigProblem(source, "not of the form section.key=value: names with one dot between two of them"));
            return;
        }
        string text = item[(equals + 1)..];
        // Only lists and quoted text are read as YAML: a path or a name may hold characters that mean something there.
        ConfigNode value = (text.Length > 0 && text[0] is '[' or '{' or '"' or '\'' ? ConfigNodeReader.Read(new StringReader(text), _ => source, problems) : null)
            ?? new ConfigScalar(text, false, source);
        ConfigMap map = root;
        Type section = typeof(RunConfig);
        for (int i = 0; i < path.Length; i++)
        {
            ConfigKey? key = ConfigKey.Of(section).FirstOrDefault(key => key.Name == path[i]);
            string keyPath = string.Join('.', path[..(i + 1)]);
            if (i == path.Length - 1)
            {
                // In a file a section may stand empty; an override by nothing would drop what the file has there.
                if (key is { IsSection: true } && value is ConfigScalar { IsNull: true })
                    problems.Add(new ConfigProblem(source, $"{keyPath}: {key.Message(ConfigKey.Describe(value))}"));
                map.Entries[path[i]] = (value, source);
                return;
            }
            if (key is { IsSection: false })
            {
                problems.Add(new ConfigProblem(source, $"{keyPath}: {key.Message("a section")}"));
                return;
            }
            if (!map.Entries.TryGetValue(path[i], out (ConfigNode Value, ConfigSource) entry) || entry.Value is ConfigScalar { IsNull: true })
                map.Entries[path[i]] = entry = (new ConfigMap([], source), source);
            // A value where a section belongs, or an unknown key: the binder finds both.
            if (key is null || entry.Value is not ConfigMap inner) return;
            (map, section) = (inner, key.Type);
        }
    }

    /// <summary>Sets a record's properties from a tree, and keeps where each value came from.</summary>
    /// <param name="root">The record at the top.</param>
    /// <param name="besides">Keys at the top that are read by others.</param>
    internal sealed class Binder(List<ConfigProblem> problems, Type root, params IReadOnlyList<string> besides)
    {
        private readonly Dictionary<string, ConfigSource> _sources = [];

        /// <summary>Keys whose values have problems, so that rules on them say nothing more.</summary>
        public HashSet<string> Faulty { get; } = [];

        public ConfigSource SourceOf(string[] keys) =>
            keys.Select(key => _sources.TryGetValue(key, out ConfigSource source) ? source : (ConfigSource?)null)
                .FirstOrDefault(source => source is not null) ?? new ConfigSource("default", 0);

        public void Bind(object section, string prefix, ConfigMap map)
        {
            IReadOnlyList<ConfigKey> keys = ConfigKey.Of(section.GetType());
            foreach ((string name, (ConfigNode node, ConfigSource keySource)) in map.Entries)
            {
                string path = prefix + name;
                if (prefix.Length == 0 && besides.Contains(name)) continue;
                if (keys.FirstOrDefault(k => k.Name == name) is not { } key)
                {
                    problems.Add(new ConfigProblem(keySource, UnknownKey(prefix, name, keys)));
                }
                else if (key.IsSection)
                {
                    if (node is ConfigMap inner) Bind(key.Get(section)!, path + ".", inner);
                    else if (node is not ConfigScalar { IsNull: true }) Add(path, node.Source, key, ConfigKey.Describe(node));
                }
                else if (key.TryRead(node, out object? value, out string found, out ConfigSource source))
                {
                    key.Set(section, value);
                    _sources[path] = node.Source;
                }
                else
                {
                    Add(path, source, key, found);
                }
            }
        }

        private void Add(string path, ConfigSource source, ConfigKey key, string found)
        {
            problems.Add(new ConfigProblem(source, $"{path}: {key.Message(found)}"));
            Faulty.Add(path);
        }

        private string UnknownKey(string prefix, string name, IReadOnlyList<ConfigKey> keys)
        {
            string[] names = [.. keys.Select(k => k.Name), .. prefix.Length == 0 ? besides : []];
            string? near = Nearest(name, names) is { } sibling ? prefix + sibling : Elsewhere(prefix, name);
            string allowed = prefix.Length == 0 ? "at the top" : "in " + prefix.TrimEnd('.');
            return $"unknown key {prefix}{PlainText.Of(name)}{(near is null ? "" : $", did you mean {near}?")}; allowed {allowed}: {string.Join(", ", names)}";
        }

        /// <summary>The key of this name in another section, the one that shares most of the path with where it was written.</summary>
        private string? Elsewhere(string prefix, string name) =>
            Paths(root, "").Where(path => path.EndsWith("." + name, StringComparison.Ordinal))
                .MaxBy(path => path.Zip(prefix).TakeWhile(pair => pair.First == pair.Second).Count());

        private static IEnumerable<string> Paths(Type section, string prefix) => ConfigKey.Of(section)
            .SelectMany(key => key.IsSection ? Paths(key.Type, $"{prefix}{key.Name}.").Append(prefix + key.Name) : [prefix + key.Name]);

    }

    /// <summary>The candidate with the least edit distance, if that is a third of the name's length at most.</summary>
    private static string? Nearest(string name, IEnumerable<string> candidates) =>
        candidates.Select(candidate => (candidate, Distance: EditDistance(name, candidate)))
            .Where(c => c.Distance <= Math.Max(1, name.Length / 3))
            .OrderBy(c => c.Distance).Select(c => c.candidate).FirstOrDefault();

    /// <summary>Insertions, deletions and replacements that turn one text into the other (Levenshtein 1966).</summary>
    private static int EditDistance(string a, string b)
    {
        int[] row = [.. Enumerable.Range(0, b.Length + 1)];
        for (int i = 1; i <= a.Length; i++)
        {
            int diagonal = row[0];
            row[0] = i;
            for (int j = 1; j <= b.Length; j++)
            {
                int replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
                diagonal = row[j];
                row[j] = Math.Min(replaced, 1 + Math.Min(row[j], row[j - 1]));
            }
        }
        return row[b.Length];
    }
}
