using System.Runtime.InteropServices;
using static TorchSharp.torch;

namespace LoftHpc.BrokenMachine;

/// <summary>Puts another function in the place of one that TorchSharp's native library exports (x86-64; for one thread).</summary>
internal sealed unsafe partial class Detour
{
    private const int ReadWriteExecute = 7;

    private static nint _library;

    private readonly byte[] _original, _jump;

    private Detour(nint function, nint replacement)
    {
        Function = function;
        // mov rax, replacement; jmp rax
        _jump = [0x48, 0xb8, .. BitConverter.GetBytes(replacement), 0xff, 0xe0];
        _original = new Span<byte>((void*)function, _jump.Length).ToArray();
        nint page = function & ~0xfff;
        if (Protect(page, 2 * 0x1000, ReadWriteExecute) != 0) throw new InvalidOperationException("the library's code cannot be changed");
        Write(_jump);
    }

    /// <summary>Where the function begins.</summary>
    public nint Function { get; }

    public static Detour At(nint function, nint replacement) => new(function, replacement);

    public static Detour Of(string export, nint replacement) => new(Export(export), replacement);

    public static nint Export(string name)
    {
        if (_library == 0)
        {
            // TorchSharp loads its library with all that it needs.
            zeros(1).Dispose();
            _library = NativeLibrary.Load(Path.Combine(AppContext.BaseDirectory, "libLibTorchSharp.so"));
        }
        return NativeLibrary.GetExport(_library, name);
    }

    /// <summary>The function is itself until the result is disposed.</summary>
    public Pause Original()
    {
        Write(_original);
        return new Pause(this);
    }

    private void Write(byte[] code) => code.CopyTo(new Span<byte>((void*)Function, code.Length));

    public readonly struct Pause(Detour detour) : IDisposable
    {
        public void Dispose() => detour.Write(detour._jump);
    }

    [LibraryImport("libc", EntryPoint = "mprotect")]
    private static partial int Protect(nint address, nint length, int protection);
}
