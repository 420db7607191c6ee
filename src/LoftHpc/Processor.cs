namespace LoftHpc;

/// <summary>The processor of this host.</summary>
public static class Processor
{
    /// <summary>Its name, for example "AMD EPYC 7763 64-Core Processor"; "unknown" where the kernel does not say.</summary>
    public static string Model { get; } = ReadModel();

    /// <summary>Whether it has instructions for products of bfloat16.</summary>
    public static bool HasBfloat16 { get; } = Flags().Contains("avx512_bf16") || Flags().Contains("amx_bf16");

    /// <summary>What computes on a device, for messages.</summary>
    public static string Of(TorchSharp.torch.Device device) => device.type is TorchSharp.DeviceType.CPU ? Model : $"{device} beside {Model}";

    /// <summary>What the first core of this host can do, in the kernel's words.</summary>
    private static HashSet<string> Flags() => [.. (File.ReadLines("/proc/cpuinfo").FirstOrDefault(l => l.StartsWith("flags", StringComparison.Ordinal)) ?? "").Split(' ')];

    private static string ReadModel()
    {
        string? line = File.ReadLines("/proc/cpuinfo").FirstOrDefault(l => l.StartsWith("model name", StringComparison.Ordinal));
        return line is null ? "unknown" : line[(line.IndexOf(':', StringComparison.Ordinal) + 1)..].Trim();
    }
}
