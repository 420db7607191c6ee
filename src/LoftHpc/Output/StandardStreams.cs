using System.Runtime.InteropServices;
using System.Text;

namespace LoftHpc.Output;

/// <summary>
/// Keeps a console that cannot be written (closed, or on a full disk) from ending the program: what is printed is then lost,
/// and everything else goes on.
/// </summary>
public static unsafe partial class StandardStreams
{
    /// <summary>Called before anything is printed.</summary>
    public static void Secure()
    {
        ReopenClosed();
        Console.SetOut(Writer(Console.OpenStandardOutput));
        Console.SetError(Writer(Console.OpenStandardError));
    }

    internal static TextWriter Writer(Func<Stream> open)
    {
        Stream stream;
        try
        {
            stream = open();
        }
        catch (Exception error) when (IsFailure(error))
        {
            return TextWriter.Null;
        }
        return TextWriter.Synchronized(new StreamWriter(new ForgivingStream(stream), new UTF8Encoding(false), 256) { AutoFlush = true });
    }

    /// <summary>
    /// Where the program was started with a standard stream closed, .NET has by now opened files of its own under that number,
    /// and what libraries print would be written into them. The program then starts itself again, with /dev/null there.
    /// </summary>
    private static void ReopenClosed()
    {
        const int getFlags = 1, closesOnExecute = 1;
        // What is inherited never has this flag, and what .NET opens always has it.
        int[] closed = [.. Enumerable.Range(0, 3).Where(stream => Control(stream, getFlags, 0) is int flags && (flags < 0 || (flags & closesOnExecute) != 0))];
        if (closed.Length == 0) return;
        byte[] command = File.ReadAllBytes("/proc/self/cmdline");
        const int readAndWrite = 2, closeOnExecute = 0x80000;
        int nothing = Open("/dev/null", readAndWrite | closeOnExecute);
        if (nothing < 0) return;
        fixed (byte* text = command)
        {
            nint[] arguments = new nint[command.Count(b => b == 0) + 1];
            for (int i = 0, at = 0; i < arguments.Length - 1; at += command.AsSpan(at).IndexOf((byte)0) + 1) arguments[i++] = (nint)(text + at);
            foreach (int stream in closed) _ = Duplicate(nothing, stream);
            fixed (nint* argument = arguments) _ = Execute("/proc/self/exe", (nint)argument);
        }
    }

    private static bool IsFailure(Exception error) => error is IOException or UnauthorizedAccessException or ObjectDisposedException;

    /// <summary>Loses what cannot be written.</summary>
    private sealed class ForgivingStream(Stream inner) : Stream
    {
        public override bool CanRead => false;

        public override bool CanSeek => false;

        public override bool CanWrite => true;

        public override long Length => throw new NotSupportedException();

        public override long Position
        {
            get => throw new NotSupportedException();
            set => throw new NotSupportedException();
        }

        public override void Flush() => Try(inner.Flush);

        public override void Write(byte[] buffer, int offset, int count) => Try(() => inner.Write(buffer, offset, count));

        public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();

        private static void Try(Action write)
        {
            try
            {
                write();
            }
            catch (Exception error) when (IsFailure(error))
            {
                // There is nowhere to say it.
            }
        }
    }

    [LibraryImport("libc", EntryPoint = "fcntl")]
    private static partial int Control(int descriptor, int command, nint argument);

    [LibraryImport("libc", EntryPoint = "open", StringMarshalling = StringMarshalling.Utf8)]
    private static partial int Open(string path, int flags);

    [LibraryImport("libc", EntryPoint = "dup2")]
    private static partial int Duplicate(int from, int to);

    [LibraryImport("libc", EntryPoint = "execv", StringMarshalling = StringMarshalling.Utf8)]
    private static partial int Execute(string path, nint arguments);
}
