using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Text;
using Microsoft.Build.Framework;
using Microsoft.Build.Utilities;

/// <summary>
/// Sets the weak flag (VER_FLG_WEAK) on the GLIBCXX_3.4.32 entry of .gnu.version_r in a 64-bit little-endian ELF
/// library, so that the dynamic loader accepts an older libstdc++. Does nothing where libstdc++ has the version, unless told to.
/// </summary>
public class RelaxGlibcxxVersion : Task
{
    private const string Version = "GLIBCXX_3.4.32";
    private const uint SectionTypeVersionNeeds = 0x6ffffffe;
    private const ushort VersionFlagWeak = 2;

    /// <summary>The library in the package cache, which is only read: its time stamp is given to the changed copy.</summary>
    public string Source { get; set; }

    /// <summary>The copy of (or link to) it in an output folder.</summary>
    public string Library { get; set; }

    /// <summary>Also where this system's libstdc++ has the version: another machine's may not.</summary>
    public bool Always { get; set; }

    public override bool Execute()
    {
        if (!Always && SystemHasVersion()) return true;
        byte[] elf = File.ReadAllBytes(Library);
        if (elf.Length < 64 || elf[0] != 0x7f || elf[1] != 'E' || elf[4] != 2 || elf[5] != 1)
        {
            Log.LogWarning("{0} is not a 64-bit ELF library; left as it is.", Library);
            return true;
        }
        int flagsOffset = FindFlags(elf);
        if (flagsOffset < 0 || (BitConverter.ToUInt16(elf, flagsOffset) & VersionFlagWeak) != 0) return true;
        elf[flagsOffset] |= (byte)VersionFlagWeak;
        // Write aside and rename: the file may be a link into the package cache, which must stay as it is.
        string aside = Library + ".relaxed";
        File.WriteAllBytes(aside, elf);
        File.SetLastWriteTimeUtc(aside, File.GetLastWriteTimeUtc(Source));
        File.Delete(Library);
        File.Move(aside, Library);
        Log.LogMessage(MessageImportance.High, "{0} no longer needs {1}, which libstdc++ of before GCC 13 lacks.", Path.GetFileName(Library), Version);
        return true;
    }

    private static bool SystemHasVersion()
    {
        string[] folders = { "/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/lib/x86_64-linux-gnu", "/lib64", "/usr/lib" };
        IEnumerable<string> search = (Environment.GetEnvironmentVariable("LD_LIBRARY_PATH") ?? "")
            .Split(new[] { ':' }, StringSplitOptions.RemoveEmptyEntries).Concat(folders);
        string found = search.Select(f => Path.Combine(f, "libstdc++.so.6")).FirstOrDefault(File.Exists);
        // A symbol version stands in the string table, ended by a zero byte.
        return found != null && Encoding.GetEncoding("ISO-8859-1").GetString(File.ReadAllBytes(found)).Contains(Version + "\0");
    }

    private static int FindFlags(byte[] elf)
    {
        long sections = BitConverter.ToInt64(elf, 0x28);
        int size = BitConverter.ToUInt16(elf, 0x3a), count = BitConverter.ToUInt16(elf, 0x3c);
        for (int s = 0; s < count; s++)
        {
            int header = checked((int)(sections + s * size));
            if (BitConverter.ToUInt32(elf, header + 4) != SectionTypeVersionNeeds) continue;
            int strings = checked((int)BitConverter.ToInt64(elf, (int)(sections + BitConverter.ToUInt32(elf, header + 0x28) * size) + 0x18));
            int need = checked((int)BitConverter.ToInt64(elf, header + 0x18));
            while (true)
            {
                int entry = need + (int)BitConverter.ToUInt32(elf, need + 8);
                for (int i = 0, n = BitConverter.ToUInt16(elf, need + 2); i < n; i++)
                {
                    int name = strings + (int)BitConverter.ToUInt32(elf, entry + 8);
                    int end = Array.IndexOf(elf, (byte)0, name);
                    if (Encoding.ASCII.GetString(elf, name, end - name) == Version) return entry + 4;
                    entry += (int)BitConverter.ToUInt32(elf, entry + 12);
                }
                uint next = BitConverter.ToUInt32(elf, need + 12);
                if (next == 0) break;
                need += (int)next;
            }
        }
        return -1;
    }
}
