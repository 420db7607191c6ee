using System.Text.Encodings.Web;
using System.Text.Json;

namespace LoftHpc.Results;

/// <summary>How records stand in JSON files.</summary>
internal static class RecordJson
{
    public static JsonSerializerOptions Format { get; } = new()
    {
        // What is null or missing though it cannot be shows when it is read, and not where it is used.
        RespectNullableAnnotations = true,
        RespectRequiredConstructorParameters = true,
        AllowDuplicateProperties = false,
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        WriteIndented = true,
        NewLine = "\n",
        // Names of processors hold signs that the default encoder, made for web pages, would escape.
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
    };
}
