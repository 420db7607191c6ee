using System.Globalization;
using LoftHpc.Configuration;
using LoftHpc.Networks;

namespace LoftHpc.Planning;

/// <summary>A value of the published table and the model's.</summary>
/// <param name="Published">In G.</param>
public sealed record PublishedCell(string Method, bool IsLoft, double ModelBytes, double Published)
{
    /// <summary>Bytes in the table's G: 1000 MiB in the columns of LoFT, 10^9 in those of GPipe.</summary>
    public double Unit => IsLoft ? 1000.0 * (1 << 20) : 1e9;
}

/// <summary>Bytes that a whole pre-training takes on so many ranks, batch norm parameters included everywhere.</summary>
/// <param name="LoftRoundBytes">Of a round that another one follows, on average over partitions.</param>
/// <param name="GpipeBytes">With the cuts that the published values fit.</param>
/// <param name="OwnGpipeBytes">With cuts balanced by FLOPs, as this program makes them.</param>
public sealed record Exchange(
    int Ranks, double LoftBytes, double LoftRoundBytes, double PublishedLoftBytes, double PublishedLoftRoundBytes, double GpipeBytes, double OwnGpipeBytes)
{
    public double Gain => GpipeBytes / LoftBytes;

    public double PublishedGain => GpipeBytes / PublishedLoftBytes;
}

/// <summary>
/// A row of the published communication table (Wang et al. 2023) and a model of the schemes behind it: 20 epochs; LoFT
/// in rounds of 15 steps through a central worker, GPipe with activations and their gradients at the cuts.
/// </summary>
/// <param name="Cuts2">The first unit of each pipeline stage but the first, for 2 workers, that the published value fits.</param>
/// <param name="Cuts4">The same for 4 workers.</param>
public sealed record PublishedRow(
    string Setting, NetworkSection Network, ImageShape Images, int Batch, IReadOnlyList<string> Cuts2, IReadOnlyList<string> Cuts4,
    double Gpipe2, double Gpipe4, double Loft2, double Loft4)
{
    private const int Epochs = 20, LocalSteps = 15;

    /// <summary>The table's values and the model's. The published values fit a count without batch norm parameters.</summary>
    public IReadOnlyList<PublishedCell> Cells =>
    [
        new("GPipe-2", false, Gpipe(2, Cuts2), Gpipe2),
        new("GPipe-4", false, Gpipe(4, Cuts4), Gpipe4),
        new("LoFT-2", true, Rounds * PublishedRound(2, withNorms: false), Loft2),
        new("LoFT-4", true, Rounds * PublishedRound(4, withNorms: false), Loft4),
    ];

    /// <summary>This program's exchange on 2 and 4 ranks, beside the published schemes.</summary>
    public IReadOnlyList<Exchange> Exchanges => [Own(2, Cuts2), Own(4, Cuts4)];

    /// <summary>Full rounds.</summary>
    public long Rounds => Setup(1).Steps / LocalSteps;

    /// <summary>What the plans of this row are of.</summary>
    public PlanSetting Setup(int ranks, IReadOnlyList<string>? cuts = null)
    {
        RunConfig config = new()
        {
            Network = Network,
            Pretrain = new PretrainSection { Epochs = Epochs, Batch = Batch, LocalSteps = LocalSteps, Gpipe = new GpipeSection { Cuts = cuts ?? [] } },
        };
        return new PlanSetting(config, NetworkCatalog.Create(Network, Images.Channels, Images.Classes), Images, ranks);
    }

    private double Gpipe(int ranks, IReadOnlyList<string> cuts) =>
        2.0 * PlanSetting.ElementBytes * new GpipePlan(Setup(ranks, cuts)).Boundaries.Sum() * Images.TrainImages * Epochs;

    /// <summary>Every worker hands what is shared and its own slice to the central one, and gets as much back.</summary>
    private double PublishedRound(int workers, bool withNorms)
    {
        PlanSetting setting = Setup(1);
        LoftNetwork split = new(setting.Network, setting.Pretrain.Loft);
        double shared = 0, partitioned = 0;
        foreach (TensorSpec tensor in setting.Network.Tensors.Where(tensor =>
            tensor.IsParameter && (withNorms || tensor.Role is not (TensorRole.NormWeight or TensorRole.NormBias))))
        {
            if (split.IsPartitioned(tensor)) partitioned += tensor.Count;
            else shared += tensor.Count;
        }
        return 2 * PlanSetting.ElementBytes * ((workers * shared) + partitioned);
    }

    private Exchange Own(int ranks, IReadOnlyList<string> cuts)
    {
        CommunicationPlan round = new(ranks);
        new LoftPlan(Setup(ranks)).Round(round);
        double published = PublishedRound(ranks, withNorms: true);
        return new Exchange(
            ranks, Rounds * (double)round.BytesSent, round.BytesSent, Rounds * published, published, Gpipe(ranks, cuts), Gpipe(ranks, []));
    }
}

/// <summary>The communication columns of the published table.</summary>
public static class PublishedTable
{
    private static readonly ImageShape Cifar10 = new(3, 32, 10, 50_000, 10_000), Cifar100 = Cifar10 with { Classes = 100 };

    /// <summary>All five rows.</summary>
    public static IReadOnlyList<PublishedRow> Rows { get; } =
    [
        Cifar("PreResNet-34, CIFAR-10", NetworkFamily.PreactResnet, Cifar10, 104.59, 144.27),
        Cifar("ResNet-34, CIFAR-10", NetworkFamily.Resnet, Cifar10, 104.60, 144.29),
        Cifar("PreResNet-34, CIFAR-100", NetworkFamily.PreactResnet, Cifar100, 104.77, 144.64),
        Cifar("ResNet-34, CIFAR-100", NetworkFamily.Resnet, Cifar100, 104.78, 144.66),
        new(
            "PreResNet-18, ImageNet", new NetworkSection { Form = NetworkForm.Imagenet }, new ImageShape(3, 224, 1000, 1_281_167, 50_000), 256,
            ["layer3.0"], ["layer2.1", "layer3.0", "layer3.1"], 20954.24, 52385.59, 791.09, 1284.84),
    ];

    /// <summary>How the model comes to its values, and where the table does not.</summary>
    public static IReadOnlyList<string> Explanations
    {
        get
        {
            PublishedRow imagenet = Rows[^1];
            double gib = Rows[0].Cells[2].Unit / 1e9;
            return
            [
                "Units: LoFT's columns fit G = 1000 MiB (1.049 x 10^9 bytes) and GPipe's G = 10^9 bytes, so a ratio of two printed values is no ratio of bytes.",
                Text($"  131.88 / 104.59 is {131.88 / 104.59:F2}; in one unit GPipe-2 takes {131.88 / (104.59 * gib):F2} times what LoFT-2 takes."),
                Text($"LoFT: 2 x rounds x 4 bytes x (S x shared + partitioned parameters), through a central worker, without batch norm parameters; {Rows[0].Rounds} rounds of 15 steps on CIFAR."),
                "  From CIFAR-10 to CIFAR-100 the printed values grow by half of what the larger head takes in both directions.",
                "GPipe: 2 x 4 bytes x values at the cuts x images x 20 epochs. The printed values are 0.6 % larger on CIFAR and 1.9 % on ImageNet; why is not known.",
                "  GPipe-4 on CIFAR fits cuts behind stages 2, 3 and 4: the fourth worker has the head alone. Cut by FLOPs more would cross (see the next table).",
                "  GPipe-4 on ImageNet is exactly 2.5 times GPipe-2; no cuts are published, those behind layer2.0, layer2.1 and layer3.0 fit.",
                Text($"ImageNet, LoFT: no batch size is published. {imagenet.Batch} is assumed, {imagenet.Rounds} rounds; the printed values fit some 6,000, as 18 of the 20 epochs would have."),
                Text($"  The printed gain of 21.60 is not 20954.24 / 791.09 = {20954.24 / 791.09:F2}, and in one unit it is {20954.24 / (791.09 * gib):F2}."),
            ];
        }
    }

    /// <summary>What the columns of this program's exchange are.</summary>
    public static IReadOnlyList<string> OwnExplanations { get; } =
    [
        "loft: a round costs each rank 2 (S-1)/S of what is shared (one allreduce) and on average (S-1)/S of its own partition (one alltoallv, from old owner to new owner).",
        "  Batch norm parameters are in all columns of this table. Momentum restarts. Full rounds, as in the published columns: on CIFAR a short last one, which moves no filters, adds 0.1 %. Evaluation, saving and statistics are not in it.",
        "  The exact bytes follow the partitions drawn; a test compares the plan of a seed with what a run counts. Under mpiexec this command measures.",
        "gain: GPipe with the published cuts over LoFT. Against pipelines cut by FLOPs both gains would be larger wherever those send more.",
    ];

    private static PublishedRow Cifar(string setting, NetworkFamily family, ImageShape images, double loft2, double loft4) => new(
        setting, new NetworkSection { Family = family, Depth = 34 }, images, 128,
        ["layer4.0"], ["layer3.0", "layer4.0", "linear"], 131.88, 461.60, loft2, loft4);

    private static string Text(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);
}
