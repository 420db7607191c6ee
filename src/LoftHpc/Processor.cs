namespace LoftHpc;

/// <summary>The processor of this host.</summary>
public static class Processor
{
    /// <summary>Its name, for example "AMD EPYC 7763 64-Core Processor"; "unknown" where the kernel does not say.</summary>
    public static string Model { get; } = ReadModel();

    /// <summary>What computes on a device, for messages.</summary>
    public static string Of(TorchSharp.torch.Device device) => device.type is TorchSharp.DeviceType.CPU ? Model : $"{device} beside {Model}";

    private static string ReadModel()
    {
        string? line = File.ReadLines("/proc/cpuinfo").FirstOrDefault(l => l.StartsWith("model name", StringComparison.Ordinal));
        return line is null ? "unknown" : line[(line.IndexOf(':', StringComparison.Ordinal) + 1)..].Trim();
    }
}
