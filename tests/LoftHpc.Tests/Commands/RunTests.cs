using LoftHpc.Mpi;
using LoftHpc.Results;
using LoftHpc.Tests.Mpi;
using LoftHpc.Tests.Results;
using Xunit;

namespace LoftHpc.Tests.Commands;

/// <summary>The program as its users start it: real ranks, run folders, exit codes.</summary>
public sealed class RunTests : ProgramTests
{
    [SkippableFact]
    public void Run_writes_every_file_and_never_over_another_run()
    {
        MpiFamily family = MpiLauncher.AnyFamily();
        LaunchResult result = Start(family, 2, "run", "run.name=a").MustSucceed();
        RunFolder folder = Folder("a");
        foreach (string file in new[]
        {
            folder.Config, folder.Manifest, folder.InitialWeights, folder.DenseWeights, folder.PrunedWeights, folder.TicketWeights,
            folder.SnapshotWeights(1), folder.AccuracyPlot, folder.FilterDistancePlot,
        }) Assert.True(File.Exists(file), file);
        Assert.All(Directory.EnumerateFiles(folder.Path), file => Assert.Contains(Path.GetExtension(file), new[] { ".yaml", ".json", ".csv", ".png", ".safetensors" }));

        // 70 images in batches of 32 are 3 steps an epoch: measured at 0, 2, 4 and 6 of 6 steps.
        long[] steps = [0, 2, 4, 6];
        IReadOnlyList<FilterNormRow> norms = folder.FilterNorms.Read();
        Assert.Equal(steps, norms.Select(row => row.Step).Distinct());
        Assert.Equal(4.0 / 3, norms.First(row => row.Step == 4).Epoch);
        IReadOnlyList<FilterDistanceRow> distances = folder.FilterDistance.Read();
        string[] layers = [.. norms.Select(row => row.Layer).Distinct()];
        Assert.Equal(20, layers.Length);
        Assert.Equal(
            (from a in steps from b in steps where a != b from layer in layers select (a, b, layer)).Order(),
            distances.Select(row => (row.Step, row.ReferenceStep, row.Layer)).Order());

        Assert.Equal(6, folder.Metrics.Read().Count);
        Assert.Equal([NetworkState.Dense, NetworkState.Pruned, NetworkState.Ticket], folder.Summary.Read().Select(row => row.Network));
        // Of 6 filters 3 stay.
        Assert.Equal([true, true, true, false, false, false], folder.Ticket.Read().Where(row => row.Layer == "layer2.1.conv1").OrderBy(row => row.Position).Select(row => row.Kept));
        Assert.Equal(["pretrain", "extract", "retrain"], folder.Communication.Read().Select(row => row.Phase).Distinct());
        LaunchRecord launch = Assert.Single(RunManifest.Read(folder.Manifest).Launches);
        Assert.Equal((0, 2, 4L), (launch.ExitCode, launch.Ranks.Count, launch.Seed));
        Assert.Contains("ticket", result.Output);
        Assert.Contains(folder.TicketWeights, result.Output);

        LaunchResult again = Start(family, 2, "run", "run.name=a");
        Assert.Equal(ExitCodes.Configuration, again.ExitCode);
        Assert.Equal(1, Occurrences(again.Error, "exists already"));
    }

    /// <summary>Of libtorch: it is said, and stands in the manifest.</summary>
    [SkippableFact]
    public void Another_version_than_TorchSharps_is_warned_of_and_recorded()
    {
        LaunchResult result = Start(MpiLauncher.AnyFamily(), 2, BrokenMachine.With("version"), "pretrain", "run.name=a", "pretrain.epochs=1", "pretrain.snapshots=[]").MustSucceed();
        Assert.Equal(1, Occurrences(result.Error, "warning: libtorch 2.11 in "));
        Assert.Equal("2.11 (TorchSharp is built for 2.10)", Assert.Single(RunManifest.Read(Folder("a").Manifest).Launches).Libtorch);
    }

    [SkippableFact]
    public void The_same_launch_gives_the_same_bits_and_stages_one_by_one_give_those_of_run()
    {
        MpiFamily family = MpiLauncher.AnyFamily();
        Start(family, 3, "run", "run.name=a", "pretrain.assignment=random").MustSucceed();
        foreach (string command in new[] { "pretrain", "extract", "retrain" })
            Start(family, 3, command, "run.name=b", "pretrain.assignment=random").MustSucceed();
        MustBeAlike("a", "b");
        RunFolder b = Folder("b");
        Assert.Equal(["pretrain", "extract", "retrain"], RunManifest.Read(b.Manifest).Launches.Select(launch => launch.Command));

        // Each stage refuses where its files exist.
        Assert.Equal(1, Occurrences(Start(family, 2, "extract", "run.name=b").Error, "exists already"));
        Assert.Equal(1, Occurrences(Start(family, 2, "retrain", "run.name=b").Error, "exists already"));

        // Other images than the run's are refused before anything is written.
        LaunchResult refused = Start(family, 2, "extract", "run.name=b", "data.test_images=7");
        Assert.Equal((ExitCodes.Configuration, 1), (refused.ExitCode, Occurrences(refused.Error, "data.test_images is 30 and 7")));

        // The same ticket measured again, by another number of ranks.
        LaunchResult evaluated = Start(family, 1, "evaluate", "run.name=b").MustSucceed();
        SummaryRow ticket = b.Summary.Read().Single(row => row.Network == NetworkState.Ticket);
        Assert.Contains(FormattableString.Invariant($"accuracy {ticket.TestAccuracy:R},"), evaluated.Output);
    }

    [SkippableFact]
    public void One_pretraining_yields_many_tickets()
    {
        MpiFamily family = MpiLauncher.AnyFamily();
        MpiLauncher.RunAlone([MpiLauncher.LoftHpc, "pretrain", "--config", ConfigFile, $"run.folder={TemporaryPath}/results", "run.name=a"]).MustSucceed();
        string from = $"extract.from={Folder("a").Path}";
        Start(family, 2, "extract", "run.name=small", from, "extract.ratio=0.8").MustSucceed();
        Start(family, 2, "retrain", "run.name=small").MustSucceed();
        Start(family, 1, "extract", "run.name=all-blocks", from, "extract.first_blocks=true").MustSucceed();
        Assert.False(File.Exists(Folder("a").Ticket.Path));
        // 24 filters, of which floor(0.8 * 24) = 19 go.
        Assert.Equal(5, Folder("small").Ticket.Read().Count(row => row.Layer == "layer4.1.conv1" && row.Kept));
        Assert.Equal([NetworkState.Dense, NetworkState.Pruned, NetworkState.Ticket], Folder("small").Summary.Read().Select(row => row.Network));
        Assert.Contains(Folder("all-blocks").Ticket.Read(), row => row.Layer == "layer2.0.conv1");

        // The source is never replaced, by whatever name it goes.
        Directory.CreateSymbolicLink(Path.Combine(TemporaryPath, "link"), Folder("a").Path);
        foreach (string name in new[] { $"{Folder("a").Path}/", $"{TemporaryPath}/./results/a", $"{TemporaryPath}/link" })
        {
            LaunchResult refused = Start(family, 1, "extract", "run.name=a", "run.overwrite=true", $"extract.from={name}");
            Assert.Equal((ExitCodes.Configuration, 1), (refused.ExitCode, Occurrences(refused.Error, "own folder")));
        }
        Assert.True(File.Exists(Folder("a").DenseWeights));
    }

    [SkippableFact]
    public void An_interrupted_stage_can_be_done_again_and_two_launches_keep_out_of_each_others_way()
    {
        MpiFamily family = MpiLauncher.AnyFamily();
        Start(family, 1, "run", "run.name=a").MustSucceed();
        RunFolder folder = Folder("a");
        string metrics = Metrics(folder), ticket = Convert.ToHexString(File.ReadAllBytes(folder.TicketWeights));

        // As if the launch had died after its weights and before its line in summary.csv.
        folder.Summary.Remove(row => row.Network == NetworkState.Ticket);
        Start(family, 1, "retrain", "run.name=a").MustSucceed();
        Assert.Equal(metrics, Metrics(folder));
        Assert.Equal(ticket, Convert.ToHexString(File.ReadAllBytes(folder.TicketWeights)));

        folder.Summary.Remove(row => row.Network == NetworkState.Ticket);
        using (folder.Lock())
        {
            LaunchResult refused = Start(family, 2, "retrain", "run.name=a");
            Assert.Equal((ExitCodes.Configuration, 1), (refused.ExitCode, Occurrences(refused.Error, "another launch works in this folder")));
        }
    }

    private static string Metrics(RunFolder folder) =>
        string.Join('\n', folder.Metrics.Read().Select(row => row with { Seconds = 0, ImagesPerSecond = 0 }));

    [SkippableTheory]
    [InlineData("data.train_images=33", "retrain.batch_norm=synchronised")]
    [InlineData("data.train_images=33", "retrain.batch_norm=per-rank")]
    public void A_last_batch_of_one_image_whose_channels_end_in_one_value_leaves_finite_statistics(string images, string batchNorm)
    {
        LaunchResult result = Start(MpiLauncher.AnyFamily(), 2, "run", "run.name=a", images, batchNorm, "network.form=imagenet", "pretrain.epochs=1");
        result.MustSucceed();
        Assert.All(Folder("a").Summary.Read(), row => Assert.True(double.IsFinite(row.TestLoss), $"{row}"));
    }

    [SkippableTheory]
    [InlineData(MpiFamily.OpenMpi)]
    [InlineData(MpiFamily.Mpich)]
    public void Mistakes_are_told_once_with_all_problems_before_any_work(MpiFamily family)
    {
        LaunchResult wrong = Start(family, 3, "run", "run.name=a", "pretrain.batch=zero", "network.depht=18");
        Assert.Equal(ExitCodes.Configuration, wrong.ExitCode);
        Assert.Equal(1, Occurrences(wrong.Error, "found zero"));
        Assert.Equal(1, Occurrences(wrong.Error, "unknown key network.depht"));
        Assert.False(Directory.Exists(Folder("a").Path));

        LaunchResult missing = Start(family, 3, "run", "run.name=a", "data.set=mnist", $"data.folder={TemporaryPath}/nothing");
        Assert.Equal(ExitCodes.Configuration, missing.ExitCode);
        Assert.Equal(1, Occurrences(missing.Error, "there is no folder"));
        Assert.False(Directory.Exists(Folder("a").Path));

        LaunchResult unknown = MpiLauncher.Run(family, 3, [MpiLauncher.LoftHpc, "pretrian", "--config", ConfigFile]);
        Assert.Equal(ExitCodes.Configuration, unknown.ExitCode);
        Assert.Equal(1, Occurrences(unknown.Error, "unknown command 'pretrian'"));
        Assert.Equal(1, Occurrences(MpiLauncher.Run(family, 3, [MpiLauncher.LoftHpc, "--version"]).MustSucceed().Output, "0.1.0"));
    }

    [SkippableTheory]
    [InlineData("pretrain.method: dense trains on one rank, and there are 2", "pretrain.method=dense")]
    [InlineData("pretrain.gpipe.cuts: layer9.0 is nothing that a stage can begin with", "pretrain.method=gpipe", "pretrain.gpipe.cuts=[layer9.0]")]
    [InlineData("pretrain.loft.stages: [1] names no block", "pretrain.method=loft", "network.family=wide-resnet", "network.depth=10", "pretrain.loft.stages=[1]")]
    public void A_method_that_cannot_work_is_refused_before_any_work(string message, params string[] overrides)
    {
        LaunchResult result = Start(MpiLauncher.AnyFamily(), 2, "run", ["run.name=a", .. overrides]);
        Assert.Equal((ExitCodes.Configuration, 1), (result.ExitCode, Occurrences(result.Error, message)));
        Assert.False(Directory.Exists(Folder("a").Path));
    }

    [SkippableTheory]
    [InlineData("loft", 3)]
    [InlineData("local-sgd", 2)]
    [InlineData("gpipe", 3)]
    [InlineData("data-parallel", 2)]
    public void Every_method_leads_to_a_ticket_by_one_line_and_to_the_same_bits_again(string method, int ranks)
    {
        MpiFamily family = MpiLauncher.AnyFamily();
        foreach (string name in new[] { "a", "b" }) Start(family, ranks, "run", $"run.name={name}", $"pretrain.method={method}").MustSucceed();
        MustBeAlike("a", "b");
        Assert.Equal([NetworkState.Dense, NetworkState.Pruned, NetworkState.Ticket], Folder("a").Summary.Read().Select(row => row.Network));
        Assert.Equal(2 * ranks, Folder("a").Resources.Read().Count);
    }

    [SkippableTheory]
    [InlineData("filter-parallel")]
    [InlineData("loft")]
    public void A_run_through_MPI_NET_has_the_bits_of_one_through_our_binding(string method)
    {
        foreach (string binding in new[] { "native", "mpi.net" })
        {
            // Memory of the GPU is not MPI.NET's, whatever the library says.
            LaunchResult result = Start(
                MpiFamily.Mpich, 2, "run", $"run.name={binding}", $"run.mpi={binding}", $"pretrain.method={method}", "run.cuda_aware_mpi=true").MustSucceed();
            Assert.Equal(binding == "native" ? 0 : 1, Occurrences(result.Output + result.Error, "MPI.NET does not take addresses in GPU memory"));
            Assert.Equal(binding, Assert.Single(RunManifest.Read(Folder(binding).Manifest).Launches).Mpi.Binding);
        }
        MustBeAlike("native", "mpi.net");
        Assert.NotEmpty(Folder("native").Communication.Read());
        Assert.Equal(Communication(Folder("native")), Communication(Folder("mpi.net")));
        string summary = Path.Combine(TemporaryPath, "summary.md");
        MpiLauncher.RunAlone(
            [MpiLauncher.LoftHpc, "compare", $"{TemporaryPath}/results", "--output", $"{TemporaryPath}/compared.csv", "--summary", summary]).MustSucceed();
        Assert.Equal([false, true], File.ReadLines(summary).Where(line => line.StartsWith("- MPI: ", StringComparison.Ordinal)).Select(line => line.EndsWith(", through mpi.net", StringComparison.Ordinal)).Order());

        static IEnumerable<CommunicationRow> Communication(RunFolder folder) => folder.Communication.Read().Select(row => row with { Seconds = 0 });
    }

    [SkippableFact]
    public void MPI_NET_is_refused_where_there_is_no_MPICH()
    {
        LaunchResult openMpi = Start(MpiFamily.OpenMpi, 2, "run", "run.name=a", "run.mpi=mpi.net");
        Assert.Equal((ExitCodes.Environment, 1), (openMpi.ExitCode, Occurrences(openMpi.Error, "lofthpc: ")));
        Assert.Matches("(?m)^lofthpc: error: run.mpi: mpi.net is bound to the interface of the MPICH family, but /.* is Open MPI .*: start it by MPICH's mpiexec, or leave run.mpi at native$", openMpi.Error);

        LaunchResult alone = MpiLauncher.RunAlone([MpiLauncher.LoftHpc, "run", "--config", ConfigFile, $"run.folder={TemporaryPath}/results", "run.name=a", "run.mpi=mpi.net"]);
        Assert.Equal(ExitCodes.Environment, alone.ExitCode);
        Assert.StartsWith("lofthpc: error: run.mpi: mpi.net needs an MPI library of the MPICH family", Assert.Single(alone.Error.Trim().Split('\n')));
        Assert.False(Directory.Exists(Folder("a").Path));
    }
}
