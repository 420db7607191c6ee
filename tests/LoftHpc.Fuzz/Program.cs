using LoftHpc.Fuzz;

return args switch
{
    ["--child", string format, string count, string seed, string first, string folder] => FuzzChild.Run(FormatOf(format), Number(count), Number(seed), Number(first), folder),
    ["--replay", string format, string folder] => FuzzChild.Replay(FormatOf(format), folder),
    [string count] => FuzzRun.Run(Number(count), 1, FuzzFormat.All),
    [string count, string seed] => FuzzRun.Run(Number(count), Number(seed), FuzzFormat.All),
    [string count, string seed, string format] => FuzzRun.Run(Number(count), Number(seed), [FormatOf(format)]),
    _ => Usage(),
};

static int Number(string text) => int.TryParse(text, out int number) && number >= 0 ? number : Usage();

static FuzzFormat FormatOf(string name)
{
    if (FuzzFormat.All.FirstOrDefault(format => format.Name == name) is FuzzFormat found) return found;
    Usage();
    return null!;
}

static int Usage()
{
    Console.Error.WriteLine($"usage: fuzz COUNT [SEED] [FORMAT]; formats: {string.Join(", ", FuzzFormat.All.Select(format => format.Name))}");
    Environment.Exit(2);
    return 2;
}
