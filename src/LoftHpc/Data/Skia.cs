using System.Runtime.InteropServices;

namespace LoftHpc.Data;

/// <summary>
/// The functions of SkiaSharp's native library that decode images (its C interface: sk_codec.h, sk_data.h). They are called without
/// SkiaSharp's classes: those make objects, which the threads that decode beside the training must not (<see cref="PreparedBatches"/>).
/// </summary>
internal static unsafe partial class Skia
{
    private const string Library = "libSkiaSharp";

    /// <summary>Of the results of <see cref="Decode"/>, that all is well; others are input that ends too early, wrong input, ...</summary>
    public const int Success = 0;

    /// <summary>8 bits of red, green, blue and alpha; and how alpha is meant: there is none, or the colours are not multiplied by it.</summary>
    public const int Rgba8888 = 4, Opaque = 1, Unpremultiplied = 3;

    /// <summary>sk_imageinfo_t.</summary>
    [StructLayout(LayoutKind.Sequential)]
    public struct Info
    {
        /// <summary>Null of what is decoded to: colours stay as the file has them.</summary>
        public nint ColorSpace;
        public int Width, Height, ColorType, AlphaType;
    }

    /// <summary>Memory of so many bytes; null: there is none.</summary>
    [LibraryImport(Library, EntryPoint = "sk_data_new_uninitialized")]
    public static partial nint NewData(nuint size);

    [LibraryImport(Library, EntryPoint = "sk_data_get_data")]
    public static partial nint Address(nint data);

    [LibraryImport(Library, EntryPoint = "sk_data_unref")]
    public static partial void FreeData(nint data);

    /// <summary>Null: it is no image.</summary>
    [LibraryImport(Library, EntryPoint = "sk_codec_new_from_data")]
    public static partial nint NewCodec(nint data);

    /// <summary>The colour space is given with a reference, for <see cref="FreeColorSpace"/>.</summary>
    [LibraryImport(Library, EntryPoint = "sk_codec_get_info")]
    public static partial void InfoOf(nint codec, Info* info);

    [LibraryImport(Library, EntryPoint = "sk_codec_get_pixels")]
    public static partial int Decode(nint codec, Info* info, nint pixels, nuint rowBytes, nint options);

    [LibraryImport(Library, EntryPoint = "sk_codec_destroy")]
    public static partial void FreeCodec(nint codec);

    [LibraryImport(Library, EntryPoint = "sk_colorspace_unref")]
    public static partial void FreeColorSpace(nint space);
}

/// <summary>Files read without an object of .NET, for the same reason.</summary>
internal static unsafe partial class NativeFile
{
    /// <summary>For reading; it waits for no pipe, and no other program gets it.</summary>
    public const int ReadOnly = 0, NonBlocking = 0x800, CloseOnExec = 0x80000;

    public const int End = 2, Start = 0;

    [LibraryImport("libc", EntryPoint = "open")]
    public static partial int Open(byte* path, int flags);

    [LibraryImport("libc", EntryPoint = "lseek")]
    public static partial long Seek(int file, long offset, int from);

    [LibraryImport("libc", EntryPoint = "read")]
    public static partial nint Read(int file, nint target, nuint bytes);

    [LibraryImport("libc", EntryPoint = "close")]
    public static partial int Close(int file);
}
