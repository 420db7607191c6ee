using System.Runtime.InteropServices;

namespace LoftHpc;

/// <summary>A libtorch that has been loaded.</summary>
/// <param name="Version">Of libtorch itself, major and minor, for example "2.10".</param>
/// <param name="Folder">Where libtorch_cpu.so was loaded from.</param>
/// <param name="Reason">Why this one, in a few words.</param>
public sealed record TorchLibraryInfo(string Version, string Folder, string Reason);

/// <summary>
/// Loads libtorch and TorchSharp's native library before TorchSharp does, so that a failure is told by its cause
/// (TorchSharp's own exception blames a missing package whatever it is). Builds with Device=cpu and cuda carry libtorch
/// beside the program. Builds with Device=external take it from the folder in LOFTHPC_LIBTORCH, else from the folder
/// given to the build, else from where the dynamic loader finds it (LD_LIBRARY_PATH).
/// </summary>
public static unsafe class TorchLibrary
{
    public const string FolderVariable = "LOFTHPC_LIBTORCH";

    /// <summary>The version of libtorch that this TorchSharp is built for; its C++ interface fits no other.</summary>
    public const string NeededVersion = "2.10";

    private const string Native = "libLibTorchSharp.so";
    private static readonly Lock _gate = new();
    private static TorchLibraryInfo? _loaded;

    /// <summary>Loads the libraries, once; later calls return the same.</summary>
    /// <exception cref="UserError">One of them cannot be loaded, or libtorch has another version.</exception>
    public static TorchLibraryInfo Load()
    {
        lock (_gate) return _loaded ??= LoadOnce();
    }

    private static TorchLibraryInfo LoadOnce()
    {
        string? named = NonEmpty(Environment.GetEnvironmentVariable(FolderVariable));
        string? built = NonEmpty(AppContext.GetData("LoftHpc.LibTorch") as string);
        bool beside = File.Exists(Path.Combine(AppContext.BaseDirectory, "libtorch_cpu.so"));
        if (named is not null && beside)
            throw Error($"{FolderVariable}={named} is set, but this build brings its own libtorch; build with: make build LIBTORCH={named}");

        (string? folder, string reason) = (beside, named, built) switch
        {
            (true, _, _) => (AppContext.BaseDirectory, "beside the program"),
            (_, not null, _) => (named, FolderVariable),
            (_, _, not null) => (built, "given to the build"),
            _ => (null, "found by the dynamic loader (LD_LIBRARY_PATH)"),
        };
        if (folder is not null && !File.Exists(Path.Combine(folder, "libtorch.so")))
            throw Error($"no libtorch.so in {folder} ({reason}); name the folder of libtorch {NeededVersion} in {FolderVariable} "
                + "(in a PyTorch installation: torch/lib)");

        // In the order of their dependence. Once loaded, TorchSharp's library finds them by their names.
        nint torchCpu = 0;
        foreach (string library in (string[])["libc10.so", "libtorch_cpu.so", "libtorch.so"])
        {
            nint handle = LoadNative(folder is null ? library : Path.Combine(folder, library), reason);
            if (library == "libtorch_cpu.so") torchCpu = handle;
        }
        string version = VersionOf(torchCpu);
        string path = MappedPath("libtorch_cpu.so");
        string loadedFrom = path.Length > 0 ? Path.GetDirectoryName(path)! : folder ?? "";
        if (version != NeededVersion)
            throw Error($"libtorch in {loadedFrom} ({reason}) is version {version}; TorchSharp needs {NeededVersion}");
        LoadNative(Path.Combine(AppContext.BaseDirectory, Native), "beside the program");
        return new TorchLibraryInfo(version, loadedFrom, reason);
    }

    private static nint LoadNative(string library, string reason)
    {
        try
        {
            return NativeLibrary.Load(library);
        }
        catch (Exception e) when (e is DllNotFoundException or BadImageFormatException)
        {
            throw Error(Explain(Path.GetFileName(library), library.Contains('/') ? library : null, reason, NativeEnvironment.LoaderText(e)), e);
        }
    }

    /// <summary>One line on why a library did not load and how to mend it, from the dynamic loader's own text.</summary>
    internal static string Explain(string name, string? path, string reason, string loaderText)
    {
        string what = $"{name} cannot be loaded: {loaderText}";
        if (loaderText.Contains("GLIBCXX_3.4.32", StringComparison.Ordinal))
            return $"{what}; this system's libstdc++ is older than GCC 13's: build on this system (make build), which adapts the library, or load a newer libstdc++";
        if (loaderText.Contains("GLIBCXX_", StringComparison.Ordinal) || loaderText.Contains("GLIBC_", StringComparison.Ordinal))
            return $"{what}; libtorch {NeededVersion} needs glibc 2.34 and libstdc++ of GCC 12 or newer (on clusters: module load gcc/12)";
        if (loaderText.Contains("undefined symbol", StringComparison.Ordinal))
            return $"{what}; this libtorch is not the {NeededVersion} that TorchSharp needs";
        if (path is null)
            return $"{name} is not found by the dynamic loader; name the folder of libtorch {NeededVersion} in {FolderVariable} (in a PyTorch "
                + "installation: torch/lib) or add it to LD_LIBRARY_PATH";
        return $"{what} ({reason})";
    }

    /// <summary>From libtorch's C interface: 0xMMmmpp0000000000. Versions before 2.9 lack the call.</summary>
    private static string VersionOf(nint torchCpu)
    {
        if (!NativeLibrary.TryGetExport(torchCpu, "aoti_torch_abi_version", out nint call)) return "older than 2.9";
        ulong version = ((delegate* unmanaged<ulong>)call)();
        return FormattableString.Invariant($"{version >> 56}.{(version >> 48) & 0xff}");
    }

    /// <summary>The path from which this process has mapped a library, or an empty string.</summary>
    internal static string MappedPath(string library) =>
        File.ReadLines("/proc/self/maps")
            .Select(line => line.IndexOf('/', StringComparison.Ordinal) is int at and >= 0 ? line[at..] : "")
            .FirstOrDefault(path => Path.GetFileName(path) is string name && (name == library || name.StartsWith(library + ".", StringComparison.Ordinal))) ?? "";

    private static string? NonEmpty(string? text) => string.IsNullOrWhiteSpace(text) ? null : text;

    private static UserError Error(string message, Exception? inner = null) =>
        inner is null ? new UserError(message, ExitCodes.Environment) : new UserError(message, inner, ExitCodes.Environment);
}
