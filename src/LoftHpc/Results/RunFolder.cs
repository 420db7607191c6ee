using System.Globalization;
using LoftHpc.Configuration;

namespace LoftHpc.Results;

/// <summary>
/// The folder of one run, and the only place that knows its file names. Where more than one rank runs, rank 0 alone
/// creates it and writes in it.
/// </summary>
public sealed class RunFolder
{
    private RunFolder(string path) => Path = path;

    public string Path { get; }

    public string Name => System.IO.Path.GetFileName(System.IO.Path.TrimEndingDirectorySeparator(System.IO.Path.GetFullPath(Path)));

    /// <summary>The resolved configuration.</summary>
    public string Config => In(Path, "config.yaml");

    /// <summary>The config of a launch: config.yaml is that of the launch that made the folder, each later command adds its own.</summary>
    public string ConfigOf(string command) => File.Exists(Config) ? In(Path, $"config-{command}.yaml") : Config;

    /// <summary>What ran where, with which versions (<see cref="RunManifest"/>).</summary>
    public string Manifest => In(Path, "manifest.json");

    /// <summary>Weights before the first step.</summary>
    public string InitialWeights => In(Path, "initial.safetensors");

    /// <summary>Weights at the end of pre-training.</summary>
    public string DenseWeights => In(Path, "dense.safetensors");

    /// <summary>The ticket before retraining.</summary>
    public string PrunedWeights => In(Path, "pruned.safetensors");

    /// <summary>The ticket after retraining.</summary>
    public string TicketWeights => In(Path, "ticket.safetensors");

    /// <summary>Weights after so many epochs of pre-training.</summary>
    public string SnapshotWeights(int epoch) => In(Path, $"epoch-{epoch}.safetensors");

    /// <summary>Weights after so many optimizer steps of pre-training.</summary>
    public string StepSnapshotWeights(int step) => In(Path, $"step-{step}.safetensors");

    /// <summary>The weights of times within pre-training that there are (<see cref="SnapshotWeights"/>, then <see cref="StepSnapshotWeights"/>), ascending.</summary>
    public IEnumerable<string> Snapshots() => Find("epoch-", SnapshotWeights).Concat(Find("step-", StepSnapshotWeights));

    private IEnumerable<string> Find(string start, Func<int, string> name) => Directory.EnumerateFiles(Path, $"{start}*.safetensors")
        .Select(file => int.TryParse(System.IO.Path.GetFileNameWithoutExtension(file)[start.Length..], NumberStyles.None, CultureInfo.InvariantCulture, out int count) ? count : -1)
        .Where(count => count > 0 && File.Exists(name(count))).Order().Select(name);

    /// <summary>Folder in which export puts a network for PyTorch, where it is not told another.</summary>
    /// <param name="weights">Which of the run.</param>
    public string PyTorch(string weights) => In(Path, $"pytorch-{weights}");

    /// <summary>What a rank has to say that gets no further; there for some seconds, before the job is ended.</summary>
    public string StallOf(int rank) => DurableFile.Aside(In(Path, $"stall-{rank}.json"));

    /// <summary>All that ranks have to say so: mostly nothing, which one look into the folder shows.</summary>
    public IEnumerable<string> FindStalls() => Directory.EnumerateFiles(Path, DurableFile.Aside("stall-*.json"));

    /// <summary>Folder of the checkpoints of a stage that is not finished.</summary>
    public string Checkpoints => In(Path, "checkpoints");

    public CsvTable<MetricsRow> Metrics => new(In(Path, "metrics.csv"));

    public CsvTable<FilterNormRow> FilterNorms => new(In(Path, "filter_norms.csv"));

    public CsvTable<FilterDistanceRow> FilterDistance => new(In(Path, "filter_distance.csv"));

    public CsvTable<CommunicationRow> Communication => new(In(Path, "communication.csv"));

    public CsvTable<ResourcesRow> Resources => new(In(Path, "resources.csv"));

    public CsvTable<TicketRow> Ticket => new(In(Path, "ticket.csv"));

    public CsvTable<SummaryRow> Summary => new(In(Path, "summary.csv"));

    public CsvTable<LatencyRow> Latency => new(In(Path, "latency.csv"));

    /// <summary>Folder of the event files for TensorBoard.</summary>
    public string TensorBoard => In(Path, "tensorboard");

    /// <summary>One of them; each lies in a folder of its own, which TensorBoard shows as a run.</summary>
    public string EventFile(params ReadOnlySpan<string> parts) => In(In(TensorBoard, System.IO.Path.Combine(parts)), "events.out.tfevents.lofthpc");

    /// <summary>Of the tickets in <see cref="Tickets"/> that are finished.</summary>
    public CsvTable<TicketsRow> TicketsTable => new(In(Path, "tickets.csv"));

    /// <summary>Parent of the folders of a grid's tickets, which are run folders themselves.</summary>
    public string Tickets => In(Path, "tickets");

    /// <summary>A folder, while groups of ranks make the tickets: which of them are taken.</summary>
    public string Queue => In(Tickets, ".queue");

    /// <summary>Of one ticket of a grid.</summary>
    public RunFolder TicketFolder(string name) => new(In(Tickets, name));

    /// <summary>The run of whose grid this is a ticket, which is the one in whose folder it lies; null: of none.</summary>
    public RunFolder? RunOfGrid()
    {
        string? tickets = System.IO.Path.GetDirectoryName(System.IO.Path.GetFullPath(Path)), run = System.IO.Path.GetDirectoryName(tickets);
        // One of a ticket's iterations lies in the ticket.
        if (run is not null && IsRunFolder(run) && new RunFolder(run).Iterations == tickets) return new RunFolder(run).RunOfGrid();
        return run is not null && IsRunFolder(run) && new RunFolder(run).Tickets == tickets ? new RunFolder(run) : null;
    }

    /// <summary>All tickets of grids that are begun, by name; a dot is in front of those that are being replaced.</summary>
    public IEnumerable<RunFolder> FindTickets() => !Directory.Exists(Tickets) ? [] : Directory.EnumerateDirectories(Tickets)
        .Select(path => new RunFolder(path)).Where(folder => folder.IsBegun && !folder.Name.StartsWith('.')).OrderBy(folder => folder.Name, StringComparer.Ordinal);

    /// <summary>Parent of the folders of the tickets before this one, from which it was drawn (extract.iterations); they are run folders themselves.</summary>
    public string Iterations => In(Path, "iterations");

    /// <summary>Of the ticket after so many iterations.</summary>
    public RunFolder Iteration(int iteration) => new(In(Iterations, NameOfIteration(iteration)));

    public static string NameOfIteration(int iteration) => iteration.ToString(CultureInfo.InvariantCulture);

    /// <summary>The folder of the first ticket of this one's iterations, which was drawn from the pre-training itself.</summary>
    /// <param name="iterations">Of the ticket in this folder.</param>
    public RunFolder FirstIteration(int iterations)
    {
        if (iterations == 1) return this;
        // The one in between lies beside the first.
        string parent = System.IO.Path.GetDirectoryName(System.IO.Path.GetFullPath(Path)) ?? "";
        return System.IO.Path.GetFileName(parent) == "iterations" && Name == NameOfIteration(iterations) ? new(In(parent, NameOfIteration(1))) : Iteration(1);
    }

    /// <summary>Paths of the tables that grow while a run trains.</summary>
    public IReadOnlyList<string> Tables => [Metrics.Path, FilterNorms.Path, FilterDistance.Path, Communication.Path, Resources.Path, Summary.Path];

    /// <summary>Path of a table.</summary>
    public string Table(string file) => In(Path, file);

    public string AccuracyPlot => In(Path, "accuracy.png");

    public string FilterDistancePlot => In(Path, "filter_distance.png");

    /// <summary>
    /// Makes the folder <paramref name="name"/> in <paramref name="parent"/> (which is made too). An existing run folder
    /// is replaced when <paramref name="overwrite"/> says so; a folder that is not one is never touched.
    /// </summary>
    /// <exception cref="UserError">It exists, another launch works in it, the name cannot be a folder's, or it cannot be made.</exception>
    public static RunFolder Create(string parent, string name, bool overwrite)
    {
        if (name is "" or "." or ".." || name.AsSpan().ContainsAny('/', '\0'))
            throw new UserError($"run.name: '{name}' cannot name a folder; allowed is a name without '/' (run.folder gives its parent)");
        string path = In(parent, name);
        try
        {
            Directory.CreateDirectory(parent);
            if (DurableFile.TryMakeFolder(path)) return new RunFolder(path);
            if (!overwrite)
                throw new UserError($"{path} exists already and is not overwritten; choose another run.name=NAME, or replace it with run.overwrite=true");
            if (!IsRunFolder(path) && !IsEmpty(path))
                throw new UserError($"{path} exists and is no run folder (it has no config.yaml or manifest.json): run.overwrite=true does not replace it");
            new RunFolder(path).Lock().Dispose();
            // Moved away first, so that a half deleted folder never stands under the run's name.
            string replaced = In(parent, $".{name}.replaced");
            if (Directory.Exists(replaced)) Directory.Delete(replaced, recursive: true);
            Directory.Move(path, replaced);
            if (!DurableFile.TryMakeFolder(path)) throw new UserError($"{path}: another run has just made this folder");
            Directory.Delete(replaced, recursive: true);
            return new RunFolder(path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new UserError($"the run folder {path} cannot be made: {e.Message}", e, ExitCodes.Environment);
        }
    }

    /// <summary>The files of a run folder that another rank has made or opened; nothing is looked at.</summary>
    public static RunFolder At(string path) => new(path);

    /// <summary>Whether a launch has written its config here.</summary>
    public bool IsBegun => File.Exists(Config);

    /// <summary>Whether the work that makes this network was finished: its line of summary.csv is written last.</summary>
    public bool Holds(NetworkState network) => Summary.Exists && Summary.Read().Any(row => row.Network == network);

    /// <summary>Refuses a folder in which the work that makes this network was not finished.</summary>
    /// <exception cref="UserError">summary.csv has no line of it.</exception>
    public void MustHold(NetworkState network, string writtenBy)
    {
        if (!Holds(network))
            throw new UserError($"{Summary.Path}: there is no row of network {ConfigName.Of(network)}; the command {writtenBy}, which writes it last, has not finished");
    }

    /// <summary>Keeps other launches out of the folder until it is disposed.</summary>
    /// <inheritdoc cref="FolderLock.Take"/>
    public FolderLock Lock(TimeSpan wait = default, Action<string>? tell = null) => FolderLock.Take(Path, wait, tell);

    /// <summary>Whether this folder is the other one, or holds it, through whatever links.</summary>
    public bool Contains(RunFolder other) => $"{Real(other.Path)}/".StartsWith($"{Real(Path)}/", StringComparison.Ordinal);

    private static string Real(string path)
    {
        string real = "/";
        foreach (string part in System.IO.Path.GetFullPath(path).Split('/', StringSplitOptions.RemoveEmptyEntries))
        {
            real = In(real, part);
            if (Directory.Exists(real)) real = new DirectoryInfo(real).ResolveLinkTarget(returnFinalTarget: true)?.FullName ?? real;
        }
        return System.IO.Path.TrimEndingDirectorySeparator(real);
    }

    /// <summary>An existing run folder.</summary>
    /// <exception cref="UserError">There is none at <paramref name="path"/>.</exception>
    public static RunFolder Open(string path)
    {
        if (!Directory.Exists(path)) throw new UserError($"{path}: there is no such run folder");
        if (!IsRunFolder(path)) throw new UserError($"{path} is no run folder: it has no config.yaml or manifest.json");
        return new RunFolder(path);
    }

    /// <summary><paramref name="name"/>, or where that exists in <paramref name="parent"/>, name-2, name-3, ...</summary>
    public static string FreeName(string parent, string name)
    {
        string free = name;
        for (int number = 2; System.IO.Path.Exists(In(parent, free)); number++) free = $"{name}-{number}";
        return free;
    }

    /// <summary>For a command that adds to a run folder: refuses to go on where one of the files it writes exists.</summary>
    /// <exception cref="UserError">Names the files that exist.</exception>
    public void RefuseExisting(string command, params ReadOnlySpan<string> files)
    {
        if (Names(files, exist: true) is [_, ..] names)
            throw new UserError($"{Path}: {string.Join(", ", names)} exists already, and {command} overwrites nothing");
    }

    /// <summary>For a command that reads a run folder: asks for the files that an earlier command writes.</summary>
    /// <exception cref="UserError">Names the files that are missing and the command that writes them.</exception>
    public void RequireExisting(string writtenBy, params ReadOnlySpan<string> files)
    {
        if (Names(files, exist: false) is [_, ..] names)
            throw new UserError($"{Path}: {string.Join(", ", names)} is missing; the command {writtenBy} writes it");
    }

    private static List<string> Names(ReadOnlySpan<string> files, bool exist)
    {
        List<string> names = [];
        foreach (string file in files)
        {
            if (File.Exists(file) == exist) names.Add(System.IO.Path.GetFileName(file));
        }
        return names;
    }

    /// <summary>Whether a launch has written its config or its manifest there.</summary>
    public static bool IsRunFolder(string path) => File.Exists(In(path, "config.yaml")) || File.Exists(In(path, "manifest.json"));

    /// <summary>Whether a folder is there, with nothing in it but what a launch leaves that dies before it has written its config.</summary>
    public static bool IsEmpty(string path) => Directory.Exists(path)
        && Directory.EnumerateFileSystemEntries(path).All(entry => entry == In(path, FolderLock.FileName) || entry == DurableFile.Aside(new RunFolder(path).Config));

    private static string In(string folder, string name) => System.IO.Path.Combine(folder, name);
}
