using System.ComponentModel;
using System.ComponentModel.DataAnnotations;
using System.Globalization;
using System.Reflection;
using System.Text;
using YamlDotNet.Serialization.NamingConventions;

namespace LoftHpc.Configuration;

/// <summary>
/// The word that a config file has for null of this key, for example <c>threads: auto</c>; or for this value of an enum,
/// where it is not its name in kebab-case.
/// </summary>
[AttributeUsage(AttributeTargets.Property | AttributeTargets.Field)]
public sealed class WrittenAsAttribute(string word) : Attribute
{
    public string Word { get; } = word;
}

/// <summary>How names of the program stand in config files and CSV files.</summary>
public static class ConfigName
{
    /// <summary>An enum value in kebab-case: <c>FashionMnist</c> is fashion-mnist; or as it is <see cref="WrittenAsAttribute"/>.</summary>
    public static string Of(Enum value) =>
        value.GetType().GetField(value.ToString())?.GetCustomAttribute<WrittenAsAttribute>()?.Word
        ?? HyphenatedNamingConvention.Instance.Apply(value.ToString());

    internal static string OfKey(string property) => UnderscoredNamingConvention.Instance.Apply(property);
}

/// <summary>
/// One key of the config, as a property of its section's record declares it: its name, its type, what is allowed, and
/// how its value is read and written.
/// </summary>
internal sealed class ConfigKey
{
    /// <summary>Items of a list that does not say how many it may have, and characters of a text.</summary>
    private const int MostItems = 1000, MostCharacters = 4000;

    private static readonly Dictionary<Type, IReadOnlyList<ConfigKey>> KeysBySection = [];
    private readonly PropertyInfo _property;
    private readonly Type _scalarType;
    private readonly RangeAttribute? _range;
    private readonly int _mostItems;
    private readonly bool _nullable;
    private readonly string _nullWord;

    private ConfigKey(PropertyInfo property)
    {
        _property = property;
        Name = ConfigName.OfKey(property.Name);
        Type type = property.PropertyType;
        IsList = type.IsGenericType && type.GetGenericTypeDefinition() == typeof(IReadOnlyList<>);
        _scalarType = IsList ? type.GenericTypeArguments[0] : Nullable.GetUnderlyingType(type) ?? type;
        _nullable = new NullabilityInfoContext().Create(property).WriteState == NullabilityState.Nullable;
        _nullWord = property.GetCustomAttribute<WrittenAsAttribute>()?.Word ?? "null";
        _range = property.GetCustomAttribute<RangeAttribute>();
        _mostItems = property.GetCustomAttribute<MaxLengthAttribute>()?.Length ?? MostItems;
        IsSection = !IsList && type.IsClass && type != typeof(string);
    }

    public string Name { get; }

    /// <summary>In words.</summary>
    public string Meaning => _property.GetCustomAttribute<DescriptionAttribute>()?.Description ?? "";

    /// <summary>Its value in a section, in one line.</summary>
    public string Text(object section) => Get(section) switch
    {
        System.Collections.IEnumerable items when IsList => $"[{string.Join(", ", from object? item in items select Write(item).Text)}]",
        var value => Write(value).Text,
    };

    /// <summary>What is allowed, as a table says it.</summary>
    public string BrieflyAllowed => (IsList ? "a list of " : "") + (_scalarType == typeof(string) ? "text" : AllowedScalar) + (_nullable ? $", or {_nullWord}" : "");

    public bool IsList { get; }

    public bool IsSection { get; }

    /// <summary>Type of the value, or of a list's items, or of the section's record.</summary>
    public Type Type => _scalarType;

    /// <summary>What an error says is allowed.</summary>
    public string Allowed => IsSection ? $"a section with the keys {Names(Of(Type))}" : (IsList ? $"a list such as [a, b] of at most {_mostItems} items that are each " : "") + AllowedScalar + (_nullable ? $", or {_nullWord}" : "");

    /// <summary>The keys of a section's record, in the order of their declaration.</summary>
    public static IReadOnlyList<ConfigKey> Of(Type section)
    {
        lock (KeysBySection)
        {
            if (!KeysBySection.TryGetValue(section, out IReadOnlyList<ConfigKey>? keys))
            {
                PropertyInfo[] properties = section.GetProperties(BindingFlags.Public | BindingFlags.Instance | BindingFlags.DeclaredOnly);
                KeysBySection[section] = keys = [.. properties.Where(p => p.CanWrite).Select(p => new ConfigKey(p))];
            }
            return keys;
        }
    }

    public static string Names(IEnumerable<ConfigKey> keys) => string.Join(", ", keys.Select(key => key.Name));

    public object? Get(object section) => _property.GetValue(section);

    public void Set(object section, object? value) => _property.SetValue(section, value);

    /// <summary>The value that a node stands for; false, and what was found, where it is none that is allowed.</summary>
    public bool TryRead(ConfigNode node, out object? value, out string found, out ConfigSource source)
    {
        (value, found, source) = (null, "", node.Source);
        if (!IsList) return TryReadScalar(node, _nullable, out value, out found);
        if (node is not ConfigList list)
        {
            found = Describe(node);
            return false;
        }
        if (list.Items.Count > _mostItems)
        {
            found = $"a list of {list.Items.Count} items";
            return false;
        }
        Array items = Array.CreateInstance(_scalarType, list.Items.Count);
        for (int i = 0; i < items.Length; i++)
        {
            source = list.Items[i].Source;
            if (!TryReadScalar(list.Items[i], nullable: false, out object? item, out found)) return false;
            items.SetValue(item, i);
        }
        value = items;
        return true;
    }

    /// <summary>What is wrong with a value that was not read here, of a key that is no list; null: nothing.</summary>
    public string? ProblemWith(object? value) =>
        value is null ? (_nullable ? null : Message("nothing"))
        : value is Enum choice && !Enum.IsDefined(_scalarType, choice) || !InRange(value) ? Message(Write(value).Text)
        : null;

    /// <summary>An error's text after the key's name.</summary>
    public string Message(string found) => $"found {found}; allowed: {Allowed}";

    /// <summary>Text of one value (or item), and whether it must be quoted to be read back as text.</summary>
    public (string Text, bool Quoted) Write(object? value) => value switch
    {
        null => (_nullWord, false),
        string text => (text, new ConfigScalar(text, false, default).IsNull || (_nullable && text == _nullWord)),
        bool flag => (flag ? "true" : "false", false),
        Enum choice => (ConfigName.Of(choice), false),
        double number => (number.ToString("R", CultureInfo.InvariantCulture), false),
        IFormattable number => (number.ToString(null, CultureInfo.InvariantCulture), false),
        _ => (value.ToString()!, false),
    };

    /// <summary>What stands at a node, as an error shows it.</summary>
    public static string Describe(ConfigNode node) => node switch
    {
        ConfigScalar { Quoted: true } scalar => $"\"{PlainText.Of(scalar.Text)}\" (quoted text)",
        ConfigScalar { Text: "" } => "nothing",
        ConfigScalar scalar => PlainText.Of(scalar.Text),
        ConfigList => "a list",
        _ => "a section",
    };

    private bool TryReadScalar(ConfigNode node, bool nullable, out object? value, out string found)
    {
        value = null;
        found = Describe(node);
        if (node is not ConfigScalar scalar) return false;
        if (nullable && !scalar.Quoted && (scalar.Text == _nullWord || scalar.IsNull)) return true;
        if (scalar.IsNull) return false;
        value = Parse(scalar);
        return value is not null && InRange(value);
    }

    private object? Parse(ConfigScalar scalar)
    {
        string text = scalar.Text;
        if (_scalarType == typeof(string)) return text.Length is > 0 and <= MostCharacters && IsOneLine(text) ? text : null;
        if (_scalarType == typeof(TrainingTime)) return TrainingTime.TryParse(text, out TrainingTime time) ? time : null;
        if (_scalarType == typeof(CheckpointInterval)) return CheckpointInterval.TryParse(text, out CheckpointInterval interval) ? interval : null;
        if (_scalarType.IsEnum) return Enum.GetValues(_scalarType).Cast<Enum>().FirstOrDefault(e => ConfigName.Of(e) == text);
        if (scalar.Quoted) return null;
        if (_scalarType == typeof(bool)) return text switch { "true" => true, "false" => false, _ => null };
        CultureInfo culture = CultureInfo.InvariantCulture;
        if (_scalarType == typeof(int)) return int.TryParse(text, NumberStyles.AllowLeadingSign, culture, out int i) ? i : null;
        if (_scalarType == typeof(long)) return long.TryParse(text, NumberStyles.AllowLeadingSign, culture, out long l) ? l : null;
        if (_scalarType == typeof(double))
        {
            const NumberStyles style = NumberStyles.AllowLeadingSign | NumberStyles.AllowDecimalPoint | NumberStyles.AllowExponent;
            return double.TryParse(text, style, culture, out double d) && double.IsFinite(d) ? d : null;
        }
        throw new NotSupportedException($"config keys of type {_scalarType}");
    }

    private bool InRange(object value)
    {
        if (_range is null) return true;
        double number = value is TrainingTime time ? time.Count : value is CheckpointInterval interval ? interval.Count : Convert.ToDouble(value, CultureInfo.InvariantCulture);
        return (_range.MinimumIsExclusive ? number > Minimum : number >= Minimum)
            && (_range.MaximumIsExclusive ? number < Maximum : number <= Maximum);
    }

    private double Minimum => Convert.ToDouble(_range!.Minimum, CultureInfo.InvariantCulture);

    private double Maximum => Convert.ToDouble(_range!.Maximum, CultureInfo.InvariantCulture);

    private string AllowedScalar
    {
        get
        {
            if (_scalarType.IsEnum) return string.Join(", ", Enum.GetValues(_scalarType).Cast<Enum>().Select(ConfigName.Of));
            if (_scalarType == typeof(bool)) return "true, false";
            if (_scalarType == typeof(string)) return $"text of at most {MostCharacters} characters, none of them a control character";
            string kind = _scalarType == typeof(TrainingTime) ? "a time such as 1 epoch or 500 steps"
                : _scalarType == typeof(CheckpointInterval) ? "a span such as 10 minutes, 1 epoch or 500 steps,"
                : _scalarType == typeof(double) ? "a number" : "a whole number";
            return _range is null ? kind : $"{kind} {RangeText}";
        }
    }

    /// <summary>Both ends of the range; null: it has none.</summary>
    public string? RangeText => _range is null ? null : string.Create(
        CultureInfo.InvariantCulture,
        $"{(_range.MinimumIsExclusive ? "above" : "from")} {Minimum} to {(_range.MaximumIsExclusive ? "below " : "")}{Maximum}");

    /// <summary>Text that file names and terminals take: no control characters, and no half of a pair of surrogates.</summary>
    private static bool IsOneLine(string text) =>
        !text.Any(char.IsControl) && Encoding.UTF8.GetString(Encoding.UTF8.GetBytes(text)) == text;
}
