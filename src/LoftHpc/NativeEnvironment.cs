using System.Runtime.InteropServices;

namespace LoftHpc;

/// <summary>
/// The process environment as native libraries see it. They read it once, when they are loaded, with getenv;
/// <see cref="Environment.SetEnvironmentVariable(string, string)"/> changes only .NET's own copy.
/// </summary>
public static partial class NativeEnvironment
{
    /// <summary>
    /// Sets what libtorch's and MPI's libraries need, where the user has not set it. Called first in Main, before either
    /// is loaded.
    /// </summary>
    public static void Prepare()
    {
        // Waiting OpenMP threads sleep instead of spinning; where ranks or jobs share cores a step is else several times slower.
        SetDefault("OMP_WAIT_POLICY", "PASSIVE");
        // UCX, below MPICH, takes over SIGSEGV, which .NET turns into NullReferenceException: leave it to .NET.
        SetDefault("UCX_ERROR_SIGNALS", "");
    }

    /// <summary>Sets a variable for .NET and for native libraries, unless it is set already.</summary>
    public static void SetDefault(string name, string value)
    {
        if (Environment.GetEnvironmentVariable(name) is not null) return;
        Environment.SetEnvironmentVariable(name, value);
        _ = SetNative(name, value, overwrite: 0);
    }

    [LibraryImport("libc", EntryPoint = "setenv", StringMarshalling = StringMarshalling.Utf8)]
    private static partial int SetNative(string name, string value, int overwrite);
}
