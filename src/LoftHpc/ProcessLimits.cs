using System.Runtime.InteropServices;

namespace LoftHpc;

/// <summary>What the shell or the batch system allows this process (ulimit).</summary>
public static unsafe partial class ProcessLimits
{
    /// <summary>.NET, libtorch and MPI open so many files between them, with some room: two ranks of Open MPI need 100 to 200.</summary>
    public const long OpenFilesNeeded = 256;

    private const int OpenFilesResource = 7, AddressSpaceResource = 9, StandardError = 2;

    /// <summary>Files that may be open at a time; null where there is no limit.</summary>
    public static long? OpenFiles => Read(OpenFilesResource);

    /// <summary>Bytes of virtual memory; null where there is no limit.</summary>
    public static long? AddressSpaceBytes => Read(AddressSpaceResource);

    /// <summary>Why this process cannot work, in one line; null where it can.</summary>
    public static string? Problem => OpenFiles is long files && files < OpenFilesNeeded
        ? FormattableString.Invariant($"only {files} files may be open at a time, and {OpenFilesNeeded} are needed: raise the limit (ulimit -n {OpenFilesNeeded})")
        : null;

    /// <summary>Prints an error by nothing but a system call: with too few files .NET cannot load what its console needs.</summary>
    public static void PrintError(string message)
    {
        string line = $"lofthpc: error: {message}\n";
        byte* bytes = stackalloc byte[line.Length];
        for (int i = 0; i < line.Length; i++) bytes[i] = (byte)line[i];
        _ = Write(StandardError, bytes, line.Length);
    }

    private static long? Read(int resource)
    {
        ulong* limit = stackalloc ulong[2];
        return GetLimit(resource, limit) != 0 || *limit > long.MaxValue ? null : (long)*limit;
    }

    [LibraryImport("libc", EntryPoint = "getrlimit")]
    private static partial int GetLimit(int resource, ulong* limit);

    [LibraryImport("libc", EntryPoint = "write")]
    private static partial nint Write(int descriptor, byte* bytes, nint count);
}
