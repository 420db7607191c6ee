using LoftHpc.Comparing;
using LoftHpc.Configuration;
using LoftHpc.Results;

namespace LoftHpc.Fuzz;

/// <summary>A finished run of which one file is another, as compare, extract, retrain and evaluate read it.</summary>
internal sealed class RunFolderFormat : FuzzFormat
{
    private static readonly Lazy<(string Path, byte[] Bytes)[]> Seed = new(() =>
    {
        string folder = Directory.CreateTempSubdirectory("lofthpc-fuzz-seed-").FullName;
        RunFolder run = Seeds.MakeRunFolder(folder);
        (string, byte[])[] files = [.. Directory.EnumerateFiles(run.Path).Order(StringComparer.Ordinal).Select(path => (Path.GetRelativePath(folder, path), File.ReadAllBytes(path)))];
        Directory.Delete(folder, recursive: true);
        return files;
    });

    public override string Name => "run-folder";

    /// <summary>The config is read too.</summary>
    protected override bool SeveralLines => true;

    public override void Make(Mutator mutator, string folder)
    {
        int changed = mutator.Below(Seed.Value.Length);
        byte[][] others = [.. Seed.Value.Select(file => file.Bytes)];
        for (int i = 0; i < Seed.Value.Length; i++)
        {
            (string relative, byte[] bytes) = Seed.Value[i];
            string path = Path.Combine(folder, relative);
            Directory.CreateDirectory(Path.GetDirectoryName(path)!);
            if (i == changed) bytes = Change(mutator, Path.GetExtension(path), bytes, others);
            File.WriteAllBytes(path, bytes);
            if (i == changed && mutator.OneIn(25)) mutator.Displace(path);
        }
    }

    protected override bool Read(string folder)
    {
        RunFolder run = Seeds.RunIn(folder);
        // Each reader for itself: an earlier one must not hide what a later one does.
        List<UserError> errors = [];
        void Try(Action read)
        {
            try
            {
                read();
            }
            catch (UserError error)
            {
                errors.Add(error);
            }
        }
        Try(() => RunComparison.Read([Seeds.RunsIn(folder)]));
        Try(() => run.Ticket.Read());
        Try(() => run.Metrics.Read());
        Try(() => run.FilterNorms.Read());
        Try(() => run.FilterDistance.Read());
        foreach (string weights in (string[])[run.DenseWeights, run.PrunedWeights, run.TicketWeights]) Try(() => SafetensorsFormat.MustBeUsable(weights));
        if (errors.Select(error => ProblemOf(error.Message, error.ExitCode, folder)).FirstOrDefault(problem => problem is not null) is string unclear) throw new UnclearException(unclear);
        return errors.Count == 0;
    }

    private static byte[] Change(Mutator mutator, string extension, byte[] bytes, byte[][] others) => extension switch
    {
        ".safetensors" => SafetensorsFormat.Change(mutator),
        ".json" => JsonFormat.Change(mutator),
        ".yaml" => mutator.OneIn(4) ? YamlFormat.Config(mutator) : mutator.Text(bytes, others),
        _ => mutator.Any(bytes, others),
    };
}
