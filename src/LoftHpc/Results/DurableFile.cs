using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;

namespace LoftHpc.Results;

/// <summary>
/// Files that are there whole or not at all, also after a crash: written aside as <c>name.part</c>, flushed to the
/// disk (fsync), then renamed over the old one. A leftover .part file is overwritten by the next attempt.
/// </summary>
public static partial class DurableFile
{
    /// <summary>Where <paramref name="path"/> is written before it gets its name.</summary>
    internal static string Aside(string path) => path + ".part";

    /// <summary>Writes the whole file by <paramref name="write"/>, through links; the old one stays if that throws, and nothing else.</summary>
    /// <exception cref="UserError">It cannot be written, or something that is no regular file stands there.</exception>
    public static void Write(string path, Action<Stream> write)
    {
        string target = Target(path), aside = Aside(target);
        try
        {
            using (FileStream stream = new(aside, FileMode.Create, FileAccess.Write, FileShare.None))
            {
                write(stream);
                stream.Flush(flushToDisk: true);
            }
            Rename(aside, target);
        }
        catch (Exception error)
        {
            // What was written takes the last free bytes of a full disk.
            Remove(aside);
            if (IsFailure(error)) throw Failure(path, error);
            throw;
        }
    }

    /// <summary>
    /// Adds what is missing to a file that is the start of these bytes. A crash meanwhile leaves less of them, which is a start again.
    /// </summary>
    /// <returns>False: it is not, or there is none.</returns>
    /// <exception cref="UserError">It cannot be written, or something that is no regular file stands there.</exception>
    public static bool TryExtend(string path, ReadOnlySpan<byte> whole)
    {
        string target = Target(path);
        if (!File.Exists(target)) return false;
        try
        {
            using FileStream stream = new(target, FileMode.Open, FileAccess.ReadWrite, FileShare.Read, bufferSize: 0);
            if (stream.Length > whole.Length) return false;
            byte[] start = new byte[stream.Length];
            stream.ReadExactly(start);
            if (!whole.StartsWith(start)) return false;
            if (start.Length == whole.Length) return true;
            try
            {
                stream.Write(whole[start.Length..]);
                stream.Flush(flushToDisk: true);
            }
            catch (IOException)
            {
                // Part of it would take the last free bytes of a full disk.
                stream.SetLength(start.Length);
                throw;
            }
            return true;
        }
        catch (Exception error) when (IsFailure(error))
        {
            throw Failure(path, error);
        }
    }

    /// <summary>The file that a path stands for, through links; it need not be there.</summary>
    /// <exception cref="UserError">A pipe, a device or a folder is there.</exception>
    public static string Target(string path)
    {
        if (RegularFile.WhatElse(path) is string other)
            throw new UserError($"{PlainText.Of(path)}: it is {other}, and only a regular file is written to or replaced");
        try
        {
            return new FileInfo(path).LinkTarget is null ? path : File.ResolveLinkTarget(path, returnFinalTarget: true)!.FullName;
        }
        catch (Exception error) when (IsFailure(error) || error is ArgumentException)
        {
            throw Failure(path, error);
        }
    }

    /// <summary>Cuts a file back to its first bytes, on the disk.</summary>
    /// <exception cref="UserError">It cannot be cut.</exception>
    public static void Cut(string path, long bytes)
    {
        string target = Target(path);
        try
        {
            using FileStream stream = new(target, FileMode.Open, FileAccess.ReadWrite, FileShare.Read, bufferSize: 0);
            if (stream.Length == bytes) return;
            stream.SetLength(bytes);
            stream.Flush(flushToDisk: true);
        }
        catch (Exception error) when (IsFailure(error))
        {
            throw Failure(path, error);
        }
    }

    /// <summary>Makes the folder that a file is to be written into.</summary>
    /// <exception cref="UserError">It cannot be made.</exception>
    public static void MakeFolderOf(string path)
    {
        try
        {
            if (Path.GetDirectoryName(Target(path)) is { Length: > 0 } folder) Directory.CreateDirectory(folder);
        }
        catch (Exception error) when (IsFailure(error))
        {
            throw Failure(path, error);
        }
    }

    /// <summary>Whether this is how files and disks fail.</summary>
    internal static bool IsFailure(Exception error) => error is IOException or UnauthorizedAccessException;

    /// <summary>A file that cannot be written, in one line.</summary>
    internal static UserError Failure(string path, Exception error) =>
        // .NET names the file at the end of some texts, and there it is the one aside.
        new($"{PlainText.Of(path)}: cannot be written: {PlainText.Visible(error.Message.Split(" : '")[0])}{Room(path, error)}", error, ExitCodes.Environment);

    /// <summary>On a full disk, or where a quota is used up, what is free.</summary>
    private static string Room(string path, Exception error)
    {
        const int noSpace = 28, quota = 122;
        if (error.HResult is not (noSpace or quota)) return "";
        try
        {
            string folder = Directory.Exists(path) ? path : Path.GetDirectoryName(Path.GetFullPath(Target(path))) ?? "/";
            return string.Create(CultureInfo.InvariantCulture, $" ({new DriveInfo(folder).AvailableFreeSpace} bytes are free there)");
        }
        catch (Exception other) when (IsFailure(other) || other is ArgumentException or UserError)
        {
            return "";
        }
    }

    /// <summary>Removes a file if that can be done.</summary>
    internal static void Remove(string path)
    {
        try
        {
            File.Delete(path);
        }
        catch (Exception error) when (IsFailure(error))
        {
            // The failure that led here is what is told.
        }
    }

    /// <summary>The same for text, in UTF-8 without a byte order mark.</summary>
    public static void WriteText(string path, string text) => Write(path, s => s.Write(Encoding.UTF8.GetBytes(text)));

    /// <summary>Renames a file that was flushed over <paramref name="path"/> and makes the rename last.</summary>
    internal static void Rename(string aside, string path)
    {
        File.Move(aside, path, overwrite: true);
        FlushFolder(Path.GetDirectoryName(Path.GetFullPath(path))!);
    }

    /// <summary>
    /// fsync of a folder, after which a new or renamed entry outlives a power cut. .NET has no call for it. File
    /// systems that refuse it (some network ones) are left alone: what is lost then is a name, never half a file.
    /// </summary>
    internal static void FlushFolder(string folder)
    {
        int descriptor = OpenToRead(folder);
        if (descriptor < 0) return;
        _ = Fsync(descriptor);
        _ = Close(descriptor);
    }

    /// <summary>Opens a file or folder for nothing but reading, without asking for a lock; below 0 where that fails.</summary>
    internal static int OpenToRead(string path)
    {
        const int closedInChildren = 0x80000;
        return Open(path, closedInChildren);
    }

    /// <summary>Makes a folder; false if something of that name exists. One system call: of two runs that try, one succeeds.</summary>
    /// <exception cref="IOException">It cannot be made for another reason.</exception>
    internal static bool TryMakeFolder(string path)
    {
        const int exists = 17;
        if (MakeFolder(path, Convert.ToUInt32("777", 8)) == 0) return true;
        int error = Marshal.GetLastPInvokeError();
        if (error == exists) return false;
        throw new IOException(Marshal.GetPInvokeErrorMessage(error));
    }

    [LibraryImport("libc", EntryPoint = "open", StringMarshalling = StringMarshalling.Utf8, SetLastError = true)]
    private static partial int Open(string path, int flags);

    [LibraryImport("libc", EntryPoint = "fsync")]
    private static partial int Fsync(int descriptor);

    [LibraryImport("libc", EntryPoint = "close")]
    private static partial int Close(int descriptor);

    [LibraryImport("libc", EntryPoint = "mkdir", StringMarshalling = StringMarshalling.Utf8, SetLastError = true)]
    private static partial int MakeFolder(string path, uint mode);
}
