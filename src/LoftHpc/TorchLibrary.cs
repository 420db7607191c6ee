using System.Runtime.InteropServices;
using System.Text.RegularExpressions;

namespace LoftHpc;

/// <summary>A libtorch that has been loaded.</summary>
/// <param name="Version">Of libtorch itself, major and minor, for example "2.10".</param>
/// <param name="Folder">Where libtorch_cpu.so was loaded from.</param>
/// <param name="Reason">Why this one, in a few words.</param>
public sealed record TorchLibraryInfo(string Version, string Folder, string Reason)
{
    /// <summary>The version, as it is recorded: where TorchSharp is built for another one, with that.</summary>
    public string Description => Version == TorchLibrary.NeededVersion ? Version : $"{Version} (TorchSharp is built for {TorchLibrary.NeededVersion})";

    /// <summary>One line where TorchSharp is built for another version; else null.</summary>
    public string? Warning => Version == TorchLibrary.NeededVersion ? null
        : $"{this} is not the version that TorchSharp is built for ({TorchLibrary.NeededVersion}); it has every function that TorchSharp needs, and whether all is right lofthpc selftest tells";

    public override string ToString() => $"libtorch {Version} in {Folder}";
}

/// <summary>
/// Loads libtorch and TorchSharp's native library before TorchSharp does, so that a failure is told by its cause
/// (TorchSharp's own exception blames a missing package whatever it is). Builds with Device=cpu and cuda carry libtorch
/// beside the program. Builds with Device=external take it from the folder in LOFTHPC_LIBTORCH, else from the folder
/// given to the build, else from where the dynamic loader finds it (LD_LIBRARY_PATH). Another version than TorchSharp is
/// built for is taken, with a warning, where it has every function that TorchSharp needs; whether it computes rightly a check
/// tells later.
/// </summary>
public static unsafe partial class TorchLibrary
{
    public const string FolderVariable = "LOFTHPC_LIBTORCH";

    /// <summary>The version of libtorch that this TorchSharp is built for.</summary>
    public const string NeededVersion = "2.10";

    private const string Native = "libLibTorchSharp.so";
    private static readonly Lock _gate = new();
    private static TorchLibraryInfo? _loaded;
    private static nint _cpu;

    /// <summary>Handle of libtorch_cpu.so.</summary>
    internal static nint Cpu
    {
        get
        {
            Load();
            return _cpu;
        }
    }

    /// <summary>Loads the libraries, once; later calls return the same.</summary>
    /// <exception cref="UserError">One of them cannot be loaded, or libtorch lacks a function that TorchSharp needs.</exception>
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
            throw Error($"no libtorch.so in {folder} ({reason}); name the folder of libtorch {NeededVersion} or newer in {FolderVariable} "
                + "(in a PyTorch installation: torch/lib)");

        if (folder is not null) RefuseCut(folder, reason);

        // In the order of their dependence. Once loaded, TorchSharp's library finds them by their names.
        string cudaFolders = folder is null ? "" : Path.Combine(folder, "..", "..", "nvidia");
        foreach (string library in (string[])["libc10.so", "libtorch_cpu.so", "libtorch.so"])
        {
            nint handle = LoadNative(folder is null ? library : Path.Combine(folder, library), reason, path => LoadWithNeighbours(path, cudaFolders));
            if (library == "libc10.so") TorchContext.SetLogLevel(handle);
            if (library == "libtorch_cpu.so") _cpu = handle;
        }
        string version = VersionOf(_cpu);
        string path = MappedPath("libtorch_cpu.so");
        string loadedFrom = path.Length > 0 ? Path.GetDirectoryName(path)! : folder ?? "";
        LoadNative(Path.Combine(AppContext.BaseDirectory, Native), $"beside the program; libtorch {version} in {loadedFrom}", LoadWhole);
        return new TorchLibraryInfo(version, loadedFrom, reason);
    }

    /// <summary>A copy that stopped half-way, on a full disk for example, is told from here on; loaded, it would end the process.</summary>
    internal static void RefuseCut(string folder, string reason)
    {
        foreach (string library in Directory.EnumerateFiles(folder, "lib*.so*").Order(StringComparer.Ordinal))
        {
            // A link to a library that a distribution has in another package, and that is mostly not needed.
            if (new FileInfo(library).ResolveLinkTarget(returnFinalTarget: true) is { Exists: false }) continue;
            try
            {
                if (!ElfFile.IsWhole(library)) throw Error($"{library} is cut ({reason}): install it again");
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                throw Error($"{library} cannot be read: {e.Message}", e);
            }
        }
    }

    private static nint LoadNative(string library, string reason, Func<string, nint> load)
    {
        try
        {
            return load(library);
        }
        catch (Exception e) when (e is DllNotFoundException or BadImageFormatException)
        {
            throw Error(Explain(Path.GetFileName(library), library.Contains('/') ? library : null, reason, NativeEnvironment.LoaderText(e)), e);
        }
    }

    /// <summary>
    /// Loads a library, and before it those that it asks for and the dynamic loader does not find, from the folders NAME/lib
    /// of another one: a PyTorch installation keeps CUDA's libraries in packages of their own beside torch (nvidia/NAME/lib).
    /// </summary>
    /// <param name="neighbours">The folder of these folders; it may be missing.</param>
    /// <exception cref="DllNotFoundException">The library, or one that it needs, is in none of these places.</exception>
    internal static nint LoadWithNeighbours(string library, string neighbours) => LoadWithNeighbours(library, neighbours, []);

    /// <param name="tried">Names of libraries that were looked for already: two may need each other.</param>
    private static nint LoadWithNeighbours(string library, string neighbours, HashSet<string> tried)
    {
        while (true)
        {
            try
            {
                return NativeLibrary.Load(library);
            }
            catch (DllNotFoundException e) when (
                MissingLibrary().Match(e.Message) is { Success: true } missing && tried.Add(missing.Groups[1].Value) && Directory.Exists(neighbours)
                && Directory.EnumerateDirectories(neighbours).Select(folder => Path.Combine(folder, "lib", missing.Groups[1].Value)).FirstOrDefault(File.Exists) is string found)
            {
                LoadWithNeighbours(found, neighbours, tried);
            }
        }
    }

    /// <summary>
    /// Loads a library with all the functions that it needs at once: .NET's own way looks for a function only when it is
    /// called, which may be days later.
    /// </summary>
    internal static nint LoadWhole(string library)
    {
        const int now = 2;
        // The error is gone as soon as .NET looks for a function of its own: no other call may come between these two.
        _ = LastError();
        nint path = Marshal.StringToCoTaskMemUTF8(library);
        string? error = Open(path, now) == 0 ? Marshal.PtrToStringUTF8(LastError()) ?? "" : null;
        Marshal.FreeCoTaskMem(path);
        return error is null ? NativeLibrary.Load(library) : throw new DllNotFoundException(error);
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
            return $"{what} ({reason}): this libtorch lacks a function that TorchSharp needs; use libtorch {NeededVersion}, for which TorchSharp is built";
        if (loaderText.Contains("failed to map segment", StringComparison.Ordinal) || loaderText.Contains("annot allocate memory", StringComparison.Ordinal))
            return $"{what} ({reason}); this process may not have as much memory as that takes (ulimit -v, or the batch system's limit)";
        if (path is null)
            return $"{name} is not found by the dynamic loader; name the folder of libtorch {NeededVersion} or newer in {FolderVariable} (in a PyTorch "
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

    [GeneratedRegex(@"(lib[\w.+-]+\.so[.\d]*): cannot open shared object file")]
    private static partial Regex MissingLibrary();

    [LibraryImport("libc", EntryPoint = "dlopen")]
    private static partial nint Open(nint path, int flags);

    [LibraryImport("libc", EntryPoint = "dlerror")]
    private static partial nint LastError();
}
