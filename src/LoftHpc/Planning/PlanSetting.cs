using LoftHpc.Arithmetic;
using LoftHpc.Communication;
using LoftHpc.Configuration;
using LoftHpc.Data;
using LoftHpc.Networks;
using LoftHpc.Training;

namespace LoftHpc.Planning;

/// <summary>Shape and number of the images that a config names; no file of a published set is read.</summary>
/// <param name="TrainImages">Those that are trained on.</param>
public sealed record ImageShape(int Channels, int Side, int Classes, int TrainImages, int TestImages, int ValidationImages = 0)
{
    /// <summary>Images of each set that is evaluated after an epoch, in this order.</summary>
    public IEnumerable<int> Evaluated => ValidationImages > 0 ? [TestImages, ValidationImages] : [TestImages];

    /// <summary>Of images that are loaded.</summary>
    public static ImageShape Of(ImageData data) =>
        new(data.Train.Channels, data.Train.Height, data.Train.Classes, data.Train.Count, data.Test.Count, data.Validation?.Count ?? 0);

    /// <summary>
    /// Of a set of the user's own its folder is read where the config does not say all: of image-folder data.classes, data.train_images and
    /// data.test_images, of others data.image_size and data.channels too.
    /// </summary>
    /// <exception cref="UserError">The set has fewer images than the config asks for, or a folder is not as it must be.</exception>
    public static ImageShape Of(DataSection section)
    {
        ImageShape files = OfFiles(section);
        ValidationSplit.Check(section, files.TrainImages);
        return files with { TrainImages = files.TrainImages - section.ValidationImages, ValidationImages = section.ValidationImages };
    }

    private static ImageShape OfFiles(DataSection section)
    {
        if (section.Set is DataSetName.ImageFolder or DataSetName.Idx or DataSetName.CifarBinary) return OfOwn(section);
        if (section.Set is DataSetName.Synthetic)
        {
            SyntheticSection made = section.Synthetic;
            return new ImageShape(
                made.Channels, made.Size, made.Classes,
                section.TrainImages ?? SyntheticSection.AllTrainImages, section.TestImages ?? SyntheticSection.AllTestImages);
        }
        ImageDataSet set = ImageDataSet.Of(section.Set);
        return new ImageShape(set.Channels, set.Size, set.Classes, set.Count(section, train: true), set.Count(section, train: false));
    }

    private static ImageShape OfOwn(DataSection section)
    {
        bool folder = section.Set is DataSetName.ImageFolder;
        int? channels = section.Channels ?? (folder ? ImageFolder.DefaultChannels : null), side = section.ImageSize ?? (folder ? ImageFolder.DefaultSide : null);
        if ((channels, side, section.Classes, section.TrainImages, section.TestImages) is (int ofImage, int size, int known, int trained, int tested))
            return new ImageShape(ofImage, size, known, trained, tested);
        if (!folder) return Of(ImageDataLoader.Load(section with { ValidationImages = 0 }, seed: 1));
        (int classes, int train, int test) = ImageFolder.Counts(section);
        return new ImageShape(channels!.Value, side!.Value, classes, train, test);
    }
}

/// <summary>
/// What a plan is of: a config, its network and images, and a number of ranks. Tensors are float32, and on the CPU unless
/// run.device is cuda; with run.precision: bfloat16 activations, and what is exchanged of them, are of that.
/// </summary>
public sealed record PlanSetting(RunConfig Config, NetworkSpec Network, ImageShape Images, int Ranks)
{
    /// <summary>Bytes of a value of the network, of the float64 values that are summed beside it, of whole numbers, and of bfloat16.</summary>
    public const int ElementBytes = sizeof(float), DoubleBytes = sizeof(double), IntBytes = sizeof(int), LongBytes = sizeof(long), Bfloat16Bytes = 2;

    /// <exception cref="UserError">The network's depth is not one of its family's, or the data set has fewer images than asked for.</exception>
    public static PlanSetting Of(RunConfig config, int ranks) => Of(config, ranks, ImageShape.Of(config.Data));

    /// <summary>Of images whose shape is known.</summary>
    public static PlanSetting Of(RunConfig config, int ranks, ImageShape images) =>
        new(config, NetworkCatalog.Create(config.Network, images.Channels, images.Classes), images, ranks);

    /// <summary>How exchanges of tensors are cut into calls: by the device that the config names.</summary>
    public ExchangeCut Cut { get; init; } = ExchangeCut.For(
        Config.Run.Device is DeviceChoice.Cuda ? TorchSharp.DeviceType.CUDA : TorchSharp.DeviceType.CPU, Config.Run.CudaAwareMpi);

    /// <summary>Whether it is a plan of ranks on GPUs.</summary>
    public bool OnGpu => Config.Run.Device is DeviceChoice.Cuda;

    public PretrainSection Pretrain => Config.Pretrain;

    /// <summary>Whether activations are bfloat16.</summary>
    public bool InBfloat16 => Config.Run.Precision is Precision.Bfloat16;

    /// <summary>How activations are held: by what the config says of the device.</summary>
    public ActivationLayout Layout
    {
        get
        {
            TorchSharp.DeviceType device = Config.Run.Device is DeviceChoice.Cuda ? TorchSharp.DeviceType.CUDA : TorchSharp.DeviceType.CPU;
            Precision precision = Config.Run.Precision ?? (device is TorchSharp.DeviceType.CUDA ? Precision.Tf32 : Precision.Float32);
            return new ActivationLayout(
                InBfloat16 ? TorchSharp.torch.ScalarType.BFloat16 : TorchSharp.torch.ScalarType.Float32, MemoryFormats.Resolve(Config.Run.MemoryFormat, precision, device));
        }
    }

    /// <summary>Bytes of a value of an activation or of its gradient.</summary>
    public int ActivationBytes => InBfloat16 ? Bfloat16Bytes : ElementBytes;

    public int StepsPerEpoch => Batches.Count(Images.TrainImages, Pretrain.Batch);

    /// <summary>Optimizer steps of the whole pre-training.</summary>
    public long Steps => (long)Pretrain.Epochs * StepsPerEpoch;

    /// <summary>Images of the batch of a step, counted from 0 over all epochs; the last one of an epoch may be smaller.</summary>
    public int BatchOf(long step) => Math.Min(Pretrain.Batch, Images.TrainImages - ((int)(step % StepsPerEpoch) * Pretrain.Batch));

    /// <summary>A rank's shard of so many things.</summary>
    public int ShardOf(int items, int rank)
    {
        (int start, int end) = new Shard(rank, Ranks).Of(items);
        return end - start;
    }

    /// <summary>The sizes of the batches in which one rank evaluates a whole set of images, and how many there are of each.</summary>
    public IEnumerable<(int Size, int Count)> EvaluationBatches(int images) => Batches.Sizes(images, Config.Evaluate.Batch);

    /// <summary>What a rank holds for training.</summary>
    public static TrainingMemory MemoryOf(IEnumerable<TensorSlice> held, long exchangeBytes)
    {
        long weights = 0, parameters = 0;
        foreach (TensorSlice slice in held)
        {
            weights += ElementBytes * slice.Count;
            if (slice.Spec.IsParameter) parameters += ElementBytes * slice.Count;
        }
        // Gradients and momentum are kept from the start to the end, of every parameter.
        return new TrainingMemory(weights, parameters, parameters, exchangeBytes);
    }
}
