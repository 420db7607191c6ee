using System.Runtime.InteropServices;

namespace LoftHpc;

/// <summary>
/// Files that have an end and can be read again. A pipe without a writer would keep its reader waiting for ever, a device may
/// have no end, and to write over either is not what anyone means.
/// </summary>
public static partial class RegularFile
{
    /// <summary>Opens a file for reading.</summary>
    /// <exception cref="IOException">There is no such file, or it is a folder, a pipe, a device or a socket.</exception>
    /// <exception cref="UnauthorizedAccessException">It may not be read.</exception>
    public static FileStream OpenRead(string path, int bufferSize = 4096)
    {
        if (WhatElse(path) is string other) throw new IOException($"it is {other}, not a regular file");
        return new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read, bufferSize);
    }

    /// <summary>What stands at a path, links followed, if it is no regular file: "a pipe", "a folder", ...; null where there is a regular file, or nothing.</summary>
    public static unsafe string? WhatElse(string path)
    {
        // It neither waits for a pipe nor wakes a device. The structure is the same on all processors; the mode stands at byte 28.
        const int currentFolder = -100, typeAsked = 1, sizeOfStructure = 256, modeAt = 28, typeMask = 0xF000;
        byte* status = stackalloc byte[sizeOfStructure];
        if (Status(currentFolder, path, 0, typeAsked, status) != 0) return null;
        return (*(ushort*)(status + modeAt) & typeMask) switch
        {
            0x8000 => null,
            0x4000 => "a folder",
            0x1000 => "a pipe",
            0xC000 => "a socket",
            _ => "a device",
        };
    }

    [LibraryImport("libc", EntryPoint = "statx", StringMarshalling = StringMarshalling.Utf8)]
    private static unsafe partial int Status(int folder, string path, int flags, uint mask, byte* status);
}
